r"""An account on an IMAP server (RFC 3501, RFC 9051), on imapclient.

Messages are fetched by UID with ``BODY.PEEK[]``, so nothing becomes ``\Seen`` by being read, and
in batches bounded in number and in bytes, so that large attachments do not pile up in memory. Of a
message above `base.LARGEST` only the first `base.BEGINNING` bytes are fetched.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from imapclient.exceptions import IMAPClientError

from connectors import imap_folders
from connectors.base import (
    BEGINNING,
    LARGEST,
    Connector,
    Cursor,
    FolderMissingError,
    FolderState,
    Message,
    RefusedError,
    Role,
    UnreachableError,
    check_uidvalidity,
)
from connectors.imap_client import Client, shut_down
from connectors.imap_errors import TEMPORARY, translated
from connectors.imap_session import ImapSettings, connect
from connectors.imap_wire import Bell, Breaker
from connectors.raw import canonical, message_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["ImapConnector", "ImapSettings"]

_BATCH_MESSAGES = 100
_BATCH_BYTES = 8 * 2**20
_STALE = 60.0
"""Seconds of silence after which a connection is tried before it is relied on."""

_RENEWAL = 9 * 60.0
"""Seconds after which IDLE is begun anew: the RFC says 29 minutes, and servers hang up after 10."""

_APPENDUID = re.compile(rb"\[APPENDUID \d+ (\d+)\]", re.IGNORECASE)
_WHOLE = "FLAGS INTERNALDATE BODY.PEEK[]"
_PART = f"FLAGS INTERNALDATE BODY.PEEK[]<0.{BEGINNING}>"
_MESSAGE_ID = "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]"

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
        self._names: dict[Role, str] = {}
        self._selected: tuple[str, bool] | None = None
        self._uidvalidity = 0
        self._told: dict[Role, _Data] = {}

    def state(self, role: Role) -> FolderState:
        """Return what the role's folder says of itself now."""
        answer = self._told[role] = self._select(role, fresh=True)
        uidnext = answer.get(b"UIDNEXT")
        if uidnext is None:  # a server older than RFC 3501
            uidnext = max((uid for uid, _ in self._sizes(role, 1, answer)), default=0) + 1
        return FolderState(self._names[role], self._uidvalidity, uidnext, answer[b"EXISTS"])

    def ensure(self, role: Role) -> str:
        """Return the name of the role's folder, which is made and subscribed to if missing."""
        with suppress(FolderMissingError):
            return self._name(role)
        wanted = self._settings.folders.get(role)
        if role is Role.SENT or (role is Role.DRAFTS and wanted is not None):
            return self._name(role)
        with self._asking("CREATE") as client:
            folders = client.folders()
            name = imap_folders.new_name(role, wanted, folders, _prefix(client, folders))
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

    def fetch(self, role: Role, cursor: Cursor | None = None) -> Iterator[Message]:
        """Yield the messages behind the cursor in ascending order of UID; all without one.

        A message that the server refuses to give is skipped, unless the refusal sounds temporary
        or meets a whole batch: then `RefusedError` is raised, so that no mail is passed over.
        """
        answer = self._select(role, fresh=True)
        start = cursor or Cursor(self._uidvalidity)
        check_uidvalidity(role, start.uidvalidity, self._uidvalidity)
        sizes = self._sizes(role, start.uid + 1, answer)
        for batch in _batches(sizes):
            large = batch[0][1] > LARGEST
            uids = [uid for uid, _ in batch]
            found = self._read(role, start.uidvalidity, uids, _PART if large else _WHOLE)
            for uid in uids:
                if message := _message(uid, found.pop(uid, {}), large=large):
                    yield message

    def message_ids(self, role: Role, first_uid: int = 1) -> dict[int, str]:
        """Map each UID from ``first_uid`` on to its Message-ID, "" where it has none."""
        answer = self._select(role, fresh=True)
        uidvalidity = self._uidvalidity
        uids = [uid for uid, _ in self._sizes(role, first_uid, answer)]
        found: dict[int, str] = {}
        for start in range(0, len(uids), _BATCH_MESSAGES):
            batch = uids[start : start + _BATCH_MESSAGES]
            answers = self._read(role, uidvalidity, batch, _MESSAGE_ID)
            found |= {
                uid: message_id(_body(answers[uid]) or b"") for uid in batch if uid in answers
            }
        return found

    def append(
        self, role: Role, raw: bytes, *, flags: Iterable[str] = (), date: datetime | None = None
    ) -> int | None:
        """Store a message; return its UID where the server has UIDPLUS, else None.

        Raises:
            RefusedError: It is not stored: for example with code OVERQUOTA, LIMIT or NOPERM.
            UnreachableError: It may be stored or not.
        """
        name = self.ensure(role)
        try:
            with self._asking("APPEND") as client:
                answer = client.append(name, canonical(raw), list(flags), date)
        except RefusedError as error:
            if error.code == "TRYCREATE":  # somebody removed the folder; look anew next time
                self._names.pop(role, None)
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
            wanted = self._settings.folders.get(role)
            with self._asking("LIST") as client:
                folders = client.folders()
                prefix = _prefix(client, folders)
            found = imap_folders.find(role, wanted, folders, prefix)
            if found is None:
                names = [folder.name for folder in folders if folder.selectable]
                raise FolderMissingError(role, wanted, names)
            self._names[role] = found
        return self._names[role]

    def _select(self, role: Role, *, writable: bool = False, fresh: bool = False) -> _Data:
        """Select the role's folder; return the answer, {} where it is selected already.

        Without ``writable`` it is opened by EXAMINE, which leaves no trace.
        """
        self._connected()  # before the question what is selected: a new connection has nothing
        name = self._name(role)
        if self._selected == (name, writable) and not (fresh or writable):
            return {}
        self._selected = None
        try:
            with self._asking("SELECT") as client:
                answer: _Data = client.select_folder(name, readonly=not writable)
        except RefusedError:
            del self._names[role]
            self._name(role)  # raises what is wanted here if the folder is gone
            raise
        if b"UIDVALIDITY" not in answer:
            raise RefusedError("SELECT", "UIDNOTSTICKY", "the folder has no lasting UIDs")
        self._selected, self._uidvalidity = (name, writable), answer[b"UIDVALIDITY"]
        return answer

    def _sizes(self, role: Role, first: int, answer: _Data) -> list[tuple[int, int]]:
        """Return UID and size of all messages from ``first`` on; the folder is selected."""
        if answer[b"EXISTS"] == 0:
            return []
        if first >= answer.get(b"UIDNEXT", first + 1):
            return []
        found = self._ask(role, self._uidvalidity, f"{first}:*", "RFC822.SIZE")
        # "n:*" names the last message also where its UID is below n (RFC 3501, 6.4.8).
        return sorted(
            (uid, data[b"RFC822.SIZE"])
            for uid, data in found.items()
            if uid >= first and b"RFC822.SIZE" in data
        )

    def _ask(self, role: Role, uidvalidity: int, uids: str, items: str) -> dict[int, _Data]:
        """UID FETCH in the role's folder, selected anew if other calls came in between."""
        self._select(role)
        check_uidvalidity(role, uidvalidity, self._uidvalidity)
        with self._asking("FETCH") as client:
            return client.uid_fetch(uids, items)

    def _read(
        self, role: Role, uidvalidity: int, uids: Sequence[int], items: str
    ) -> dict[int, _Data]:
        """Fetch one batch, message by message where the server refuses the whole."""
        try:
            # No other message lies between these UIDs, so a range says the same, shortly.
            return self._ask(role, uidvalidity, f"{uids[0]}:{uids[-1]}", items)
        except RefusedError as error:
            if error.code in TEMPORARY:
                raise
            refusal = error
        if len(uids) == 1:
            return {}
        found: dict[int, _Data] = {}
        for uid in uids:
            found |= self._read(role, uidvalidity, [uid], items)
        if not found:
            raise refusal
        return found


