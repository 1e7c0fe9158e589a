"""From the outbox into a folder, exactly once.

IMAP has no transactions. The folder's UIDVALIDITY and UIDNEXT are committed before the APPEND, so
that after an answer that never came the message is found, if it arrived, among the Message-IDs from
there on. A message that a dying connection delivers later than that look is found by the sweep.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from connectors.base import Cursor, RefusedError, Role
from connectors.raw import canonical
from daemon.journal import Kind, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectors.base import Connector, FolderState, Message
    from daemon.journal import Journal, Parcel

SWEPT_FOR = timedelta(days=1)
"""How long copies may still turn up: servers give up on a stalled literal within the hour."""

_ROLES = {Kind.DRAFT: Role.DRAFTS, Kind.NOTE: Role.REQUESTS}
# Without \Draft some clients show a received mail that cannot be edited.
_FLAGS: dict[Kind, tuple[str, ...]] = {Kind.DRAFT: ("\\Draft", "\\Seen"), Kind.NOTE: ()}
_PRISTINE = frozenset({"\\draft", "\\seen"})


def deliver(connector: Connector, journal: Journal, parcel: Parcel) -> None:
    """Append what is in the outbox, unless an earlier attempt has already done it.

    Raises:
        RefusedError: The server said no; the message is not in its folder.
        ConnectorError: Any other leaves open whether the message arrived; call again later.
    """
    role = _ROLES[parcel.kind]
    folder = connector.state(role)
    first = _first_uid(parcel, folder) if parcel.attempts else folder.uidnext
    if parcel.state is State.APPENDING and parcel.message_id in (
        connector.message_ids(role, first).values()
    ):
        journal.appended(parcel)
        return
    journal.appending(parcel, folder.uidvalidity, first)
    try:
        connector.append(role, parcel.raw, flags=_FLAGS[parcel.kind])
    except RefusedError:
        journal.not_appended(parcel)
        raise
    journal.appended(parcel)


def sweep(connector: Connector, journal: Journal) -> int:
    """Remove copies of what took more than one attempt; return how many.

    Of several messages with the bytes that Panza composed and no mark of the owner's hand, the
    first stays. One that she edited, flagged or marked as deleted is not touched and not counted.
    """
    journal.forget_repeated(SWEPT_FOR)
    by_role: defaultdict[Role, list[Parcel]] = defaultdict(list)
    for parcel in journal.repeated():
        by_role[_ROLES[parcel.kind]].append(parcel)
    return sum(_sweep(connector, role, parcels) for role, parcels in by_role.items())


def _sweep(connector: Connector, role: Role, parcels: list[Parcel]) -> int:
    folder = connector.state(role)
    first = min(_first_uid(parcel, folder) for parcel in parcels)
    places: defaultdict[str, list[int]] = defaultdict(list)
    for uid, message_id in connector.message_ids(role, first).items():
        places[message_id].append(uid)
    removed = 0
    for parcel in parcels:
        copies = list(_copies(connector, folder, parcel, places[parcel.message_id]))
        for uid in copies[1:]:
            connector.remove(role, uid, uidvalidity=folder.uidvalidity)
            removed += 1
    return removed


def _copies(
    connector: Connector, folder: FolderState, parcel: Parcel, uids: list[int]
) -> Iterator[int]:
    """Yield the UIDs of those messages that are exactly ours, in ascending order."""
    if len(uids) < 2:  # noqa: PLR2004 - one is what there should be
        return
    cursor = Cursor(folder.uidvalidity, uids[0] - 1)
    for message in connector.fetch(_ROLES[parcel.kind], cursor):
        if message.uid in uids and _untouched(message, parcel):
            yield message.uid
        if message.uid >= uids[-1]:
            return


def _untouched(message: Message, parcel: Parcel) -> bool:
    same_bytes = canonical(message.raw) == canonical(parcel.raw)
    return same_bytes and {flag.lower() for flag in message.flags} <= _PRISTINE


def _first_uid(parcel: Parcel, folder: FolderState) -> int:
    """Where to look for it from: the saved UIDNEXT, or everywhere once the UIDs are void."""
    return parcel.uidnext if parcel.uidvalidity == folder.uidvalidity else 1
