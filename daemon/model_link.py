"""The mail process's way to the model process: its jobs as calls. Imports no model.

Calls block, each on a connection of its own, and may come from any number of threads.
"""

from __future__ import annotations

import base64
import os
import socket
import threading
from array import array
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from daemon import protocol
from daemon.errors import Advice, DaemonError, ModelDiedError, ModelJobError, ModelUnavailableError
from daemon.progress import silent
from daemon.store import Instruction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from io import BufferedReader
    from pathlib import Path

    from daemon.brief import Brief, Draft
    from daemon.progress import Progress
    from daemon.protocol import Request

SOCKET_VARIABLE = "PANZA_MODEL_SOCKET"
"""Where systemd's units tell `panza run` the path of the model process's socket."""

_CONNECTING = 10.0  # seconds; the listening socket's owner need not even run for this
_SILENCE = 180.0  # a server that starts imports for half a minute, then it speaks every ten seconds
_LONGEST_TEXT = 100_000  # characters of a mail; a vector tells of the first few hundred words
_LONGEST_TEXTS = 4 * _LONGEST_TEXT  # of one request, which stays below protocol.MAX_LINE


class ModelLink:
    """Asks the model process.

    Each call raises `ModelUnavailableError` where nobody serves the socket or the job was not
    begun, `ModelDiedError` where the process ended in the middle of it, and `ModelJobError` for
    what the job itself met.

    Args:
        address: The path of the model process's socket.
        silence: Seconds without a word after which the process counts as dead.
    """

    def __init__(self, address: Path, *, silence: float = _SILENCE) -> None:
        self.address = address
        self._silence = silence
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._aborted = False

    def writer(self, account: str) -> LinkedWriter:
        """Return what writes drafts for an account; see `daemon.requests.Writer`."""
        return LinkedWriter(self, account)

    def embedder(self) -> LinkedEmbedder:
        """Return what turns texts into vectors; see `daemon.retrieval.Embedder`."""
        return LinkedEmbedder(self)

    def playback(
        self,
        account: str,
        save: Callable[[str, Mapping[str, Instruction]], None],
        *,
        emails: int | None = None,
        progress: Progress = silent,
    ) -> dict[str, Any]:
        """Make the instruction of each mail that a training would use and that has none.

        Args:
            account: The account's name.
            save: Keeps a batch, for example `Store.save_instructions`.
            emails: The newest so many mails; None for what panza.yaml says.
            progress: Told how far it is.

        Returns:
            ``made`` and ``total``, how many were made and how many mails there are.
        """
        asked = protocol.Playback(account=account, emails=emails)

        def made(batch: dict[str, Any]) -> None:
            kept = {key: Instruction(*one) for key, one in batch["instructions"].items()}
            save(batch["version"], kept)

        return self.ask(asked, progress, made)

    def train(
        self,
        account: str,
        *,
        method: str | None = None,
        emails: int | None = None,
        epochs: int | None = None,
        progress: Progress = silent,
    ) -> dict[str, Any]:
        """Train an adapter and judge it; return what ``panza train --json`` prints.

        Index and instructions are taken as they are: bring them up to date before.
        """
        asked = protocol.Train.model_validate(
            {"account": account, "method": method, "emails": emails, "epochs": epochs}
        )
        return self.ask(asked, progress)

    def evaluate(
        self,
        account: str,
        *,
        adapter: str = "current",
        mail: Path | None = None,
        progress: Progress = silent,
    ) -> dict[str, Any]:
        """Score an adapter; return what ``panza evaluate --json`` prints."""
        return self.ask(protocol.Evaluate(account=account, adapter=adapter, mail=mail), progress)

    def abort(self) -> None:
        """Break off all calls, from any thread: they and all later ones raise.

        What a broken-off job had not finished is not lost: a training has its checkpoint, a
        request its place in the journal.
        """
        with self._lock:
            self._aborted = True
            for connection in self._open:
                with suppress(OSError):  # never connected, or already gone
                    connection.shutdown(socket.SHUT_RDWR)

    def ask(
        self,
        request: Request,
        progress: Progress = silent,
        made: Callable[[dict[str, Any]], None] = lambda _batch: None,
    ) -> dict[str, Any]:
        """Send a request and return its result; see `daemon.protocol`."""
        with self._connected() as connection:
            return _Call(self, connection, request).run(progress, made)

    @property
    def aborted(self) -> bool:
        """Whether all was broken off."""
        return self._aborted

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._check()
            with self._lock:
                self._open.add(connection)
            connection.settimeout(_CONNECTING)
            try:
                connection.connect(os.fspath(self.address))
            except OSError as error:
                raise ModelUnavailableError(f"{self.address}: {_reason(error)}") from error
            self._check()  # again, since what was not connected could not be broken off
            connection.settimeout(self._silence)
            yield connection
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _check(self) -> None:
        if self._aborted:
            raise ModelUnavailableError("Panza is stopping")


