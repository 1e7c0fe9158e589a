"""The line to an IMAP server: imaplib with reading, waiting and TLS of our own.

imaplib invites its users to override how it opens, reads and writes. Its own way reads through a
file object, and so can neither wait for a line and something else at once, nor tell what came with
an answer, nor be broken off. None of this module's memory grows with what a server sends
unasked.
"""

from __future__ import annotations

import base64
import imaplib
import selectors
import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from connectors.base import LARGEST, InsecureError
from connectors.breaker import reach

if TYPE_CHECKING:
    from connectors.breaker import Breaker

_CHUNK: Final = 2**16
_LINE: Final = 2**20
"""The longest line, in bytes: BODYSTRUCTURE of a mail of many parts."""

_LITERAL: Final = 2 * LARGEST
_ANSWER: Final = 8 * LARGEST
"""What the answer to one command, or all that is said unasked meanwhile, may come to."""

_FAREWELL: Final = 10.0
"""Seconds that a server may take to end an IDLE: whoever ends a wait is in a hurry."""

_COMMAND: Final = 8000
"""The longest command, in bytes, that every server takes (RFC 2683)."""

_EXCHANGES: Final = 5
_RESIGNED: Final = {"XOAUTH2": b"", "OAUTHBEARER": b"AQ=="}
"""What a mechanism answers to the explanation of a refusal, instead of breaking off."""


