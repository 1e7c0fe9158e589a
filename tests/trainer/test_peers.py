"""A training that starts its own helpers: as good as alone, and what happens when one is lost."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest

from trainer import base_model, peers
from trainer.checkpoint import read
from trainer.errors import PeerError
from trainer.examples import Example
from trainer.finetune import FinetuneSettings, finetune
from trainer.rosa import RosaConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.base_model import LanguageModel

# Without dropout, which each process draws for itself, the number of processes changes nothing.
SETTINGS = FinetuneSettings(
    rosa=RosaConfig(rank=2, density=0.02, dropout=0.0), epochs=2, batch=4, row=60, patience=2
)


def mails(count: int, seed: int) -> list[Example]:
    """Return mails of 20 to 40 tokens."""
    dice = random.Random(seed)
    return [
        Example(str(i), tuple(dice.randrange(3, 250) for _ in range(dice.randint(20, 40))), 6, 8)
        for i in range(count)
    ]


@pytest.fixture
def base(tmp_path: Path, make_tiny: Callable[..., LanguageModel]) -> peers.Base:
    """A tiny model that each process can load."""
    lm = make_tiny()
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    return peers.Base(str(tmp_path / "model"), tmp_path / "cache", "fp32", "cpu")


def loaded(base: peers.Base) -> LanguageModel:
    """Load the model as each process does."""
    return base_model.load(
        base.name, cache=base.cache, precision=base.precision, device=base.device
    )


def children() -> list[psutil.Process]:
    """Return the processes that this one has started."""
    return [
        one
        for one in psutil.Process().children()
        if one.status() != psutil.STATUS_ZOMBIE and "trainer.peers" in one.cmdline()
    ]


def test_two_processes_come_to_what_one_does(base: peers.Base, tmp_path: Path) -> None:
    """Losses and hold-out are those of a training alone, and the helpers have ended."""
    learned, held = mails(16, 0), mails(4, 1)
    one = finetune(loaded(base), learned, SETTINGS, hold_out=held)
    seen = []
    two = peers.finetune(
        2,
        base,
        loaded(base),
        learned,
        SETTINGS,
        hold_out=held,
        checkpoint=tmp_path / "checkpoint.safetensors",
        progress=lambda _done, _total: seen.append(len(children())),
    )
    assert two.losses == pytest.approx(one.losses, rel=1e-3)
    assert two.hold_out == pytest.approx(one.hold_out, rel=1e-3)
    assert max(seen) == 1
    assert not children()


def test_a_helper_that_is_killed_is_told_and_costs_little(base: peers.Base, tmp_path: Path) -> None:
    """The training ends with an error of its own, and the next one goes on from the checkpoint."""
    learned = mails(16, 0)
    checkpoint = tmp_path / "checkpoint.safetensors"

    def kill(done: int, _total: int) -> None:
        if done == 5:
            for one in children():
                one.kill()

    settings = replace(SETTINGS, checkpoint_seconds=0)
    with pytest.raises(PeerError, match="2 processes"):
        peers.finetune(
            2,
            base,
            loaded(base),
            learned,
            settings,
            hold_out=(),
            checkpoint=checkpoint,
            progress=kill,
        )
    assert not children()
    stored = read(checkpoint)
    assert stored
    done = finetune(loaded(base), learned, settings, checkpoint=checkpoint)
    # How far it got depends on the disk: checkpoints take a twentieth of the time at the most.
    assert done.resumed == stored[1]["state"]["step"]
    assert len(done.losses) == 8
