"""One line through the fault proxy, and what can happen to a command on it; see faultproxy.py."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from wire import LITERAL, Reader, hang_up

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from hiding import Hidden

_FOLDER_AS_LITERAL = re.compile(rb"\S+ APPEND \{\d+\+?\}\r?\n", re.IGNORECASE)
_PATIENCE = 20.0  # seconds for a server to answer


class Fault(Enum):
    """What can happen to a command."""

    LOST = "done by the server; both sides are cut before the tagged answer reaches the client"
    CUT = "half of it, of its literal if it has one, reaches the server; then both sides are cut"
    LATE = "the client is cut at once; the server gets the whole of it later"
    DROP = "nothing of it reaches the server; both sides are cut"
    BYE = "nothing of it reaches the server; the client is told BYE, then both sides are cut"
    HANG = "it reaches the server, and from then on the client hears nothing, not even a close"


@dataclass(frozen=True)
class No:
    """A refusal by the proxy; the server does not hear of the command.

    Attributes:
        code: The response code, "" for none.
        text: The words for people.
        status: NO or BAD.
    """

    code: str = ""
    text: str = "not now"
    status: str = "NO"

    def line(self, tag: bytes) -> bytes:
        """Return the tagged answer."""
        code = f"[{self.code}] " if self.code else ""
        return tag + f" {self.status} {code}{self.text}\r\n".encode()


class Plan(Protocol):
    """What a line needs to know from the proxy, and tells it."""

    hidden: Hidden
    late: float
    closing: threading.Event

    def note(self, name: str) -> Fault | No | None:
        """Log a command and return what shall happen to it."""

    def note_round_trip(self) -> None:
        """Count one."""

    def underway(self) -> AbstractContextManager[None]:
        """Mark that a late command is on its way."""


class Line:
    """One client's connection and the server's behind it.

    One thread goes upwards, from the client to the server, another downwards. What the two share
    changes under `_changed`.
    """

    def __init__(self, plan: Plan, client: socket.socket, server: socket.socket) -> None:
        self.muted = False
        self._plan, self._client, self._server = plan, client, server
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._from_client = Reader(client, self._heard)
        self._from_server = Reader(server)
        self._client_busy = threading.Lock()  # a whole response at a time
        self._spoken = False  # the client has heard something since it sent something
        self._changed = threading.Condition()
        self._open: dict[bytes, Fault | None] = {}  # by tag
        self._last_status: dict[bytes, bytes] = {}
        self._plusses = 0
        self._over = self._ended = False  # for the client; for the server
        self._dialogue: tuple[bytes, str] | None = None  # an IDLE or AUTHENTICATE: tag and name
        self._starttls = b""

    def run(self) -> None:
        """Pass everything on until one of the sides ends."""
        downwards = threading.Thread(target=self._downwards, daemon=True)
        downwards.start()
        with suppress(OSError):
            while not self._over and (line := self._from_client.line()):
                self._command(line)
        self.cut()
        downwards.join(_PATIENCE)

    def cut(self) -> None:
        """Cut both sides; what the client sent before and was not looked at is lost."""
        self._over = True
        hang_up(self._client)
        hang_up(self._server)

    # Upwards

    def _heard(self) -> None:
        if self._spoken:
            self._spoken = False
            self._plan.note_round_trip()

    def _command(self, line: bytes) -> None:
        if self._belongs_to_dialogue(line):
            self._server.sendall(line)
            return
        tag, _, command = line.partition(b" ")
        name = _name(command)
        fault = self._plan.note(name)
        if fault is None and self._plan.hidden.refuses(command):
            fault = No(text="unknown command", status="BAD")
        if isinstance(fault, No):
            self._skip_rest(line)
            self._answer(fault.line(tag))
        elif fault is Fault.DROP:
            self.cut()
        elif fault is Fault.BYE:
            self._answer(b"* BYE shutting down\r\n")
            self.cut()
        else:
            self._deliver(self._plan.hidden.command(line), tag, name, fault)

    def _belongs_to_dialogue(self, line: bytes) -> bool:
        if self._dialogue is None:
            return False
        tag, name = self._dialogue
        with self._changed:
            going_on = tag in self._open
        if not going_on or (name == "IDLE" and line.strip().upper() == b"DONE"):
            self._dialogue = None
        return going_on

    def _deliver(self, line: bytes, tag: bytes, name: str, fault: Fault | None) -> None:
        with self._changed:
            self._open[tag] = fault
        if name in {"IDLE", "AUTHENTICATE"}:
            self._dialogue = (tag, name)
        if name == "STARTTLS":
            self._starttls = tag
        while literal := LITERAL.search(line):
            if not self._begin_literal(line, tag, waits=not literal[2]):
                return  # the server has refused the command
            is_message = not _FOLDER_AS_LITERAL.fullmatch(line)
            text = self._from_client.exactly(int(literal[1]))
            if fault is Fault.CUT and is_message:
                self._cut_in(text)
                return
            if fault is Fault.LATE and is_message:
                self._deliver_late(text + self._from_client.line(), tag)
                return
            self._server.sendall(text)
            line = self._from_client.line()
        if fault is Fault.CUT:
            self._cut_in(line)
        elif fault is Fault.LATE:
            self._deliver_late(line, tag)
        else:
            self.muted = self.muted or fault is Fault.HANG
            self._server.sendall(line)
            if name == "STARTTLS" and self._wait_for(lambda: tag not in self._open):
                self._pass_bytes(tag)

    def _begin_literal(self, line: bytes, tag: bytes, *, waits: bool) -> bool:
        """Send a line that ends in a literal's size; say whether the literal may follow."""
        before = self._plusses
        self._server.sendall(line)
        if not waits:
            return True
        self._wait_for(lambda: self._plusses > before or tag not in self._open)
        return self._plusses > before

    def _cut_in(self, text: bytes) -> None:
        self._server.sendall(text[: len(text) // 2])
        self.cut()

    def _deliver_late(self, text: bytes, tag: bytes) -> None:
        with self._plan.underway():
            self._over = True
            hang_up(self._client)
            self._plan.closing.wait(self._plan.late)
            self._server.sendall(text)
            self._wait_for(lambda: tag not in self._open)

    def _skip_rest(self, line: bytes) -> None:
        """Read the rest of a command whose client does not wait before its literals."""
        while (literal := LITERAL.search(line)) and literal[2]:
            self._from_client.exactly(int(literal[1]))
            line = self._from_client.line()

    def _pass_bytes(self, tag: bytes) -> None:
        if self._last_status.get(tag) == b"OK":
            self._from_client.copy(self._server)

    def _wait_for(self, condition: Callable[[], bool]) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: condition() or self._ended, _PATIENCE)

    # Downwards

    def _downwards(self) -> None:
        with suppress(OSError):
            while response := self._from_server.response():
                if not self._pass_response(response):
                    break
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if not self.muted:
            self.cut()

    def _pass_response(self, response: list[bytes]) -> bool:
        """Give the client a response; False when the line is to be cut instead."""
        tag, _, rest = response[0].partition(b" ")
        status = rest[:3].strip().upper()
        with self._changed:
            fault = self._open.get(tag)
        if fault is Fault.LOST:
            return False
        self._answer(self._plan.hidden.response(response[0]) + b"".join(response[1:]), tag, status)
        if tag == self._starttls and status == b"OK":
            self._from_server.copy(self._client)
            return False
        return True

    def _answer(self, data: bytes, tag: bytes = b"", status: bytes = b"") -> None:
        """Send a response to the client, and note first what it ends or allows."""
        with self._client_busy:
            with self._changed:
                if tag in self._open:
                    del self._open[tag]
                    self._last_status[tag] = status
                self._plusses += tag.rstrip() == b"+"
                self._spoken = True
                self._changed.notify_all()
            if not self.muted:
                with suppress(OSError):  # a client that left: the server is still to be heard
                    self._client.sendall(data)


def _name(command: bytes) -> str:
    words = command.decode("ascii", "replace").upper().split(maxsplit=2)
    return " ".join(words[: 2 if words[:1] == ["UID"] else 1])
