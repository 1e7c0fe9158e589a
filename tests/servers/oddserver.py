"""Servers that break the rules of IMAP and SMTP on purpose, and record every byte they are sent.

    from oddserver import OddServer, Talk, imap, smtp

    with OddServer(imap(starttls="NO not today")) as server:
        ...                              # a client of server.host and server.port
    assert b"secret" not in server.wire  # what came over the wire, encrypted where it was
    assert b"LOGIN" not in server.heard  # what the server could read of it

    imap(greeting="* PREAUTH hello")     # logged in before anything was said
    imap(capabilities="IMAP4rev1")       # STARTTLS stripped; it is there once `starttls` is given
    imap(starttls=leaf.context())        # STARTTLS with this certificate; see certificates.py
    imap(starttls=leaf.context(), injected="* CAPABILITY AUTH=PLAIN")  # said in clear before TLS
    imap(tls=leaf.context(old=True))     # TLS 1.1 from the first byte
    imap(hang="LOGIN")                   # silent for ever from this command on; "" at once
    imap(answers={"LOGIN": "NO [UNAVAILABLE] later"})
    smtp(...)                            # the same, answers={"MAIL": "452 full"}

A script of one's own is a function of a `Talk`, called for each connection in a thread of its own;
the connection ends when it returns. `scripted.py` has an IMAP server that answers in more detail.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from wire import hang_up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    Script = Callable[["Talk"], object]
    # TLS with this context, or a refusal in these words, or no such command.
    StartTls = ssl.SSLContext | str | None


class Talk:
    """One connection of an odd server.

    Args:
        connection: The socket.
        server: The server, which records what is sent.
    """

    def __init__(self, connection: socket.socket, server: OddServer) -> None:
        self._connection, self._server = connection, server
        self._unread = b""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None

    def say(self, *lines: str) -> None:
        """Send lines; each gets its end."""
        data = "".join(f"{line}\r\n" for line in lines).encode()
        if self._tls is None:
            self._connection.sendall(data)
        else:
            self._tls.write(data)
            self._flush()

    def hear(self) -> str:
        """Wait for a line and return it without its end; raise EOFError when there is none."""
        while b"\n" not in self._unread:
            self._unread += self._read()
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")

    def hang(self) -> None:
        """Say nothing more, and listen until the client leaves."""
        with suppress(EOFError):
            while True:
                self._read()

    def secure(self, context: ssl.SSLContext) -> None:
        """Go on with TLS; raise EOFError when the client does not come along."""
        self._unread = b""  # what was said in clear does not count behind the lock
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._until_done(self._tls.do_handshake)

    def _read(self) -> bytes:
        if self._tls is None:
            data = self._receive()
        else:
            data = self._until_done(lambda: self._tls.read(1 << 14) if self._tls else b"")
        if not data:
            raise EOFError
        self._server.heard += data
        return data

    def _receive(self) -> bytes:
        data = self._connection.recv(1 << 16)
        self._server.wire += data
        return data

    def _until_done(self, step: Callable[[], bytes | None]) -> bytes:
        """Take a step of TLS, as often as it wants more from the other side."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self._receive()
                if not data:
                    raise EOFError from None
                self._incoming.write(data)
            except ssl.SSLError:
                self._flush()  # the alert that says why
                self._tls = None
                raise EOFError from None
            else:
                self._flush()
                return result or b""

    def _flush(self) -> None:
        self._connection.sendall(self._outgoing.read())