class _Call:
    """One job on its connection."""

    def __init__(self, link: ModelLink, connection: socket.socket, request: Request) -> None:
        self._link, self._connection, self._request = link, connection, request
        self._begun = False

    def run(self, progress: Progress, made: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        with self._connection.makefile("rb") as answers:
            self._send()
            while line := self._line(answers):
                key, value = protocol.answer(line)
                if key == "result":
                    return dict(value)
                if key == "made":
                    made(value)
                elif key == "progress":
                    what, done, total = value
                    self._begun |= what != protocol.WAITING
                    progress(what, done, total)
                else:
                    raise self._fault(key, value)
        raise self._broken("the connection ended")

    def _fault(self, key: str, value: Any) -> DaemonError:  # noqa: ANN401 - JSON
        if key == "error":
            return ModelJobError(Advice(**value))
        if key == "died":
            return ModelDiedError(self._request.do, value)
        if key == "unavailable":
            return ModelUnavailableError(value)
        return protocol.ProtocolError(f"the model process answered with an unknown key {key!r:.40}")

    def _send(self) -> None:
        try:
            self._connection.sendall(self._request.line())
        except TimeoutError:
            raise self._broken("it takes no request") from None
        except OSError as error:
            # A refusal, for example, may lie there to be read.
            if self._link.aborted:
                raise self._broken(_reason(error)) from error

    def _line(self, answers: BufferedReader) -> bytes:
        try:
            line = answers.readline(protocol.MAX_LINE)
        except TimeoutError:
            raise self._broken("it has been silent for too long") from None
        except OSError as error:
            raise self._broken(_reason(error)) from error
        # The rest of a line is lost with the process that wrote it.
        return line if line.endswith(b"\n") else b""

    def _broken(self, reason: str) -> ModelUnavailableError | ModelDiedError:
        if self._link.aborted:
            return ModelUnavailableError("Panza is stopping")
        if not self._begun:
            return ModelUnavailableError(reason)
        return ModelDiedError(self._request.do, reason)


class LinkedWriter:
    """Writes drafts in the model process, with the adapter that is in use there and then."""

    def __init__(self, link: ModelLink, account: str) -> None:
        self._link, self._account = link, account

    def write(self, brief: Brief) -> Draft:
        """Write one draft; see `daemon.requests.Writer`."""
        asked = protocol.Write(account=self._account, brief=brief)
        return protocol.draft(self._link.ask(asked))


class LinkedEmbedder:
    """Turns texts into vectors in the model process; see `daemon.retrieval.Embedder`."""

    def __init__(self, link: ModelLink) -> None:
        self._link = link
        self._hash = ""

    @property
    def hash(self) -> str:
        """The model's hash, asked for once."""
        if not self._hash:
            self._embed([])
        return self._hash

    def embed(self, texts: Sequence[str]) -> list[array[float]]:
        """Return one vector of floats for each text, of length 1."""
        return [vector for part in _parts(texts) for vector in self._embed(part)]

    def _embed(self, texts: Sequence[str]) -> list[array[float]]:
        answered = self._link.ask(protocol.Embed(texts=tuple(texts)))
        if self._hash and answered["hash"] != self._hash:
            # Vectors of two models in one index could not be compared.
            raise ModelUnavailableError("its embedding model was exchanged meanwhile")
        self._hash = answered["hash"]
        return [array("f", base64.b64decode(vector)) for vector in answered["vectors"]]


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield the texts in parts that fit into one request."""
    part: list[str] = []
    for text in texts:
        short = text[:_LONGEST_TEXT]
        if part and sum(map(len, part)) + len(short) > _LONGEST_TEXTS:
            yield part
            part = []
        part.append(short)
    if part:
        yield part


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
