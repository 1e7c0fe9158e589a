"""The in-memory place for mail: the double that tests attack, and a reference for the contract."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from connectors.base import (
    REQUESTS_FOLDER,
    Connector,
    Cursor,
    FolderMissingError,
    FolderState,
    Message,
    ReadOnlyError,
    Role,
    check_uidvalidity,
)
from connectors.raw import canonical, message_id, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Operation = Literal[
    "state",
    "ensure",
    "fetch",
    "message_ids",
    "append",
    "add_flags",
    "remove_flags",
    "remove",
    "wait",
]

_NAMES = {Role.SENT: "Sent", Role.DRAFTS: "Drafts", Role.REQUESTS: REQUESTS_FOLDER}


@dataclass
class _Folder:
    """One folder: its UIDVALIDITY, the next UID, and its messages by UID."""

    uidvalidity: int
    uidnext: int = 1
    messages: dict[int, Message] = field(default_factory=dict)


@dataclass
class _Mail:
    """What connectors to the same memory share.

    ``changed`` is notified of every message that comes or goes, and guards each step.
    """

    folders: dict[Role, _Folder] = field(default_factory=dict)
    validities: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def make(self, role: Role) -> None:
        """Make a folder."""
        self.folders[role] = _Folder(self.next_validity())

    def next_validity(self) -> int:
        """Return a UIDVALIDITY that no folder had."""
        self.validities += 1
        return self.validities


@dataclass(frozen=True, slots=True)
class _Fault:
    """An error that one coming call will raise."""

    error: Exception
    skip: int
    done: bool


class MemoryConnector(Connector):
    """Mail in memory, as a server with UIDPLUS keeps it.

    Four hooks are for tests, and only for them: `fail` makes a coming call raise, before or after
    it has done its work; `change_uidvalidity` renumbers a folder; `delete` and `lose` are the
    owner's hand. `another` gives a second connector to the same mail, for another thread.

    Args:
        roles: The folders that exist from the start.
        read_only: Refuse every change.
        now: The clock that INTERNALDATE comes from where `append` is given no date.
    """

    def __init__(
        self,
        *,
        roles: Iterable[Role] = tuple(Role),
        read_only: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.read_only = read_only
        self._now = now
        self._mail = _Mail()
        self._told: dict[Role, FolderState] = {}
        self._faults: dict[Operation, list[_Fault]] = {}
        for role in roles:
            self._mail.make(role)

    def another(self) -> MemoryConnector:
        """Return a connector of its own to the same mail, without this one's faults."""
        made = MemoryConnector(roles=(), read_only=self.read_only, now=self._now)
        made._mail = self._mail
        return made

    def state(self, role: Role) -> FolderState:
        """Return what the role's folder says of itself now."""
        self._raise_fault("state")
        self._told[role] = self._state(role)
        return self._told[role]

    def _state(self, role: Role) -> FolderState:
        folder = self._folder(role)
        return FolderState(_NAMES[role], folder.uidvalidity, folder.uidnext, len(folder.messages))

    def ensure(self, role: Role) -> str:
        """Return the name of the role's folder, which is made first where there is none."""
        self._raise_fault("ensure")
        with self._mail.changed:
            if role not in self._mail.folders:
                if role is Role.SENT:
                    raise FolderMissingError(role, None)
                self._refuse_if_read_only()
                self._mail.make(role)
        return _NAMES[role]

    def fetch(
        self, role: Role, cursor: Cursor | None = None, *, last: int | None = None
    ) -> Iterator[Message]:
        """Yield the messages behind the cursor in ascending order of UID; all without one."""
        folder = self._folder(role)
        start = cursor or Cursor(folder.uidvalidity)
        with self._mail.changed:
            uids = sorted(folder.messages)
        for uid in uids:
            check_uidvalidity(role, start.uidvalidity, folder.uidvalidity)
            message = folder.messages.get(uid)
            if uid <= start.uid or (last is not None and uid > last) or message is None:
                continue
            self._go_on()
            self._raise_fault("fetch")
            raw, complete = readable(message.raw)
            yield replace(message, raw=raw, complete=complete)
        check_uidvalidity(role, start.uidvalidity, folder.uidvalidity)

    def message_ids(self, role: Role, first_uid: int = 1) -> dict[int, str]:
        """Map each UID from ``first_uid`` on to its Message-ID, "" where it has none."""
        self._raise_fault("message_ids")
        with self._mail.changed:
            messages = dict(self._folder(role).messages)
        return {uid: message_id(messages[uid].raw) for uid in sorted(messages) if uid >= first_uid}

    def append(
        self, role: Role, raw: bytes, *, flags: Iterable[str] = (), date: datetime | None = None
    ) -> int | None:
        """Store a message with CRLF line ends; return its UID."""
        self._refuse_if_read_only()
        self._raise_fault("append")
        self.ensure(role)
        received = (date or self._now()).replace(microsecond=0).astimezone(UTC)
        with self._mail.changed:
            folder = self._folder(role)
            uid = folder.uidnext
            folder.messages[uid] = Message(uid, canonical(raw), frozenset(flags), received)
            folder.uidnext += 1
            self._mail.changed.notify_all()
        self._raise_fault("append", done=True)
        return uid

    def add_flags(
        self, role: Role, uid: int, flags: Iterable[str], *, uidvalidity: int | None = None
    ) -> None:
        """Add flags to a message; one that is gone is no error."""
        self._refuse_if_read_only()
        self._raise_fault("add_flags")
        with self._mail.changed:
            folder = self._folder(role)
            check_uidvalidity(role, uidvalidity, folder.uidvalidity)
            if message := folder.messages.get(uid):
                folder.messages[uid] = replace(message, flags=message.flags | frozenset(flags))
        self._raise_fault("add_flags", done=True)

    def remove_flags(
        self, role: Role, uid: int, flags: Iterable[str], *, uidvalidity: int | None = None
    ) -> None:
        """Take flags off a message; one that is gone is no error."""
        self._refuse_if_read_only()
        self._raise_fault("remove_flags")
        with self._mail.changed:
            folder = self._folder(role)
            check_uidvalidity(role, uidvalidity, folder.uidvalidity)
            if message := folder.messages.get(uid):
                folder.messages[uid] = replace(message, flags=message.flags - frozenset(flags))
        self._raise_fault("remove_flags", done=True)

    def remove(self, role: Role, uid: int, *, uidvalidity: int | None = None) -> None:
        """Remove this one message and no other; one that is gone is no error."""
        self._refuse_if_read_only()
        self._raise_fault("remove")
        with self._mail.changed:
            folder = self._folder(role)
            check_uidvalidity(role, uidvalidity, folder.uidvalidity)
            folder.messages.pop(uid, None)
            self._mail.changed.notify_all()
        self._raise_fault("remove", done=True)

    def wait(self, role: Role, timeout: float) -> bool:
        """Wait until a message comes or goes in the role's folder, by whichever connector."""
        self._raise_fault("wait")
        told = self._told.get(role) or self._state(role)
        end = time.monotonic() + timeout
        with self._mail.changed:
            try:
                while self._state(role) == told:
                    left = end - time.monotonic()
                    if left <= 0 or self._woken.is_set():
                        self._go_on()
                        return False
                    self._mail.changed.wait(left)
                return True
            finally:
                self._woken.clear()

    def wake(self) -> None:
        """End the `wait` that is going on, else the next one, at once; from any thread."""
        super().wake()
        with self._mail.changed:
            self._mail.changed.notify_all()

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def fail(
        self, operation: Operation, error: Exception, *, skip: int = 0, done: bool = False
    ) -> None:
        """Make one coming call raise ``error``; for tests.

        Faults of one operation come in the order in which they were asked for.

        Args:
            operation: The method; `fetch` counts once for each message it is about to yield.
            error: What is raised, for example `UnreachableError` for a lost answer.
            skip: How many calls still go well before.
            done: Raise when the work is done, so that it looks undone: "appended but no answer".
                Only `append`, `add_flags`, `remove_flags` and `remove` have such a moment.
        """
        self._faults.setdefault(operation, []).append(_Fault(error, skip, done))

    def change_uidvalidity(self, role: Role) -> int:
        """Give the folder a new UIDVALIDITY and its messages new UIDs from 1 on; for tests."""
        with self._mail.changed:
            folder = self._folder(role)
            messages = [folder.messages[uid] for uid in sorted(folder.messages)]
            folder.messages = {
                uid: replace(message, uid=uid) for uid, message in enumerate(messages, start=1)
            }
            folder.uidnext = len(messages) + 1
            folder.uidvalidity = self._mail.next_validity()
            self._mail.changed.notify_all()
        return folder.uidvalidity

    def delete(self, role: Role, uid: int) -> None:
        """Take a message away as its owner would from a mail client; for tests."""
        with self._mail.changed:
            del self._folder(role).messages[uid]
            self._mail.changed.notify_all()

    def lose(self, role: Role) -> None:
        """Delete a folder with all that is in it; for tests."""
        with self._mail.changed:
            del self._mail.folders[role]
            self._mail.changed.notify_all()

    def _folder(self, role: Role) -> _Folder:
        try:
            return self._mail.folders[role]
        except KeyError:
            names = [_NAMES[other] for other in self._mail.folders]
            raise FolderMissingError(role, None, names) from None

    def _refuse_if_read_only(self) -> None:
        if self.read_only:
            raise ReadOnlyError("this memory")

    def _raise_fault(self, operation: Operation, *, done: bool = False) -> None:
        """Raise the first fault if it is this moment's turn, else bring it one call nearer."""
        faults = self._faults.get(operation)
        if not faults or faults[0].done is not done:
            return
        fault = faults[0]
        if fault.skip:
            faults[0] = replace(fault, skip=fault.skip - 1)
            return
        del faults[0]
        raise fault.error
