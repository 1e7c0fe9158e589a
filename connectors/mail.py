"""A message as Panza understands it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from connectors import body, headers, mime, paragraphs, quotes, signatures
from connectors.base import MessageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from connectors.mime import Part

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox of RFC 5322: a display name, which may be empty, and an address."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Mail:
    """What Panza keeps of one message.

    Attributes:
        message_id: Message-ID without angle brackets, "" where the message has none.
        content_hash: 64 hex digits of SHA-256 over sender, date, subject and text; equal for the
            same mail found in two places or under a rewritten Message-ID.
        sender: The first mailbox of From, or None.
        to: The mailboxes of To.
        cc: The mailboxes of Cc and Bcc.
        date: Date, else when the folder received it, else the epoch; always aware.
        subject: The decoded subject on one line.
        in_reply_to: The Message-ID answered, "" if none.
        references: The Message-IDs of the thread, oldest first.
        text: The writer's own words: no quotes, no forwarded mail, no signature behind ``-- ``;
            paragraphs unwrapped; greeting and closing kept.
        answered: The text that was quoted or forwarded, unquoted, "" if none.
        automatic: Written by a machine or for a list (Auto-Submitted, Precedence, List-Id, …).
        quoting: Where the quoted text stands: most of the writer's own words are above it (it is
            ``below``) or not; "none" where nothing is quoted.
        heading: The line that announces the quoted text, "" if none does.
    """

    message_id: str
    content_hash: str
    sender: Address | None
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    date: datetime
    subject: str
    in_reply_to: str
    references: tuple[str, ...]
    text: str
    answered: str
    automatic: bool
    quoting: Literal["none", "below", "above"] = "none"
    heading: str = ""

    def is_from(self, addresses: Iterable[str]) -> bool:
        """Tell whether the sender is one of these addresses, whatever the case of the letters."""
        if self.sender is None:
            return False
        return self.sender.email.casefold() in {address.casefold() for address in addresses}


def parse(raw: bytes, *, received: datetime | None = None) -> Mail:
    """Read one message: its header fields, and the writer's own words apart from all others.

    Damage never raises: what cannot be read counts as missing, as the attributes of `Mail` say.
    Attachments are not decoded, so that their size costs next to nothing.

    Args:
        raw: The message as stored (RFC 5322, MIME), with LF or CRLF line ends.
        received: When the folder got it, for a message without a usable Date.

    Raises:
        MessageError: The message passes a limit of size, header, parts or depth (`mime`).
    """
    return parsed(mime.read(raw), received=received)


def parsed(message: Part, *, received: datetime | None = None) -> Mail:
    """Do what `parse` does for a message whose parts are known.

    Raises:
        MessageError: Its text passes a limit (`body`).
    """
    text, answered, split = _words(message)
    sent = headers.date(message.get("date"))
    sender = _mailboxes(message, "from")[:1]
    references = headers.message_ids(b" ".join(message.all("references")))
    parent = headers.message_id(message.get("in-reply-to"))
    subject = headers.text(message.get("subject"))
    return Mail(
        message_id=headers.message_id(message.get("message-id")),
        content_hash=_content_hash(sender, sent, subject, text),
        sender=sender[0] if sender else None,
        to=_mailboxes(message, "to"),
        cc=_mailboxes(message, "cc", "bcc"),
        date=sent or _aware(received) or _EPOCH,
        subject=subject,
        in_reply_to=parent or (references[-1] if references else ""),
        references=references,
        text=text,
        answered=answered,
        automatic=headers.automatic(message),
        quoting=_quoting(split),
        heading="" if "\n" in split.heading else split.heading,
    )


def _words(message: Part) -> tuple[str, str, quotes.Split]:
    """Return the writer's own words, the text that was answered or forwarded, and how they lie."""
    read = body.read(message)
    split = quotes.split(read.text)
    answered = _clean(split.answered, read)
    if not answered:
        answered = next((_own_words(original) for original in body.attached(message)), "")
    return _own(split, read), answered, split


def _quoting(split: quotes.Split) -> Literal["none", "below", "above"]:
    if not split.answered:
        return "none"
    own = sum(len(run.strip()) for run in split.own)
    return "below" if 2 * len(split.lead.strip()) >= own else "above"


def own_words(read: body.Body) -> str:
    """Return the writer's own words of a text, as `Mail.text` holds them."""
    return _own(quotes.split(read.text), read)


def _own(split: quotes.Split, read: body.Body) -> str:
    runs = (_clean(signatures.cut(run), read) for run in split.own)
    return "\n\n".join(run for run in runs if run)


def _clean(text: str, read: body.Body) -> str:
    return paragraphs.unwrap(text) if read.wrapped else paragraphs.tidy(text)


def _own_words(raw: bytes) -> str:
    """Return what the writer of an attached message says; one past the limits says nothing."""
    try:
        return own_words(body.read(mime.read(raw)))
    except MessageError:
        return ""


def _mailboxes(message: Part, *names: str) -> tuple[Address, ...]:
    values = (value for name in names for value in message.all(name))
    return tuple(Address(name, email) for name, email in headers.addresses(*values))


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def _content_hash(
    sender: tuple[Address, ...], sent: datetime | None, subject: str, text: str
) -> str:
    """Hash what survives a move between servers: no Message-ID, and no date but the sender's."""
    author = sender[0].email.casefold() if sender else ""
    moment = sent.astimezone(UTC).isoformat() if sent else ""
    words = " ".join(text.split())
    return hashlib.sha256(f"{author}\0{moment}\0{subject}\0{words}".encode()).hexdigest()
