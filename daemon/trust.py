"""Whose instructions count.

Mail text is data, never orders, and From alone proves nothing. This module decides for each
message in the requests folder what it may be; each rule is one function below. A further rule, for
servers whose Authentication-Results the owner trusts, belongs beside them in `judge`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from connectors import headers, mime
from connectors.base import MessageError
from daemon import compose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from connectors.mime import Part

_TAG = "panza"  # jen+panza@example.org is where the owner mails her requests
_TRANSPORT = frozenset(
    {
        "authentication-results",
        "delivered-to",
        "delivery-date",
        "dkim-signature",
        "envelope-to",
        "received",
        "return-path",
        "x-apparently-to",
        "x-delivered-to",
        "x-envelope-to",
        "x-original-to",
        "x-received",
    }
)
_TRANSPORT_FAMILIES = ("arc-", "received-", "resent-")
_SOUND = re.compile(
    rb"(?:[!-9;-~]+[ \t]*:[^\r\n\x00]*(?:\r?\n[ \t][^\r\n\x00]*)*(?:\r?\n|\Z))*(?:\r?\n)?"
)
_COMMENT = re.compile(rb"\([^()]*\)")
_DECORATION = re.compile(rb"[\s\"\\]")


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
    """

    name: str
    addresses: tuple[str, ...]

    def sends_from(self, email: str) -> bool:
        """Tell whether an address is one of hers, letter for letter."""
        return email.casefold() in {own.casefold() for own in self.addresses}

    def receives_at(self, email: str) -> str | None:
        """Return which of her addresses a mail to this one reaches, None for somebody else's.

        ``jen+anything@example.org`` reaches ``jen@example.org`` (RFC 5233).
        """
        local_part, _, domain = email.casefold().rpartition("@")
        plain = f"{local_part.partition('+')[0]}@{domain}"
        for own in self.addresses:
            if own.casefold() in {email.casefold(), plain}:
                return own
        return None

    def requests_addresses(self) -> Iterable[str]:
        """Yield the addresses that a server's filter would file into the requests folder."""
        for own in self.addresses:
            local_part, _, domain = own.casefold().rpartition("@")
            yield f"{local_part}+{_TAG}@{domain}"
            yield f"{local_part}-{_TAG}@{domain}"


def judge(message: Part, owner: Owner, sent: Callable[[str], Iterable[bytes]]) -> Verdict:
    """Decide what a message in the requests folder may be.

    Args:
        message: The message.
        owner: Whose account it is.
        sent: Returns the messages in her Sent folder that have a Message-ID.

    Raises:
        connectors.base.MessageError: Its text is too large to be compared with a sent copy.
    """
    if compose.ours(message):
        return Verdict(Standing.OURS)
    fields = list(message.all("from"))
    senders = [email for _, email in headers.addresses(*fields)]
    if len(fields) != 1 or not senders:
        return Verdict(Standing.REFUSED, "its sender is not clear")
    if not any(map(owner.sends_from, senders)):
        return _of_somebody_else(message, owner)
    return _of_owner(message, owner, sent)


def _of_somebody_else(message: Part, owner: Owner) -> Verdict:
    """Somebody else's mail is to be answered, unless its sender aimed it at the folder."""
    shown = headers.text(message.get("from")).casefold()
    if any(own.casefold() in shown for own in owner.addresses):
        return Verdict(Standing.REFUSED, "its sender poses as the owner")
    header = _COMMENT.sub(b"", message.raw[: message.start].lower())
    header = _DECORATION.sub(b"", header)
    if any(address.encode() in header for address in owner.requests_addresses()):
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
    return _proven_by_copy(message, owner, sent)


def _transported(message: Part) -> bool:
    """Only what the account itself put into the folder bears no mark of transport."""
    return any(
        name in _TRANSPORT or name.startswith(_TRANSPORT_FAMILIES) for name, _ in message.fields
    )


def _sound(message: Part) -> bool:
    """A header that all programs read alike: fields and continuation lines, nothing else."""
    return _SOUND.fullmatch(message.raw, 0, message.start) is not None


def _proven_by_copy(message: Part, owner: Owner, sent: Callable[[str], Iterable[bytes]]) -> Verdict:
    """She sent it to herself: Sent holds the same mail, and nobody else has ever seen it."""
    recipients = _recipients(message)
    if not recipients or not all(map(owner.receives_at, recipients)):
        return Verdict(Standing.REFUSED, "it bears the owner's name and was not sent to her alone")
    message_id = headers.message_id(message.get("message-id"))
    copies = list(sent(message_id)) if message_id else []
    if not copies:
        reason = "it bears the owner's name, and her Sent folder has no copy of it"
        return Verdict(Standing.UNPROVEN if message_id else Standing.REFUSED, reason)
    if any(_same(message, copy) for copy in copies):
        return Verdict(Standing.INSTRUCTION)
    return Verdict(Standing.REFUSED, "it differs from the mail of the same Message-ID in Sent")


def _same(message: Part, copy: bytes) -> bool:
    try:
        other = mime.read(copy)
    except MessageError:
        return False
    return _recipients(message) == _recipients(other) and _digest(message) == _digest(other)


def _recipients(message: Part) -> set[str]:
    fields = (*message.all("to"), *message.all("cc"))
    return {email.casefold() for _, email in headers.addresses(*fields)}


def _digest(message: Part) -> str:
    """Hash what a message says, whatever transfer encoding a server on its way gave it."""
    digest = hashlib.sha256(headers.text(message.get("subject")).encode("utf-8", "replace"))
    for part in message.walk():
        if part.children:
            continue
        lines = (line.rstrip() for line in part.message().splitlines())
        content = b"\n".join(lines).strip()
        digest.update(f"\n{part.content_type} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
