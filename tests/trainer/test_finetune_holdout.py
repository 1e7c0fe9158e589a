"""The hold-out ends a training in time, the best epoch comes back, a resume changes nothing."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

import pytest
import torch

from trainer.evaluation import perplexity
from trainer.examples import Example
from trainer.finetune import Finetuned, FinetuneSettings, finetune
from trainer.rosa import RosaConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.base_model import LanguageModel

    Make = Callable[..., LanguageModel]

# A high rate learns the few mails by heart: the hold-out gets better, and then worse.
SETTINGS = FinetuneSettings(
    rosa=RosaConfig(rank=4, density=0.02),
    epochs=6,
    batch=4,
    lora_rate=0.03,
    sparse_rate=0.03,
    warmup=2,
    row=100,
    checkpoint_seconds=0,
)


def mails(count: int, seed: int) -> list[Example]:
    """Return mails over a few letters, so that there is something to learn and to overlearn."""
    dice = random.Random(seed)
    sizes = [dice.randrange(18, 40) for _ in range(count)]
    return [
        Example(str(i), tuple(dice.randrange(3, 9) for _ in range(n)), 6, 8)
        for i, n in enumerate(sizes)
    ]


TRAIN, HELD = mails(10, 1), mails(4, 2)


def trained(lm: LanguageModel, **options: object) -> Finetuned:
    """Train with a hold-out."""
    return finetune(lm, TRAIN, SETTINGS, hold_out=HELD, **options)  # type: ignore[arg-type]


class Stop:
    """A progress callback that breaks a training off at its n-th call."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, done: int, total: int) -> None:
        """Count, and break off."""
        del done, total
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


class Counted:
    """A progress callback that counts its calls."""

    calls = 0

    def __call__(self, done: int, total: int) -> None:
        """Count."""
        del done, total
        self.calls += 1


def same(one: Finetuned, other: Finetuned) -> bool:
    """Return whether two trainings came to the same, bit for bit."""
    first, second = one.rosa.tensors(), other.rosa.tensors()
    return (
        one.losses == other.losses
        and one.hold_out == other.hold_out
        and first.keys() == second.keys()
        and all(torch.equal(first[name], second[name]) for name in first)
    )


@pytest.mark.parametrize("kept", [True, False])
def test_the_best_epoch_comes_back(make_tiny: Make, tmp_path: Path, *, kept: bool) -> None:
    """The adapter that is returned has the lowest perplexity of all epochs, on disk or not."""
    lm = make_tiny()
    done = trained(lm, checkpoint=tmp_path / "c.safetensors" if kept else None)
    assert done.epoch == done.hold_out.index(min(done.hold_out)) + 1
    assert done.epoch < len(done.hold_out)
    assert perplexity(lm, HELD).value == pytest.approx(min(done.hold_out), rel=1e-5)


def test_a_training_ends_when_the_hold_out_gets_no_better(make_tiny: Make) -> None:
    """It ends after so many epochs without an improvement, and the epochs before are the same."""
    patient = finetune(make_tiny(), TRAIN, dataclasses.replace(SETTINGS, patience=6), hold_out=HELD)
    soon = finetune(make_tiny(), TRAIN, dataclasses.replace(SETTINGS, patience=1), hold_out=HELD)
    assert len(patient.hold_out) == 6
    assert len(soon.hold_out) == soon.epoch + 1 < 6
    assert soon.hold_out == patient.hold_out[: len(soon.hold_out)]
    assert soon.losses == patient.losses[: len(soon.losses)]
    assert len(soon.losses) == 3 * len(soon.hold_out)


def test_without_a_hold_out_the_last_epoch_comes_back(make_tiny: Make) -> None:
    """Nothing is scored, and all epochs are done."""
    done = finetune(make_tiny(), TRAIN, dataclasses.replace(SETTINGS, epochs=2))
    assert done.hold_out == ()
    assert done.epoch == 2
    assert len(done.losses) == 6


def test_broken_off_anywhere_it_ends_the_same(make_tiny: Make, tmp_path: Path) -> None:
    """In the warm-up, the mask, a step or the hold-out: the end is the same, bit for bit.

    Breaking off makes a checkpoint, so no step that was finished is done twice.
    """
    counted = Counted()
    settings = dataclasses.replace(SETTINGS, checkpoint_seconds=3600)
    whole = finetune(make_tiny(), TRAIN, settings, hold_out=HELD, progress=counted)
    for at in (2, 12, counted.calls // 2, counted.calls * 3 // 4):
        checkpoint = tmp_path / f"{at}.safetensors"
        lm = make_tiny()
        before = {name: one.clone() for name, one in lm.model.state_dict().items()}
        with pytest.raises(KeyboardInterrupt):
            finetune(lm, TRAIN, settings, hold_out=HELD, checkpoint=checkpoint, progress=Stop(at))
        after = lm.model.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before)
        again = Counted()
        resumed = finetune(
            make_tiny(), TRAIN, settings, hold_out=HELD, checkpoint=checkpoint, progress=again
        )
        assert same(resumed, whole)
        assert again.calls < counted.calls - at + 40


def test_killed_between_any_two_checkpoints_it_ends_the_same(
    make_tiny: Make, tmp_path: Path
) -> None:
    """From each checkpoint that was ever on disk the training comes to the same end."""
    checkpoint, kept = tmp_path / "c.safetensors", []

    def keep(done: int, total: int) -> None:
        del done, total
        if checkpoint.is_file() and (bytes_ := checkpoint.read_bytes()) not in kept:
            kept.append(bytes_)

    whole = trained(make_tiny(), checkpoint=checkpoint, progress=keep)
    assert len(kept) > 2
    for one in kept[:4]:
        checkpoint.write_bytes(one)
        assert same(trained(make_tiny(), checkpoint=checkpoint), whole)


def test_a_finished_training_with_a_hold_out_is_not_done_again(
    make_tiny: Make, tmp_path: Path
) -> None:
    """Called again, it returns the best epoch's adapter without a step."""
    checkpoint, counted = tmp_path / "c.safetensors", Counted()
    whole = trained(make_tiny(), checkpoint=checkpoint)
    again = trained(make_tiny(), checkpoint=checkpoint, progress=counted)
    assert same(whole, again)
    assert again.epoch == whole.epoch
    assert counted.calls == 1
