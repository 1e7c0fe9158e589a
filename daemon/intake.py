"""What a message in the requests folder asks for.

A request is the owner's own words; or her words on top of a mail that she answers or forwards to
herself; or her words with a mail attached; or a mail that somebody sent her, moved in as it is.
Whatever is quoted, forwarded or attached is text to be answered: it never says what to do.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from connectors import body
from connectors.mail import Address, own_words, parsed
from daemon import compose, header_lines, recipients
from daemon.brief import ANSWER
from daemon.guards import INVISIBLE
from daemon.habit import Habit, Place
from daemon.originals import Original, Originals, newest_first
from daemon.trust import Standing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectors.mime import Part
    from daemon.recipients import People
    from daemon.trust import Owner

MAX_INSTRUCTION = 20_000  # characters
MAX_THREAD = 50_000  # characters of the answered mail that a writer is given

_NOBODY = 'It names no recipient. Put a line such as "To: name or address" on top of it.'
_BCC = "Bcc is not taken from a request: add it to the draft yourself."
_ATTACHED = "What is attached to the request was not read and is not in the draft: attach it there."
_LOST = (
    "It looks like a forwarded mail, but where that mail begins cannot be told. Forward it as an "
    "attachment, or put the mail itself into the folder."
)
# Parts that mail clients attach by themselves.
_NO_FILES = frozenset(
    {
        "application/pgp-encrypted",
        "application/pgp-keys",
        "application/pgp-signature",
        "application/pkcs7-signature",
        "application/x-pkcs7-signature",
        "message/rfc822",
        "text/vcard",
        "text/x-vcard",
    }
)


class UnclearError(Exception):
    """A message that asks for nothing Panza can do; the text tells the owner why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for, resolved as far as it can be.

    Attributes:
        instruction: The owner's words.
        sender: Which of her addresses the draft is from.
        to: Recipients without the owner.
        cc: More of them.
        subject: The draft's subject, "" where one is to be found.
        thread: The text that is answered, for the writer.
        quoted: The same as it stands in the draft, "" where it does not.
        attribution: The line above it.
        in_reply_to: Message-ID of the answered mail.
        references: Message-IDs of its thread, its own last.
        written: When she asked.
        reasons: What she should know about the draft, one sentence each.
        place: Where what is quoted stands, seen from the draft's own words.
    """

    instruction: str
    sender: Address
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    subject: str
    thread: str
    quoted: str
    attribution: str
    in_reply_to: str
    references: tuple[str, ...]
    written: datetime
    reasons: tuple[str, ...] = ()
    place: Place = "below"

    def json(self) -> str:
        """Return this as JSON, for the journal."""
        return json.dumps(dataclasses.asdict(self), default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str) -> Asked:
        """Return what `json` was made from, also by an earlier version."""
        values = json.loads(text)
        for name in ("to", "cc"):
            values[name] = tuple(Address(**address) for address in values[name])
        for name in ("references", "reasons"):
            values[name] = tuple(values[name])
        values["sender"] = Address(**values["sender"])
        values["written"] = datetime.fromisoformat(values["written"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class _Words:
    """The owner's own part of a request: header-like lines, the instruction, and what to tell."""

    values: dict[str, str]
    instruction: str
    reasons: tuple[str, ...] = ()


