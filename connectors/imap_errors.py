"""What imapclient, imaplib, ssl and the socket raise, in Panza's own terms."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from imapclient.exceptions import (
    IMAPClientAbortError,
    IMAPClientError,
    IMAPClientReadOnlyError,
    ProtocolError,
)

from connectors.base import RefusedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY: Final = frozenset({"INUSE", "LIMIT", "SERVERBUG", "THROTTLED", "UNAVAILABLE"})
"""Response codes of a NO that may become an OK later (RFC 5530, RFC 9051)."""

_PREFIX = re.compile(r"^(?:command: )?[A-Za-z ]+ (?:failed:|command error: BAD|=>) ?")
_BAD = re.compile(r"^\[b(['\"])(.*)\1\]$", re.DOTALL)
_CODE = re.compile(r"^\[([A-Z][A-Z0-9-]*)[^\]]*\] ?")


@contextmanager
def translated(host: str, port: int, command: str) -> Iterator[None]:
    """Turn what the libraries raise into connector errors.

    Raises:
        UnreachableError: The connection broke, timed out, or carries what is no IMAP.
        RefusedError: The server answered NO or BAD.
    """
    try:
        yield
    except IMAPClientReadOnlyError as error:
        raise RefusedError(command, "READ-ONLY", "the folder is read-only") from error
    except (IMAPClientAbortError, ProtocolError, OSError, ValueError) as error:
        raise UnreachableError(host, port, reason(error)) from error
    except IMAPClientError as error:
        raise RefusedError(command, *answer(error)) from error


def answer(error: IMAPClientError) -> tuple[str, str]:
    """Return the response code, "" if none, and the words of a NO or BAD."""
    text = _PREFIX.sub("", str(error), count=1)
    text = _BAD.sub(r"\2", text)  # imaplib quotes the answer as Python writes it
    found = _CODE.match(text)
    return (found.group(1), text[found.end() :].strip()) if found else ("", text)


def reason(error: BaseException) -> str:
    """Return why a connection failed, in words."""
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "its name cannot be resolved"
    if isinstance(error, ssl.SSLEOFError):
        return "the server closed the connection"
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    if isinstance(error, ValueError | ProtocolError):
        return "its answer is no IMAP that could be understood"
    return answer(error)[1] or "the connection broke"
