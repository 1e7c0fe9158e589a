"""What Panza tells the owner about a request: a short note beside it, or the result by mail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.mail import Address
from daemon import compose

if TYPE_CHECKING:
    from datetime import datetime

    from daemon.trust import Owner


AGAIN = "move the request out of the folder and back in"
"""What to do with a request when what stood in its way is gone."""


LASTING_REFUSALS = {  # by the response code of RFC 5530 and others
    "OVERQUOTA": f"The mailbox is full. Delete something there, then {AGAIN}.",
    "LIMIT": "The draft, or the folder Drafts, would exceed a limit of the server. Make room in "
    f"Drafts, then {AGAIN}; or write a new request that asks for less.",
    "TOOBIG": "The draft would exceed a limit of the server. Write a new request that asks for "
    "less, or that answers a shorter mail.",
    "NOPERM": "The server gives Panza no right to write into the folder Drafts. Give it that "
    f"right, then {AGAIN}.",
    "TRYCREATE": f"There is no folder Drafts, and it could not be made. Make one, then {AGAIN}.",
}

DOUBT = (
    "The connection broke while the draft was on its way to Drafts, and what arrived there at that "
    "moment is gone again. If that was the draft, which you have edited, sent or deleted, nothing "
    "is left to do."
)


STOPPED = f"Panza stopped whenever it tried. See what it logs, then {AGAIN}."
NOTHING = "The model wrote nothing. Say in other words what the mail shall say."


def sentences(*parts: str) -> str:
    """Return faults and advice as sentences: each begins with a capital and ends with a stop."""
    return " ".join(_sentence(part) for part in parts if part)


def _sentence(text: str) -> str:
    first, blank, rest = text.strip().partition(" ")
    # A host, a path or a command keeps its own spelling.
    text = f"{first[0].upper()}{first[1:]}{blank}{rest}" if first.isalpha() else text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def no_draft(owner: Owner, key: str, about: str, reason: str, date: datetime) -> bytes:
    """Return the note that says why there is no draft.

    Args:
        owner: Whom it is for.
        key: The request's key.
        about: The request's Message-ID, "" if it has none.
        reason: Why, and what to do about it, in sentences.
        date: When this is said.
    """
    text = f"Panza wrote no draft for this request.\n\n{reason}"
    if AGAIN not in reason:
        text += (
            "\n\nTo try again, send a corrected request, or move this one out of the folder and "
            "back in."
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
