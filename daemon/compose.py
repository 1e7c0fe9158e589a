"""The bytes of a draft, of notes and reports, and of what is mailed back (RFC 5322, 2045, 2046).

The same input gives the same bytes: a draft is composed once, stored, and recognised by them.
Whatever comes from mail that others wrote, subjects, names and Message-IDs, is brought to one
harmless line before it becomes part of a header.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from dataclasses import dataclass
from email.header import Header
from email.utils import format_datetime, quote
from typing import TYPE_CHECKING, Literal

from connectors import headers
from connectors.mail import Address
from daemon.guards import INVISIBLE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from connectors.mime import Part

MAX_SUBJECT = 250  # characters
MAX_QUOTED = 100_000  # characters of the mail that is answered

_ID_DIGITS = 40  # hex digits of a key in a Message-ID: 160 bits
_OUR_ID = re.compile(rf"panza\.((?:note|notice|reply|report)\.)?[0-9a-f]{{{_ID_DIGITS}}}@.*")
_BOUNDARY = "=_panza"  # which no quoted-printable text contains (RFC 2045, 6.7)
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+")
_SAFE_ID = re.compile(r"[!-;=?-~]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_FORWARD = re.compile(
    r"\s*(?:fwd?|wg|tr|rv|enc|i|vl|vb|doorst|转发|転送|пер)\s*[:\uff1a]", re.IGNORECASE
)
_PREFIX = re.compile(
    # Marks of an answer or a forwarded mail, as clients of several languages set them.
    r"\s*(?:re|aw|antw|antwort|sv|vs|odp|rép|ref|ynt|回复|答复|回覆"
    r"|fwd?|wg|tr|vl|vb|rv|enc|doorst|pd|ilt|转发|轉寄|転送)(?:\[\d+\]|\(\d+\))?\s*[:\uff1a]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Letter:
    """What a draft is composed of.

    Attributes:
        key: The request's key, hex digits; the draft's Message-ID comes from it.
        date: For the Date field, aware.
        sender: The owner, by the address that she writes this mail from.
        to: Recipients, none of them the owner.
        cc: More recipients, none of them the owner.
        subject: The subject, complete.
        body: What was written, LF line ends.
        in_reply_to: Message-ID of the mail that is answered, "" for a new mail.
        references: Message-IDs of the thread, oldest first, the answered mail's last.
        quoted: The text that is answered, "" for none.
        attribution: The line above it, for example "Stew wrote:".
        place: Where it stands, seen from what was written.
        adapter: What it was written with, "" where nothing is said of it.
        sources: Message-IDs of the owner's mails that the writer was shown, nearest first.
    """

    key: str
    date: datetime
    sender: Address
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    subject: str
    body: str
    in_reply_to: str = ""
    references: tuple[str, ...] = ()
    quoted: str = ""
    attribution: str = ""
    place: Literal["below", "above", "none"] = "below"
    adapter: str = ""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """What the owner is told about a request.

    Attributes:
        key: The note's own key, see `note_key`; the request's for a reply.
        date: For the Date field, aware.
        owner: Whom it is to and, since her own machine wrote it, from.
        about: The request's Message-ID, "" if it has none.
        title: Its subject.
        text: What it says, LF line ends.
        kind: A note beside the request, a reply that carries the result, or a training's report.
        html: The same as a page, "" for none.
    """

    key: str
    date: datetime
    owner: Address
    about: str
    title: str
    text: str
    kind: Literal["note", "reply", "report"] = "note"
    html: str = ""


def draft(letter: Letter) -> bytes:
    """Return the draft as bytes with CRLF line ends: one text/plain part in UTF-8.

    Paragraphs stay single lines, which every client wraps on screen and edits as paragraphs;
    quoted-printable keeps the lines of the message itself short.
    """
    fields = [
        ("Date", format_datetime(letter.date.replace(microsecond=0))),
        ("From", _mailboxes([letter.sender])),
        ("To", _mailboxes(letter.to)),
        ("Cc", _mailboxes(letter.cc)),
        ("Subject", _unstructured(letter.subject)),
        ("Message-ID", f"<{message_id(letter.key, letter.sender.email)}>"),
        ("In-Reply-To", _ids([letter.in_reply_to])),
        ("References", _ids(letter.references)),
        ("User-Agent", "Panza"),
        ("X-Panza", "draft"),
        ("X-Panza-Adapter", letter.adapter),
        ("X-Panza-Sources", _ids(letter.sources)),
    ]
    return _message(fields, _text(letter))


def result(letter: Letter, reason: str = "") -> str:
    """Return a draft as text, to be mailed back: its recipients and subject on top, then its text.

    Args:
        letter: The draft.
        reason: What the owner should know about it, "" for nothing.
    """
    top = [
        ("To", ", ".join(map(_shown, letter.to))),
        ("Cc", ", ".join(map(_shown, letter.cc))),
        ("Subject", _one_line(letter.subject)),
        ("Note", _one_line(reason)),
    ]
    lines = [f"{name}: {value}".rstrip() for name, value in top if value or name == "To"]
    return "\n".join((*lines, "", _text(letter)))


def note(content: Note) -> bytes:
    """Return a note as bytes with CRLF line ends.

    It is marked twice, by ``X-Panza`` and by ``Auto-Submitted`` (RFC 3834), so that neither Panza
    nor anybody's automatic reply takes it for a request or a letter.
    """
    owner = content.owner
    fields = [
        ("Date", format_datetime(content.date.replace(microsecond=0))),
        ("From", _mailboxes([Address("Panza", owner.email)])),
        ("To", _mailboxes([owner])),
        ("Subject", _unstructured(content.title)),
        ("Message-ID", f"<{_id(f'panza.{content.kind}.{content.key[:_ID_DIGITS]}', owner.email)}>"),
        ("In-Reply-To", _ids([content.about])),
        ("References", _ids([content.about])),
        ("Auto-Submitted", "auto-generated"),
        ("User-Agent", "Panza"),
        ("X-Panza", content.kind),
    ]
    return _message(fields, content.text.strip(), content.html)


def notice(of_note: bytes) -> bytes:
    """Return a note as it is mailed: a message of its own, for some servers keep one of each ID."""
    return of_note.replace(b"\r\nMessage-ID: <panza.note.", b"\r\nMessage-ID: <panza.notice.", 1)


def note_key(key: str, text: str) -> str:
    """Return the key of the note that says this about a request: the same words, the same key."""
    return hashlib.sha256(f"note\n{key}\n{text}".encode()).hexdigest()


def message_id(key: str, sender: str) -> str:
    """Return the Message-ID for a key, without angle brackets, of the characters [a-z0-9.@] only.

    Some servers search Message-IDs without regard to case or cut them at other characters.
    """
    return _id(f"panza.{key[:_ID_DIGITS]}", sender)


def ours(message: Part) -> bool:
    """Tell whether Panza wrote a message: a draft, or a note."""
    name = headers.message_id(message.get("message-id"))
    return bool(message.get("x-panza") or _OUR_ID.fullmatch(name))


def is_note(name: str) -> bool:
    """Tell whether a Message-ID without angle brackets is that of a note or of a reply."""
    match = _OUR_ID.fullmatch(name)
    return match is not None and match[1] is not None


def reply_subject(subject: str) -> str:
    """Return the subject of an answer: one ``Re:``, whatever marks the original carries."""
    start = 0
    while match := _PREFIX.match(subject, start):
        start = match.end()
    return f"Re: {subject[start:].strip()}".strip()


def is_forward(subject: str) -> bool:
    """Tell whether a subject is that of a forwarded mail, in one of several languages."""
    return _FORWARD.match(subject) is not None


def mailable(email: str) -> str | None:
    """Return an address as it may stand in a header without SMTPUTF8 (RFC 6531), else None."""
    local_part, _, domain = email.rpartition("@")
    try:
        ascii_email = f"{local_part}@{domain.encode('idna').decode('ascii')}"
    except ValueError:
        return None
    return ascii_email if _ADDRESS.fullmatch(ascii_email) else None


def _message(fields: Iterable[tuple[str, str]], text: str, html: str = "") -> bytes:
    mime = ("MIME-Version", "1.0")
    plain = _content("plain")
    if not html:
        return _header([*fields, mime, *plain]) + _encoded(text)
    alternative = ("Content-Type", f'multipart/alternative; boundary="{_BOUNDARY}"')
    parts = ((plain, text), (_content("html"), html))
    separator = f"--{_BOUNDARY}"
    body = [f"{separator}\r\n".encode() + _header(one) + _encoded(said) for one, said in parts]
    return _header([*fields, mime, alternative]) + b"".join(body) + f"{separator}--\r\n".encode()


def _content(subtype: str) -> list[tuple[str, str]]:
    return [
        ("Content-Type", f'text/{subtype}; charset="utf-8"'),
        ("Content-Transfer-Encoding", "quoted-printable"),
    ]


def _header(fields: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"{name}: {value}" for name, value in fields if value]
    return "\r\n".join((*lines, "", "")).encode("ascii")


def _encoded(text: str) -> bytes:
    clean = INVISIBLE.sub("", text.replace("\r\n", "\n").replace("\t", " " * 4))
    clean = _CONTROL.sub("", clean)
    return binascii.b2a_qp(f"{clean}\n".replace("\n", "\r\n").encode(), istext=True)


def _text(letter: Letter) -> str:
    parts = [letter.body.strip()]
    if letter.quoted.strip() and letter.place != "none":
        parts.append("\n".join(filter(None, (letter.attribution, _quote(letter.quoted)))))
    return "\n\n".join(reversed(parts) if letter.place == "above" else parts)


def _shown(address: Address) -> str:
    name = _one_line(address.name)
    return f"{name} <{address.email}>" if name and name != address.email else address.email


def _id(left: str, sender: str) -> str:
    domain = re.sub(r"[^a-z0-9.]", "", sender.rpartition("@")[2].lower()).strip(".")
    return f"{left}@{domain or 'invalid'}"


def _unstructured(value: str) -> str:
    line = _one_line(value)[:MAX_SUBJECT]
    if line.isascii() and "=?" not in line:
        return Header(line, "us-ascii", header_name="Subject").encode(linesep="\r\n")
    return Header(line, "utf-8", header_name="Subject").encode(linesep="\r\n")


def _mailboxes(addresses: Iterable[Address]) -> str:
    return ",\r\n ".join(_mailbox(address) for address in addresses)


def _mailbox(address: Address) -> str:
    email = mailable(address.email)
    if email is None:
        raise ValueError("a recipient's address cannot stand in a header")
    name = _one_line(address.name)[:MAX_SUBJECT]
    if not name or name == email:
        return email
    if not name.isascii() or "=?" in name:
        name = Header(name, "utf-8").encode(linesep="\r\n")
    elif not _ATOM.fullmatch(name):
        name = f'"{quote(name)}"'
    return f"{name} <{email}>"


def _ids(message_ids: Iterable[str]) -> str:
    return "\r\n ".join(f"<{one}>" for one in message_ids if _SAFE_ID.fullmatch(one))


def _quote(text: str) -> str:
    shown = text.strip()[:MAX_QUOTED]
    lines = [*shown.splitlines(), *(["[…]"] if len(text.strip()) > MAX_QUOTED else [])]
    return "\n".join(f">{'' if not line or line.startswith('>') else ' '}{line}" for line in lines)


def _one_line(value: str) -> str:
    return " ".join(INVISIBLE.sub("", _CONTROL.sub(" ", value)).split())
