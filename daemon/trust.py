"""Whose instructions count.

Mail text is data, never orders, and From alone proves nothing. This module decides for each
message in the requests folder what it may be; each rule is one function below.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from connectors import body, headers, mime
from connectors.base import MessageError
from connectors.raw import canonical
from daemon import authres, compose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from connectors.mime import Part

TAG = "panza"  # jen+panza@example.org is where the owner mails her requests

_TRANSPORT = frozenset(
    {
        "authentication-results",
        "authentication-results-original",
        "delivered-to",
        "delivery-date",
        "dkim-signature",
        "domainkey-signature",
        "envelope-to",
        "received",
        "return-path",
        "x-apparently-to",
        "x-delivered-to",
        "x-envelope-from",
        "x-envelope-to",
        "x-original-authentication-results",
        "x-original-to",
        "x-received",
    }
)
_TRANSPORT_FAMILIES = ("arc-", "received-", "resent-")
# Fields that may stand once in a header (RFC 5322, 3.6; RFC 2045, 3). Of two, each program reads
# another one.
_SINGLE = frozenset(
    {
        *("from", "sender", "reply-to", "to", "cc", "bcc", "subject", "date"),
        *("message-id", "in-reply-to", "references"),
        *("mime-version", "content-type", "content-transfer-encoding"),
    }
)
# What a signature has to cover, where it is there, to say whom the mail was for and what it means.
_COVERED = ("from", "to", "cc", "subject", "message-id", "in-reply-to", "references")
_SOUND = re.compile(
    rb"(?:[!-9;-~]+[ \t]*:[^\r\n\x00]*(?:\r?\n[ \t][^\r\n\x00]*)*(?:\r?\n|\Z))*(?:\r?\n)?"
)
_COMMENT = re.compile(r"\([^()]*\)")
_DECORATION = re.compile(r"[\s\"\\.]")
_LONGEST_DETAIL = 64  # characters behind the tag
_MAX_COMMENTS = 20  # levels of comments within comments
# Letters of other scripts that look like those of an address.
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u051b\u051d"
    "\u03b1\u03bf\u03c1\u03bd\u03b9\u03ba\u03c5\u0261\u0131\u0237\u3002\uff0e\uff61",
    "aeopcyxijsdhqwaopvikugij...",
)


class Standing(Enum):
    """What a message in the requests folder may be."""

    INSTRUCTION = auto()
    """The owner's own words: they say what is to be written."""

    ANSWER = auto()
    """A mail that somebody sent her and she put here: it is to be answered, its text is data."""

    UNPROVEN = auto()
    """It bears her name, and a copy in Sent, which may still come, would prove it."""

    REFUSED = auto()
    """It stays untouched, gets no answer, and is counted."""

    OURS = auto()
    """Panza wrote it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A standing, and for what does not count a few words on why."""

    standing: Standing
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns the account.

    Attributes:
        name: Her full name.
        addresses: Her addresses; the first is the account's.
        trust: The authserv-id of her own mail server, whose findings count; "" for none.
        folder: The name of the requests folder. Some servers file by it what is sent to
            ``jen+folder@example.org``.
    """

    name: str
    addresses: tuple[str, ...]
    trust: str = ""
    folder: str = TAG

    def sends_from(self, email: str) -> bool:
        """Tell whether an address is one of hers, letter for letter."""
        return _spelling(email) in map(_spelling, self.addresses)

    def receives_at(self, email: str) -> str | None:
        """Return which of her addresses a mail to this one reaches, None for somebody else's.

        ``jen+anything@example.org`` reaches ``jen@example.org`` (RFC 5233).
        """
        local_part, at, domain = _spelling(email).rpartition("@")
        plain = f"{local_part.partition('+')[0]}{at}{domain}"
        for own in self.addresses:
            if _spelling(own) in {_spelling(email), plain}:
                return own
        return None

    def domains(self) -> tuple[str, ...]:
        """Return the domains of her addresses."""
        return tuple(dict.fromkeys(own.rpartition("@")[2] for own in self.addresses))

    def is_aimed_at(self, header: str) -> bool:
        """Tell whether an address that a server would file into the requests folder stands here.

        Args:
            header: A whole header; comments, blanks, quotes and dots play no part.
        """
        text = _undecorated(header)
        tags = "|".join(re.escape(_undecorated(tag)) for tag in {TAG, self.folder})
        for own in map(_spelling, self.addresses):
            local_part, _, domain = own.rpartition("@")
            name = re.escape(_undecorated(local_part))
            place = re.escape(_undecorated(domain))
            if re.search(rf"{name}[+-](?:{tags})[^@]{{0,{_LONGEST_DETAIL}}}@{place}", text):
                return True
        return False


def judge(message: Part, owner: Owner, sent: Callable[[str], Iterable[bytes]]) -> Verdict:
    """Decide what a message in the requests folder may be.

    Args:
        message: The message.
        owner: Whose account it is.
        sent: Returns the messages in her Sent folder that have a Message-ID.

    Raises:
        connectors.base.MessageError: Its text is too large to be compared with a sent copy.
    """
    fields = list(message.all("from"))
    senders = [email for _, email in headers.addresses(*fields)]
    from_owner = any(map(owner.sends_from, senders))
    # Another one who uses Panza bears its marks too, and may be answered.
    if compose.ours(message) and (from_owner or not senders):
        return Verdict(Standing.OURS)
    if len(fields) != 1 or not senders:
        return Verdict(Standing.REFUSED, "its sender is not clear")
    if not from_owner:
        return _of_somebody_else(message, owner)
    return _of_owner(message, owner, sent)


def _of_somebody_else(message: Part, owner: Owner) -> Verdict:
    """Somebody else's mail is to be answered, unless its sender aimed it at the folder."""
    shown = _skeleton(headers.text(message.get("from")))
    if any(_skeleton(own) in shown for own in owner.addresses) or any(
        owner.receives_at(email) for _, email in headers.addresses(message.get("from"))
    ):
        return Verdict(Standing.REFUSED, "its sender poses as the owner")
    raw = message.raw[: message.start].decode("latin-1")
    read = "\n".join(headers.text(value) for _, value in message.fields)
    if owner.is_aimed_at(raw) or owner.is_aimed_at(read):
        return Verdict(Standing.REFUSED, "somebody else sent it to the requests address")
    return Verdict(Standing.ANSWER)


