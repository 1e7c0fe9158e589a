"""Where an export goes: checked before any work, written beside, and renamed when it is whole."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainer.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MARK = "panza.json"  # the file by which an exported folder is known
_SPARE = 64 << 20  # bytes that stay free on the disk
_BESIDE, _ASIDE = "exporting", "replaced"


class Target:
    """A folder, or a file that ends with ``.gguf``, that is to be written.

    Attributes:
        path: Where it will be, absolute.
        is_file: Whether it is a GGUF file.
    """

    def __init__(self, path: Path, *, replace: bool, off_limits: Sequence[Path] = ()) -> None:
        """Check what can be checked before any work.

        Args:
            path: Where the export is to be.
            replace: Whether an earlier export there may be replaced.
            off_limits: Files and folders that it may be neither in nor above.

        Raises:
            ExportError: There is no folder to put it in, something else is there, or it would be
                where it must not be.
        """
        self.path = path.expanduser().resolve()
        self.is_file = self.path.suffix == ".gguf"
        if not self.path.parent.is_dir():
            raise ExportError(str(path), f"there is no folder {self.path.parent}; make it first")
        for place in off_limits:
            other = place.resolve()
            if self.path.is_relative_to(other) or other.is_relative_to(self.path):
                raise ExportError(str(path), f"{place} is Panza's own; choose another place")
        self._require_free(str(path), replace=replace)

    def _require_free(self, name: str, *, replace: bool) -> None:
        if not self.path.exists():
            return
        if self.is_file != self.path.is_file():
            found = "a folder" if self.is_file else "no folder"
            raise ExportError(name, f"{found} is there already; choose another name")
        if not replace:
            raise ExportError(name, "it is there already; --force replaces it")
        if not self.is_file and any(self.path.iterdir()) and not (self.path / MARK).is_file():
            raise ExportError(name, "this folder holds no export of Panza's, so it stays as it is")

    def require_space(self, size: int) -> None:
        """Check that so many bytes have room.

        Raises:
            ExportError: They have not.
        """
        free = shutil.disk_usage(self.path.parent).free
        if free < size + _SPARE:
            raise ExportError(
                str(self.path),
                f"it takes {_mib(size)} and the disk has {_mib(free)} left; make room, or choose "
                "another disk",
            )

    @contextmanager
    def written(self) -> Iterator[Path]:
        """Give a new file or folder to write into; it becomes the target when the block ends.

        It is for its owner alone, and until then hidden beside the target; it goes away if the
        block raises. What a killed export has left there goes away too.
        """
        self._sweep()
        beside = self._hidden(_BESIDE)
        if self.is_file:
            os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        else:
            beside.mkdir(mode=0o700)
        try:
            yield beside
            for path in (beside, *(() if self.is_file else beside.iterdir())):
                _sync(path)
            self._put(beside)
        finally:
            _remove(beside)
        _sync(self.path.parent)

    def _put(self, beside: Path) -> None:
        if self.is_file or not self.path.exists():
            beside.replace(self.path)
            return
        aside = self._hidden(_ASIDE)
        self.path.rename(aside)
        try:
            beside.rename(self.path)
        except OSError:
            aside.rename(self.path)
            raise
        _remove(aside)

    def _hidden(self, what: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{what}-{os.getpid()}")

    def _sweep(self) -> None:
        """Remove what exports to this target have left that were killed."""
        for what in (_BESIDE, _ASIDE):
            for left in self.path.parent.glob(f".{_literal(self.path.name)}.{what}-*"):
                pid = left.name.rpartition("-")[2]
                if pid.isdecimal() and not _runs(int(pid)):
                    _remove(left)


def _literal(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _mib(size: int) -> str:
    return f"{-(-size // 2**20)} MiB"
