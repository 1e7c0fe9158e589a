"""A message as Panza understands it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


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
        language: ISO 639-1 code of ``text``, "" where it is too short to tell.
        automatic: Written by a machine or for a list (Auto-Submitted, Precedence, List-Id, …).
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
    language: str
    automatic: bool