class Intake:
    """Understands requests.

    Args:
        owner: Who asks.
        people: Whom her own mail knows.
        habit: How she quotes.
    """

    def __init__(self, owner: Owner, people: People, habit: Habit | None = None) -> None:
        self._owner = owner
        self._people = people
        self._habit = habit or Habit()
        self._originals = Originals(owner, people, self._habit)

    def understand(
        self, message: Part, standing: Standing, received: datetime | None, now: datetime
    ) -> Asked:
        """Tell what a message asks for.

        Args:
            message: A message that counts.
            standing: Whether its text is an instruction or is to be answered.
            received: When the folder got it.
            now: The time.

        Raises:
            UnclearError: It asks for nothing that can be done.
            connectors.base.MessageError: It cannot be read within the limits.
        """
        mail = parsed(message, received=received)
        if mail.automatic:
            raise UnclearError("It was written by a program or for a mailing list.")
        if standing is Standing.ANSWER:
            original = self._originals.whole(message, mail)
            if not original.quoted:
                raise UnclearError("It has no text that could be answered.")
            return self._asked(_Words({}, ANSWER), original, now)
        words = self._words(message)
        original = self._originals.behind(message, mail)
        if not original.quoted and compose.is_forward(mail.subject):
            raise UnclearError(_LOST)
        if not (words.instruction or original.quoted):
            raise UnclearError("It has no text. Write in it what the mail shall say.")
        words = dataclasses.replace(words, instruction=words.instruction or ANSWER)
        dated = bool(message.get("date")) or received is not None
        return self._asked(words, original, min(mail.date, now) if dated else now)

    def _words(self, message: Part) -> _Words:
        lines = header_lines.take(body.read(message))
        instruction = own_words(lines.below)
        if len(instruction) > MAX_INSTRUCTION:
            raise UnclearError(
                f"Its text is longer than {MAX_INSTRUCTION} characters: it has {len(instruction)}. "
                "Say it in fewer words; a mail that is to be answered is quoted below or attached."
            )
        if not INVISIBLE.sub("", instruction).strip():
            instruction = ""
        reasons = [_BCC] if "bcc" in lines.values else []
        reasons += [_ATTACHED] if any(_files(message)) else []
        return _Words(lines.values, instruction, tuple(reasons))

    def _asked(self, words: _Words, original: Original, written: datetime) -> Asked:
        to = self._to(words, original)
        cc = recipients.Recipients(original.cc)
        if "cc" in words.values:
            cc = recipients.listed(words.values["cc"], self._people)
        to_others = recipients.without(self._owner, to.found)
        cc_others = recipients.without(self._owner, cc.found, to_others.found)
        reasons = (*to.reasons, *cc.reasons, *to_others.reasons, *cc_others.reasons)
        nobody = () if to_others.found or reasons else (_NOBODY,)
        if "to" in words.values:
            meant = (*to_others.found, *cc_others.found)
            reasons += recipients.contradicted(meant, words.instruction, self._people)
        answers = bool(original.quoted or original.message_id)
        subject = compose.reply_subject(original.subject) if answers else ""
        quotes = self._habit.place != "none"
        return Asked(
            instruction=words.instruction,
            sender=Address(self._owner.name, original.alias or self._owner.addresses[0]),
            to=to_others.found,
            cc=cc_others.found,
            subject=words.values.get("subject", subject),
            thread=newest_first(original.thread)[:MAX_THREAD],
            quoted=original.quoted[: compose.MAX_QUOTED + 1] if quotes else "",
            attribution=original.heading if quotes else "",
            in_reply_to=original.message_id,
            references=original.references,
            written=written,
            reasons=(*reasons, *nobody, *words.reasons),
            place=self._habit.place,
        )

    def _to(self, words: _Words, original: Original) -> recipients.Recipients:
        if "to" in words.values:
            return recipients.listed(words.values["to"], self._people)
        if original.to:
            return recipients.Recipients(original.to)
        found = recipients.addressees(words.instruction, self._people)
        if original.writer and not found.found:
            told = f'It answers a mail of "{original.writer}", whose address Panza does not know.'
            hint = 'Put a line such as "To: name or address" on top of it.'
            return recipients.Recipients(reasons=(told, hint))
        return found


def _files(message: Part) -> Iterator[Part]:
    """Yield the parts that the owner attached: neither text, nor pictures in it, nor signatures."""
    for part in message.walk():
        disposition = part.get("content-disposition").strip().lower()
        shown = disposition.startswith(b"inline") or bool(part.get("content-id"))
        if part.attachment and not shown and part.content_type not in _NO_FILES:
            yield part
