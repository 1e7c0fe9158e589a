"""Waiting and connecting that another thread can end.

A call that waits for a server cannot be interrupted from outside in Python. What can be done is to
ring a bell beside the socket that is waited for, or to shut the socket down; and what waits for
neither, the resolving of a name or a password manager, is left behind in a thread of its own,
where it may ask with `left_alone` whether to go on.
"""

from __future__ import annotations

import errno
import socket
import threading
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_T = TypeVar("_T")


class Bell:
    """Wakes a thread that waits for a socket."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rope: socket.socket | None = None

    @contextmanager
    def hung(self) -> Iterator[socket.socket]:
        """Hang the bell up: give a socket that can be read once somebody rang."""
        here, there = socket.socketpair()
        with here, there:
            with self._lock:
                self._rope = there
            try:
                yield here
            finally:
                with self._lock:
                    self._rope = None

    def ring(self) -> None:
        """Wake whoever waits now."""
        with self._lock:
            if self._rope is not None:
                self._rope.send(b"\0")


class Breaker:
    """Breaks off a connection that stands or is being made; `trip` is for other threads.

    Who is broken off meets a `ConnectionAbortedError`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tripped = False
        self._line: socket.socket | None = None
        self._outcome: Future[Any] | None = None

    @property
    def tripped(self) -> bool:
        """Whether the connection is broken off, for good."""
        return self._tripped

    def trip(self) -> None:
        """Break off."""
        with self._lock:
            self._tripped = True
            if self._outcome is not None:
                self._outcome.cancel()
            if self._line is not None:
                with suppress(OSError):
                    # Not SSLSocket's own: that takes TLS away from under a thread that reads.
                    socket.socket.shutdown(self._line, socket.SHUT_RDWR)

    def check(self) -> None:
        """Raise if the connection is broken off."""
        if self._tripped:
            raise ConnectionAbortedError(errno.ECONNABORTED, "it was broken off")

    def hold(self, line: socket.socket) -> None:
        """Take this socket as the one to break off."""
        with self._lock:
            self._line = line
        self.check()

    def close(self, line: socket.socket) -> None:
        """Close a socket, not while another thread is breaking it off."""
        with self._lock:
            self._line = None
            line.close()

    def run(self, work: Callable[[], _T], timeout: float | None = None) -> _T:
        """Return what ``work`` returns; leave it to itself when broken off or out of time.

        For what nobody can interrupt: resolving a name, waiting for a password manager.
        """
        self.check()
        outcome = aside(work)
        with self._lock:
            self._outcome = outcome
            if self._tripped:
                outcome.cancel()
        try:
            return outcome.result(timeout)
        except CancelledError:
            self.check()
            raise
        finally:
            outcome.cancel()


_own = threading.local()


def aside(work: Callable[[], _T]) -> Future[_T]:
    """Do the work in a thread of its own, which is left to itself when the outcome is cancelled."""
    outcome: Future[_T] = Future()

    def run() -> None:
        _own.outcome = outcome
        with suppress(InvalidStateError):  # nobody waits any more
            try:
                outcome.set_result(work())
            except InvalidStateError:
                raise
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def left_alone() -> bool:
    """Tell whether the caller is the work of `aside` and nobody waits for it any more."""
    outcome: Future[Any] | None = getattr(_own, "outcome", None)
    return outcome is not None and outcome.cancelled()


def reach(host: str, port: int, timeout: float | None, breaker: Breaker) -> socket.socket:
    """Connect to the first of a host's addresses that answers.

    Args:
        host: A name or an address.
        port: The port.
        timeout: Seconds for the name, and for each address.
        breaker: Breaks the connecting off, and holds the socket afterwards.

    Raises:
        OSError: No address answers; so does `UnicodeError` for what cannot be a name.
    """
    found = breaker.run(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), timeout)
    failure = OSError("no address")
    for family, kind, protocol, _, address in found:
        line = socket.socket(family, kind, protocol)
        try:
            breaker.hold(line)
            line.settimeout(timeout)
            line.connect(address)
        except OSError as error:
            breaker.close(line)
            breaker.check()
            failure = error
        else:
            return line
    raise failure
