"""The mail process's end of the protocol, against a scripted model process."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stubmodel import VECTOR

from connectors.base import Role
from connectors.memory import MemoryConnector
from daemon import protocol, requests
from daemon.brief import Brief, Draft
from daemon.config import Account
from daemon.errors import (
    CONFIGURATION,
    FAILED,
    TRY_LATER,
    ModelDiedError,
    ModelJobError,
    ModelUnavailableError,
    advice,
)
from daemon.journal import Journal, State
from daemon.model_link import ModelLink
from daemon.retrieval import Retrieval
from daemon.store import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectors.mail import Mail
    from daemon.store import Store

BRIEF = Brief("Tell Stew yes", (), "Boards", "", datetime(2024, 5, 1, tzinfo=UTC))
DRAFT = Draft("Boards", "Hi Stew,\n\nyes.\n\nJen")
BEGUN = protocol.line("progress", ["writing", 3, None])
WAITS = protocol.line("progress", [protocol.WAITING, 0, None])
WRITTEN = protocol.line("result", protocol.draft_fields(DRAFT))


class Script:
    """Answers each connection with the next of some answers, the last of them for ever.

    Attributes:
        asked: The request lines.
    """

    def __init__(self, path: Path, answers: list[bytes], *, hold: bool) -> None:
        self.path, self.asked, self._answers, self._hold = path, list[bytes](), answers, hold
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._held: list[socket.socket] = []

    def serve(self) -> None:
        """Serve until the listener is closed."""
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection.makefile("rb") as lines:
                    self.asked.append(lines.readline(protocol.MAX_LINE))
                answer = self._answers[0]
                self._answers[:] = self._answers[1:] or self._answers
                connection.sendall(answer)
                if self._hold:
                    self._held.append(connection)
                else:
                    connection.close()

    def close(self) -> None:
        """End it and every connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._held:
            connection.close()


@contextmanager
def scripted(*answers: bytes, hold: bool = False) -> Iterator[Script]:
    """Serve scripted answers; with ``hold`` the connections stay open behind them."""
    with tempfile.TemporaryDirectory(prefix="panza-") as folder:  # sun_path is short
        script = Script(Path(folder) / "m.sock", list(answers), hold=hold)
        thread = threading.Thread(target=script.serve, daemon=True)
        thread.start()
        try:
            yield script
        finally:
            script.close()
            thread.join(10)


def test_a_writer_gets_the_draft_and_progress_is_passed_on() -> None:
    """A brief goes out, progress comes in, and the draft is what was written."""
    told: list[tuple[Any, ...]] = []
    with scripted(WAITS + BEGUN + WRITTEN) as script:
        link = ModelLink(script.path)
        assert link.writer("jen").write(BRIEF) == DRAFT
        link.ask(protocol.Write(account="jen", brief=BRIEF), lambda *one: told.append(one))
        read = protocol.request(script.asked[0])
    assert read == protocol.Write(account="jen", brief=BRIEF)
    assert told == [(protocol.WAITING, 0, None), ("writing", 3, None)]


@pytest.mark.parametrize(
    ("answer", "fault", "code"),
    [
        (b"", ModelUnavailableError, TRY_LATER),
        (WAITS, ModelUnavailableError, TRY_LATER),
        (protocol.line("unavailable", "it is stopping"), ModelUnavailableError, TRY_LATER),
        (BEGUN, ModelDiedError, FAILED),
        (BEGUN + WRITTEN[:-9], ModelDiedError, FAILED),
        (BEGUN + protocol.line("died", "by SIGKILL"), ModelDiedError, FAILED),
        (BEGUN + protocol.line("surprise", 1), protocol.ProtocolError, FAILED),
        (b"SSH-2.0-OpenSSH\n", protocol.ProtocolError, FAILED),
        (protocol.line("result", {"subject": 1}), protocol.ProtocolError, FAILED),
    ],
)
def test_each_end_of_a_job_has_its_error(answer: bytes, fault: type[Exception], code: int) -> None:
    """A job that was not begun can be tried later; one that broke in the middle has failed."""
    with scripted(answer) as script, pytest.raises(fault) as caught:
        ModelLink(script.path).writer("jen").write(BRIEF)
    assert advice(caught.value).exit_code == code


def test_the_jobs_own_fault_comes_with_its_advice() -> None:
    """What the job met is told as the model process advised."""
    fields = {"message": "no model", "next_step": "Install it.", "exit_code": CONFIGURATION}
    line = protocol.line("error", fields)
    with scripted(line) as script, pytest.raises(ModelJobError) as caught:
        ModelLink(script.path).train("jen", epochs=2)
    told = advice(caught.value)
    assert (told.message, told.next_step, told.exit_code) == tuple(fields.values())


def test_nobody_there_is_told(tmp_path: Path) -> None:
    """Without a socket, or with one that nobody serves, the model process is not available."""
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    for path in (tmp_path / "none.sock", left):
        with pytest.raises(ModelUnavailableError, match=path.name):
            ModelLink(path).embedder().embed(["a"])


