"""Header fields as values: text, mailboxes, Message-IDs, dates, and marks of automatic mail.

Nothing here raises on what a stranger wrote: a field that makes no sense counts as missing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header
from email.utils import getaddresses, parsedate_to_datetime
from typing import TYPE_CHECKING

from connectors import charsets

if TYPE_CHECKING:
    from connectors.mime import Part

MAX_ADDRESSES = 64 * 2**10  # bytes of one field of mailboxes that are read
MAX_REFERENCES = 100  # the root of the thread and the last ones; RFC 1036 wants at least these

# What nearly every mailbox looks like: nothing in it needs RFC 5322's grammar.
_PLAIN_NAME = r"[A-Za-z0-9_-]+(?: [A-Za-z0-9_-]+)*"
_PLAIN_ADDRESS = r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*"
_PLAIN_MAILBOX = re.compile(rf"(?:({_PLAIN_NAME}) )?<({_PLAIN_ADDRESS})>|({_PLAIN_ADDRESS})")
_ENCODED_WORD = re.compile(r"=\?[^?\s]+\?[bBqQ]\?[^?]*\?=")
_MESSAGE_ID = re.compile(r"<\s*([^<>\s]+)\s*>")
_YEARS = range(1980, 2101)
_ROBOT = re.compile(
    r"(?:mailer-daemon|postmaster|bounces?|(?:do-?)?not?[-_.]?reply)(?:[-+_.=].*)?@",
    re.IGNORECASE,
)
# Fields that only programs write, whatever their value.
_ROBOT_FIELDS = (
    "list-id",
    "list-unsubscribe",
    "list-post",
    "x-autoreply",
    "x-autorespond",
    "x-autoresponder",
    "x-mail-autoreply",
)


def text(value: bytes) -> str:
    """Decode an unstructured field (RFC 2047, and raw 8-bit text) to one line."""
    raw = charsets.decode(value)
    if not _ENCODED_WORD.search(raw):
        return _one_line(raw)
    try:
        chunks = decode_header(raw)
    except (HeaderParseError, ValueError):
        return _one_line(raw)
    return _one_line(charsets.clean("".join(_chunk(data, label) for data, label in chunks)))


def addresses(*values: bytes) -> list[tuple[str, str]]:
    """Return the mailboxes of address fields as (display name, address), in order.

    What has no ``@`` is left out.
    """
    fields = [charsets.decode(value[:MAX_ADDRESSES]) for value in values if value]
    if not fields:
        return []
    if len(fields) == 1 and (plain := _PLAIN_MAILBOX.fullmatch(fields[0])):
        name, bracketed, bare = plain.groups("")
        return [(name, bracketed or bare)]
    try:
        pairs = getaddresses(fields)
    except (RecursionError, ValueError, IndexError):  # comments nested a thousand levels deep
        return []
    return [(text(name.encode()), _one_line(email)) for name, email in pairs if "@" in email]


def message_ids(value: bytes) -> tuple[str, ...]:
    """Return the Message-IDs of a field in order, each once, without angle brackets."""
    found = tuple(dict.fromkeys(_MESSAGE_ID.findall(charsets.decode(value))))
    if len(found) > MAX_REFERENCES:
        return found[:1] + found[1 - MAX_REFERENCES :]
    return found


def message_id(value: bytes) -> str:
    """Return the first Message-ID of a field, also one without angle brackets; "" if none."""
    words = charsets.decode(value).split()
    return next(iter(message_ids(value)), words[0].strip("<>") if words else "")


def date(value: bytes) -> datetime | None:
    """Return an aware time from a Date field, or None where it names no plausible one."""
    try:
        found = parsedate_to_datetime(charsets.decode(value))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if found.year not in _YEARS:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def automatic(message: Part) -> bool:
    """Tell whether a program or a mailing list wrote the message rather than a person to a person.

    After RFC 3834 and RFC 2369, and what servers add in practice: automatic answers, bounces,
    reports, lists, newsletters, and the "accepted" of a calendar.
    """
    submitted = _keyword(message.get("auto-submitted"))
    suppress = _keyword(message.get("x-auto-response-suppress"))
    sender = addresses(message.get("from"))
    return (
        submitted not in {"", "no"}
        or suppress not in {"", "none"}
        or _keyword(message.get("precedence")) in {"bulk", "list", "junk", "auto_reply"}
        or any(True for name in _ROBOT_FIELDS for _ in message.all(name))
        or message.get("return-path") == b"<>"
        or _keyword(message.get("content-type")) == "multipart/report"
        or bool(sender and _ROBOT.match(sender[0][1]))
        or any(_calendar_answer(part) for part in message.walk())
    )


def _calendar_answer(part: Part) -> bool:
    method = part.parameters.get("method", "")
    return part.content_type == "text/calendar" and method.lower() == "reply"


def _keyword(value: bytes) -> str:
    """Return the first word of a field, without parameters and comments."""
    return re.split(r"[;,(\s]", charsets.decode(value).strip(), maxsplit=1)[0].lower()


def _one_line(value: str) -> str:
    return " ".join(value.split())


def _chunk(data: bytes | str, label: str | None) -> str:
    if isinstance(data, str):
        return data
    if label is None:  # text between encoded words, as decode_header hands it over
        return data.decode("raw-unicode-escape", "replace")
    return charsets.decode(data, label)