def _of_owner(message: Part, owner: Owner, sent: Callable[[str], Iterable[bytes]]) -> Verdict:
    """What bears her name counts when only she can have written it."""
    if len(headers.addresses(message.get("from"))) != 1 or b";" in message.get("from"):
        return Verdict(Standing.REFUSED, "it names the owner among several senders")
    if not _sound(message):
        return Verdict(Standing.REFUSED, "its header is malformed")
    if not _transported(message):
        return Verdict(Standing.INSTRUCTION)
    recipients = _recipients(message, "to", "cc", "bcc")
    if not recipients or not all(map(owner.receives_at, recipients)):
        return Verdict(Standing.REFUSED, "it bears the owner's name and was not sent to her alone")
    if owner.trust and _vouched_for(message, owner):
        return Verdict(Standing.INSTRUCTION)
    return _proven_by_copy(message, owner, sent)


def _transported(message: Part) -> bool:
    """Only what the account itself put into the folder bears no mark of transport."""
    return any(
        name in _TRANSPORT or name.startswith(_TRANSPORT_FAMILIES) for name, _ in message.fields
    )


def _sound(message: Part) -> bool:
    """A header that all programs read alike: fields and continuation lines, no field too often."""
    names = [name for name, _ in message.fields if name in _SINGLE]
    well_formed = _SOUND.fullmatch(message.raw, 0, message.start) is not None
    return well_formed and len(names) == len(set(names))


def _vouched_for(message: Part, owner: Owner) -> bool:
    """The owner's own server found that her domain signed this mail, and whom it was for.

    Without the signature DMARC would be content with the sending machine, which others may use;
    and where the signature leaves recipients or subject open, a mail of hers to somebody else could
    be sent to her with other ones.
    """
    found = authres.topmost(message, owner.trust, owner.domains())
    ((_, email),) = headers.addresses(message.get("from"))
    own = authres.domain(email.rpartition("@")[2])
    if found is None or not own or not _submitted_by(message, owner):
        return False
    dmarc = found.of("dmarc")
    if len(dmarc) != 1 or dmarc[0].outcome != "pass":
        return False
    if authres.domain(dmarc[0].properties.get("header.from", "")) != own:
        return False
    signed = any(
        one.outcome == "pass" and authres.aligned(_signer(one.properties), own)
        for one in found.of("dkim")
    )
    return signed and _signature_covers(message, own)


def _submitted_by(message: Part, owner: Owner) -> bool:
    """Sender, where it is there, is hers as well: for a list's mail it is the list's."""
    return all(
        owner.sends_from(headers.text(value).rpartition("<")[2].rstrip("> "))
        for value in message.all("sender")
    )


