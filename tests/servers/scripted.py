r"""An IMAP server that answers as scripted, for what no real server does when it is asked to.

from scripted import Talk, listening, local, scripted

with scripted({"UID FETCH 3:3": "NO [CANNOT] this one"}) as connector:
    ...

def idle(talk: Talk) -> None:          # an answer may be a function as well
    talk.say("+ idling")
    talk.hear()                        # DONE
    talk.say(f"{talk.tag} OK done")

with scripted({"CAPABILITY": "* CAPABILITY IMAP4rev1 IDLE\r\n", "IDLE": idle}) as connector:
    ...
"""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from connectors.imap import ImapConnector, ImapSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ORDINARY: dict[str, str | Callable[[Talk], object]] = {
    "CAPABILITY": "* CAPABILITY IMAP4rev1\r\n",
    "LOGIN": "",
    "LIST": '* LIST () "/" INBOX\r\n* LIST () "/" Sent\r\n',
    "(?:EXAMINE|SELECT)": (
        "* 2 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n* OK [UIDNEXT 9] x\r\n"
        "* OK [PERMANENTFLAGS (\\Answered)] x\r\n"
    ),
    r"UID FETCH .*SIZE": ("* 1 FETCH (UID 3 RFC822.SIZE 4)\r\n* 2 FETCH (UID 8 RFC822.SIZE 4)\r\n"),
    r"UID FETCH .*BODY": (
        "* 1 FETCH (UID 3 FLAGS () BODY[] {4}\r\none\n)\r\n"
        "* 2 FETCH (UID 8 FLAGS (\\Recent 7) BODY[] {4}\r\ntwo\n)\r\n"
    ),
    "LOGOUT": "* BYE\r\n",
}
"""What a small, plain server says, by the beginning of the command, a regular expression."""


@dataclass
class Talk:
    """One command on one connection.

    Attributes:
        connection: The connection.
        lines: What comes on it.
        tag: The command's tag.
        command: The command without its tag.
    """

    connection: socket.socket
    lines: IO[str]
    tag: str
    command: str

    def say(self, *lines: str) -> None:
        """Send lines; each gets its end."""
        self.connection.sendall("".join(f"{line}\r\n" for line in lines).encode("latin-1"))

    def hear(self) -> str:
        """Wait for a line of the client and return it without its end."""
        return self.lines.readline().rstrip("\r\n")


@contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """Let a function answer each connection to a port on loopback, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            answer(connection)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for a connection
        listener.close()


def local(port: int, **changes: object) -> ImapSettings:
    """Return settings for a scripted server."""
    ordinary = {"host": "127.0.0.1", "user": "jen", "password": "secret", "security": "none"}
    return ImapSettings(**{**ordinary, "timeout": 2, "port": port, **changes})  # type: ignore[arg-type]


@contextmanager
def scripted(
    odd: Mapping[str, str | Callable[[Talk], object]],
    *,
    seen: list[str] | None = None,
    greeting: str = "* OK ready",
    renewal: float = 540.0,
    **changes: object,
) -> Iterator[ImapConnector]:
    """Give a connector to a server that answers as scripted.

    Args:
        odd: Answers by the beginning of the command, a regular expression; they come before the
            ordinary ones. One that ends in no line end replaces the tagged OK. A function does all
            the talking.
        seen: Gets the commands, without their tags.
        greeting: What the server says first.
        renewal: Of the connector.
        **changes: Of the connector's settings.
    """

    def answer(connection: socket.socket) -> None:
        connection.sendall(f"{greeting}\r\n".encode("latin-1"))
        with connection.makefile("r", encoding="latin-1", newline="\r\n") as lines:
            for line in lines:
                tag, _, command = line.strip().partition(" ")
                if seen is not None:
                    seen.append(command)
                replies = [*odd.items(), *ORDINARY.items(), ("", "")]
                reply = next(said for start, said in replies if re.match(start, command))
                _reply(Talk(connection, lines, tag, command), reply)

    with listening(answer) as port:
        settings = local(port, **changes)
        with ImapConnector(settings, renewal=renewal) as connector:
            yield connector


def _reply(talk: Talk, reply: str | Callable[[Talk], object]) -> None:
    if not isinstance(reply, str):
        reply(talk)
        return
    head, _, last = reply.rpartition("\r\n")
    end = f"{talk.tag} {last or 'OK done'}"
    talk.say(*([head, end] if head else [end]))
