r"""Mail in a Maildir: an account without a server, or an archive.

The format is Maildir as its author describes it (https://cr.yp.to/proto/maildir.html), with the
folders of Maildir++: ``.Sent``, ``.Lists.Pottery``, in modified UTF-7. Folders that stand without
the dot, as mbsync and mutt like to make them, are found as well.

A Maildir knows no UIDs. `connectors.uidlist` keeps them in Panza's own state folder, so that
nothing but messages is ever written into the Maildir, and nothing at all into an archive.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from imapclient import imap_utf7

from connectors.base import (
    BEGINNING,
    LARGEST,
    Connector,
    Cursor,
    FolderMissingError,
    FolderState,
    MailboxError,
    Message,
    ReadOnlyError,
    Role,
    check_uidvalidity,
)
from connectors.raw import message_id
from connectors.uidlist import UidList, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_FLAGS = {
    "D": "\\Draft",
    "F": "\\Flagged",
    "R": "\\Answered",
    "S": "\\Seen",
    "T": "\\Deleted",
}
_LETTERS = {flag.lower(): letter for letter, flag in _FLAGS.items()}
_HEADER = 2**16
"""How much of a file is read for its Message-ID."""

_deliveries = count()


class _File(NamedTuple):
    """A message's file: where it lies now, and the letters behind ``:2,``."""

    path: Path
    letters: str


class MaildirConnector(Connector):
    r"""A Maildir++ on this machine.

    ``\Draft``, ``\Seen``, ``\Answered``, ``\Flagged`` and ``\Deleted`` are kept, keywords are not:
    programs disagree on how. INTERNALDATE is a file's modification time, as for Dovecot.

    Args:
        root: The Maildir; it must exist.
        folders: The folder of each role, "/" between levels; "" or "." is the root itself.
        state: A folder of Panza's own for the UID lists; made if missing.
        read_only: Write nothing into the Maildir, ever.
    """

    def __init__(
        self, root: Path, *, folders: Mapping[Role, str], state: Path, read_only: bool = False
    ) -> None:
        self.read_only = read_only
        self._root = root
        self._names = dict(folders)
        self._state = state

    def state(self, role: Role) -> FolderState:
        """Return what the role's folder says of itself now."""
        uids, _ = self._listed(role)
        return FolderState(self._name(role), uids.uidvalidity, uids.uidnext, len(uids.keys))

    def ensure(self, role: Role) -> str:
        """Return the name of the role's folder, which is made first where there is none."""
        name = self._name(role)
        if self._existing(name) is None:
            if role is Role.SENT:
                raise self._missing(role)
            self._refuse_if_read_only()
            path = self._paths(name)[0]
            with _translated(path):
                for part in ("tmp", "new", "cur"):
                    (path / part).mkdir(parents=True, exist_ok=True, mode=0o700)
                if path != self._root:
                    (path / "maildirfolder").touch(mode=0o600)
        return name

    def fetch(self, role: Role, cursor: Cursor | None = None) -> Iterator[Message]:
        """Yield the messages behind the cursor in ascending order of UID; all without one."""
        uids, files = self._listed(role)
        start = cursor or Cursor(uids.uidvalidity)
        check_uidvalidity(role, start.uidvalidity, uids.uidvalidity)
        folder = self._folder(role)
        for uid, key in uids.above(start.uid):
            if message := _read(folder, key, files[key], uid):
                yield message

    def message_ids(self, role: Role, first_uid: int = 1) -> dict[int, str]:
        """Map each UID from ``first_uid`` on to its Message-ID, "" where it has none."""
        uids, files = self._listed(role)
        found = {}
        for uid, key in uids.above(first_uid - 1):
            with _translated(files[key].path):
                try:
                    found[uid] = message_id(_bytes(files[key].path, _HEADER))
                except FileNotFoundError:  # renamed or removed a moment ago by another program
                    continue
        return found

    def append(
        self, role: Role, raw: bytes, *, flags: Iterable[str] = (), date: datetime | None = None
    ) -> int | None:
        """Store a message with LF line ends, safely on the disk; return its UID."""
        self._refuse_if_read_only()
        self.ensure(role)
        folder = self._folder(role)
        letters = _letters(flags)
        key = _unique_name()
        with _translated(folder):
            temporary = folder / "tmp" / key
            _write(temporary, raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), date)
            # Only what no mail client has seen yet belongs into new/, and only cur/ has flags.
            part, name = ("cur", f"{key}:2,{letters}") if letters else ("new", key)
            temporary.rename(folder / part / name)
            sync_folder(folder / part)
        uids, _ = self._listed(role)
        return uids.uid(key)

    def add_flags(
        self, role: Role, uid: int, flags: Iterable[str], *, uidvalidity: int | None = None
    ) -> None:
        """Add flags to a message; one that is gone is no error, a keyword is left out."""
        self._refuse_if_read_only()
        key, file = self._file(role, uid, uidvalidity)
        if key is None or file is None:
            return
        letters = "".join(sorted({*file.letters, *_letters(flags)}))
        with _translated(file.path):
            try:
                file.path.rename(self._folder(role) / "cur" / f"{key}:2,{letters}")
            except FileNotFoundError:
                return

    def remove(self, role: Role, uid: int, *, uidvalidity: int | None = None) -> None:
        """Remove this one message and no other; one that is gone is no error."""
        self._refuse_if_read_only()
        _, file = self._file(role, uid, uidvalidity)
        if file is not None:
            with _translated(file.path):
                file.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Do nothing: no file stays open between calls."""

    def _name(self, role: Role) -> str:
        try:
            return self._names[role]
        except KeyError:
            raise self._missing(role) from None

    def _missing(self, role: Role) -> FolderMissingError:
        found = [path.name for path in sorted(self._root.glob(".[!.]*")) if _is_maildir(path)]
        names = [imap_utf7.decode(name[1:].encode("utf-8", "replace")) for name in found]
        return FolderMissingError(role, self._names.get(role), names)

    def _paths(self, name: str) -> list[Path]:
        """Return where a folder may lie, the Maildir++ way first."""
        if name in {"", "."}:
            return [self._root]
        dotted = name.replace("/", ".")
        encoded = imap_utf7.encode(dotted).decode("ascii")
        paths = [self._root / f".{encoded}", self._root / f".{dotted}"]
        # A name may not lead out of the Maildir.
        return paths if ".." in name.split("/") else [*paths, self._root / name.lstrip("/")]

    def _existing(self, name: str) -> Path | None:
        if not self._root.is_dir():
            raise MailboxError(str(self._root), "there is no such Maildir; correct the path")
        return next((path for path in self._paths(name) if _is_maildir(path)), None)

    def _folder(self, role: Role) -> Path:
        name = self._name(role)
        path = self._existing(name)
        if path is None and name in {"", "."}:
            raise MailboxError(
                str(self._root), "is no Maildir: it holds no folders cur and new; correct the path"
            )
        if path is None:
            raise self._missing(role)
        return path

    def _listed(self, role: Role) -> tuple[UidList, dict[str, _File]]:
        """Return the folder's UIDs, brought up to date, and its files by key."""
        folder = self._folder(role)
        with _translated(folder):
            files = _files(folder)
        with _translated(self._state):
            uids = UidList(self._state, folder)
            # A file that another program renames while the folder is listed can be overlooked.
            if not uids.known() <= files.keys():
                files = _files(folder) | files
            uids.update(files, lambda key: _arrival(files[key].path))
        return uids, files

    def _file(
        self, role: Role, uid: int, uidvalidity: int | None
    ) -> tuple[str, _File] | tuple[None, None]:
        uids, files = self._listed(role)
        check_uidvalidity(role, uidvalidity, uids.uidvalidity)
        key = uids.keys.get(uid)
        return (None, None) if key is None else (key, files[key])

    def _refuse_if_read_only(self) -> None:
        if self.read_only:
            raise ReadOnlyError(str(self._root))


