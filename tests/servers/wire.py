"""Bytes of IMAP on sockets: lines, literals, whole responses; for what plays a server in tests."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# A literal's size, which ends a line; the plus: the client does not wait (RFC 7888).
LITERAL = re.compile(rb"\{(\d+)(\+?)\}\r?\n$")


class Reader:
    """Reads lines, literals and whole responses of IMAP from a socket.

    Args:
        connection: The socket.
        heard: Called whenever something has arrived.
    """

    def __init__(self, connection: socket.socket, heard: Callable[[], None] | None = None) -> None:
        self._connection, self._heard, self._buffer = connection, heard, bytearray()

    def more(self) -> bool:
        """Wait for more; False when there will be none."""
        data = self._connection.recv(1 << 16)
        if data and self._heard is not None:
            self._heard()
        self._buffer += data
        return bool(data)

    def take(self, size: int) -> bytes:
        """Return what has been read, this much at most."""
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def line(self) -> bytes:
        """Return the next line with its end; b"" when there is no whole line any more."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if not self.more():
                return b""
        return self.take(end + 1)

    def exactly(self, size: int) -> bytes:
        """Return so many bytes; raise ConnectionError when there are fewer."""
        while len(self._buffer) < size:
            if not self.more():
                raise ConnectionError("the line ended in a literal")
        return self.take(size)

    def response(self) -> list[bytes]:
        """Return the next response of a server: lines, and the literals between them."""
        parts = [self.line()]
        while literal := LITERAL.search(parts[-1]):
            parts += [self.exactly(int(literal[1])), self.line()]
        return parts if parts[0] else []

    def copy(self, target: socket.socket) -> None:
        """Pass all bytes on until the end."""
        while self._buffer or self.more():
            target.sendall(self.take(len(self._buffer)))


def hang_up(connection: socket.socket) -> None:
    """End a connection for both sides and wake who reads it; its owner closes it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