def _signer(properties: dict[str, str]) -> str:
    """Return the domain that a signature is of; some servers tell its user's identity only."""
    identity = properties.get("header.i", "").rpartition("@")[2]
    return authres.domain(properties.get("header.d", identity))


def _signature_covers(message: Part, own: str) -> bool:
    """Every signature of her domain covers the whole text, and what says whom it is for."""
    present = {name for name, _ in message.fields}
    needed = {name for name in _COVERED if name in present}
    hers = [
        tags
        for tags in map(_tags, message.all("dkim-signature"))
        if authres.aligned(authres.domain(tags.get("d", "")), own)
    ]
    return bool(hers) and all(
        needed <= set(tags.get("h", "").lower().split(":")) and "l" not in tags for tags in hers
    )


def _tags(signature: bytes) -> dict[str, str]:
    """Read the tags of a DKIM-Signature (RFC 6376, 3.2)."""
    text = re.sub(r"\s", "", signature.decode("latin-1"))
    pairs = (tag.partition("=") for tag in text.split(";") if tag)
    return {name: value for name, _, value in pairs}


def _proven_by_copy(message: Part, owner: Owner, sent: Callable[[str], Iterable[bytes]]) -> Verdict:
    """She sent it to herself: Sent holds the same mail, and nobody else has ever seen it."""
    message_id = headers.message_id(message.get("message-id"))
    copies = list(sent(message_id)) if message_id else []
    if not copies:
        reason = "it bears the owner's name, and her Sent folder has no copy of it"
        return Verdict(Standing.UNPROVEN if message_id else Standing.REFUSED, reason)
    if any(_same(message, copy, owner) for copy in copies):
        return Verdict(Standing.INSTRUCTION)
    return Verdict(Standing.REFUSED, "it differs from the mail of the same Message-ID in Sent")


def digest(message: Part) -> str:
    """Return a digest of all that a message can ask for, which its transport does not change.

    Raises:
        connectors.base.MessageError: Its text is too large.
    """
    recipients = [sorted(_recipients(message, name)) for name in ("to", "cc")]
    return hashlib.sha256(repr((recipients, _said(message))).encode()).hexdigest()


def _same(message: Part, copy: bytes, owner: Owner) -> bool:
    try:
        other = mime.read(copy)
        said = _said(other)
    except MessageError:
        return False
    # The copy in Sent may name blind recipients, who have seen the mail and could send it again.
    unseen = all(map(owner.receives_at, _recipients(other, "bcc")))
    alike = _recipients(message, "to", "cc") == _recipients(other, "to", "cc")
    return unseen and alike and _said(message) == said


def _recipients(message: Part, *names: str) -> set[str]:
    fields = (value for name in names for value in message.all(name))
    return {_spelling(email) for _, email in headers.addresses(*fields)}


def _said(message: Part) -> tuple[object, ...]:
    """Return all that a request can mean, whatever encoding a server on its way gave it."""
    digest = hashlib.sha256(" ".join(body.read(message).text.split()).encode("utf-8", "replace"))
    attached = [hashlib.sha256(canonical(raw).strip()).digest() for raw in body.attached(message)]
    return (
        [_spelling(email) for _, email in headers.addresses(message.get("from"))],
        headers.text(message.get("subject")),
        headers.message_ids(message.get("in-reply-to")),
        headers.message_ids(message.get("references")),
        digest.digest(),
        attached,
    )


def _spelling(email: str) -> str:
    """Return the one spelling of an address.

    Only A to Z have small letters here: other scripts have letters whose small form is one of
    ASCII's, such as the Kelvin sign's, and another letter is another address.
    """
    local_part, at, domain = email.rpartition("@")
    plain = authres.domain(domain) or domain
    return f"{local_part.lower() if local_part.isascii() else local_part}{at}{plain}"


def _skeleton(text: str) -> str:
    """Return text with letters that look alike made equal (after UTS 39, for addresses)."""
    words = (_unicode(word) for word in re.split(r"[\s@<>]+", text))
    plain = unicodedata.normalize("NFKC", "@".join(words)).casefold()
    return plain.translate(_LOOKALIKES)


def _unicode(domain: str) -> str:
    try:
        return domain.encode("ascii").decode("idna")
    except UnicodeError:
        return domain


def _undecorated(text: str) -> str:
    """Take comments, blanks, quotes and dots out of a header, in lower case."""
    plain = text.lower()
    for _ in range(_MAX_COMMENTS):
        shorter = _COMMENT.sub("", plain)
        if shorter == plain:
            break
        plain = shorter
    return _DECORATION.sub("", plain)
