"""What a message in the requests folder asks for.

A request is the owner's own words; or her words on top of a mail that she answers or forwards to
herself; or her words with a mail attached; or a mail that somebody sent her, moved in as it is.
Whatever is quoted, forwarded or attached is text to be answered: it never says what to do.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from connectors import body, headers, mime, quotes
from connectors.mail import Address, Mail, parse
from daemon import compose, recipients
from daemon.brief import ANSWER
from daemon.trust import Standing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from connectors.mime import Part
    from daemon.recipients import People
    from daemon.trust import Owner

MAX_INSTRUCTION = 20_000  # characters
MAX_THREAD = 50_000  # characters of the answered mail that a writer is given

_LINE = re.compile(r"(to|cc|subject)[ \t]*:[ \t]*(.*)", re.IGNORECASE)
_ADDRESS = re.compile(r"[^\s<>\"'(),;:\[\]]{1,64}@[\w.-]+\w")
_NOBODY = 'It names no recipient. Put a line such as "To: name or address" on top of it.'


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
        quoted: The same as it stands below the draft.
        attribution: The line above it.
        in_reply_to: Message-ID of the answered mail.
        references: Message-IDs of its thread, its own last.
        written: When she asked.
        reasons: What she should know about the recipients, one sentence each.
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

    def json(self) -> str:
        """Return this as JSON, for the journal."""
        return json.dumps(dataclasses.asdict(self), default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str) -> Asked:
        """Return what `json` was made from."""
        values = json.loads(text)
        for name in ("to", "cc"):
            values[name] = tuple(Address(**address) for address in values[name])
        for name in ("references", "reasons"):
            values[name] = tuple(values[name])
        values["sender"] = Address(**values["sender"])
        values["written"] = datetime.fromisoformat(values["written"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class _Answered:
    """The mail that a draft answers, as far as the request tells, and the alias it came to."""

    alias: str = ""
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    subject: str = ""
    thread: str = ""
    quoted: str = ""
    attribution: str = ""
    message_id: str = ""
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Lines:
    """The header-like lines on top of an instruction, and what is below them."""

    values: dict[str, str]
    instruction: str


class Intake:
    """Understands requests.

    Args:
        owner: Who asks.
        people: Whom her own mail knows.
    """

    def __init__(self, owner: Owner, people: People) -> None:
        self._owner = owner
        self._people = people

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
        mail = parse(message.raw, received=received)
        if mail.automatic:
            raise UnclearError("It was written by a program or for a mailing list.")
        if standing is Standing.ANSWER:
            answered = self._original(message, mail)
            if not answered.quoted:
                raise UnclearError("It has no text that could be answered.")
            return self._asked(_Lines({}, ANSWER), answered, now)
        lines = _split(body.read(message).text, mail.text)
        if len(lines.instruction) > MAX_INSTRUCTION:
            raise UnclearError(f"Its text is longer than {MAX_INSTRUCTION} characters.")
        answered = self._answered_by(message, mail)
        if not (lines.instruction or answered.quoted):
            raise UnclearError("It has no text. Write in it what the mail shall say.")
        lines = _Lines(lines.values, lines.instruction or ANSWER)
        dated = bool(message.get("date")) or received is not None
        return self._asked(lines, answered, min(mail.date, now) if dated else now)

    def _asked(self, lines: _Lines, answered: _Answered, written: datetime) -> Asked:
        to = self._to(lines, answered)
        cc = recipients.Recipients(answered.cc)
        if "cc" in lines.values:
            cc = recipients.listed(lines.values["cc"], self._people)
        to_found, to_lost = self._others(to.found)
        cc_found, cc_lost = self._others(cc.found, to_found)
        reasons = (*to.reasons, *cc.reasons, *to_lost, *cc_lost)
        answers = bool(answered.quoted or answered.message_id)
        subject = compose.reply_subject(answered.subject) if answers else ""
        return Asked(
            instruction=lines.instruction,
            sender=Address(self._owner.name, answered.alias or self._owner.addresses[0]),
            to=to_found,
            cc=cc_found,
            subject=lines.values.get("subject", subject),
            thread=answered.thread[:MAX_THREAD],
            quoted=answered.quoted[: compose.MAX_QUOTED + 1],
            attribution=answered.attribution,
            in_reply_to=answered.message_id,
            references=answered.references,
            written=written,
            reasons=reasons if to_found or reasons else (_NOBODY,),
        )

    def _to(self, lines: _Lines, answered: _Answered) -> recipients.Recipients:
        if "to" in lines.values:
            return recipients.listed(lines.values["to"], self._people)
        if answered.to:
            return recipients.Recipients(answered.to)
        return recipients.addressees(lines.instruction, self._people)

    def _others(
        self, addresses: Iterable[Address], taken: Iterable[Address] = ()
    ) -> tuple[tuple[Address, ...], tuple[str, ...]]:
        """Drop the owner, repeats, and what cannot stand in a header; say so of the last."""
        known = {address.email.casefold() for address in taken}
        found: dict[str, Address] = {}
        lost: list[str] = []
        for address in addresses:
            email = address.email.casefold()
            if email in known or self._owner.receives_at(email):
                continue
            if compose.mailable(email):
                found.setdefault(email, address)
            else:
                lost.append(f"The address {address.email} is not valid.")
        return tuple(found.values()), tuple(lost)

    def _answered_by(self, message: Part, mail: Mail) -> _Answered:
        """Find the mail that an instruction is about: attached, or quoted below it."""
        alias = self._alias(message, "from")
        for raw in body.attached(message):
            original = self._original(mime.read(raw), parse(raw))
            return dataclasses.replace(original, alias=original.alias or alias)
        others, _ = self._others(mail.to)
        copies, _ = self._others(mail.cc, others)
        answered = mail.in_reply_to or next(iter(mail.references[-1:]), "")
        # An answer to a note of Panza's is a new request.
        if compose.is_note(answered) or not (mail.answered or answered):
            return _Answered(alias, others, copies)
        heading, writer = self._announced(body.read(message).text)
        return _Answered(
            alias=alias,
            to=others or writer,
            cc=copies,
            subject=mail.subject,
            thread=mail.answered,
            quoted=mail.answered,
            attribution=heading,
            message_id=answered,
            references=_thread(mail.references, answered),
        )

    def _announced(self, visible: str) -> tuple[str, tuple[Address, ...]]:
        """Read the line above the quoted mail, which the owner's client wrote, and whom it names.

        A stranger's text may imitate such a line, so an address counts only when it stands outside
        of what is quoted, or when the owner's own mail knows it.
        """
        heading = quotes.split(visible).heading
        fields, _ = quotes.header_block(heading.splitlines())
        named = recipients.listed(fields["from"], self._people).found if "from" in fields else ()
        if not fields:
            named = tuple(map(self._people.at, _ADDRESS.findall(heading)[:1]))
        own_lines = (line for line in visible.splitlines() if not line.lstrip().startswith(">"))
        outside = "\n".join(own_lines).casefold()
        writer, _ = self._others(
            one for one in named if one.email.casefold() in outside or self._people.knows(one.email)
        )
        if fields:
            heading = f"{writer[0].name or writer[0].email} wrote:" if writer else ""
        return heading, writer

    def _original(self, message: Part, mail: Mail) -> _Answered:
        """Read a whole mail that is to be answered; her own is followed up."""
        from_owner = mail.sender is not None and self._owner.sends_from(mail.sender.email)
        answer_to, _ = self._others(_mailboxes(message, "reply-to"))
        writer, _ = self._others(_mailboxes(message, "from"))
        name = (mail.sender.name or mail.sender.email) if mail.sender else ""
        earlier = mail.references or (mail.in_reply_to,)
        return _Answered(
            alias=self._alias(message, "from", "to", "cc", "delivered-to", "x-original-to"),
            to=mail.to if from_owner else answer_to or writer,
            cc=(*mail.to, *_mailboxes(message, "cc")),
            subject=mail.subject,
            thread=mail.text or mail.answered,
            quoted=body.read(message).text.strip(),
            attribution=f"On {mail.date:%Y-%m-%d at %H:%M}, {name} wrote:" if name else "",
            message_id=mail.message_id,
            references=_thread(earlier, mail.message_id),
        )

    def _alias(self, message: Part, *fields: str) -> str:
        """Return the owner's address that stands in a message's fields first, "" if none does."""
        mailboxes = (address for name in fields for address in _mailboxes(message, name))
        found = (self._owner.receives_at(address.email) for address in mailboxes)
        return next(filter(None, found), "")


def _mailboxes(message: Part, name: str) -> tuple[Address, ...]:
    return tuple(Address(*pair) for pair in headers.addresses(*message.all(name)))


def _thread(earlier: Iterable[str], last: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for one in (*earlier, last) if one))


def _split(visible: str, own: str) -> _Lines:
    """Take the lines ``To:``, ``Cc:`` and ``Subject:`` off the top of the owner's own words.

    They are looked for in the text as she broke it into lines; in her own words, which come as
    paragraphs, the end of such a line may be gone.
    """
    values: dict[str, str] = {}
    rest = own.strip()
    for line in visible.strip().splitlines():
        match = _LINE.fullmatch(line.strip())
        if not match or not rest.startswith(line.strip()):
            break
        values[match[1].lower()] = match[2].strip()
        rest = rest.removeprefix(line.strip()).strip()
    return _Lines(values, rest)
