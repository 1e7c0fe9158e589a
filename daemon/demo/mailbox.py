"""The demo's mailbox: an invented person, and her mail as RFC 5322 messages.

The content is ``mailbox.yaml``, which explains its own format. This module makes messages of it as
a mail client would: replies quote what they answer, and the MIME structure varies. Nothing here
depends on a clock or on chance: the same file always gives the same bytes.
"""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from hashlib import sha256
from importlib import resources
from typing import Any, Literal

import yaml

Folder = Literal["inbox", "sent"]

_QUOTE_WIDTH = 72  # RFC 3676 section 4.2 advises lines of at most 78 characters with their quotes
_SEPARATOR = "-- "  # RFC 3676 section 4.3


@dataclass(frozen=True, slots=True)
class DemoMessage:
    """A message and where it lies.

    Attributes:
        folder: ``inbox`` for what the owner received, ``sent`` for what she sent.
        raw: The message, with CRLF line ends.
        date: Its Date, aware; messages of a mailbox ascend by it.
    """

    folder: Folder
    raw: bytes
    date: datetime


@dataclass(frozen=True, slots=True)
class Persona:
    """The person whose mailbox the demo shows.

    Attributes:
        name: Her full name.
        address: The address she writes from.
        profile: What she says of herself in panza.yaml.
        instructions: Requests that suit her mailbox; the demo uses the first unless told otherwise.
    """

    name: str
    address: str
    profile: str
    instructions: tuple[str, ...]
    _mails: tuple[_Mail, ...] = field(repr=False)
    _signature: str = field(repr=False)

    def messages(self) -> list[DemoMessage]:
        """Return all her mail, oldest first, the same bytes at every call."""
        return [
            DemoMessage(
                folder="inbox" if mail.received else "sent",
                raw=_message(mail, self._signature).as_bytes(),
                date=mail.date,
            )
            for mail in self._mails
        ]


