"""The model process's listening socket: handed over by who started it, or made here."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from daemon import kernel
from daemon.errors import UnfitError, UsageError
from daemon.model_link import SOCKET_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)
_WAITING_JOBS = 128


@contextlib.contextmanager
def listening(path: Path | None) -> Iterator[socket.socket]:
    """Return the listening socket while the block runs.

    Args:
        path: Where to make one where none was handed over; None for the usual place.

    Raises:
        UnfitError: Another model process listens there.
        UsageError: There is no usual place.
        OSError: None can be made there.
    """
    if os.environ.pop("LISTEN_PID", "") == str(os.getpid()):
        os.environ.pop("LISTEN_FDS", None)
        # `panza run` can be ended without a word. systemd itself never is.
        kernel.end_with_parent(signal.SIGTERM)
        with socket.socket(fileno=_FIRST) as handed:
            handed.set_inheritable(False)
            yield handed
        return
    path = path or _usual()
    _clear(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        before = os.umask(0o177)
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
        made.listen(_WAITING_JOBS)
        try:
            yield made
        finally:
            path.unlink(missing_ok=True)


def _usual() -> Path:
    if given := os.environ.get(SOCKET_VARIABLE):
        return Path(given)
    if folder := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(folder) / "panza-model.sock"
    raise UsageError("where to listen is not clear: name it with --socket PATH")


def _clear(path: Path) -> None:
    """Remove what a process that was killed has left."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except FileNotFoundError:
            pass
        else:
            raise UnfitError(f"{path}: a model process listens there already", "End it first.")
