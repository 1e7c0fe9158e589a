"""What Panza tells the owner about a request: a short note beside it, or the result by mail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.mail import Address
from daemon import compose

if TYPE_CHECKING:
    from datetime import datetime

    from daemon.trust import Owner


def no_draft(owner: Owner, key: str, about: str, reason: str, date: datetime) -> bytes:
    """Return the note that says why there is no draft.

    Args:
        owner: Whom it is for.
        key: The request's key.
        about: The request's Message-ID, "" if it has none.
        reason: Why, and what to do about it, in sentences.
        date: When this is said.
    """
    text = (
        f"Panza wrote no draft for this request.\n\n{reason}\n\n"
        "To try again, send a corrected request, or move this one out of the folder and back in."
    )
    return _note(owner, key, about, ("Panza: no draft for this request", text), date)


def lost_draft(owner: Owner, key: str, about: str, reason: str, date: datetime) -> bytes:
    """Return the note that says why a draft may be missing; arguments as for `no_draft`."""
    text = (
        f"Panza cannot tell whether your draft has reached you.\n\n{reason}\n\n"
        "If you have not seen it, move this request out of the folder and back in."
    )
    return _note(owner, key, about, ("Panza: has your draft reached you?", text), date)


def unfinished(owner: Owner, key: str, about: str, reason: str, date: datetime) -> bytes:
    """Return the note that says what a draft lacks; arguments as for `no_draft`."""
    text = f"Your draft is in Drafts. Please complete it before you send it.\n\n{reason}"
    return _note(owner, key, about, ("Panza: your draft lacks something", text), date)


def not_mailed(owner: Owner, key: str, about: str, reason: str, date: datetime) -> bytes:
    """Return the note that says why a draft was not mailed back; arguments as for `no_draft`."""
    text = f"Your draft is in Drafts, because it could not be mailed to you.\n\n{reason}"
    return _note(owner, key, about, ("Panza: your draft is in Drafts", text), date)


def reply(owner: Owner, letter: compose.Letter, about: str, reason: str) -> bytes:
    """Return a draft as a reply to its request, which is mailed to the owner.

    Args:
        owner: Whom it is for.
        letter: The draft.
        about: The request's Message-ID, "" if it has none.
        reason: What she should know about the draft, "" for nothing.
    """
    return compose.note(
        compose.Note(
            key=letter.key,
            date=letter.date,
            owner=Address(owner.name, owner.addresses[0]),
            about=about,
            title=letter.subject,
            text=compose.result(letter, reason),
            kind="reply",
        )
    )


def _note(owner: Owner, key: str, about: str, words: tuple[str, str], date: datetime) -> bytes:
    title, text = words
    return compose.note(
        compose.Note(
            key=compose.note_key(key, text),
            date=date,
            owner=Address(owner.name, owner.addresses[0]),
            about=about,
            title=title,
            text=text,
        )
    )