def load() -> Persona:
    """Return the invented person whose mailbox comes with Panza."""
    source = resources.files(__package__).joinpath("mailbox.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(source)
    owner: dict[str, str] = content["owner"]
    return Persona(
        name=owner["name"],
        address=owner["address"],
        profile=owner["profile"].strip(),
        instructions=tuple(content["instructions"]),
        _mails=_mails(content),
        _signature=owner["signature"].strip(),
    )


@dataclass(frozen=True, slots=True)
class _Mail:
    """One entry of the file with its defaults and references resolved."""

    sender: Address
    to: tuple[Address, ...]
    date: datetime
    subject: str
    text: str
    received: bool = False
    answers: _Mail | None = None
    form: str = "plain"
    signed: bool = False
    automatic: bool = False
    attachment: tuple[str, str] | None = None

    @property
    def message_id(self) -> str:
        """A Message-ID with its brackets, derived from what identifies the mail."""
        identity = f"{self.date.isoformat()} {self.sender.addr_spec} {self.subject}"
        return f"<{sha256(identity.encode()).hexdigest()[:24]}@{self.sender.domain}>"

    @property
    def references(self) -> list[str]:
        """The Message-IDs of the thread before this mail, oldest first (RFC 5322 3.6.4)."""
        if self.answers is None:
            return []
        return [*self.answers.references, self.answers.message_id]


def _mails(content: dict[str, Any]) -> tuple[_Mail, ...]:
    """Resolve the file's entries in their order; each may refer to those before it."""
    owner = Address(content["owner"]["name"], addr_spec=content["owner"]["address"])
    people = {key: _address(text) for key, text in content["people"].items()}
    named: dict[str, _Mail] = {}
    mails = []
    for entry in content["mails"]:
        mail = _odd(entry, owner, people, named) or _ordinary(entry, owner, people, named)
        if "id" in entry:
            named[entry["id"]] = mail
        mails.append(mail)
    return tuple(mails)


def _address(text: str) -> Address:
    name, email = parseaddr(text)
    return Address(name, addr_spec=email)


def _ordinary(
    entry: dict[str, Any], owner: Address, people: dict[str, Address], named: dict[str, _Mail]
) -> _Mail:
    received = "from" in entry and entry.get("odd") != "stranger"
    answers = named[entry["re"]] if "re" in entry else None
    keys = entry.get("to", [])
    attachment = entry.get("attachment")
    return _Mail(
        sender=people[entry["from"]] if "from" in entry else owner,
        to=tuple(people[key] for key in ([keys] if isinstance(keys, str) else keys)) or (owner,),
        date=_date(entry["date"]),
        subject=entry["subject"] if answers is None else _reply_subject(answers.subject),
        text=entry.get("body", "").strip(),
        received=received,
        answers=answers,
        form=entry.get("form", "plain"),
        signed=entry.get("signed", False),
        automatic=entry.get("odd") == "vacation",
        attachment=(attachment["name"], attachment["text"]) if attachment else None,
    )


def _odd(
    entry: dict[str, Any], owner: Address, people: dict[str, Address], named: dict[str, _Mail]
) -> _Mail | None:
    """Return the mail of an entry that is made from another one, None for any other entry."""
    if entry.get("odd") == "copy":
        return named[entry["of"]]
    if entry.get("odd") != "forward":
        return None
    original = named[entry["of"]]
    return _Mail(
        sender=owner,
        to=(people[entry["to"]],),
        date=_date(entry["date"]),
        subject=f"Fwd: {original.subject}",
        text=_forwarded(original),
    )


def _date(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


def _reply_subject(subject: str) -> str:
    return subject if subject.startswith("Re: ") else f"Re: {subject}"


def _forwarded(original: _Mail) -> str:
    head = (
        "-------- Forwarded Message --------",
        f"Subject: {original.subject}",
        f"Date: {format_datetime(original.date)}",
        f"From: {original.sender}",
        f"To: {', '.join(map(str, original.to))}",
    )
    return "\n".join([*head, "", original.text])


def _message(mail: _Mail, signature: str) -> EmailMessage:
    """Build the message; the owner's replies quote, as her mail client does it."""
    message = EmailMessage(policy=SMTP)
    message["From"] = mail.sender
    message["To"] = mail.to
    message["Subject"] = mail.subject
    message["Date"] = mail.date
    message["Message-ID"] = mail.message_id
    if mail.answers is not None:
        message["In-Reply-To"] = mail.answers.message_id
        message["References"] = " ".join(mail.references)
    if mail.automatic:
        message["Auto-Submitted"] = "auto-replied"  # RFC 3834 section 5
    _set_body(message, mail, signature if mail.signed else "")
    if mail.attachment is not None:
        name, text = mail.attachment
        message.add_attachment(text, subtype="csv", filename=name)
    if message.is_multipart():  # a boundary left to the library is a random one
        message.set_boundary(f"=_{sha256(mail.message_id.encode()).hexdigest()[:32]}")
    return message


def _set_body(message: EmailMessage, mail: _Mail, signature: str) -> None:
    quotes = mail.answers if not mail.received else None
    if mail.form == "html":
        message.set_content(_html(mail, quotes, signature), "html", cte="quoted-printable")
        return
    flowed = mail.form == "flowed"
    text = _flow(mail.text) if flowed else mail.text
    if quotes is not None:
        text += f"\n\n{_attribution(quotes)}\n{_quoted(quotes.text, soft=' ' if flowed else '')}"
    if signature:
        text += f"\n\n{_SEPARATOR}\n{signature}"
    message.set_content(
        text + "\n" if text else "",
        cte="quoted-printable",
        params={"format": "flowed"} if flowed else None,
    )
    if mail.form == "alternative":
        message.add_alternative(_html(mail, quotes, signature), "html", cte="quoted-printable")


def _attribution(quoted: _Mail) -> str:
    return f"On {quoted.date:%d/%m/%Y %H:%M}, {quoted.sender.display_name} wrote:"


def _wrap(line: str, soft: str = "") -> list[str]:
    """Break a line at `_QUOTE_WIDTH`; each break but the last ends in ``soft``."""
    lines = textwrap.wrap(line, _QUOTE_WIDTH, break_long_words=False, break_on_hyphens=False)
    return [*(each + soft for each in lines[:-1]), *lines[-1:]] or [""]


def _flow(text: str) -> str:
    """Format text as RFC 3676 wants it: a line that goes on ends in a space."""
    return "\n".join(piece for line in text.splitlines() for piece in _wrap(line, " "))


def _quoted(text: str, soft: str = "") -> str:
    pieces = (piece for line in text.splitlines() for piece in _wrap(line, soft))
    return "\n".join(f"> {piece}" if piece else ">" for piece in pieces)


def _html(mail: _Mail, quotes: _Mail | None, signature: str) -> str:
    parts = [_paragraphs(mail.text)]
    if quotes is not None:
        parts.append(f'<div class="moz-cite-prefix">{html.escape(_attribution(quotes))}</div>')
        parts.append(f'<blockquote type="cite">\n{_paragraphs(quotes.text)}\n</blockquote>')
    if signature:
        lines = "<br>\n".join(html.escape(line) for line in signature.splitlines())
        parts.append(f'<div class="moz-signature">{_SEPARATOR}<br>\n{lines}</div>')
    body = "\n".join(parts)
    return f"<!DOCTYPE html>\n<html>\n<body>\n{body}\n</body>\n</html>\n"


def _paragraphs(text: str) -> str:
    return "\n".join(
        f"<p>{html.escape(paragraph, quote=False).replace(chr(10), '<br>' + chr(10))}</p>"
        for paragraph in text.split("\n\n")
    )
