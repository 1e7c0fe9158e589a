"""The mail that a request answers: attached, quoted, forwarded, or the request itself.

Whatever it says is text to be answered. Recipients come from header fields, from lines that the
owner's own mail client wrote, and from whom she knows; never from what a stranger's text imitates.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors import body, headers, mime, quotes
from connectors.mail import Address, parsed
from daemon import compose, recipients
from daemon.guards import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable

    from connectors.mail import Mail
    from connectors.mime import Part
    from daemon.habit import Habit
    from daemon.recipients import People
    from daemon.trust import Owner

_ADDRESS = re.compile(r"[^\s<>\"'(),;:\[\]]{1,64}@[\w.-]+\w")
_DEPTH = 40  # mails of a thread, and the lines above them, that change places
# How Outlook writes an address: "Stew [mailto:stew@…]", and "<stew@…<mailto:stew@…>>" as text.
_MAILTO = re.compile(r"\[mailto:([^\]\s]+)\]|<([^<>\s]+@[^<>\s]+)<mailto:[^<>\s]*>>", re.IGNORECASE)
# Who wrote, in a line such as "Am 04.03.24 um 10:00 schrieb Stew Pidd:".
_WRITER = re.compile(
    r"(?:schrieb|skrev|schreef|escribió)\s+([^<>\d:]{1,80}?)\s*:"
    r"|.*?([^<>\d:,]{1,80}?)\s+"
    r"(?:wrote|writes|schrieb|a écrit|ha scritto|escribió|schreef|skrev)\s*:"
)


@dataclass(frozen=True, slots=True)
class Original:
    """The mail that a draft answers, as far as the request tells.

    Attributes:
        alias: The owner's address that it came to, "" where that is not known.
        to: Whom the answer goes to.
        cc: Who gets a copy.
        subject: Its subject.
        thread: Its text, for the writer.
        quoted: The same as it is quoted in the draft.
        heading: The line above that.
        message_id: Its Message-ID, "" where that is not known.
        references: The Message-IDs of its thread, its own last.
        writer: The name of who wrote it, where no address is known.
    """

    alias: str = ""
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    subject: str = ""
    thread: str = ""
    quoted: str = ""
    heading: str = ""
    message_id: str = ""
    references: tuple[str, ...] = ()
    writer: str = ""


@dataclass(frozen=True, slots=True)
class _Announced:
    """What the line, or the header lines, above a quoted mail say of it."""

    heading: str = ""
    alias: str = ""
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    writer: str = ""


class Originals:
    """Finds the mails that requests answer.

    Args:
        owner: Who asks.
        people: Whom her own mail knows.
        habit: How she quotes.
    """

    def __init__(self, owner: Owner, people: People, habit: Habit) -> None:
        self._owner = owner
        self._people = people
        self._habit = habit

    def whole(self, message: Part, mail: Mail) -> Original:
        """Read a whole mail that is to be answered; one of the owner's own is followed up."""
        from_owner = mail.sender is not None and self._owner.sends_from(mail.sender.email)
        answer_to = self._others(_mailboxes(message, "reply-to"))
        writer = self._others(_mailboxes(message, "from"))
        name, email = (harmless(mail.sender.name), mail.sender.email) if mail.sender else ("", "")
        earlier = mail.references or (mail.in_reply_to,)
        return Original(
            alias=self._alias(
                message, "from", "to", "cc", "delivered-to", "x-original-to", "envelope-to"
            ),
            to=mail.to if from_owner else answer_to or writer,
            cc=(*map(_named_harmlessly, mail.to), *_mailboxes(message, "cc")),
            subject=mail.subject,
            thread=mail.text or mail.answered,
            quoted=body.read(message).text.strip(),
            heading=self._habit.heading(mail.date, name, email) if name or email else "",
            message_id=mail.message_id,
            references=_thread(earlier, mail.message_id),
            writer=name,
        )

    def behind(self, message: Part, mail: Mail) -> Original:
        """Find the mail that an instruction is about: attached, or quoted beside it.

        Raises:
            connectors.base.MessageError: An attached mail passes a limit.
        """
        alias = self._alias(message, "from")
        for raw in body.attached(message):
            attached = mime.read(raw)
            original = self.whole(attached, parsed(attached))
            return dataclasses.replace(original, alias=original.alias or alias)
        others = self._others(mail.to)
        copies = self._others(mail.cc, others)
        answered = mail.in_reply_to or next(iter(mail.references[-1:]), "")
        # An answer to a note of Panza's is a new request.
        if compose.is_note(answered) or not (mail.answered or answered):
            return Original(alias, others, copies)
        forwarded = compose.is_forward(mail.subject)
        announced = self._announced(body.read(message).text, forwarded=forwarded)
        return Original(
            alias=announced.alias or alias,
            to=others or announced.to,
            cc=copies or announced.cc,
            subject=mail.subject,
            thread=mail.answered,
            quoted=mail.answered,
            heading=announced.heading,
            message_id=answered,
            references=_thread(mail.references, answered),
            writer=announced.writer,
        )

    def _announced(self, visible: str, *, forwarded: bool) -> _Announced:
        """Read what stands above the quoted mail, and whom it names.

        A stranger's text may imitate such lines. An address counts when the owner's own client
        wrote the lines, or when her own mail knows it. Her client wrote them where they stand
        outside of the quote, or on top of a mail that she forwards: Apple Mail quotes them too.
        """
        split = quotes.split(visible)
        fields, _ = quotes.header_block(split.heading.splitlines())
        if not fields:
            return self._attributed(split.heading)
        sure = split.announced or forwarded
        writers = self._named(fields.get("from", ""), sure=sure)
        writer = writers[0] if writers else Address(_plain_name(fields.get("from", "")), "")
        to = self._named(fields.get("to", ""), sure=sure)
        copies = (*to, *self._named(fields.get("cc", ""), sure=sure))
        date = headers.date(fields.get("date", "").encode())
        name = harmless(writer.name)
        aliases = map(self._owner.receives_at, _ADDRESS.findall(fields.get("to", "")))
        return _Announced(
            heading=self._habit.heading(date, name, writer.email) if name or writer.email else "",
            alias=next(filter(None, aliases), "") if sure else "",
            to=self._others(writers[:1]),
            cc=self._others(copies, writers[:1]),
            writer=name,
        )

    def _attributed(self, heading: str) -> _Announced:
        """Read a line such as "On … Stew wrote:": an address, or a name that she knows."""
        email = next(iter(_ADDRESS.findall(heading)), "")
        if email:
            return _Announced(heading, to=self._others([self._people.at(email)]))
        match = _WRITER.search(heading)
        name = (match[1] or match[2] or "").strip() if match else ""
        known = self._people.named(name)
        found = known if len(known) == 1 else ()
        return _Announced(heading, to=self._others(found), writer=name)

    def _named(self, value: str, *, sure: bool) -> tuple[Address, ...]:
        """Return the addresses in a header line of a quoted mail."""
        plain = _MAILTO.sub(lambda match: f"<{match[1] or match[2]}>", value).replace("*", "")
        entries = recipients.listed(plain, self._people).found if "@" in plain else ()
        return tuple(one for one in entries if sure or self._people.knows(one.email))

    def _others(
        self, addresses: Iterable[Address], taken: Iterable[Address] = ()
    ) -> tuple[Address, ...]:
        named = map(_named_harmlessly, addresses)
        return recipients.without(self._owner, named, taken).found

    def _alias(self, message: Part, *fields: str) -> str:
        """Return the owner's address that stands in a message's fields first, "" if none does."""
        mailboxes = (address for name in fields for address in _mailboxes(message, name))
        found = (self._owner.receives_at(address.email) for address in mailboxes)
        return next(filter(None, found), "")


def newest_first(text: str) -> str:
    """Return a quoted thread with its newest words on top, for a writer who reads so far.

    Most clients leave them there. Where each answer stands below what it answers, the mails are
    put in the opposite order; answers between the lines stay where they are.
    """
    newest: list[str] = []
    while len(newest) < _DEPTH:
        split = quotes.split(text)
        if not split.answered or split.lead.strip() or len(split.own) != 1:
            break
        newest += [split.own[0].strip(), split.heading]
        text = split.answered
    return "\n\n".join(filter(None, (*newest, text.strip()))) if newest else text


def _mailboxes(message: Part, name: str) -> tuple[Address, ...]:
    pairs = headers.addresses(*message.all(name))
    return tuple(_named_harmlessly(Address(*pair)) for pair in pairs)


def _named_harmlessly(address: Address) -> Address:
    return Address(harmless(address.name), address.email)


def _thread(earlier: Iterable[str], last: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for one in (*earlier, last) if one))


def _plain_name(value: str) -> str:
    return " ".join(re.sub(r"[<\[].*?[>\]]|[*\"]", " ", value).split())