def _is_maildir(path: Path) -> bool:
    return (path / "cur").is_dir() or (path / "new").is_dir()


def _files(folder: Path) -> dict[str, _File]:
    """Return the folder's messages by key, the part of the file name that never changes."""
    files = {}
    # new/ comes first: what moves from there to cur/ meanwhile is then seen at least once.
    for part in ("new", "cur"):
        try:
            paths = list((folder / part).iterdir())
        except FileNotFoundError:
            continue
        for path in paths:
            if not path.name.startswith("."):
                key, _, info = path.name.partition(":2,")
                files[key] = _File(path, info if part == "cur" else "")
    return files


def _arrival(path: Path) -> float:
    """Return when a message arrived: the seconds its name starts with, else the file's time."""
    seconds = path.name.partition(".")[0]
    if seconds.isascii() and seconds.isdigit():
        return float(seconds)
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _read(folder: Path, key: str, file: _File, uid: int) -> Message | None:
    """Read one message; None if it is gone or is not given to us."""
    for attempt in (file, None):
        with _translated(folder):
            found = attempt or _files(folder).get(key)  # a new flag changes the name
            if found is None:
                return None
            try:
                status = found.path.stat()
                complete = status.st_size <= LARGEST
                raw = _bytes(found.path, LARGEST if complete else BEGINNING)
            except FileNotFoundError:
                continue
            except (PermissionError, IsADirectoryError):
                return None
        received = datetime.fromtimestamp(status.st_mtime, UTC).replace(microsecond=0)
        flags = frozenset(_FLAGS[letter] for letter in found.letters if letter in _FLAGS)
        return Message(uid, raw, flags, received, complete)
    return None


def _bytes(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit)


def _write(path: Path, raw: bytes, date: datetime | None) -> None:
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


def _letters(flags: Iterable[str]) -> str:
    return "".join(sorted(_LETTERS[flag.lower()] for flag in flags if flag.lower() in _LETTERS))


def _unique_name() -> str:
    host = socket.gethostname().replace("/", "\\057").replace(":", "\\072")
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    delivery = f"M{nanoseconds // 1000}P{os.getpid()}Q{next(_deliveries)}R{secrets.token_hex(4)}"
    return f"{seconds}.{delivery}.{host}"


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn the system's errors into `MailboxError`."""
    try:
        yield
    except OSError as error:
        raise MailboxError(
            str(error.filename or path), (error.strerror or str(error)).lower()
        ) from error
