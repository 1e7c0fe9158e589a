r"""An account on an IMAP server (RFC 3501, RFC 9051), on imapclient.

How messages are read stands in `connectors.imap_reading`, how a connection is made in
`connectors.imap_session`, which folder is which in `connectors.imap_folders`.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from imapclient.exceptions import IMAPClientError

from connectors import imap_folders
from connectors.base import (
    Connector,
    Cursor,
    FolderMissingError,
    FolderState,
    RefusedError,
    Role,
    UnreachableError,
    check_uidvalidity,
)
from connectors.breaker import Bell, Breaker
from connectors.imap_client import Client, shut_down
from connectors.imap_errors import translated
from connectors.imap_reading import Answers, Reading
from connectors.imap_session import ImapSettings, connect
from connectors.raw import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from connectors.base import Message

__all__ = ["ImapConnector", "ImapSettings"]

_STALE = 60.0
"""Seconds of silence after which a connection is tried before it is relied on."""

_RENEWAL = 9 * 60.0
"""Seconds after which IDLE is begun anew: the RFC says 29 minutes, and servers hang up after 10."""

_APPENDUID = re.compile(rb"\[APPENDUID \d+ (\d+)\]", re.IGNORECASE)

_Data = dict[bytes, Any]


class ImapConnector(Connector):
    """An IMAP account.

    It connects at the first call, and again at the first call after the connection broke. A
    connection that was idle for long is tried before it is used, so that an APPEND seldom ends
    without a clear answer.

    Args:
        settings: How to reach the account, and what its folders are called.
        clock: Seconds of a monotonic clock.
        renewal: Seconds after which a wait begins its IDLE anew.

    Raises:
        InsecureError: From any call: security ``none`` to another machine, a certificate that is
            not trusted, STARTTLS that is not offered.
    """

    def __init__(
        self,
        settings: ImapSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        renewal: float = _RENEWAL,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._renewal = renewal
        self._bell = Bell()
        self._breaker = Breaker()
        self._client: Client | None = None
        self._used = 0.0
        self._folders: list[imap_folders.Folder] = []
        self._namespace: str | None = None
        self._names: dict[Role, str] = {}
        self._selected: tuple[str, bool] | None = None
        self._uidvalidity = 0
        self._told: dict[Role, _Data] = {}

    def state(self, role: Role) -> FolderState:
        """Return what the role's folder says of itself now."""
        answer = self._told[role] = self._select(role, fresh=True)
        uidnext = answer.get(b"UIDNEXT")
        if uidnext is None:  # a server older than RFC 3501
            uids = self._reading(role, answer).sizes(1)
            uidnext = max((uid for uid, _ in uids), default=0) + 1
        return FolderState(self._names[role], self._uidvalidity, uidnext, answer[b"EXISTS"])

    def ensure(self, role: Role) -> str:
        """Return the name of the role's folder, which is made and subscribed to if missing."""
        with suppress(FolderMissingError):
            return self._name(role)
        wanted = self._settings.folders.get(role)
        if role is Role.SENT or (role is Role.DRAFTS and wanted is not None):
            raise self._missing(role)
        name = imap_folders.new_name(role, wanted, self._folders, self._prefix())
        try:
            with self._asking("CREATE") as client:
                client.create_folder(name)
        except RefusedError as error:
            if error.code != "ALREADYEXISTS":  # made by another program a moment ago
                raise
        # What is not subscribed to is hidden in some mail clients; no more is lost without.
        with suppress(RefusedError), self._asking("SUBSCRIBE") as client:
            client.subscribe_folder(name)
        self._names[role] = name
        return name

    def fetch(
        self, role: Role, cursor: Cursor | None = None, *, last: int | None = None
    ) -> Iterator[Message]:
        """Yield the messages behind the cursor in ascending order of UID; all without one.

        A message that the server refuses to give is skipped, unless the refusal sounds temporary
        or meets a whole batch: then `RefusedError` is raised, so that no mail is passed over.
        """
        answer = self._select(role, fresh=True)
        start = cursor or Cursor(self._uidvalidity)
        check_uidvalidity(role, start.uidvalidity, self._uidvalidity)
        reading = self._reading(role, answer)
        yield from reading.read(start.uid + 1, last)

    def message_ids(self, role: Role, first_uid: int = 1) -> dict[int, str]:
        """Map each UID from ``first_uid`` on to its Message-ID, "" where it has none."""
        return self._reading(role, self._select(role, fresh=True)).message_ids(first_uid)

    def append(
        self, role: Role, raw: bytes, *, flags: Iterable[str] = (), date: datetime | None = None
    ) -> int | None:
        """Store a message; return its UID where the server has UIDPLUS, else None.

        Raises:
            RefusedError: It is not stored: for example with code OVERQUOTA, LIMIT or NOPERM.
            UnreachableError: It may be stored or not.
        """
        name = self.ensure(role)
        # No server takes NUL (RFC 3501, 9), and Cyrus no bare line feed.
        stored = canonical(raw).replace(b"\0", b"")
        try:
            with self._asking("APPEND") as client:
                answer = client.append(name, stored, list(flags), date)
        except RefusedError as error:
            if error.code == "TRYCREATE":  # somebody removed the folder; the next call makes it
                self._forget(role)
            raise
        found = _APPENDUID.search(answer or b"")
        return int(found.group(1)) if found else None

    def add_flags(
        self, role: Role, uid: int, flags: Iterable[str], *, uidvalidity: int | None = None
    ) -> None:
        """Add flags to a message; one that is gone is no error."""
        answer = self._select(role, writable=True)
        check_uidvalidity(role, uidvalidity, self._uidvalidity)
        # A keyword that the folder cannot keep is refused by some and lost by others.
        kept = {flag.lower() for flag in answer.get(b"PERMANENTFLAGS", (b"\\*",))}
        accepted = [
            flag
            for flag in flags
            if flag.startswith("\\") or b"\\*" in kept or flag.lower().encode() in kept
        ]
        if accepted:
            with self._asking("STORE") as client:
                client.add_flags([uid], accepted, silent=True)

    def remove_flags(
        self, role: Role, uid: int, flags: Iterable[str], *, uidvalidity: int | None = None
    ) -> None:
        """Take flags off a message; one that is gone is no error."""
        self._select(role, writable=True)
        check_uidvalidity(role, uidvalidity, self._uidvalidity)
        with self._asking("STORE") as client:
            client.remove_flags([uid], list(flags), silent=True)

    def remove(self, role: Role, uid: int, *, uidvalidity: int | None = None) -> None:
        r"""Remove this one message and no other; only mark it ``\Deleted`` without UIDPLUS."""
        self._select(role, writable=True)
        check_uidvalidity(role, uidvalidity, self._uidvalidity)
        with self._asking("EXPUNGE") as client:
            client.add_flags([uid], ["\\Deleted"], silent=True)
            if client.has_capability("UIDPLUS"):
                client.uid_expunge([uid])

    def wait(self, role: Role, timeout: float) -> bool:
        """Wait until the role's folder may have changed, by IDLE where the server has it.

        The folder is opened anew first, so nothing is missed that came since `state`. Without IDLE
        the time passes; a server that nobody talks to for ten minutes hangs up, so it is looked at
        now and then.
        """
        end = self._clock() + timeout
        try:
            with self._bell.hung() as bell:
                while True:
                    answer = self._select(role, fresh=True)
                    if _differ(self._told.get(role, answer), answer):
                        return True
                    left = end - self._clock()
                    if left <= 0 or self._woken.is_set():
                        return False
                    with self._asking("IDLE") as client:
                        if client.watch(min(left, self._renewal), answer[b"EXISTS"], bell):
                            return True
                    if self._woken.is_set() or self._clock() >= end:
                        return False
        finally:
            self._woken.clear()

    def wake(self) -> None:
        """End the `wait` that is going on, else the next one, at once; from any thread."""
        super().wake()
        self._bell.ring()

    def abort(self) -> None:
        """Break off the call that is going on, also its connecting, else the next one."""
        self._breaker.trip()
        self.wake()

    def close(self) -> None:
        """Log out; closing twice is no error."""
        if self._client is not None:
            with suppress(OSError, IMAPClientError):
                self._client.hurry()
                self._client.logout()
        self._drop()

    def _drop(self) -> None:
        if self._client is not None:
            shut_down(self._client)
        self._client, self._selected = None, None
        self._breaker = Breaker()
        self._names.clear()
        self._folders, self._namespace = [], None

    @contextmanager
    def _asking(self, command: str) -> Iterator[Client]:
        """Give a live connection for one command, and drop it unless the answer was clear."""
        client = self._connected()
        try:
            with translated(self._settings.host, self._settings.port, command):
                yield client
        except RefusedError:
            raise
        except BaseException:  # Ctrl-C too leaves half an answer on the line
            self._drop()
            raise
        self._used = self._clock()

    def _connected(self) -> Client:
        if self._client is not None and self._clock() - self._used > _STALE:
            self._try_out(self._client)
        if self._client is None:
            try:
                self._client = connect(self._settings, self._breaker)
            except BaseException:
                self._drop()
                raise
        self._used = self._clock()
        return self._client

    def _try_out(self, client: Client) -> None:
        """Drop a connection that does not answer, unless somebody broke it off."""
        try:
            with translated(self._settings.host, self._settings.port, "NOOP"):
                client.noop()
        except (UnreachableError, RefusedError):
            broken_off = client.breaker.tripped
            self._drop()
            if broken_off:
                raise

    def _name(self, role: Role) -> str:
        """Return the name of the role's folder on the server."""
        if role not in self._names:
            # What was listed for another role will do, unless this one's folder is not in it.
            found = self._found(role) if self._folders else None
            if found is None:
                with self._asking("LIST") as client:
                    self._folders = client.folders()
                found = self._found(role)
            if found is None:
                raise self._missing(role)
            self._names[role] = found
        return self._names[role]

    def _found(self, role: Role) -> str | None:
        wanted = self._settings.folders.get(role)
        found = imap_folders.find(role, wanted, self._folders, "")
        if found is None and (wanted is not None or role is Role.REQUESTS):
            found = imap_folders.find(role, wanted, self._folders, self._prefix())
        return found

    def _missing(self, role: Role) -> FolderMissingError:
        names = [folder.name for folder in self._folders if folder.selectable]
        return FolderMissingError(role, self._settings.folders.get(role), names)

    def _prefix(self) -> str:
        """Return the prefix of the personal namespace; it is asked for when a name needs it."""
        if self._namespace is None:
            with self._asking("NAMESPACE") as client:
                self._namespace = client.prefix()
        if self._namespace is None:
            self._namespace = imap_folders.usual_prefix(self._folders)
        return self._namespace

    def _select(self, role: Role, *, writable: bool = False, fresh: bool = False) -> _Data:
        """Select the role's folder; return the answer, {} where it is selected already.

        Without ``writable`` it is opened by EXAMINE, which leaves no trace. A connection that the
        server has closed meanwhile without a word is replaced, for nothing is lost by that: Cyrus
        closes it when somebody deletes the selected folder.
        """
        standing = self._client
        client = self._connected()
        try:
            return self._opened(role, writable=writable, fresh=fresh)
        except UnreachableError:
            if client is not standing or not client.hung_up:
                raise
        return self._opened(role, writable=writable, fresh=fresh)

    def _opened(self, role: Role, *, writable: bool, fresh: bool) -> _Data:
        name = self._name(role)
        if self._selected == (name, writable) and not (fresh or writable):
            return {}
        self._selected = None
        try:
            with self._asking("SELECT") as client:
                answer: _Data = client.select_folder(name, readonly=not writable)
        except RefusedError:
            if self._moved(role) == name:
                raise
            return self._opened(role, writable=writable, fresh=fresh)
        if b"UIDVALIDITY" not in answer:
            raise RefusedError("SELECT", "UIDNOTSTICKY", "the folder has no lasting UIDs")
        self._selected, self._uidvalidity = (name, writable), answer[b"UIDVALIDITY"]
        return answer

    def _moved(self, role: Role) -> str:
        """Return what the folder is called now; raise if there is none any more."""
        self._forget(role)
        return self._name(role)

    def _forget(self, role: Role) -> None:
        """Look for the folder anew next time."""
        self._names.pop(role, None)
        self._folders = []

    def _reading(self, role: Role, answer: _Data) -> Reading:
        """Return what reads the role's folder, selected with this answer."""
        uidvalidity = self._uidvalidity

        def ask(messages: str, items: str, *, by_uid: bool = True) -> Answers:
            self._select(role)  # anew if other calls came in between
            check_uidvalidity(role, uidvalidity, self._uidvalidity)
            with self._asking("FETCH") as client:
                return client.fetched(messages, items, by_uid=by_uid)

        return Reading(
            ask,
            messages=answer[b"EXISTS"],
            uidnext=answer.get(b"UIDNEXT"),
            sparing=role is Role.SENT,  # of requests and drafts every byte counts
        )


def _differ(one: _Data, other: _Data) -> bool:
    """Tell whether a folder changed between two answers to SELECT."""
    keys = (b"UIDVALIDITY", b"UIDNEXT", b"EXISTS")
    return any(one.get(key) != other.get(key) for key in keys)
