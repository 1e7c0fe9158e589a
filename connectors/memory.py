"""The in-memory place for mail: the double that tests attack, and a reference for the contract."""

from __future__ import annotations

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

Operation = Literal["state", "ensure", "fetch", "message_ids", "append", "add_flags", "remove"]

_NAMES = {Role.SENT: "Sent", Role.DRAFTS: "Drafts", Role.REQUESTS: REQUESTS_FOLDER}


@dataclass
class _Folder:
    """One folder: its UIDVALIDITY, the next UID, and its messages by UID."""

    uidvalidity: int
    uidnext: int = 1
    messages: dict[int, Message] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Fault:
    """An error that one coming call will raise."""

    error: Exception
    skip: int
    done: bool


class MemoryConnector(Connector):
    """Mail in memory, as a server with UIDPLUS keeps it.

    Three hooks are for tests, and only for them: `fail` makes a coming call raise, before or after
    it has done its work; `change_uidvalidity` renumbers a folder; `delete` is the owner's hand.

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
        self._validities = 0
        self._folders: dict[Role, _Folder] = {}
        self._faults: dict[Operation, list[_Fault]] = {}
        for role in roles:
            self._make(role)

    def state(self, role: Role) -> FolderState:
        """Return what the role's folder says of itself now."""
        self._raise_fault("state")
        folder = self._folder(role)
        return FolderState(_NAMES[role], folder.uidvalidity, folder.uidnext, len(folder.messages))

    def ensure(self, role: Role) -> str:
        """Return the name of the role's folder, which is made first where there is none."""
        self._raise_fault("ensure")
        if role not in self._folders:
            if role is Role.SENT:
                raise FolderMissingError(role, None)
            self._refuse_if_read_only()
            self._make(role)
        return _NAMES[role]

    def fetch(self, role: Role, cursor: Cursor | None = None) -> Iterator[Message]:
        """Yield the messages behind the cursor in ascending order of UID; all without one."""
        folder = self._folder(role)
        start = cursor or Cursor(folder.uidvalidity)
        for uid in sorted(folder.messages):
            check_uidvalidity(role, start.uidvalidity, folder.uidvalidity)
            if uid <= start.uid or uid not in folder.messages:
                continue
            self._raise_fault("fetch")
            message = folder.messages[uid]
            raw, complete = readable(message.raw)
            yield replace(message, raw=raw, complete=complete)
        check_uidvalidity(role, start.uidvalidity, folder.uidvalidity)

    def message_ids(self, role: Role, first_uid: int = 1) -> dict[int, str]:
        """Map each UID from ``first_uid`` on to its Message-ID, "" where it has none."""
        self._raise_fault("message_ids")
        messages = self._folder(role).messages
        return {uid: message_id(messages[uid].raw) for uid in sorted(messages) if uid >= first_uid}

    def append(
        self, role: Role, raw: bytes, *, flags: Iterable[str] = (), date: datetime | None = None
    ) -> int | None:
        """Store a message with CRLF line ends; return its UID."""
        self._refuse_if_read_only()
        self._raise_fault("append")
        self.ensure(role)
        folder = self._folder(role)
        uid = folder.uidnext
        received = (date or self._now()).replace(microsecond=0).astimezone(UTC)
        folder.messages[uid] = Message(uid, canonical(raw), frozenset(flags), received)
        folder.uidnext += 1
        self._raise_fault("append", done=True)
        return uid

    def add_flags(
        self, role: Role, uid: int, flags: Iterable[str], *, uidvalidity: int | None = None
    ) -> None:
        """Add flags to a message; one that is gone is no error."""
        self._refuse_if_read_only()
        self._raise_fault("add_flags")
        folder = self._folder(role)
        check_uidvalidity(role, uidvalidity, folder.uidvalidity)
        if message := folder.messages.get(uid):
            folder.messages[uid] = replace(message, flags=message.flags | frozenset(flags))
        self._raise_fault("add_flags", done=True)

    def remove(self, role: Role, uid: int, *, uidvalidity: int | None = None) -> None:
        """Remove this one message and no other; one that is gone is no error."""
        self._refuse_if_read_only()
        self._raise_fault("remove")
        folder = self._folder(role)
        check_uidvalidity(role, uidvalidity, folder.uidvalidity)
        folder.messages.pop(uid, None)
        self._raise_fault("remove", done=True)

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
                Only `append`, `add_flags` and `remove` have such a moment.
        """
        self._faults.setdefault(operation, []).append(_Fault(error, skip, done))

    def change_uidvalidity(self, role: Role) -> int:
        """Give the folder a new UIDVALIDITY and its messages new UIDs from 1 on; for tests."""
        folder = self._folder(role)
        messages = [folder.messages[uid] for uid in sorted(folder.messages)]
        folder.messages = {
            uid: replace(message, uid=uid) for uid, message in enumerate(messages, start=1)
        }
        folder.uidnext = len(messages) + 1
        folder.uidvalidity = self._next_validity()
        return folder.uidvalidity

    def delete(self, role: Role, uid: int) -> None:
        """Take a message away as its owner would from a mail client; for tests."""
        del self._folder(role).messages[uid]

    def _make(self, role: Role) -> None:
        self._folders[role] = _Folder(self._next_validity())

    def _next_validity(self) -> int:
        self._validities += 1
        return self._validities

    def _folder(self, role: Role) -> _Folder:
        try:
            return self._folders[role]
        except KeyError:
            names = [_NAMES[other] for other in self._folders]
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
