"""The model process: answers jobs on a Unix socket until it has long had none.

One event loop talks; one thread has the models in memory and writes or embeds, one job after the
other; long jobs have processes of their own, one at a time. See `daemon.protocol`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from daemon import activation, model_child, protocol
from daemon import config as configuration
from daemon.errors import FAILED, ConfigError, GpuLostError, UnfitError, advice
from daemon.model_desk import Desk
from daemon.notify import notify
from daemon.progress import paced

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from pathlib import Path

_log = logging.getLogger(__name__)

_PATIENCE = 30.0  # seconds for a request to arrive, and for the last line to be taken
_STOPS_WITHIN = 3.0  # seconds, of which a training takes most
_LOOKS = 0.5  # seconds between two looks whether a client that says no more is there still
_LONGEST_IDLE = 600.0  # where panza.yaml cannot be read: its default


def main(file: Path | None, path: Path | None) -> int:
    """Serve on the socket that was handed over, or on one at a path; return the exit code.

    Where the models are at work when it shall end, the process ends here and at once.
    """
    with activation.listening(path) as listener:
        healthy = asyncio.run(_serve(listener, file))
    logging.shutdown()
    # Otherwise Python would wait for the thread that writes.
    os._exit(0 if healthy else FAILED)


async def _serve(listener: socket.socket, file: Path | None) -> bool:
    return await _Server(listener, file).run()


class _Server:
    """Serves until there was no job for `model.idle`, or until SIGTERM or SIGINT."""

    def __init__(self, listener: socket.socket, file: Path | None) -> None:
        self._listener, self._file = listener, file
        self._desk = Desk(file)
        self._thread = ThreadPoolExecutor(1, "models")
        self._long_job = asyncio.Lock()
        self._conversations: set[asyncio.Task[None]] = set()
        self._stop, self._used = asyncio.Event(), asyncio.Event()
        self._healthy = True
        self._worked = asyncio.get_running_loop().time()

    async def run(self) -> bool:
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)  # noqa: FBT003 - socket's signature
        loop.add_reader(self._listener, self._accept)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        notify("READY=1")
        ends = [asyncio.create_task(one) for one in (self._stop.wait(), self._unused())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        loop.remove_reader(self._listener)
        notify("STOPPING=1")
        for conversation in self._conversations:
            conversation.cancel()
        if self._conversations:
            await asyncio.wait(self._conversations, timeout=_STOPS_WITHIN)
        return self._healthy

    async def _unused(self) -> None:
        """Wait until there was no job for long."""
        loop = asyncio.get_running_loop()
        while True:
            rest = self._worked + self._longest_idle() - loop.time()
            if rest > 0:
                self._used.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._used.wait(), rest)
            elif not self._conversations:
                # Who comes from this moment on waits in the socket for the next process.
                loop.remove_reader(self._listener)
                return
            else:  # a long job goes on, for which the models here are of no use
                self._worked = loop.time()
                await loop.run_in_executor(self._thread, self._desk.forget)

    def _longest_idle(self) -> float:
        try:
            return configuration.load(self._file).model.idle.total_seconds()
        except ConfigError:
            return _LONGEST_IDLE  # each job will be told the faults

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            self._stop.set()  # whoever made the socket has closed it
            return
        task = asyncio.create_task(self._converse(connection))
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)

    async def _converse(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(
            sock=connection, limit=protocol.MAX_LINE
        )
        answers = _Answers(writer)
        try:
            last = await self._answer(connection, reader, answers)
        except asyncio.CancelledError:
            last = "unavailable", "it is stopping"
        except GpuLostError:
            last = "died", "the GPU has failed"
            self._healthy = False
            self._stop.set()
        except Exception as error:  # noqa: BLE001 - whatever it is, its advice is for the client
            _log.warning("a job failed: %s", type(error).__name__)
            _log.info("where:", exc_info=error)
            last = "error", asdict(advice(error))
        if last:
            answers.say(*last)
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), _PATIENCE)

    async def _answer(
        self, connection: socket.socket, reader: StreamReader, answers: _Answers
    ) -> tuple[str, Any] | None:
        """Do the job that a connection asks for; return its last line, None if nobody waits."""
        if not _may_ask(connection):
            raise UnfitError(
                "the model process answers only the user that runs it",
                "Run both processes of Panza as one user.",
            )
        request = await _request(reader)
        if request is None:
            return None
        job = asyncio.create_task(self._do(request, answers))
        gone = asyncio.create_task(_hung_up(connection, reader))
        alive = asyncio.create_task(answers.keep_alive())
        try:
            await asyncio.wait({job, gone}, return_when=asyncio.FIRST_COMPLETED)
            return job.result() if job.done() else None
        finally:
            for task in (job, gone, alive):
                task.cancel()
            await asyncio.gather(job, gone, alive, return_exceptions=True)
            self._worked = asyncio.get_running_loop().time()
            self._used.set()

    async def _do(self, request: protocol.Request, answers: _Answers) -> tuple[str, Any]:
        answers.progress(protocol.WAITING, 0, None)
        if isinstance(request, protocol.Write | protocol.Embed):
            return "result", await self._at_desk(request, answers)
        async with self._long_job:
            return await model_child.run(request, self._file, answers.say)

    async def _at_desk(
        self, request: protocol.Write | protocol.Embed, answers: _Answers
    ) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        stopped = threading.Event()

        def progress(what: str, done: int, total: int | None, /) -> None:
            loop.call_soon_threadsafe(answers.progress, what, done, total)

        try:
            return await loop.run_in_executor(
                self._thread, self._desk.do, request, paced(progress), stopped
            )
        finally:
            stopped.set()


class _Answers:
    """The lines that one client gets."""

    def __init__(self, writer: StreamWriter) -> None:
        self._writer = writer
        self._progress = protocol.line("progress", (protocol.WAITING, 0, None))

    def say(self, key: str, value: object) -> None:
        """Say a line, unless the client has gone."""
        line = protocol.line(key, value)
        if key == "progress":
            self._progress = line
        self._write(line)

    def progress(self, what: str, done: int, total: int | None, /) -> None:
        """Say how far the job is."""
        self.say("progress", (what, done, total))

    async def keep_alive(self) -> None:
        """Say it again and again, so that the client knows that it is not forgotten."""
        while True:
            await asyncio.sleep(protocol.KEEP_ALIVE)
            self._write(self._progress)

    def _write(self, line: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(line)


def _may_ask(connection: socket.socket) -> bool:
    """Tell whether the client is root or of this process's user."""
    form = struct.Struct("=iII")  # struct ucred of unix(7)
    sent = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size)
    _, user, _ = form.unpack(sent)
    return user in {0, os.geteuid()}


async def _request(reader: StreamReader) -> protocol.Request | None:
    try:
        line = await asyncio.wait_for(reader.readline(), _PATIENCE)
    except ValueError:
        raise protocol.ProtocolError(
            f"the request is longer than {protocol.MAX_LINE} bytes"
        ) from None
    except TimeoutError:
        raise protocol.ProtocolError("no request came") from None
    return protocol.request(line) if line else None


async def _hung_up(connection: socket.socket, reader: StreamReader) -> None:
    """Wait until the client has closed the connection.

    One that has closed its sending half alone still waits for its answer.
    """
    with contextlib.suppress(OSError):
        while await reader.read(1 << 16):
            pass
    while connection.fileno() != -1 and not _is_closed(connection):  # noqa: ASYNC110 - no event
        await asyncio.sleep(_LOOKS)


def _is_closed(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))