@pytest.mark.parametrize(
    ("said", "fault"), [(WAITS, ModelUnavailableError), (BEGUN, ModelDiedError)]
)
def test_silence_is_death(said: bytes, fault: type[Exception]) -> None:
    """A process that says nothing for too long counts as dead; the connection is still open."""
    with scripted(said, hold=True) as script, pytest.raises(fault, match="silent"):
        ModelLink(script.path, silence=0.2).writer("jen").write(BRIEF)


def test_all_calls_can_be_broken_off() -> None:
    """Broken off from another thread, calls end at once, can be tried later, and none begins."""
    with scripted(BEGUN, hold=True) as script:
        link = ModelLink(script.path)
        ended: list[BaseException] = []

        def call() -> None:
            try:
                link.writer("jen").write(BRIEF)
            except ModelUnavailableError as error:
                ended.append(error)

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 10
        while len(script.asked) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        began = time.monotonic()
        link.abort()
        for thread in threads:
            thread.join(5)
        assert len(ended) == 3
        assert time.monotonic() - began < 2
        with pytest.raises(ModelUnavailableError):
            link.train("jen")
        assert len(script.asked) == 3


def test_texts_are_embedded_in_parts_that_fit_a_line() -> None:
    """Long mails are cut, many are sent in several requests; the index takes the vectors."""
    answers = [
        protocol.line("result", {"hash": "h", "vectors": [VECTOR] * count}) for count in (4, 1, 0)
    ]
    with scripted(*answers) as script:
        embedder = ModelLink(script.path).embedder()
        vectors = embedder.embed(["\x01" * 300_000] * 5)
        assert embedder.hash == "h"
        assert len(script.asked) == 2  # the hash came with the vectors
        assert max(map(len, script.asked)) < protocol.MAX_LINE
    assert [one.tobytes() for one in vectors] == [array("f", [1.0, *[0.0] * 383]).tobytes()] * 5


def test_vectors_of_two_models_are_never_mixed() -> None:
    """Where the embedding model changes between two requests, the second is not taken."""
    lines = [protocol.line("result", {"hash": h, "vectors": [VECTOR]}) for h in ("one", "two")]
    with scripted(*lines) as script:
        embedder = ModelLink(script.path).embedder()
        embedder.embed(["a"])
        with pytest.raises(ModelUnavailableError, match="exchanged"):
            embedder.embed(["b"])


def test_the_index_takes_the_links_vectors(store: Store, make_mail: Callable[..., Mail]) -> None:
    """Retrieval indexes and searches by way of the link."""
    store.keep(Place("test", 1, 1), make_mail(1))
    line = protocol.line("result", {"hash": "h", "vectors": [VECTOR]})
    with scripted(line) as script:
        retrieval = Retrieval(store, ModelLink(script.path).embedder())
        assert retrieval.index() == 1
        assert [hit.message_id for hit in retrieval.search("boards", 3)] == ["m1@example.org"]


def test_instructions_are_kept_batch_by_batch(store: Store) -> None:
    """What playback makes is in the store when its line has come, whatever comes next."""
    made = {"version": "1-a", "instructions": {"k": ["Tell Stew yes.", "model"]}}
    with scripted(BEGUN + protocol.line("made", made)) as script, pytest.raises(ModelDiedError):
        ModelLink(script.path).playback("jen", store.save_instructions, emails=5)
    kept = store.instruction("k", "1-a")
    assert kept is not None
    assert (kept.text, kept.source) == ("Tell Stew yes.", "model")


# What the requests folder makes of each end of a write.

REQUEST = b"From: jen@example.org\r\nMessage-ID: <r1@example.org>\r\n\r\nTell Stew I am late.\r\n"


@contextmanager
def looked_at(store: Store, *answers: bytes) -> Iterator[Callable[[], requests.Counts]]:
    """Return a function that looks at a requests folder with one request."""
    account = Account(name="jen", address="jen@example.org", maildir=Path("/none"))
    connector = MemoryConnector()
    connector.ensure(Role.REQUESTS)
    connector.append(Role.REQUESTS, REQUEST)
    with scripted(*answers) as script:
        writer = ModelLink(script.path).writer("jen")
        yield lambda: requests.process(account, connector, store, writer, store.clock)


def test_a_request_that_kills_the_model_process_is_parked(store: Store) -> None:
    """A process that dies in the middle of a write counts: three times, and it is given up."""
    with looked_at(store, BEGUN) as look:
        for _ in range(requests.MAX_WRITES):
            look()
        (request,) = Journal(store.database, store.clock).newest()
    assert request.state is State.PARKED
    assert "did not finish" in request.reason


def test_a_model_process_that_is_away_costs_a_request_nothing(store: Store) -> None:
    """However often nobody takes the write, the request waits and is written at last."""
    away = [b"", WAITS, protocol.line("unavailable", "it does not start")] * 3
    with looked_at(store, *away, WRITTEN) as look:
        for _ in away:
            with pytest.raises(ModelUnavailableError):
                look()
        assert look().drafted == 1


def test_the_mail_process_imports_neither_torch_nor_numpy() -> None:
    """What `panza run` is made of starts without the weight of a model."""
    code = """
import sys
from daemon import jobs, model_link, model_process, model_server, service, training_job, worker
from daemon import model_commands, model_desk, offline
heavy = {"torch", "numpy", "transformers", "peft", "safetensors"} & sys.modules.keys()
print(sorted(heavy))
"""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