def _differ(one: _Data, other: _Data) -> bool:
    """Tell whether a folder changed between two answers to SELECT."""
    keys = (b"UIDVALIDITY", b"UIDNEXT", b"EXISTS")
    return any(one.get(key) != other.get(key) for key in keys)


def _prefix(client: Client, folders: Sequence[imap_folders.Folder]) -> str:
    told = client.prefix()
    return imap_folders.usual_prefix(folders) if told is None else told


def _batches(sizes: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Group messages by number and bytes; one above `LARGEST` stays alone."""
    batch: list[tuple[int, int]] = []
    total = 0
    for uid, size in sizes:
        full = len(batch) == _BATCH_MESSAGES or total + size > _BATCH_BYTES
        if batch and full:
            yield batch
            batch, total = [], 0
        batch.append((uid, size))
        total += size
    if batch:
        yield batch


def _message(uid: int, data: _Data, *, large: bool) -> Message | None:
    raw = _body(data)
    if raw is None:
        return None
    # A keyword of digits alone comes from imapclient as a number.
    flags = frozenset(
        flag.decode("ascii", "replace") if isinstance(flag, bytes) else str(flag)
        for flag in data.get(b"FLAGS", ())
    )
    return Message(
        uid,
        raw,
        flags - {"\\Recent"},
        received.astimezone(UTC) if (received := data.get(b"INTERNALDATE")) else None,
        complete=not large or len(raw) < BEGINNING,
    )


def _body(data: _Data) -> bytes | None:
    """Return the one body section in an answer to FETCH, None where the server gave none."""
    for item, value in data.items():
        if item.startswith(b"BODY[") and isinstance(value, bytes):
            return value
    return None
