"""New sent mail in: from the account's folder and its archives into the store.

Messages are read behind a saved cursor and kept in batches, each with its cursor in one
transaction. So a sync may be interrupted anywhere, and the next one reads on from there.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors.base import (
    ConnectorError,
    Cursor,
    CursorInvalidError,
    Role,
    check_uidvalidity,
)
from connectors.mail import Mail
from connectors.readers import Readers
from daemon.progress import silent
from daemon.store import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from connectors.base import FolderState, Message, MessageError
    from daemon.accounts import Source
    from daemon.config import Account
    from daemon.progress import Progress
    from daemon.store import Store

UNREADABLE = "unreadable"
NO_SENDER = "no sender"
NOT_YOURS = "not yours"
AUTOMATIC = "automatic"
FORWARD_ONLY = "forward only"
EMPTY = "empty"
TO_HERSELF = "to yourself"

_BATCH = 200
_OWNER = "owner"


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync did.

    Attributes:
        new: How many mails it added.
        total: How many there are now.
        left_out: How many of all messages that were ever read are no mail to learn from, by
            reason.
        seconds: How long it took.
        read: How many messages it read.
        notes: What the owner should know, in sentences.
    """

    new: int
    total: int
    left_out: dict[str, int]
    seconds: float
    read: int = 0
    notes: tuple[str, ...] = ()


def sync(
    account: Account,
    sources: Iterable[Source],
    store: Store,
    progress: Progress = silent,
    *,
    readers: Readers | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> SyncResult:
    """Read what is new in every source; safe to repeat and to interrupt.

    A mail is kept when one of the account's own addresses sent it and the owner wrote something
    in it; every other message is counted by the reason why it was left out.

    Args:
        account: The account.
        sources: All of its sources; what was read from others stays, and its omissions go.
        store: The account's store, open for writing.
        progress: Told how many messages were read.
        readers: Who reads messages; by default processes for this sync alone.
        clock: Seconds of a monotonic clock.

    Raises:
        connectors.base.ConnectorError: A source cannot be read; what it gave before is kept.
        daemon.errors.StoreError: The store cannot be written.
        OSError: The disk is full, for example.
    """
    started = clock()
    sources = list(sources)
    _adopt(account.addresses, {source.name for source in sources}, store)
    with ExitStack() as stack:
        readers = readers or stack.enter_context(Readers())
        run = _Sync(account.addresses, store, readers, progress)
        for source in sources:
            try:
                run.read(source)
            except CursorInvalidError:
                # The folder was numbered anew: all of it is read again and matched by content.
                store.forget_folder(source.name)
                run.read(source)
    return SyncResult(
        new=run.new,
        total=store.total(),
        left_out=store.left_out(),
        seconds=clock() - started,
        read=run.done,
        notes=tuple(run.notes),
    )


def reason_to_leave_out(mail: Mail, owner: frozenset[str]) -> str:
    """Return why a mail is none of the owner's words, "" if it is.

    Args:
        mail: The mail.
        owner: Her addresses, casefolded; a sender's address must equal one of them.
    """
    if mail.sender is None or not mail.sender.email:
        return NO_SENDER
    if not mail.is_from(owner):
        return NOT_YOURS
    if mail.automatic:
        return AUTOMATIC
    if not mail.text.strip():
        return FORWARD_ONLY if mail.answered.strip() else EMPTY
    recipients = {one.email.casefold() for one in (*mail.to, *mail.cc)}
    if recipients and recipients <= owner:
        return TO_HERSELF  # a note or a request, not a letter: another voice
    return ""


def _adopt(owner: frozenset[str], names: Collection[str], store: Store) -> None:
    """Start over where the owner's addresses or the sources changed: other mails are hers now."""
    addresses = " ".join(sorted(owner))
    changed = store.note(_OWNER) != addresses
    with store.transaction():
        for note in store.folder_notes():
            if note.role is Role.SENT and (changed or note.source not in names):
                store.forget_folder(note.source)
        if changed:
            store.drop_others(owner)
            store.set_note(_OWNER, addresses)


class _Sync:
    """One run over the sources, and what it counted."""

    def __init__(
        self, owner: frozenset[str], store: Store, readers: Readers, progress: Progress
    ) -> None:
        self._owner = owner
        self._store = store
        self._readers = readers
        self._progress = progress
        self.new = 0
        self.done = 0
        self.notes: list[str] = []

    def read(self, source: Source) -> None:
        """Read a source from its cursor on.

        Raises:
            CursorInvalidError: It was numbered anew.
        """
        state = source.connector.state(Role.SENT)
        note = self._store.folder_note(source.name, Role.SENT)
        if note is not None and note.cursor.uid and not state.messages:
            # A server that lost a folder, or an owner who cleaned up: what was learned stays.
            self._store.note_folder(source.name, Role.SENT, note.cursor, 0)
            self.notes.append(f"{state.name} is empty; the mails read from it before stay.")
            return
        cursor = note.cursor if note else Cursor(state.uidvalidity)
        check_uidvalidity(Role.SENT, cursor.uidvalidity, state.uidvalidity)
        messages = source.connector.fetch(Role.SENT, cursor)
        count = 0
        for batch in _batches(self._readers.read(messages)):
            self._keep(batch, source.name, state)
            count += len(batch)
            total = None if note else max(count, state.messages)
            self._progress(f"reading {state.name}", count, total)
        if not count:
            self._store.note_folder(source.name, Role.SENT, cursor, state.messages)

    def _keep(
        self, batch: Sequence[tuple[int, Mail | None]], name: str, state: FolderState
    ) -> None:
        """Keep a batch and its cursor, both or neither."""
        new = 0
        with self._store.transaction():
            for uid, mail in batch:
                place = Place(name, state.uidvalidity, uid)
                reason = reason_to_leave_out(mail, self._owner) if mail else UNREADABLE
                if mail is None or reason:
                    self._store.leave_out(place, reason)
                else:
                    new += self._store.keep(place, mail) == "new"
            cursor = Cursor(state.uidvalidity, batch[-1][0])
            self._store.note_folder(name, Role.SENT, cursor, state.messages)
        self.new += new
        self.done += len(batch)


def _batches(
    mails: Iterable[tuple[Message, Mail | MessageError]],
) -> Iterator[list[tuple[int, Mail | None]]]:
    """Group what was read; what a connection gave before it broke is a batch as well."""
    batch: list[tuple[int, Mail | None]] = []
    try:
        for message, mail in mails:
            # Without its bytes, attachments and all.
            batch.append((message.uid, mail if isinstance(mail, Mail) else None))
            if len(batch) == _BATCH:
                yield batch
                batch = []
    except ConnectorError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
