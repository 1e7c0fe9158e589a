r"""A TCP proxy before an IMAP server: it breaks lines by plan, hides capabilities, keeps a log.

    from faultproxy import CONNECT, Fault, FaultProxy, No, seeded

    with FaultProxy(dovecot, seeded(7, appends=700, faults=200)) as proxy:
        ...                                # a client of proxy.host, port, user and password
        proxy.settle()                     # until every late literal has arrived
    proxy.on("UID STORE", Fault.DROP)      # the next UID STORE finds the line cut
    proxy.on("APPEND", No("OVERQUOTA"), times=None)  # every APPEND from now on
    proxy.on("SELECT", Fault.BYE, skip=2)  # the third SELECT
    proxy.on(CONNECT, Fault.DROP, times=None)        # nobody is let in
    FaultProxy(dovecot, hide={"UIDPLUS", "\\*"})     # or hide=hiding.EXTENSIONS; see hiding.py
    proxy.forget()
    ...
    assert proxy.count("APPEND", "STORE", "MOVE", "EXPUNGE") == 0
    assert proxy.round_trips <= 20
    proxy.cut()                            # all lines at once
    proxy.silence()                        # all lines go dead without a close

A command is named by its word, or by UID and its word: "STORE" means both, "UID STORE" one of
them. `CONNECT` names the connecting itself. A plan counts APPENDs over all connections, from 1. The
log has names only. The proxy speaks plain IMAP; after STARTTLS it only passes bytes on. An APPEND
must carry one message only.
"""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from faultline import Fault, Line, No
from hiding import Hidden

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

__all__ = ["CONNECT", "Fault", "FaultProxy", "No", "Server", "seeded"]

CONNECT = "CONNECT"


class Server(Protocol):
    """An IMAP server without TLS and the user it knows."""

    host: str
    port: int
    user: str
    password: str


def seeded(
    seed: int,
    appends: int,
    faults: int,
    kinds: Sequence[Fault] = (Fault.LOST, Fault.CUT, Fault.LATE),
) -> dict[int, Fault]:
    """Return a plan: so many faults among the first APPENDs, as many of each kind as of the others.

    A fault makes its client append again, so plan for more APPENDs than there are messages.
    """
    chance = random.Random(seed)
    drawn = [kinds[number % len(kinds)] for number in range(faults)]
    chance.shuffle(drawn)
    ordinals = sorted(chance.sample(range(1, appends + 1), faults))
    return dict(zip(ordinals, drawn, strict=True))


@dataclass
class _Rule:
    command: str
    fault: Fault | No
    skip: int
    times: int | None

    def applies(self, name: str) -> bool:
        """Say whether it is this one's turn, and count it."""
        if not _means(self.command, name) or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class FaultProxy:
    """The proxy, listening from the start; see the module for how to use it.

    Args:
        server: The server behind it, which may be stopped and started meanwhile.
        plan: The faults of APPENDs by ordinal.
        hide: Capabilities that the client shall not see.
        late: Seconds after which a late command reaches the server.

    Attributes:
        host: ``127.0.0.1``.
        port: Its port.
        user: The server's.
        password: The server's.
        commands: The names of all commands, in order.
        happened: What was done to which command, in order.
        round_trips: How often a client sent something after it had heard something; commands sent
            together count once, a literal that waits for its "+" counts apart.
        connections: How many were let in.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        server: Server,
        plan: Mapping[int, Fault] | None = None,
        *,
        hide: Iterable[str] = (),
        late: float = 1.5,
    ) -> None:
        self.user, self.password = server.user, server.password
        self._target = (server.host, server.port)
        self._plan, self.hidden, self.late = dict(plan or {}), Hidden(hide), late
        self.commands: list[str] = []
        self.happened: list[tuple[str, Fault | No]] = []
        self.round_trips = self.connections = self._appends = self._underway = 0
        self._rules: list[_Rule] = []
        self._lines: set[Line] = set()
        self._changed = threading.Condition()
        self.closing = threading.Event()
        self._listener = socket.create_server((self.host, 0), backlog=100)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    # For tests

    def on(self, command: str, fault: Fault | No, *, skip: int = 0, times: int | None = 1) -> None:
        """Let this happen to a command.

        Args:
            command: Its name.
            fault: What happens.
            skip: How many of them are spared first.
            times: How often it happens; None for always.
        """
        with self._changed:
            self._rules.append(_Rule(command.upper(), fault, skip, times))

    def heal(self) -> None:
        """Let nothing happen from now on."""
        with self._changed:
            self._rules.clear()
            self._plan.clear()

    def count(self, *names: str) -> int:
        """Return how many commands of these names were seen."""
        seen = Counter(self.commands)
        return sum(seen[each] for each in seen if any(_means(name, each) for name in names))

    def forget(self) -> None:
        """Empty the log and begin to count anew; the ordinals of APPENDs go on."""
        with self._changed:
            self.commands.clear()
            self.happened.clear()
            self.round_trips = self.connections = 0

    def settle(self, timeout: float = 30) -> None:
        """Wait until every late command has been answered by the server."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._underway == 0, timeout):
                raise TimeoutError("late commands are still under way")

    def hurry(self) -> None:
        """Deliver what is late at once, and wait until the server has answered it."""
        self.closing.set()
        self.settle()
        self.closing.clear()

    def cut(self) -> None:
        """Cut all lines there are."""
        for line in self._open_lines():
            line.cut()

    def silence(self) -> None:
        """Let all clients there are hear nothing any more, not even a close."""
        for line in self._open_lines():
            line.muted = True

    def close(self) -> None:
        """Take no more connections, deliver what is late at once, cut all lines."""
        self.closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for one
        self._listener.close()
        self.settle()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # For the lines

    def note(self, name: str) -> Fault | No | None:
        """Log a command and return what shall happen to it."""
        with self._changed:
            if name == CONNECT:
                self.connections += 1
            else:
                self.commands.append(name)
            self._appends += name == "APPEND"
            planned = self._plan.get(self._appends) if name == "APPEND" else None
            fault = planned or next((r.fault for r in self._rules if r.applies(name)), None)
            if fault is not None:
                self.happened.append((name, fault))
            return fault

    def note_round_trip(self) -> None:
        """Count one."""
        with self._changed:
            self.round_trips += 1

    @contextmanager
    def underway(self) -> Iterator[None]:
        """Mark that a late command is on its way."""
        with self._changed:
            self._underway += 1
        try:
            yield
        finally:
            with self._changed:
                self._underway -= 1
                self._changed.notify_all()

    def _open_lines(self) -> list[Line]:
        with self._changed:
            return list(self._lines)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            fault = self.note(CONNECT)
            if fault is Fault.BYE:
                client.sendall(b"* BYE try again later\r\n")
            if fault is not None:
                return
            with suppress(OSError), socket.create_connection(self._target) as server:
                line = Line(self, client, server)
                with self._changed:
                    self._lines.add(line)
                try:
                    line.run()
                finally:
                    with self._changed:
                        self._lines.discard(line)


def _means(wanted: str, name: str) -> bool:
    return name in {wanted, f"UID {wanted}"}
