r"""How the messages of one folder come over the line: in few commands, and within bounds.

Messages are fetched by UID with ``BODY.PEEK``, so nothing becomes ``\Seen`` by being read, in
batches bounded in number and in bytes. Where the caller only wants to read texts, a message above
`SPARING` is fetched without its attachments (`connectors.imap_parts`). Of one above `base.LARGEST`
that cannot be had so, the first `base.BEGINNING` bytes come.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from connectors import imap_parts
from connectors.base import BEGINNING, LARGEST, Message, RefusedError
from connectors.imap_errors import TEMPORARY
from connectors.raw import message_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from connectors.imap_parts import Section

SPARING: Final = 128 * 2**10
"""Messages up to this size, in bytes, come whole: two more commands cost more than they save."""

_BATCH_MESSAGES: Final = 500
_BATCH_BYTES: Final = 8 * 2**20
_NAMED_AT_ONCE: Final = 2000
_MARKS: Final = "FLAGS INTERNALDATE"
_WHOLE: Final = f"{_MARKS} BODY.PEEK[]"
_PART: Final = f"{_MARKS} BODY.PEEK[]<0.{BEGINNING}>"
_STRUCTURE: Final = f"{_MARKS} BODYSTRUCTURE"
_MESSAGE_ID: Final = "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]"

Answers = dict[int, dict[bytes, Any]]
"""What was fetched, by UID and item."""


class Ask(Protocol):
    """FETCH, in the folder that is read."""

    def __call__(self, messages: str, items: str, *, by_uid: bool = True) -> Answers:
        """Return what the server gives of these messages."""


class Reading:
    """Reads one folder.

    Args:
        ask: FETCH in it. It raises what ends the reading.
        messages: How many the folder holds (EXISTS).
        uidnext: Its UIDNEXT, None where it is not told.
        sparing: Only texts are wanted.
    """

    def __init__(self, ask: Ask, *, messages: int, uidnext: int | None, sparing: bool) -> None:
        self._ask = ask
        self._messages = messages
        self._uidnext = uidnext
        self._sparing = sparing

    def sizes(self, first: int, last: int | None = None) -> list[tuple[int, int]]:
        """Return UID and size of all messages from ``first`` on, up to ``last``."""
        if self._nothing(first) or (last is not None and last < first):
            return []
        # "n:*" names the last message also where its UID is below n (RFC 3501, 6.4.8).
        found = _sizes(self._ask(f"{first}:{last or '*'}", "RFC822.SIZE"), first)
        if first == 1 and last is None and len(found) < self._messages:
            # Yahoo, for one, has been seen to tell of the first thousand alone.
            for start in range(1, self._messages + 1, _NAMED_AT_ONCE):
                end = min(start + _NAMED_AT_ONCE - 1, self._messages)
                found |= _sizes(self._ask(f"{start}:{end}", "UID RFC822.SIZE", by_uid=False), 1)
        return sorted(found.items())

    def read(self, first: int, last: int | None = None) -> Iterator[Message]:
        """Yield the messages from ``first`` on, up to ``last``, in ascending order of UID.

        Raises:
            RefusedError: The server gives none of a batch, or says that it may do so later.
        """
        for batch in _batches(self.sizes(first, last), SPARING if self._sparing else LARGEST):
            yield from self._batch(dict(batch))

    def message_ids(self, first: int) -> dict[int, str]:
        """Map each UID from ``first`` on to its Message-ID, "" where it has none."""
        found: dict[int, str] = {}
        for uids in self._named(first):
            answers = self._fetched(uids, _MESSAGE_ID, uids) if uids else self._open_end(first)
            found |= {
                uid: message_id(raw)
                for uid, data in answers.items()
                if uid >= first and (raw := _body(data)) is not None
            }
        return dict(sorted(found.items()))

    def _nothing(self, first: int) -> bool:
        return self._messages == 0 or (self._uidnext is not None and first >= self._uidnext)

    def _named(self, first: int) -> Iterator[list[int]]:
        """Yield UIDs in bounded groups; one empty group where the open end is short enough."""
        if self._nothing(first):
            return
        new = self._messages if self._uidnext is None else self._uidnext - first
        if min(new, self._messages) <= _NAMED_AT_ONCE:
            yield []
            return
        uids = [uid for uid, _ in self.sizes(first)]
        for start in range(0, len(uids), _NAMED_AT_ONCE):
            yield uids[start : start + _NAMED_AT_ONCE]

    def _open_end(self, first: int) -> Answers:
        try:
            return self._ask(f"{first}:*", _MESSAGE_ID)
        except RefusedError as error:
            if error.code in TEMPORARY:
                raise
        uids = [uid for uid, _ in self.sizes(first)]
        return self._fetched(uids, _MESSAGE_ID, uids)

    def _batch(self, sizes: Mapping[int, int]) -> Iterator[Message]:
        """Yield one batch; what is too large to wait for its turn is fetched at its turn."""
        limit = SPARING if self._sparing else LARGEST
        small = [uid for uid, size in sizes.items() if size <= limit]
        answers = self._fetched(small, _WHOLE, list(sizes))
        found = {uid: _message(uid, answers.pop(uid, {})) for uid in small}
        if self._sparing:
            found |= self._without_attachments(sizes)
        for uid, size in sizes.items():
            message = found.pop(uid) if uid in found else self._single(uid, size)
            if message:
                yield message

    def _single(self, uid: int, size: int) -> Message | None:
        items = _PART if size > LARGEST else _WHOLE
        data = self._fetched([uid], items, [uid]).get(uid, {})
        return _message(uid, data, cut=size > LARGEST)

    def _without_attachments(self, sizes: Mapping[int, int]) -> dict[int, Message | None]:
        """Return those of the large messages that can be made of their texts, if it is worth it."""
        order = list(sizes)
        large = [uid for uid, size in sizes.items() if size > SPARING]
        answers = self._fetched(large, _STRUCTURE, order, strict=False)
        alike: defaultdict[str, list[tuple[int, Section]]] = defaultdict(list)
        for uid, data in answers.items():
            part = imap_parts.outline(data.get(b"BODYSTRUCTURE"))
            items = part.items() if part and part.total() <= min(SPARING, sizes[uid] / 2) else None
            if part and items:
                alike[items].append((uid, part))
        found: dict[int, Message | None] = {}
        for items, group in alike.items():
            # Most mail programs build their mails alike, so few commands fetch them all.
            texts = self._fetched([uid for uid, _ in group], items, order, strict=False)
            for uid, part in group:
                raw = imap_parts.rebuilt(part, texts.get(uid, {}))
                if raw is not None:
                    found[uid] = _message(uid, answers[uid], raw, cut=True)
        return found

    def _fetched(
        self, uids: Sequence[int], items: str, among: Sequence[int], *, strict: bool = True
    ) -> Answers:
        """Fetch messages; where the server refuses them together, those that it does give.

        Args:
            uids: Which ones.
            items: What of them.
            among: All UIDs between the first and the last of them that the folder has.
            strict: To get nothing of several is an error: it must not look like an empty folder.

        Raises:
            RefusedError: See ``strict``, or the server says that it may give them later.
        """
        if not uids:
            return {}
        found, refusal = self._halved(uids, items, among)
        if refusal and not found and strict and len(uids) > 1:
            raise refusal
        return found

    def _halved(
        self, uids: Sequence[int], items: str, among: Sequence[int]
    ) -> tuple[Answers, RefusedError | None]:
        try:
            return self._ask(_ranges(uids, among), items), None
        except RefusedError as error:
            if error.code in TEMPORARY:
                raise
            if len(uids) == 1:
                return {}, error
        middle = len(uids) // 2
        first, refused = self._halved(uids[:middle], items, among)
        second, also_refused = self._halved(uids[middle:], items, among)
        return first | second, refused or also_refused


def _sizes(answers: Answers, first: int) -> dict[int, int]:
    return {
        uid: data[b"RFC822.SIZE"]
        for uid, data in answers.items()
        if uid >= first and isinstance(data.get(b"RFC822.SIZE"), int)
    }


def _batches(sizes: Iterable[tuple[int, int]], whole: int) -> Iterator[list[tuple[int, int]]]:
    """Group messages by number and by the bytes that are fetched of them together."""
    batch: list[tuple[int, int]] = []
    total = 0
    for uid, size in sizes:
        cost = min(size, whole)
        if batch and (len(batch) == _BATCH_MESSAGES or total + cost > _BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append((uid, size))
        total += cost
    if batch:
        yield batch


def _ranges(uids: Sequence[int], among: Sequence[int]) -> str:
    """Return UIDs as the protocol writes them.

    Neighbours become a range although their numbers are apart: no other message lies between.
    """
    place = {uid: number for number, uid in enumerate(among)}
    ranges: list[tuple[int, int]] = []
    for uid in uids:
        if ranges and place[ranges[-1][1]] == place[uid] - 1:
            ranges[-1] = (ranges[-1][0], uid)
        else:
            ranges.append((uid, uid))
    return ",".join(f"{first}:{last}" for first, last in ranges)


def _message(
    uid: int, data: Mapping[bytes, Any], raw: bytes | None = None, *, cut: bool = False
) -> Message | None:
    if raw is None:
        raw = _body(data)
        cut = cut and raw is not None and len(raw) >= BEGINNING
    if raw is None:
        return None
    # A keyword of digits alone comes from imapclient as a number.
    flags = frozenset(
        flag.decode("ascii", "replace") if isinstance(flag, bytes) else str(flag)
        for flag in data.get(b"FLAGS") or ()
    )
    received = data.get(b"INTERNALDATE")
    return Message(
        uid,
        raw,
        flags - {"\\Recent"},
        received.astimezone(UTC) if isinstance(received, datetime) else None,
        complete=not cut,
    )


def _body(data: Mapping[bytes, Any]) -> bytes | None:
    """Return the one body section in an answer to FETCH, None where the server gave none."""
    for item, value in data.items():
        if item.startswith(b"BODY[") and isinstance(value, bytes):
            return value
    return None
