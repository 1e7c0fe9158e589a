"""Fine-tuning: it learns, it repeats itself exactly, and it goes on where it was stopped."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import torch

from trainer.errors import DivergedError
from trainer.examples import Example, example, pack
from trainer.finetune import Finetuned, FinetuneSettings, finetune
from trainer.loss import Objective
from trainer.prompt import Ask
from trainer.rosa import RosaConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.base_model import LanguageModel

    Make = Callable[..., LanguageModel]

SETTINGS = FinetuneSettings(
    rosa=RosaConfig(rank=4, density=0.02), epochs=2, batch=3, row=400, checkpoint_seconds=0
)


def examples(lm: LanguageModel, count: int = 9) -> list[Example]:
    """Return examples of growing length."""
    return [
        example(
            lm.tokenizer,
            str(i),
            Ask(instruction=f"Tell Stew {i}", to="Stew", subject="Re: x" if i % 2 else ""),
            "Re: x" if i % 2 else f"Boards {i}",
            f"Ahoy Stew,\n\nnumber {i} {'is here ' * i}\n\nFair winds,\nMaud",
            end=2,
            limit=1000,
        )
        for i in range(count)
    ]


def trained(
    lm: LanguageModel, settings: FinetuneSettings = SETTINGS, **options: object
) -> Finetuned:
    """Train with the settings of this module, or with others."""
    return finetune(lm, examples(lm), settings, **options)  # type: ignore[arg-type]


class Stop:
    """A progress callback that interrupts a training before a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, done: int, total: int) -> None:
        """Interrupt at the step that was chosen."""
        del total
        if done == self.at:
            raise KeyboardInterrupt


def test_the_loss_falls(tiny: LanguageModel) -> None:
    """Training lowers the loss on what is learned."""
    many = dataclasses.replace(SETTINGS, epochs=12, lora_rate=2e-2, sparse_rate=2e-2)
    losses = finetune(tiny, examples(tiny), many).losses
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


@pytest.mark.parametrize(("at", "seconds"), [(1, 0.0), (2, 0.0), (5, 0.0), (2, 3600.0)])
def test_an_interrupted_training_ends_like_one_in_one_go(
    make_tiny: Make, tmp_path: Path, at: int, seconds: float
) -> None:
    """Broken off at any step and called again, losses and adapter are the same bit for bit.

    So they are where the regular checkpoint was far away: breaking off makes one.
    """
    settings = dataclasses.replace(SETTINGS, checkpoint_seconds=seconds)
    whole = trained(make_tiny(), settings)
    checkpoint = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained(make_tiny(), settings, checkpoint=checkpoint, progress=Stop(at))
    resumed = trained(make_tiny(), settings, checkpoint=checkpoint)
    assert resumed.resumed == at
    assert resumed.losses == whole.losses
    expected, found = whole.rosa.tensors(), resumed.rosa.tensors()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_finished_training_is_not_done_again(make_tiny: Make, tmp_path: Path) -> None:
    """Called again after its last step, a training returns what it had come to."""
    checkpoint = tmp_path / "c.safetensors"
    first = trained(make_tiny(), checkpoint=checkpoint)
    again = trained(make_tiny(), checkpoint=checkpoint)
    assert again.resumed == len(first.losses)
    assert again.losses == first.losses
    assert checkpoint.stat().st_mode & 0o777 == 0o600


def test_a_checkpoint_of_another_training_is_started_over(make_tiny: Make, tmp_path: Path) -> None:
    """A checkpoint of other settings, mails or base weights is never gone on from."""
    checkpoint = tmp_path / "c.safetensors"
    trained(make_tiny(), checkpoint=checkpoint)
    lm = make_tiny()
    other = dataclasses.replace(SETTINGS, seed=1)
    assert finetune(lm, examples(lm), other, checkpoint=checkpoint).resumed == 0
    lm = make_tiny()
    assert finetune(lm, examples(lm, 8), other, checkpoint=checkpoint).resumed == 0
    assert trained(make_tiny(seed=5), checkpoint=checkpoint).resumed == 0


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\xff" * 64])
def test_a_damaged_checkpoint_is_started_over(
    make_tiny: Make, tmp_path: Path, damage: bytes
) -> None:
    """What is no checkpoint costs the work that was in it, and nothing else."""
    checkpoint = tmp_path / "c.safetensors"
    checkpoint.write_bytes(damage)
    assert trained(make_tiny(), checkpoint=checkpoint).resumed == 0


def test_equal_seeds_give_equal_adapters_and_others_do_not(make_tiny: Make) -> None:
    """A training is determined by its seed."""
    lm = make_tiny()
    other = finetune(lm, examples(lm), dataclasses.replace(SETTINGS, seed=7))
    first, second = trained(make_tiny()), trained(make_tiny())
    assert first.losses == second.losses != other.losses


