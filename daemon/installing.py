"""Writing units into a manager's folder, and taking them out again; calls to systemctl end here."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.errors import UnfitError
from daemon.units import FILES, MAIL, MARK, MODEL, SOCKET

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PATIENCE = 180.0  # seconds; systemd itself gives a service 90 to start


@dataclass(slots=True)
class Changes:
    """What became of each file.

    Attributes:
        written: New, or with another text than before.
        unchanged: Had this text already.
        removed: No longer wanted.
    """

    written: list[Path] = field(default_factory=list)
    unchanged: list[Path] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Tell whether anything is different now."""
        return bool(self.written or self.removed)


def write(folder: Path, texts: Mapping[str, str]) -> Changes:
    """Make a folder hold these files of Panza's and no others; what is not Panza's stays.

    Raises:
        UnfitError: A file of such a name is there and is not Panza's. Nothing was changed.
        OSError: The folder cannot be written.
    """
    for path in (folder / name for name in texts):
        if os.path.lexists(path) and not _is_ours(path):
            raise UnfitError(
                f"{path} was not written by `panza service install`.",
                "Move it away; changes of your own belong in a drop-in (`systemctl edit`).",
            )
    changes = Changes()
    for name, text in texts.items():
        _write(folder / name, text, changes)
    changes.removed += remove(folder, keep=texts)
    return changes


def remove(folder: Path, *, keep: Mapping[str, str] | None = None) -> list[Path]:
    """Take out what `write` has written, but for the names to keep; return what went."""
    removed = []
    for name in FILES:
        path = folder / name
        if name not in (keep or {}) and _is_ours(path):
            path.unlink()
            removed.append(path)
            if path.parent != folder and not any(path.parent.iterdir()):
                path.parent.rmdir()
    return removed


def _write(path: Path, text: str, changes: Changes) -> None:
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        changes.unchanged.append(path)
        return
    path.parent.mkdir(0o755, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(path)
    changes.written.append(path)


def _is_ours(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(MARK.encode())


class Manager:
    """A service manager: the system's, or a user's own.

    Args:
        user: A user's own.
    """

    def __init__(self, *, user: bool) -> None:
        self._words = ("systemctl", "--user") if user else ("systemctl",)

    def version(self) -> int:
        """Return the version of systemd, 0 where there is none."""
        try:
            words = self.call("--version").split()
        except UnfitError:
            return 0
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0

    def gives_namespaces(self) -> bool:
        """Tell whether a user's manager can give a service namespaces; found out by trying it."""
        settings = ("--property=PrivateUsers=yes", "--property=PrivateTmp=yes")
        try:
            _run(["systemd-run", "--user", "--quiet", "--wait", *settings, "/bin/true"])
        except UnfitError:
            return False
        return True

    def start(self, *, changed: bool) -> None:
        """Enable and start Panza, and again where its units are others now.

        Raises:
            UnfitError: systemd does not run here, or the service does not start.
        """
        self.call("daemon-reload")
        if changed:
            self.call("stop", MAIL, SOCKET, MODEL)
        self.call("enable", "--quiet", SOCKET, MAIL)
        self.call("start", SOCKET, MAIL)

    def stop(self) -> None:
        """Stop Panza, and do not start it any more.

        Raises:
            UnfitError: systemd does not run here, or does not stop it.
        """
        self.call("disable", "--quiet", "--now", MAIL, SOCKET)
        self.call("stop", MODEL)

    def call(self, *words: str) -> str:
        """Run one systemctl and return what it prints.

        Raises:
            UnfitError: It is not there, or it failed.
        """
        return _run([*self._words, *words])


def _run(words: Sequence[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnfitError(f"{words[0]}: {_reason(error)}", _REMEDY) from None
    if done.returncode:
        said = done.stderr.strip() or f"ended with {done.returncode}"
        raise UnfitError(f"{' '.join(words)}: {said}", _REMEDY)
    return done.stdout


_REMEDY = (
    "`journalctl -u panza` (or `journalctl --user -u panza`) says why. Without systemd, write the "
    "units with --no-start, or let another supervisor run `panza run`."
)


def _reason(error: OSError | subprocess.TimeoutExpired) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"no answer within {_PATIENCE:.0f} s"
