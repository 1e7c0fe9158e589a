r"""The files of one Maildir folder: names, flags, and how one is read or written."""

from __future__ import annotations

import os
import secrets
import socket
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from connectors.base import BEGINNING, LARGEST, MailboxError, Message
from connectors.uidlist import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

_HEADER = 2**16
"""How much of a file is read for its Message-ID, in bytes."""

_COARSE = 2 * 10**9
"""Nanoseconds that the clock of a file system may stand still; FAT's are the coarsest."""

_T = TypeVar("_T")

_FLAGS = {
    "D": "\\Draft",
    "F": "\\Flagged",
    "R": "\\Answered",
    "S": "\\Seen",
    "T": "\\Deleted",
}
_LETTERS = {flag.lower(): letter for letter, flag in _FLAGS.items()}

_deliveries = count()


class File(NamedTuple):
    """A message's file: where it lies now, and the letters behind ``:2,``."""

    path: Path
    letters: str


def is_maildir(path: Path) -> bool:
    """Tell whether messages can lie in a folder."""
    return (path / "cur").is_dir() or (path / "new").is_dir()


def listed(folder: Path, go_on: Callable[[], None] = lambda: None) -> dict[str, File]:
    """Return the folder's messages by key, the part of the file name that never changes.

    ``go_on`` is called at each file, and may raise.
    """
    files = {}
    # new/ comes first: what moves from there to cur/ meanwhile is then seen at least once.
    for part in ("new", "cur"):
        try:
            paths = list((folder / part).iterdir())
        except FileNotFoundError:
            continue
        for path in paths:
            go_on()
            if not path.name.startswith("."):
                key, _, info = path.name.partition(":2,")
                files[key] = File(path, info if part == "cur" else "")
    return files


def written(folder: Path) -> tuple[int, ...] | None:
    """Return when the folder's list of files last changed; None where that is not certain yet.

    The clock of files is coarse: what was written a moment ago may be written again unnoticed.
    """
    times = []
    for part in ("new", "cur"):
        with suppress(FileNotFoundError):
            times.append((folder / part).stat().st_mtime_ns)
    return tuple(times) if all(time.time_ns() - each > _COARSE for each in times) else None


def arrival(path: Path) -> float:
    """Return when a message arrived: the seconds its name starts with, else the file's time."""
    seconds = path.name.partition(".")[0]
    if seconds.isascii() and seconds.isdigit():
        return float(seconds)
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def read(folder: Path, key: str, file: File, uid: int) -> Message | None:
    """Read one message; None if it is gone or is not given to us."""
    return _found(folder, key, file, lambda found: _message(found, uid))


def read_header(folder: Path, key: str, file: File) -> bytes | None:
    """Read the beginning of one message; None if it is gone or is not given to us."""
    return _found(folder, key, file, lambda found: _bytes(found.path, _HEADER))


def make(folder: Path) -> None:
    """Make what a folder lacks of its three parts."""
    for part in ("tmp", "new", "cur"):
        (folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)


def write(path: Path, raw: bytes, date: datetime | None) -> None:
    """Write a new file to the disk, dated; leave none behind where that fails."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            if date is not None:
                os.utime(file.fileno(), (date.timestamp(), date.timestamp()))
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def place(temporary: Path) -> None:
    """Move a complete file out of tmp/ to where messages lie, for good.

    One that is no longer in tmp/ was moved by another process.
    """
    # Only what no mail client has seen yet belongs into new/, and only cur/ has flags.
    part = temporary.parents[1] / ("cur" if ":2," in temporary.name else "new")
    try:
        temporary.rename(part / temporary.name)
    except FileNotFoundError:
        if temporary.exists():
            raise
    sync_folder(part)


def place_announced(folder: Path, keys: Collection[str]) -> None:
    """Move what a process wrote and gave a UID to, before it died, to where messages lie."""
    with suppress(FileNotFoundError):
        for path in (folder / "tmp").iterdir():
            if path.name.partition(":2,")[0] in keys:
                place(path)


def letters_of(flags: Iterable[str]) -> str:
    """Return the letters of the flags that a file name can carry."""
    return "".join(sorted(_LETTERS[flag.lower()] for flag in flags if flag.lower() in _LETTERS))


def unique_name() -> str:
    """Return a file name that no other delivery chooses (https://cr.yp.to/proto/maildir.html)."""
    host = socket.gethostname().replace("/", "\\057").replace(":", "\\072")
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    delivery = f"M{nanoseconds // 1000}P{os.getpid()}Q{next(_deliveries)}R{secrets.token_hex(4)}"
    return f"{seconds}.{delivery}.{host}"


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the system's errors into `MailboxError`."""
    try:
        yield
    except OSError as error:
        raise MailboxError(
            str(error.filename or path), (error.strerror or str(error)).lower()
        ) from error


def _found(folder: Path, key: str, file: File, reader: Callable[[File], _T]) -> _T | None:
    """Read a file where it is, or where another program moved it a moment ago."""
    with translated(file.path):
        try:
            return reader(file)
        except FileNotFoundError:
            moved = listed(folder).get(key)  # a new flag changes the file's name
        except (PermissionError, IsADirectoryError):
            return None
        try:
            return reader(moved) if moved else None
        except (FileNotFoundError, PermissionError):
            return None


def _bytes(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit)


def _message(file: File, uid: int) -> Message:
    status = file.path.stat()
    complete = status.st_size <= LARGEST
    raw = _bytes(file.path, LARGEST if complete else BEGINNING)
    received = datetime.fromtimestamp(status.st_mtime, UTC).replace(microsecond=0)
    flags = frozenset(_FLAGS[letter] for letter in file.letters if letter in _FLAGS)
    return Message(uid, raw, flags, received, complete)
