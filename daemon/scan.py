"""The folder "Panza requests", read into the journal.

Each message is judged once: it is entered as a request, or counted as refused, together with the
cursor that moves past it. What bears the owner's name and may still be proven by its copy in Sent
is looked at again, and so is what the folder lists and does not give.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from itertools import groupby, islice
from typing import TYPE_CHECKING

from connectors import body, mime
from connectors.base import (
    Cursor,
    FolderMissingError,
    MessageError,
    ReadOnlyError,
    RefusedError,
    Role,
)
from connectors.raw import canonical, message_id
from connectors.readers import read_here
from daemon import habit, trust
from daemon.intake import Intake, UnclearError
from daemon.journal import Journal, State
from daemon.notes import no_draft, sentences
from daemon.recipients import People
from daemon.sightings import WITHHELD, Sightings
from daemon.trust import Owner, Standing, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from connectors.base import Connector, Message
    from connectors.mime import Part
    from connectors.readers import Read
    from daemon.journal import Request
    from daemon.sightings import Reading
    from daemon.store import Store

PROOF_WITHIN = timedelta(hours=1)
"""How long a mail may precede its copy in Sent; clients store the copy after sending."""

_SHORTER = "Write a new, shorter request, without attachments, that says what the mail shall say."
_BODY = re.compile(rb"\r?\n\r?\n")
_RECENT = 2000  # UIDs at the end of Sent, where new copies arrive


class Scanner:
    """Reads the requests folder.

    Args:
        owner: Whose it is.
        connector: Her mail.
        store: Her mails and the journal.
        clock: Tells the time, aware.
        read: Reads messages, as `connectors.readers.Readers.read` does; a message that it cannot
            read is not read further.

    Attributes:
        sightings: What was seen in the folder.
        uidvalidity: The folder's UIDVALIDITY when it was last read; 0 before that.
    """

    def __init__(
        self,
        owner: Owner,
        connector: Connector,
        store: Store,
        clock: Callable[[], datetime],
        *,
        read: Callable[[Iterable[Message]], Iterator[Read]] = read_here,
    ) -> None:
        self.owner = owner
        self.read = read
        self.connector = connector
        self.store = store
        self.clock = clock
        self.journal = Journal(store.database, clock)
        self.sightings = Sightings(store.database, clock)
        self.sent = _Sent(connector)
        self.uidvalidity = 0
        self.new = 0
        self._listed: list[int] | None = None

    def scan(self) -> int:
        """Take in what is new, and what had no proof when it was last looked at.

        Returns:
            How many requests were not known before.
        """
        folder = self.connector.state(Role.REQUESTS)
        self.uidvalidity = uidvalidity = folder.uidvalidity
        reading = self.sightings.reading(uidvalidity, folder.uidnext)
        self._look_again(reading)
        self._read_on(reading, folder.uidnext)
        return self.new

    def _look_again(self, reading: Reading) -> None:
        """Take in what may still count; what lies between was judged for good and is not read."""
        uidvalidity = self.uidvalidity
        missing = self.sightings.unproven(uidvalidity)
        withheld = self.sightings.withheld(uidvalidity)
        for first, last in _runs(list(missing)):
            start = Cursor(uidvalidity, first - 1)
            for message in self.connector.fetch(Role.REQUESTS, start, last=last):
                seen = missing.pop(message.uid, None)
                if message.uid in withheld:  # it was never judged
                    seen = None
                self._take(message, Cursor(uidvalidity, message.uid), reading, seen)
        if missing:
            listed = self.connector.message_ids(Role.REQUESTS, min(missing))
            for uid in missing.keys() - listed.keys():  # gone meanwhile
                self.sightings.accept(Cursor(uidvalidity, uid))

    def _read_on(self, reading: Reading, uidnext: int) -> None:
        """Take in what is behind the cursor; what the folder lists and does not give is counted."""
        expected = reading.cursor.uid + 1
        for message in self.connector.fetch(Role.REQUESTS, reading.cursor):
            self._pass_over(range(expected, message.uid))
            self._take(message, Cursor(self.uidvalidity, message.uid), reading, None)
            expected = message.uid + 1
        self._pass_over(range(expected, uidnext))

    def _pass_over(self, uids: range) -> None:
        """Remember, to ask for it again, what the folder lists among UIDs that it did not give.

        That is done before the cursor moves on, so a crash loses nothing.
        """
        if uids and self._listed is None:
            self._listed = list(self.connector.message_ids(Role.REQUESTS, uids.start))
        for uid in self._listed or ():
            if uid in uids:
                verdict = Verdict(Standing.UNPROVEN, WITHHELD)
                self._refuse(Cursor(self.uidvalidity, uid), verdict, None)

    @cached_property
    def _intake(self) -> Intake:
        others = (a for a in self.store.correspondents() if not self.owner.receives_at(a.email))
        return Intake(self.owner, People(others), habit.learn(self.store))

    def _take(
        self, message: Message, place: Cursor, reading: Reading, seen: datetime | None
    ) -> None:
        try:
            part = _read(message.raw)
            verdict = self._verdict(message, part, reading, seen)
        except MessageError as error:
            self._refuse(place, Verdict(Standing.REFUSED, f"it cannot be read: {error}"), seen)
            return
        if verdict.standing in {Standing.INSTRUCTION, Standing.ANSWER}:
            self._enter(message, part, verdict.standing, place)
        else:
            self._refuse(place, verdict, seen)

    def _verdict(
        self, message: Message, part: Part, reading: Reading, seen: datetime | None
    ) -> Verdict:
        flags = {flag.lower() for flag in message.flags}
        if "\\deleted" in flags:
            return Verdict(Standing.REFUSED, "it is marked as deleted")
        known = self.journal.find(request_key(message.raw)) is not None
        if message.uid < reading.backlog and "\\answered" in flags and not known:
            # A journal that starts anew, beside requests that an earlier one has seen through.
            return Verdict(Standing.REFUSED, "it was answered before Panza first saw it")
        return judge(part, self.owner, self.sent.recent if seen else self.sent.all)

    def _refuse(self, place: Cursor, verdict: Verdict, seen: datetime | None) -> None:
        with self.store.transaction():
            self.sightings.advance(place)
            if verdict.standing is Standing.OURS:
                return
            final = verdict.standing is Standing.REFUSED
            late = seen is not None and self.clock() - seen >= PROOF_WITHIN
            self.sightings.refuse(place, verdict.reason, final=final or late)

    def _enter(self, message: Message, part: Part, standing: Standing, place: Cursor) -> None:
        """Enter a request into the journal, unless it is there; park what cannot be understood."""
        fault = self._fault(message, part)
        digest = self._digest(part, fault)
        key, known = self._identify(message.raw, digest, place)
        # Under the same UIDVALIDITY a new UID is a new filing: the owner wants another try.
        again = (
            known is not None
            and known.state is State.PARKED
            and known.settled
            and known.place.uidvalidity == place.uidvalidity
            and known.place.uid < place.uid
        )
        asked, reason = "", ""
        if known is None or again:
            asked, reason = self._understood(message, part, standing, fault)
        if again:
            self._unflag(message, place)
        with self.store.transaction():
            self.sightings.advance(place)
            self.sightings.accept(place)
            if known is None:
                self.journal.open(key, message_id(message.raw), place, asked, digest)
                self.new += 1
            else:
                self.journal.relocate(key, place)
                if again:
                    self.journal.reopen(key, asked)
            if reason:
                name = message_id(message.raw)
                note = no_draft(self.owner, key, name, reason, self.clock())
                self.journal.park(key, reason, note)

    def _unflag(self, message: Message, place: Cursor) -> None:
        """Take off the flag of the failure that is tried again; a courtesy, as all flags."""
        if any(flag.lower() == "\\flagged" for flag in message.flags):
            with suppress(ReadOnlyError, RefusedError):
                self.connector.remove_flags(
                    Role.REQUESTS, place.uid, ["\\Flagged"], uidvalidity=place.uidvalidity
                )

    def _identify(self, raw: bytes, digest: str, place: Cursor) -> tuple[str, Request | None]:
        """Return the key of a request, and the request if it is known.

        Some clients keep the Message-ID when a mail is edited: with other words it is another
        request. Not so under another UIDVALIDITY, where the same mail may come from another server
        that has written it anew.
        """
        key = request_key(raw)
        known = self.journal.find(key)
        if known is None or known.digest in {"", digest}:
            return key, known
        other = request_key(raw, digest)
        namesake = self.journal.find(other)
        if namesake is None and known.place.uidvalidity != place.uidvalidity:
            return key, known
        return other, namesake

    def _fault(self, message: Message, part: Part) -> MessageError | None:
        """Return why a message, or the one attached that it may be about, cannot be read."""
        attached = islice(body.attached(part), 1)
        messages = [message, *(replace(message, raw=raw) for raw in attached)]
        for _, found in self.read(messages):
            if isinstance(found, MessageError):
                return found
        return None

    def _digest(self, part: Part, fault: MessageError | None) -> str:
        """Return a digest of what a request says; of what cannot be read, of its bytes."""
        if fault is None:
            with suppress(MessageError):
                return trust.digest(part)
        return hashlib.sha256(canonical(part.raw[part.start :])).hexdigest()

    def _understood(
        self, message: Message, part: Part, standing: Standing, fault: MessageError | None
    ) -> tuple[str, str]:
        """Return what is asked, as JSON, or why that cannot be told."""
        try:
            if fault:
                raise fault
            asked = self._intake.understand(part, standing, message.received, self.clock())
        except UnclearError as error:
            return "", str(error)
        except MessageError as error:
            return "", sentences(f"It cannot be read: {error}", _SHORTER)
        return asked.json(), ""


class _Sent:
    """The owner's Sent folder, looked into only for what bears her name without proof."""

    def __init__(self, connector: Connector) -> None:
        self.connector = connector
        self.message_ids: dict[int, dict[int, str]] = {}

    def recent(self, wanted: str) -> list[bytes]:
        """Return the messages of this Message-ID among the newest ones."""
        return list(self._find(wanted, _RECENT))

    def all(self, wanted: str) -> list[bytes]:
        """Return all messages of this Message-ID."""
        return self.recent(wanted) or list(self._find(wanted, None))

    def _find(self, wanted: str, newest: int | None) -> Iterator[bytes]:
        try:
            folder = self.connector.state(Role.SENT)
        except FolderMissingError:  # then nothing can be proven by it
            return
        first = 1 if newest is None else max(1, folder.uidnext - newest)
        if first not in self.message_ids:
            self.message_ids[first] = self.connector.message_ids(Role.SENT, first)
        for uid, found in self.message_ids[first].items():
            if found == wanted:
                cursor = Cursor(folder.uidvalidity, uid - 1)
                for message in self.connector.fetch(Role.SENT, cursor, last=uid):
                    yield message.raw


def _runs(uids: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of ascending UIDs that follow each other without a gap."""
    for _, group in groupby(enumerate(uids), lambda pair: pair[1] - pair[0]):
        run = [uid for _, uid in group]
        yield run[0], run[-1]


def _read(raw: bytes) -> Part:
    """Return a message; of one whose body passes a limit the header, which tells whose it is."""
    try:
        return mime.read(raw)
    except MessageError:
        return mime.read(_BODY.split(raw, maxsplit=1)[0] + b"\r\n\r\n")


def request_key(raw: bytes, digest: str = "") -> str:
    """Return the key of a request: from its Message-ID, else from its canonical bytes.

    With a digest of what it says, that of a request whose Message-ID an earlier one has too. Never
    from its UID: a request that is moved, copied or numbered anew is the same request.
    """
    name = message_id(raw)
    content = b"message-id\n" + name.encode() if name else b"message\n" + canonical(raw)
    return hashlib.sha256(content + (b"\n" + digest.encode() if digest else b"")).hexdigest()
