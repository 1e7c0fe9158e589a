"""What connectors need of a message's bytes without parsing the message."""

from __future__ import annotations

import re

from connectors import headers
from connectors.base import BEGINNING, LARGEST

_MESSAGE_ID = re.compile(rb"(?im)^message-id[ \t]*:([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)")
_HEADER_END = re.compile(rb"(?:\A|\r?\n)\r?\n")


def canonical(raw: bytes) -> bytes:
    """Return a message with every line end, bare CR and bare LF too, as CRLF (RFC 5322)."""
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def message_id(raw: bytes) -> str:
    """Return the Message-ID in a message's header without angle brackets, "" where it has none.

    ``raw`` may be the header alone or begin a message. Of several fields the first counts.
    """
    end = _HEADER_END.search(raw)
    field = _MESSAGE_ID.search(raw, 0, end.end() if end else len(raw))
    return headers.message_id(field.group(1)) if field else ""


def readable(raw: bytes) -> tuple[bytes, bool]:
    """Return what a `Message` carries of these bytes, and whether that is all of them."""
    return (raw, True) if len(raw) <= LARGEST else (raw[:BEGINNING], False)