def test_the_base_model_stays_as_it_was(make_tiny: Make) -> None:
    """Taken off, the trained adapter leaves the base model's weights bit for bit."""
    before = make_tiny().model.state_dict()
    after = trained(make_tiny()).rosa.unload().state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("config", [RosaConfig(rank=4, density=0), RosaConfig(rank=0, density=1.0)])
def test_lora_and_full_are_settings(make_tiny: Make, config: RosaConfig) -> None:
    """Without the sparse half it is LoRA; with nothing but a full mask all entries are trained."""
    lm = make_tiny()
    done = finetune(lm, examples(lm), dataclasses.replace(SETTINGS, rosa=config))
    kinds = {name.rpartition(".")[2] for name in done.rosa.tensors()}
    assert kinds == ({"lora_A", "lora_B"} if config.rank else {"indices", "values"})
    assert any(bool(t.any()) for name, t in done.rosa.tensors().items() if "indices" not in name)


def test_the_mask_has_the_density_that_was_asked_for(tiny: LanguageModel) -> None:
    """Each layer's mask has exactly floor(density · size) entries, and some values moved."""
    found = trained(tiny).rosa.tensors()
    for name, layer in tiny.model.named_modules():
        if f"{name}.indices" in found:
            assert found[f"{name}.indices"].numel() == int(0.02 * layer.base_layer.weight.numel())
    assert any(bool(one.any()) for name, one in found.items() if name.endswith(".values"))


def test_a_loss_that_is_no_number_ends_the_training(make_tiny: Make, tmp_path: Path) -> None:
    """NaN is told with its step, and leaves no checkpoint to go on from."""
    lm, checkpoint = make_tiny(), tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained(lm, checkpoint=checkpoint, progress=Stop(2))
    broken = make_tiny()
    with torch.no_grad():
        broken.model.get_input_embeddings().weight[50:] = float("nan")
    with pytest.raises(DivergedError) as fault:
        trained(broken, checkpoint=checkpoint)
    assert fault.value.step == 2
    assert not checkpoint.exists()


def test_mails_in_one_row_do_not_see_each_other(tiny: LanguageModel) -> None:
    """Packed into one row, each mail has the losses that it has alone."""
    mails = examples(tiny, 4)
    packed = Objective(tiny).losses(mails)
    alone = torch.cat([Objective(tiny).losses([one]) for one in mails])
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)


def test_rows_hold_all_examples_and_are_filled(tiny: LanguageModel) -> None:
    """No example is lost or cut, no row is above the limit unless one mail alone is."""
    mails = examples(tiny, 9)
    sizes = {one.key: len(one.tokens) for one in mails}
    limit = sorted(sizes.values())[-2]
    rows = pack(mails, limit)
    assert sorted(one.key for row in rows for one in row) == sorted(sizes)
    assert all(sum(sizes[o.key] for o in row) <= limit or len(row) == 1 for row in rows)


def test_a_mail_longer_than_a_row_learns_the_same(make_tiny: Make) -> None:
    """Recomputing activations for long rows changes memory, not the result."""
    short = dataclasses.replace(SETTINGS, row=16, rosa=RosaConfig(rank=4, density=0, dropout=0))
    long = dataclasses.replace(short, row=4000, batch=1)
    short = dataclasses.replace(short, batch=1)
    lm, other = make_tiny(), make_tiny()
    first = finetune(lm, examples(lm), short).losses
    second = finetune(other, examples(other), long).losses
    assert first == pytest.approx(second, rel=1e-4)


def test_the_mask_of_a_mail_longer_than_a_row_is_the_same(make_tiny: Make) -> None:
    """Recomputing activations changes no mask either."""
    masks = []
    for row in (16, 4000):
        lm = make_tiny()
        one = examples(lm)[:1]
        rosa = finetune(lm, one, dataclasses.replace(SETTINGS, row=row)).rosa
        masks.append({n: one for n, one in rosa.tensors().items() if n.endswith(".indices")})
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])


def test_only_what_the_model_has_to_find_is_learned(tiny: LanguageModel) -> None:
    """A given subject is not learned, a subject to be found is; the prompt never is."""
    new, reply = examples(tiny, 2)
    decode = tiny.tokenizer.decode
    assert decode(list(new.tokens[new.learned :])).startswith(" Boards 0")
    assert decode(list(reply.tokens[reply.learned :])).startswith("Ahoy Stew,")
    assert decode(list(reply.tokens[reply.words : -1])).startswith("Ahoy Stew,")
    assert new.tokens[-1] == reply.tokens[-1] == 2


def test_a_mail_beyond_the_limit_is_cut_and_has_no_end(tiny: LanguageModel) -> None:
    """A cut mail does not teach the model to end where it was cut."""
    one = example(tiny.tokenizer, "k", Ask("Tell Stew"), "Boards", "word " * 500, end=2, limit=400)
    assert len(one.tokens) == 400
    assert one.tokens[-1] != 2
