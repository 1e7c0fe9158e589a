r"""From the outbox into a folder, exactly once.

IMAP has no transactions. The folder's UIDVALIDITY and UIDNEXT are committed before each APPEND, so
that after an answer that never came the folder itself tells what became of it:

* The message is there, under its Message-ID: it arrived. Some servers give it another one; there a
  draft that came since and says the same, with the same date, is taken for it.
* No UID was given since, or all that were given belong to other messages which are still there: it
  did not arrive, and is appended again.
* A UID was given since and is gone. Another program's autosave may have had it; or the draft, and
  its owner has edited, sent or deleted it already. If it lies in Sent, it arrived. Else nobody can
  tell, and Panza does not guess: `resume` hands such drafts back, and their requests are parked
  with a note that says so. A draft that the owner has had in hand is never made a second time.

What a dying connection delivers later than that look makes a second copy, which `sweep` removes.

Windows that are left, because no IMAP command closes them:

* If UIDVALIDITY changes in the same moment, UIDNEXT proves nothing. Then only the Message-ID
  counts, and a draft that is not there is appended again.
* If the owner edits, sends or deletes one of two copies before the sweep has come by, the other
  one stays: it may be the one that she wants. If she does so in the moment between the sweep's
  look at the copies and its UID EXPUNGE, she may be left with none.
* Without UIDPLUS one message cannot be removed alone. A superfluous copy is only marked
  ``\Deleted``: mail clients hide it or strike it through, and the next EXPUNGE of anyone takes it.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from connectors.base import Cursor, FolderMissingError, MessageError, RefusedError, Role
from connectors.mail import parse
from connectors.raw import canonical
from daemon.journal import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from connectors.base import Connector, FolderState, Message
    from daemon.journal import Journal, Parcel

SWEPT_FOR = timedelta(days=1)
"""How long copies may still turn up: servers give up on a stalled literal within the hour."""

_OURS = "panza."  # how the Message-IDs of `compose` begin
_RECENT = 2000  # UIDs at the end of Sent, where a draft lies that was just sent
# A report lies where Panza's notes do. INBOX is her correspondents' folder: nothing is looked up or
# removed there, and nothing put among their letters that did not come by mail.
_ROLES = {Kind.DRAFT: Role.DRAFTS, Kind.NOTE: Role.REQUESTS, Kind.REPORT: Role.REQUESTS}
# Without \Draft some clients show a received mail that cannot be edited.
_FLAGS: dict[Kind, tuple[str, ...]] = {
    Kind.DRAFT: ("\\Draft", "\\Seen"),
    Kind.NOTE: (),
    Kind.REPORT: (),
}
# The last two are set by servers on their own.
_PRISTINE = frozenset({"\\draft", "\\seen", "$hasattachment", "$hasnoattachment"})


class _Fate(Enum):
    """What became of a message whose APPEND had no clear answer."""

    ARRIVED = auto()
    ABSENT = auto()
    DOUBTFUL = auto()


def resume(connector: Connector, journal: Journal) -> list[Parcel]:
    """Find out what became of each APPEND that had no clear answer, and enter it in the journal.

    To be called before anything else is done in these folders, for a `sweep` removes messages.

    Returns:
        The drafts for which nobody can tell; their entries are left as they were.
    """
    doubtful = []
    for parcel in journal.unanswered():
        fate = _fate(connector, parcel)
        if fate is _Fate.ARRIVED:
            journal.appended(parcel)
        elif fate is _Fate.ABSENT:
            journal.not_appended(parcel)
        else:
            doubtful.append(parcel)
    return doubtful


def deliver(connector: Connector, journal: Journal, parcel: Parcel) -> RefusedError | None:
    """Append what is in the outbox, unless a copy of an earlier attempt is there by now.

    Returns:
        Why the folder does not take it, None when it is there.

    Raises:
        ConnectorError: Where this comes from the APPEND itself, `resume` has to be called next.
    """
    role = _ROLES[parcel.kind]
    folder = connector.state(role)
    if parcel.attempts and _is_there(connector, parcel, folder):
        journal.appended(parcel)
        return None
    journal.appending(parcel, folder.uidvalidity, folder.uidnext)
    try:
        connector.append(role, parcel.raw, flags=_FLAGS[parcel.kind])
    except RefusedError as refusal:
        journal.not_appended(parcel)
        return refusal
    journal.appended(parcel)
    return None


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


def _fate(connector: Connector, parcel: Parcel) -> _Fate:
    role = _ROLES[parcel.kind]
    folder = connector.state(role)
    found = connector.message_ids(role, _first_uid(parcel, folder))
    if parcel.message_id in found.values() or _is_renamed(connector, parcel, folder, found):
        return _Fate.ARRIVED
    given = range(parcel.uidnext, folder.uidnext)
    if parcel.uidvalidity != folder.uidvalidity or all(uid in found for uid in given):
        return _Fate.ABSENT
    if parcel.kind is not Kind.DRAFT:  # rather twice than never
        return _Fate.ABSENT
    return _Fate.ARRIVED if _is_in_sent(connector, parcel) else _Fate.DOUBTFUL


def _is_there(connector: Connector, parcel: Parcel, folder: FolderState) -> bool:
    found = connector.message_ids(_ROLES[parcel.kind], _first_uid(parcel, folder))
    return parcel.message_id in found.values() or _is_renamed(connector, parcel, folder, found)


def _is_renamed(
    connector: Connector, parcel: Parcel, folder: FolderState, found: Mapping[int, str]
) -> bool:
    """Tell whether a draft lies there under a Message-ID of the server's, as with Microsoft.

    Only what came since is looked at, and none of Panza's other drafts, which may say the same.
    """
    new = [uid for uid, name in found.items() if not name.startswith(_OURS)]
    if parcel.kind is not Kind.DRAFT or parcel.uidvalidity != folder.uidvalidity or not new:
        return False
    cursor = Cursor(folder.uidvalidity, min(new) - 1)
    candidates = connector.fetch(Role.DRAFTS, cursor, last=max(new))
    ours = _content(parcel.raw)
    return any(one.uid in new and _content(one.raw) == ours for one in candidates)


def _content(raw: bytes) -> str:
    with suppress(MessageError):
        return parse(raw).content_hash
    return ""


def _is_in_sent(connector: Connector, parcel: Parcel) -> bool:
    with suppress(FolderMissingError, RefusedError):
        newest = connector.state(Role.SENT).uidnext - _RECENT
        sent = connector.message_ids(Role.SENT, max(1, newest))
        return parcel.message_id in sent.values()
    return False


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
