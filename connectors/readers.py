"""Messages to mails, in processes of their own and under hard limits (see `connectors.reader`)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Self, cast

from connectors.base import MessageError, ReaderError
from connectors.mail import Mail, parse
from connectors.reader import FAULT, MEMORY, SECONDS, TOO_LONG, decoded

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from types import TracebackType

    from connectors.base import Message

    Read = tuple[Message, Mail | MessageError]

_BATCH_MESSAGES = 50
_BATCH_BYTES = 2**20
_MOST = 2  # more processes than these would only wait for the server and the disk
_ABORTED = "reading was broken off"
_ENVIRONMENT = ("LD_LIBRARY_PATH",)  # all else could hold a password


def read_here(messages: Iterable[Message]) -> Iterator[Read]:
    """Do what `Readers.read` does within this process, under no limit of time and memory."""
    for message in messages:
        try:
            yield message, parse(message.raw, received=message.received)
        except MessageError as error:
            yield message, error


class Readers:
    """Reads messages in a few processes side by side.

    They are started when the first message comes, and end with `close`. Only `abort` may be called
    from other threads.

    Args:
        processes: How many at most; by default two, or one on a machine with one processor.
        seconds: The time of a processor that one message may take.
        memory: The address space of a process, in bytes.
    """

    def __init__(
        self, processes: int | None = None, *, seconds: float = SECONDS, memory: int = MEMORY
    ) -> None:
        self._most = processes or min(_MOST, os.cpu_count() or 1)
        self._limits = (str(seconds), str(memory))
        self._lock = threading.Lock()
        self._aborted = False
        self._all: list[_Worker] = []
        self._idle: list[_Worker] = []

    def read(self, messages: Iterable[Message]) -> Iterator[Read]:
        """Yield each message with what it says, in order; with an error where it cannot be read.

        It cannot when it passes a limit of `connectors.mime`, of time or of memory. When
        ``messages`` raises, what it gave before is yielded first.

        Raises:
            ReaderError: No process can be started, or `abort` was called.
        """
        batches = _Batches(messages)
        busy: deque[_Worker] = deque()
        for batch in batches:
            worker = busy.popleft() if len(busy) == self._most else self._worker()
            done = worker.finish()
            worker.start(batch)
            busy.append(worker)
            yield from done
        while busy:
            worker = busy.popleft()
            yield from worker.finish()
            self._idle.append(worker)
        if batches.fault is not None:
            raise batches.fault

    def abort(self) -> None:
        """Break off the reading that is going on, from any thread, and all that would follow."""
        with self._lock:
            self._aborted = True
            for worker in self._all:
                worker.abort()

    def close(self) -> None:
        """End the processes; closing twice is no error."""
        for worker in self._all:
            worker.stop()
        self._all, self._idle = [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _worker(self) -> _Worker:
        if self._idle:
            return self._idle.pop()
        with self._lock:
            if self._aborted:
                raise ReaderError(_ABORTED)
            self._all.append(_Worker(self._limits))
            return self._all[-1]


class _Batches:
    """Groups messages by number and bytes; keeps what their source raises for the end."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = messages
        self.fault: Exception | None = None

    def __iter__(self) -> Iterator[list[Message]]:
        batch: list[Message] = []
        size = 0
        try:
            for message in self._messages:
                batch.append(message)
                size += len(message.raw)
                if len(batch) == _BATCH_MESSAGES or size >= _BATCH_BYTES:
                    yield batch
                    batch, size = [], 0
        except Exception as error:  # noqa: BLE001 - raised again when all before it is read
            self.fault = error
        if batch:
            yield batch


class _Worker:
    """One process after the other that reads one batch after the other."""

    def __init__(self, limits: tuple[str, str]) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._aborted = False
        self._process = _Process(limits)
        self._batch: deque[Message] = deque()

    def start(self, batch: Iterable[Message]) -> None:
        """Have a batch read; `finish` comes before the next."""
        self._batch.extend(batch)
        self._process.send(self._batch)

    def finish(self) -> list[Read]:
        """Wait for the batch and return it as read."""
        done: list[Read] = []
        tries = 0
        while self._batch:
            if line := self._process.answer():
                done.append((self._batch.popleft(), _told(json.loads(line))))
                tries = 0
                continue
            tries += 1
            too_long = self._process.stop() == -signal.SIGPROF
            # What else than its time ended it may have come from outside: one more try.
            if too_long or tries > 1:
                done.append((self._batch.popleft(), MessageError(TOO_LONG if too_long else FAULT)))
                tries = 0
            self._renew()
            self._process.send(self._batch)
        return done

    def abort(self) -> None:
        """End the process from another thread; no other one takes its place."""
        with self._lock:
            self._aborted = True
            self._process.kill()

    def _renew(self) -> None:
        with self._lock:
            if self._aborted:
                raise ReaderError(_ABORTED)
            self._process = _Process(self._limits)

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._process.stop()


def _told(answer: list[Any] | str) -> Mail | MessageError:
    return MessageError(answer) if isinstance(answer, str) else decoded(answer)


class _Process:
    """One process, its job and its answers."""

    def __init__(self, limits: tuple[str, str]) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this program's own
                [sys.executable, "-I", "-m", "connectors.reader", *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a traceback could quote mail
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,  # Ctrl-C is for this process, which ends the other
            )
        except OSError as error:
            raise ReaderError(error.strerror or type(error).__name__) from error
        self._jobs = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)
        self._ready = False

    def send(self, messages: Collection[Message]) -> None:
        """Hand over messages; the process takes all of them before it answers."""
        received = (one.received and one.received.isoformat() for one in messages)
        job = list(zip((len(one.raw) for one in messages), received, strict=True))
        with suppress(BrokenPipeError):  # it has ended, and will not answer
            self._jobs.write(json.dumps(job).encode() + b"\n")
            self._jobs.writelines(one.raw for one in messages)
            self._jobs.flush()

    def answer(self) -> bytes:
        """Return the next line of its answer, b"" where it has ended."""
        if not self._ready:
            self._ready = bool(self._answers.readline())
            if not self._ready:
                raise ReaderError(f"it ended with {self.stop()}")
        line = self._answers.readline()
        return line if line.endswith(b"\n") else b""

    def kill(self) -> None:
        """End it; who waits for its answers gets none."""
        self._process.kill()

    def stop(self) -> int:
        """End it and let go of it; return what it ended with."""
        self.kill()
        with suppress(BrokenPipeError):
            self._jobs.close()
        self._answers.close()
        return self._process.wait()