class OddServer:
    """A server on loopback that follows a script; a context manager.

    Args:
        script: What it does with each connection.

    Attributes:
        host: ``127.0.0.1``.
        port: Its port.
        wire: All bytes that came, as they came.
        heard: All bytes that came, as far as it could read them: in clear, or decrypted.
        connections: How many clients there were.
    """

    host = "127.0.0.1"

    def __init__(self, script: Script) -> None:
        self._script = script
        self.wire, self.heard = b"", b""
        self.connections = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server((self.host, 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for a client
        self._listener.close()
        self._threads[0].join(10)
        for connection in self._open:
            hang_up(connection)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        talk = Talk(connection, self)
        with connection, suppress(OSError, EOFError):
            try:
                self._script(talk)
            except EOFError:
                talk.hang()  # a client whose TLS failed may still say something


def imap(
    *,
    greeting: str = "* OK ready",
    capabilities: str = "IMAP4rev1",
    starttls: StartTls = None,
    injected: str = "",
    tls: ssl.SSLContext | None = None,
    hang: str | None = None,
    answers: Mapping[str, str] | None = None,
) -> Script:
    """Return the script of a small IMAP server that says OK to whatever it is told.

    Args:
        greeting: What it says first.
        capabilities: Those in clear and behind TLS; STARTTLS is added where there is one.
        starttls: A context for TLS, a refusal, or None for a server without it.
        injected: A line sent in clear right behind the OK of STARTTLS.
        tls: A context for TLS from the first byte.
        hang: The command from which on nothing is answered; "" for the greeting.
        answers: Instead of the tagged OK, by command.
    """
    refusal = starttls if isinstance(starttls, str) else "BAD unknown"

    def script(talk: Talk) -> None:
        offered = f"{capabilities} STARTTLS" if starttls else capabilities
        _begin(talk, greeting, tls, hang)
        while True:
            tag, _, command = talk.hear().partition(" ")
            name = command.upper().split(" ")[0]
            if name == hang:
                talk.hang()
                return
            if name == "CAPABILITY":
                talk.say(f"* CAPABILITY {offered}")
            if name == "STARTTLS" and isinstance(starttls, ssl.SSLContext):
                talk.say(f"{tag} OK begin", *([injected] if injected else []))
                talk.secure(starttls)
                offered = capabilities
            else:
                usual = refusal if name == "STARTTLS" else "OK done"
                talk.say(f"{tag} {(answers or {}).get(name, usual)}")
            if name == "LOGOUT":
                return

    return script


def smtp(
    *,
    greeting: str = "220 mail.example.org ESMTP",
    capabilities: str = "SIZE 1000000,AUTH PLAIN LOGIN",
    starttls: StartTls = None,
    injected: str = "",
    tls: ssl.SSLContext | None = None,
    hang: str | None = None,
    answers: Mapping[str, str] | None = None,
) -> Script:
    """Return the script of a small submission server; the arguments are those of `imap`.

    Args:
        greeting: What it says first.
        capabilities: What EHLO lists, between commas; STARTTLS is added where there is one.
        starttls: A context for TLS, a refusal with its code, or None for a server without it.
        injected: A line sent in clear right behind the answer to STARTTLS.
        tls: A context for TLS from the first byte.
        hang: The command from which on nothing is answered; "" for the greeting.
        answers: Instead of the usual answer, by command.
    """
    refusal = starttls if isinstance(starttls, str) else "502 unknown"
    usual = {
        "DATA": "354 go on",
        "AUTH": "235 welcome",
        "QUIT": "221 bye",
        "STARTTLS": refusal,
    }

    def script(talk: Talk) -> None:
        offered = capabilities.split(",") + (["STARTTLS"] if starttls else [])
        _begin(talk, greeting, tls, hang)
        while True:
            name = talk.hear().upper().split(" ")[0]
            if name == hang:
                talk.hang()
                return
            answer = (answers or {}).get(name, usual.get(name, "250 OK"))
            if name == "EHLO" and name not in (answers or {}):
                talk.say("250-mail.example.org", *(f"250-{each}" for each in offered), "250 HELP")
            elif name == "STARTTLS" and isinstance(starttls, ssl.SSLContext):
                talk.say("220 begin", *([injected] if injected else []))
                talk.secure(starttls)
                offered = capabilities.split(",")
            else:
                talk.say(answer)
                if name == "DATA" and answer.startswith("354"):
                    while talk.hear() != ".":
                        pass
                    talk.say("250 OK")
            if name == "QUIT":
                return

    return script


def _begin(talk: Talk, greeting: str, tls: ssl.SSLContext | None, hang: str | None) -> None:
    if tls is not None:
        talk.secure(tls)
    if hang == "":
        talk.hang()
        raise EOFError
    talk.say(greeting)
