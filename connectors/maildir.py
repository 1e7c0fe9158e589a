r"""Mail in a Maildir: an account without a server, or an archive.

The format is Maildir as its author describes it (https://cr.yp.to/proto/maildir.html), with the
folders of Maildir++: ``.Sent``, ``.Lists.Pottery``, in modified UTF-7. Folders that stand without
the dot, as mbsync and mutt like to make them, are found as well.

A Maildir knows no UIDs. `connectors.uidlist` keeps them in Panza's own state folder, so that
nothing but messages is ever written into the Maildir, and nothing at all into an archive.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from imapclient import imap_utf7

from connectors.base import (
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
from connectors.maildir_files import (
    File,
    arrival,
    is_maildir,
    letters_of,
    listed,
    make,
    place,
    place_announced,
    read,
    read_header,
    translated,
    unique_name,
    write,
    written,
)
from connectors.raw import canonical, message_id
from connectors.uidlist import UidList

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

_GLANCE = 1.0
"""Seconds between two looks at a folder that is waited for."""


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
        self._told: dict[Role, frozenset[str]] = {}

    def state(self, role: Role) -> FolderState:
        """Return what the role's folder says of itself now."""
        uids, files = self._listed(role, self._go_on)
        self._told[role] = frozenset(files)
        return FolderState(self._name(role), uids.uidvalidity, uids.uidnext, len(uids.keys))

    def ensure(self, role: Role) -> str:
        """Return the name of the role's folder, which is made first where there is none."""
        name = self._name(role)
        if self._existing(name) is None:
            if role is Role.SENT:
                raise self._missing(role)
            self._refuse_if_read_only()
            path = self._paths(name)[0]
            with translated(path):
                make(path)
                if path != self._root:
                    (path / "maildirfolder").touch(mode=0o600)
        return name

    def fetch(
        self, role: Role, cursor: Cursor | None = None, *, last: int | None = None
    ) -> Iterator[Message]:
        """Yield the messages behind the cursor in ascending order of UID; all without one."""
        uids, files = self._listed(role, self._go_on)
        start = cursor or Cursor(uids.uidvalidity)
        check_uidvalidity(role, start.uidvalidity, uids.uidvalidity)
        folder = self._folder(role)
        for uid, key in uids.above(start.uid):
            if last is not None and uid > last:
                return
            self._go_on()
            if message := read(folder, key, files[key], uid):
                yield message

    def message_ids(self, role: Role, first_uid: int = 1) -> dict[int, str]:
        """Map each UID from ``first_uid`` on to its Message-ID, "" where it has none."""
        uids, files = self._listed(role, self._go_on)
        folder = self._folder(role)
        found = {}
        for uid, key in uids.above(first_uid - 1):
            self._go_on()
            if (raw := read_header(folder, key, files[key])) is not None:
                found[uid] = message_id(raw)
        return found

    def append(
        self, role: Role, raw: bytes, *, flags: Iterable[str] = (), date: datetime | None = None
    ) -> int | None:
        """Store a message with LF line ends, safely on the disk; return its UID."""
        self._refuse_if_read_only()
        self.ensure(role)
        folder = self._folder(role)
        letters = letters_of(flags)
        key = unique_name()
        temporary = folder / "tmp" / (f"{key}:2,{letters}" if letters else key)
        with translated(folder):
            make(folder)
            write(temporary, canonical(raw).replace(b"\r\n", b"\n"), date)
        # It has a UID before it is there: if this process dies now, the next one moves it to its
        # place; and if it is taken away before that one looks, UIDNEXT tells that it was there.
        with translated(self._state):
            UidList(self._state, folder).add(key)
        with translated(folder):
            place(temporary)
        uids, _ = self._listed(role)
        return uids.uid(key)

    def add_flags(
        self, role: Role, uid: int, flags: Iterable[str], *, uidvalidity: int | None = None
    ) -> None:
        """Add flags to a message; one that is gone is no error, a keyword is left out."""
        self._flag(role, uid, uidvalidity, lambda letters: letters | {*letters_of(flags)})

    def remove_flags(
        self, role: Role, uid: int, flags: Iterable[str], *, uidvalidity: int | None = None
    ) -> None:
        """Take flags off a message; one that is gone is no error."""
        self._flag(role, uid, uidvalidity, lambda letters: letters - {*letters_of(flags)})

    def _flag(
        self,
        role: Role,
        uid: int,
        uidvalidity: int | None,
        change: Callable[[set[str]], set[str]],
    ) -> None:
        self._refuse_if_read_only()
        key, file = self._file(role, uid, uidvalidity)
        if key is None or file is None:
            return
        letters = "".join(sorted(change({*file.letters})))
        folder = self._folder(role)
        with translated(folder):
            make(folder)
            with suppress(FileNotFoundError):
                file.path.rename(folder / "cur" / f"{key}:2,{letters}")

    def remove(self, role: Role, uid: int, *, uidvalidity: int | None = None) -> None:
        """Remove this one message and no other; one that is gone is no error."""
        self._refuse_if_read_only()
        _, file = self._file(role, uid, uidvalidity)
        if file is not None:
            with translated(file.path):
                file.path.unlink(missing_ok=True)

    def wait(self, role: Role, timeout: float) -> bool:
        """Wait until a message comes or goes; the folder is looked at every second."""
        told = self._told.get(role)
        end = time.monotonic() + timeout
        seen = None
        try:
            while True:
                folder = self._folder(role)
                with translated(folder):
                    now = written(folder)
                    if seen is None or seen != now:
                        seen, found = now, frozenset(listed(folder, self._go_on))
                        told = found if told is None else told
                        if found != told:
                            return True
                left = end - time.monotonic()
                if left <= 0 or self._woken.wait(min(_GLANCE, left)):
                    self._go_on()
                    return False
        finally:
            self._woken.clear()

    def close(self) -> None:
        """Do nothing: no file stays open between calls."""

    def _name(self, role: Role) -> str:
        try:
            return self._names[role]
        except KeyError:
            raise self._missing(role) from None

    def _missing(self, role: Role) -> FolderMissingError:
        found = [path.name for path in sorted(self._root.glob(".[!.]*")) if is_maildir(path)]
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
        return next((path for path in self._paths(name) if is_maildir(path)), None)

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

    def _listed(
        self, role: Role, go_on: Callable[[], None] = lambda: None
    ) -> tuple[UidList, dict[str, File]]:
        """Return the folder's UIDs, brought up to date, and its files by key.

        ``go_on`` may raise on the way. A call that changes something is rather done than doubted.
        """

        def order(key: str) -> float:
            go_on()
            return arrival(files[key].path)

        folder = self._folder(role)
        with translated(self._state):
            uids = UidList(self._state, folder)
        with translated(folder):
            if not self.read_only:
                place_announced(folder, uids.known())
            files = listed(folder, go_on)
        with translated(self._state):
            # A file that another program renames while the folder is listed can be overlooked.
            if not uids.known() <= files.keys():
                files = listed(folder, go_on) | files
            uids.update(files, order)
        return uids, files

    def _file(
        self, role: Role, uid: int, uidvalidity: int | None
    ) -> tuple[str, File] | tuple[None, None]:
        uids, files = self._listed(role)
        check_uidvalidity(role, uidvalidity, uids.uidvalidity)
        key = uids.keys.get(uid)
        return (None, None) if key is None else (key, files[key])

    def _refuse_if_read_only(self) -> None:
        if self.read_only:
            raise ReadOnlyError(str(self._root))
