"""The owner's own mails as a training needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class SentMail:
    """One mail that the owner sent.

    Attributes:
        key: Names the mail for caches and reports: its content hash, 64 hex digits.
        date: When it was sent, aware.
        to: The recipients' display names, or the local parts of their addresses.
        subject: Its subject, "" if none.
        text: The owner's own words.
        answered: The text it answers, "" for a new mail.
        language: ISO 639-1, "" where not known.
    """

    key: str
    date: datetime
    to: tuple[str, ...]
    subject: str
    text: str
    answered: str = ""
    language: str = ""
