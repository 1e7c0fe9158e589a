"""A mail server that wants nothing but the password, and a wire that remembers every byte.

    with trapped(Trap("imap", "stripped")) as (port, heard):
        ...                        # a client that believes it reaches a server of its owner
    heard.on_the_wire              # what it sent, as everybody on its way reads it
    heard.by_the_server            # what the server read, behind TLS too

The server offers every login there is in clear, and says OK to all that it hears.
"""

from __future__ import annotations

import base64
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Literal

from scripted import listening
from wire import hang_up

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

Trick = Literal["none", "stripped", "refused", "claimed", "injected", "preauth"]

_PATIENCE = 5.0  # seconds


@dataclass
class Heard:
    """What a client has sent."""

    on_the_wire: bytearray = field(default_factory=bytearray)
    by_the_server: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True)
class Trap:
    """What kind of server it is.

    Attributes:
        protocol: ``imap`` or ``smtp``.
        trick: What it does instead of STARTTLS: ``stripped`` (not offered), ``refused``,
            ``claimed`` (goes on in clear), ``injected`` (adds an answer in clear, then TLS),
            ``preauth`` (there is no need to log in), or ``none``: it does as it should.
        tls: Its side of TLS.
        implicit: TLS from the first byte.
    """

    protocol: Literal["imap", "smtp"]
    trick: Trick = "none"
    tls: ssl.SSLContext | None = None
    implicit: bool = False

    def serve(self, connection: socket.socket, heard: Heard) -> None:
        """Serve one client to its end."""
        connection.settimeout(_PATIENCE)
        with suppress(OSError):
            if self.implicit:
                connection = self._secured(connection)
            connection.sendall(self._greeting())
            while data := connection.recv(65536):
                heard.by_the_server += data
                for line in data.splitlines():
                    connection = self._answer(connection, line)

    def _answer(self, connection: socket.socket, line: bytes) -> socket.socket:
        words = line.upper().split()
        if not words or not line.isascii():  # a client that begins with TLS
            connection.sendall(b"* BAD what?\r\n")
            return connection
        if b"STARTTLS" in words[:2] and self.trick != "stripped":
            return self._start(connection, line)
        if self.protocol == "imap":
            connection.sendall(self._imap(line, words))
        else:
            connection.sendall(self._smtp(words))
        return connection

    def _start(self, connection: socket.socket, line: bytes) -> socket.socket:
        tag = line.split()[0]
        ready = b"220 ready\r\n" if self.protocol == "smtp" else tag + b" OK begin\r\n"
        refusal = b"454 no\r\n" if self.protocol == "smtp" else tag + b" NO not now\r\n"
        added = {
            "smtp": b"250 AUTH LOGIN\r\n",
            "imap": b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n",
        }
        if self.trick == "refused":
            connection.sendall(refusal)
            return connection
        if self.trick == "injected":
            ready += added[self.protocol]
        connection.sendall(ready)
        return connection if self.trick == "claimed" else self._secured(connection)

    def _secured(self, connection: socket.socket) -> socket.socket:
        assert self.tls is not None
        return self.tls.wrap_socket(connection, server_side=True)

    def _greeting(self) -> bytes:
        if self.protocol == "smtp":
            return b"220 mail.example.org ESMTP\r\n"
        return b"* PREAUTH in\r\n" if self.trick == "preauth" else b"* OK ready\r\n"

    def _imap(self, line: bytes, words: list[bytes]) -> bytes:
        if len(words) == 1:  # the answer to a challenge
            return b"a OK\r\n"
        told = b""
        if words[1] == b"CAPABILITY":
            offered = b"" if self.trick == "stripped" else b" STARTTLS"
            told = (
                b"* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2%b\r\n" % offered
            )
        if words[1] == b"AUTHENTICATE" and len(words) == 3:
            return b"+ \r\n"
        return told + line.split()[0] + b" OK done\r\n"

    def _smtp(self, words: list[bytes]) -> bytes:
        if words[:1] == [b"EHLO"]:
            offered = b"" if self.trick == "stripped" else b"250-STARTTLS\r\n"
            return b"250-mail.example.org\r\n" + offered + b"250 AUTH PLAIN LOGIN XOAUTH2\r\n"
        if words[:1] == [b"AUTH"]:
            return b"235 welcome\r\n" if len(words) > 2 else b"334 \r\n"
        return b"250 fine\r\n"


@contextmanager
def trapped(trap: Trap) -> Iterator[tuple[int, Heard]]:
    """Run a server behind a wire that is tapped; give the wire's port, and what is heard."""
    heard = Heard()

    def tap(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port), _PATIENCE) as server:
            back = Thread(target=_copy, args=(server, client, None), daemon=True)
            back.start()
            _copy(client, server, heard.on_the_wire)
            back.join(_PATIENCE)

    with (
        listening(lambda connection: trap.serve(connection, heard)) as port,
        listening(tap) as wire,
    ):
        yield wire, heard


def _copy(source: socket.socket, target: socket.socket, kept: bytearray | None) -> None:
    source.settimeout(_PATIENCE)
    with suppress(OSError):
        while data := source.recv(65536):
            if kept is not None:
                kept += data
            target.sendall(data)
    hang_up(target)


def traces(secrets: list[str], heard: bytes) -> list[str]:
    """Return which of these secrets stand in what was heard, as they are or in base64."""
    return [
        secret
        for secret in secrets
        if any(form in heard for form in (secret.encode(), *_in_base64(secret.encode())))
    ]


def _in_base64(secret: bytes) -> Iterator[bytes]:
    """Yield what base64 makes of a secret within any text: the letters that depend on it alone."""
    for before in range(3):
        coded = base64.b64encode(b"\x00" * before + secret)
        yield coded[(before * 8 + 5) // 6 : (before + len(secret)) * 8 // 6]