class Wire(imaplib.IMAP4):
    """One connection, from its greeting on.

    Args:
        host: A name or an address; the certificate must be for it.
        port: The port.
        timeout: Seconds for the connecting, and for each silence until the greeting.
        breaker: Breaks it off.
        context: For TLS from the start; None for none.
        preauth: The server may greet with PREAUTH: let us in unasked, and nobody knows as whom.

    Attributes:
        hung_up: The server has closed the connection without a word.
    """

    sock: socket.socket

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float,
        breaker: Breaker,
        context: ssl.SSLContext | None,
        preauth: bool,
    ) -> None:
        self._breaker = breaker
        self._context = context
        self._preauth = preauth
        self._buffer = bytearray()
        self._received = 0
        self._greeted = False
        self.hung_up = False
        super().__init__(host, port, timeout)

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        """Connect, with TLS where that is wanted from the start."""
        self.host, self.port = host, port
        self.sock = reach(host, port, timeout, self._breaker)
        try:
            # A literal follows its command in a packet of its own; Nagle would hold it back 40 ms.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._context is not None:
                self._secure(self._context)
        except BaseException:
            self.shutdown()
            raise

    def read(self, size: int) -> bytes:
        """Return so many bytes."""
        if size > _LITERAL:
            raise self.abort("the server sends more than was asked for")
        while len(self._buffer) < size:
            self._receive()
        return self._take(size)

    def readline(self) -> bytes:
        """Return the next line with its end."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > _LINE:
                raise self.abort("the server sends a line without end")
            self._receive()
        return self._take(end + 1)

    def send(self, data: Any) -> None:  # noqa: ANN401 - bytes, or a view of them
        """Send all of it."""
        self._received = 0
        try:
            self.sock.sendall(data)
        except OSError as error:
            self._lost(error)
            raise

    def shutdown(self) -> None:
        """Drop the connection without a word."""
        self._breaker.close(self.sock)

    def upgrade(self, context: ssl.SSLContext) -> tuple[str, list[Any]]:
        """STARTTLS: put TLS over the connection; nothing that came before it counts any more.

        Raises:
            InsecureError: Somebody on the way added to the server's answer (CVE-2011-0411 is the
                same at the other end).
        """
        kind, data = self._simple_command("STARTTLS")
        if kind == "OK":
            if self._buffer:
                reason = "something was added in clear to its answer to STARTTLS"
                raise InsecureError(self.host, self.port, reason)
            self.untagged_responses.clear()
            self._secure(context)
            self._get_capabilities()
        return kind, data

    def exchange(
        self, mechanism: str, response: bytes, *, at_once: bool
    ) -> tuple[str, list[Any], bytes]:
        """AUTHENTICATE with one response.

        imaplib's own neither sends it with the command (RFC 4959), nor tells it from an answer to
        a server that explains why it will refuse.

        Returns:
            The kind of the tagged answer, its data, and what the server asked in addition.
        """
        encoded = base64.b64encode(response)
        at_once = at_once and len(encoded) < _COMMAND
        tag = self._command("AUTHENTICATE", mechanism, *([encoded] if at_once else []))
        ready = [] if at_once else [encoded]
        challenge = b""
        for _ in range(_EXCHANGES):
            while self._get_response() is not None:  # None stands for the continuation
                if self.tagged_commands[tag] is not None:
                    return (*self._command_complete("AUTHENTICATE", tag), challenge)
            if not ready:
                challenge = _decoded(self.continuation_response or b"")
            self.send((ready.pop() if ready else _RESIGNED.get(mechanism, b"*")) + b"\r\n")
        raise self.abort("the server asks for more than its login needs")

    def watch(self, seconds: float, exists: int, bell: socket.socket, *, idle: bool) -> bool:
        """Listen until messages come or go, the time is over, or the bell can be read.

        Args:
            seconds: How long at most.
            exists: How many messages the selected folder has, as far as is known.
            bell: See `breaker.Bell`.
            idle: Put the server into IDLE (RFC 2177) meanwhile. Where it refuses or leaves it, the
                time passes all the same.

        Returns:
            Whether messages came or went.
        """
        end = time.monotonic() + seconds
        for word in ("EXISTS", "EXPUNGE"):
            self.untagged_responses.pop(word, None)
        tag = self._start_idle() if idle else None
        news = self._listen(end, exists, bell)
        if tag is not None:
            self._end_idle(tag)
        return news

    def _start_idle(self) -> bytes | None:
        """Return the tag of an IDLE that is on, None where the server does not want it."""
        tag: bytes = self._command("IDLE")
        while self._get_response() is not None:  # None stands for the continuation
            if self.tagged_commands[tag] is not None:
                del self.tagged_commands[tag]
                return None
        return tag

    def _end_idle(self, tag: bytes) -> None:
        if self.tagged_commands[tag] is None:  # else the server ended it
            patience = self.sock.gettimeout()
            self.sock.settimeout(min(patience or _FAREWELL, _FAREWELL))
            self.send(b"DONE\r\n")
            self._command_complete("IDLE", tag)
            self.sock.settimeout(patience)
        else:
            del self.tagged_commands[tag]

    def _listen(self, end: float, exists: int, bell: socket.socket) -> bool:
        while not self._news(exists):
            if not self._line_before(end, bell):
                return False
            self._get_response()
        return True

    def _news(self, exists: int) -> bool:
        # Some servers repeat the number that they told a moment ago.
        counts = [_text(one) for one in self.untagged_responses.get("EXISTS", ())]
        gone = "EXPUNGE" in self.untagged_responses
        return gone or any(int(count) != exists for count in counts)

    def _line_before(self, end: float, bell: socket.socket) -> bool:
        """Wait for a whole line; tell whether it came before the end and the bell."""
        while b"\n" not in self._buffer:
            # What TLS has decrypted already makes no socket readable.
            if not (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()):
                with selectors.DefaultSelector() as selector:
                    selector.register(self.sock, selectors.EVENT_READ)
                    selector.register(bell, selectors.EVENT_READ)
                    ready = [key.fileobj for key, _ in selector.select(end - time.monotonic())]
                if not ready or bell in ready:
                    return False
            self._receive_what_is_there()
        return True

    def _receive_what_is_there(self) -> None:
        """Receive without waiting: under TLS a readable socket may hold half a record."""
        patience = self.sock.gettimeout()
        self.sock.settimeout(0)
        try:
            with suppress(BlockingIOError, ssl.SSLWantReadError):
                self._receive()
        finally:
            self.sock.settimeout(patience)

    def _receive(self) -> None:
        try:
            data = self.sock.recv(_CHUNK)
        except OSError as error:
            self._lost(error)
            raise
        if not data:
            self._lost(ConnectionResetError())
            raise self.abort(self._bye() or "the server closed the connection")
        self._received += len(data)
        if self._received > _ANSWER:
            raise self.abort("the server does not stop talking")
        self._buffer += data

    def _lost(self, error: OSError) -> None:
        """Note what an error says of the connection; raise if it was broken off."""
        self._breaker.check()
        self.hung_up = isinstance(error, ConnectionError | ssl.SSLEOFError) and not self._bye()

    def _take(self, size: int) -> bytes:
        with memoryview(self._buffer) as view:
            taken = bytes(view[:size])
        del self._buffer[:size]
        return taken

    def _secure(self, context: ssl.SSLContext) -> None:
        # The handshake comes after the socket is held, so that it too can be broken off.
        secured = context.wrap_socket(
            self.sock, server_hostname=self.host, do_handshake_on_connect=False
        )
        self.sock = secured
        self._breaker.hold(secured)
        try:
            secured.do_handshake()
        except OSError:
            self._breaker.check()
            raise

    def _get_response(self, *options: Any) -> Any:  # noqa: ANN401 - imaplib's own affair
        """Read one response; raise if it is the server's last, whatever is still expected."""
        response = super()._get_response(*options)  # type: ignore[misc]
        if self.state != "LOGOUT" or not self._greeted:
            self._check_bye()
        return response

    def _get_capabilities(self) -> None:
        """Take the capabilities that the server told unasked, else ask.

        Raises:
            InsecureError: The server let us in before TLS or a login, and is not to.
        """
        self._greeted = True
        if self.state == "AUTH" and not self._preauth:
            reason = "the server greets with PREAUTH, as if we had logged in already"
            raise InsecureError(self.host, self.port, reason)
        told = self.untagged_responses.pop("CAPABILITY", None)
        if told is None:
            super()._get_capabilities()  # type: ignore[misc]
        else:
            self.capabilities = tuple(_text(told[-1]).upper().split())

    def _bye(self) -> str:
        """Return what the server said with BYE, "" if nothing."""
        said = self.untagged_responses.get("BYE")
        return _text(said[-1]) if said else ""

    def _log(self, line: object) -> None:
        """Keep nothing: imaplib would keep the last lines, passwords too."""


def _text(answer: bytes | tuple[bytes, bytes]) -> str:
    """Return an untagged answer as text; one with a literal as its beginning."""
    line = answer if isinstance(answer, bytes) else answer[0]
    return line.decode("ascii", "replace")


def _decoded(challenge: str | bytes) -> bytes:
    try:
        return base64.b64decode(challenge)
    except ValueError:
        return b""
