"""The loss: the plain one's values and gradients, for every kind of head and every kind of row."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3NextConfig,
)

from trainer.base_model import LanguageModel
from trainer.examples import Example, lines, pack
from trainer.finetune import FinetuneSettings, finetune
from trainer.loss import Objective
from trainer.rosa import RosaConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

_VOCABULARY = 131
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_SHAPE: dict[str, Any] = {
    **_SPECIAL,
    "vocab_size": _VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,
}
_SMALL: dict[str, Any] = {**_SPECIAL, "vocab_size": _VOCABULARY, "n_layer": 2, "n_head": 4}
PACKED = {
    "plain": LlamaConfig(**_SHAPE),
    "sliding window": MistralConfig(**_SHAPE, sliding_window=8),
    "biases": Qwen2Config(**_SHAPE),
    "softcap": Gemma2Config(
        **_SHAPE, head_dim=8, sliding_window=8, final_logit_softcapping=3.0, query_pre_attn_scalar=8
    ),
    "divided logits": GraniteConfig(**_SHAPE, logits_scaling=3.0),
    "scaled logits": CohereConfig(**_SHAPE, logit_scale=0.2),
    "learned positions": GPT2Config(**_SMALL, n_embd=32, n_positions=256),
}
IN_LINES = {
    "recurrent": MambaConfig(
        **_SPECIAL, vocab_size=_VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4
    ),
    "position bias": BloomConfig(**_SMALL, hidden_size=32),
    "half recurrent": Qwen3NextConfig(
        **_SHAPE,
        head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        linear_num_value_heads=2,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        mlp_only_layers=[0, 1],
    ),
}


class CubedLlama(LlamaForCausalLM):
    """A model whose head is followed by something that no configuration tells of."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Compute as Llama does, and cube the logits."""
        out = super().forward(*args, **kwargs)
        out.logits = out.logits**3
        return out


def loaded(config: PreTrainedConfig, kind: Any = None) -> LanguageModel:  # noqa: ANN401
    """Return a model with random weights, its embeddings to be trained."""
    torch.manual_seed(0)
    model: PreTrainedModel = kind(config) if kind else AutoModelForCausalLM.from_config(config)
    model.eval().requires_grad_(requires_grad=False)
    model.get_input_embeddings().weight.requires_grad_(requires_grad=True)
    return LanguageModel(
        model=model,
        tokenizer=None,  # type: ignore[arg-type]  # not needed here
        name="random",
        hash="0" * 64,
        device=torch.device("cpu"),
        dtype=torch.float32,
        context_length=256,
    )


def mails(*sizes: int) -> list[Example]:
    """Return mails of so many tokens, a third of them the prompt."""
    dice = random.Random(1)
    return [
        Example(
            key=str(n),
            tokens=tuple(dice.randrange(3, _VOCABULARY) for _ in range(n)),
            learned=n // 3,
            words=n // 3 + 2,
        )
        for n in sizes
    ]


def plain(lm: LanguageModel, some: Sequence[Example]) -> Tensor:
    """Return each target's loss, every mail alone and by the model's own logits."""
    losses = []
    for one in some:
        logits = lm.model(torch.tensor([one.tokens])).logits[0, one.learned - 1 : -1]
        targets = torch.tensor(one.tokens[one.learned :])
        losses.append(cross_entropy(logits.float(), targets, reduction="none"))
    return torch.cat(losses)


@pytest.mark.parametrize(
    "config", [*PACKED.values(), *IN_LINES.values()], ids=lambda c: c.model_type
)
@pytest.mark.parametrize("logits", [_VOCABULARY * 5, 1 << 20])
def test_loss_and_gradient_are_the_plain_ones(config: PreTrainedConfig, logits: int) -> None:
    """Whatever a model does to its logits, in however many chunks, mails in a row or alone."""
    lm, some = loaded(config), mails(40, 23, 31)
    objective = Objective(lm, logits=logits)
    weight = lm.model.get_input_embeddings().weight
    expected = plain(lm, some)
    (slope,) = torch.autograd.grad(expected.sum(), weight)
    loss = objective.loss(some)
    torch.testing.assert_close(loss, expected.sum(), rtol=1e-6, atol=0)
    (found,) = torch.autograd.grad(loss, weight)
    assert (found - slope).abs().max() <= 2e-6 * slope.abs().max()
    torch.testing.assert_close(objective.losses(some), expected.detach(), rtol=1e-5, atol=2e-6)


def test_a_head_that_does_something_unknown_is_asked_itself() -> None:
    """What follows the head is never skipped, even if nobody knows what it is."""
    lm, some = loaded(PACKED["plain"], CubedLlama), mails(20, 30)
    objective = Objective(lm)
    expected = plain(lm, some)
    torch.testing.assert_close(objective.losses(some), expected.detach(), rtol=1e-5, atol=2e-6)
    loss = objective.loss(some)
    assert loss.item() == pytest.approx(expected.sum().item(), rel=1e-6)
    assert loss.requires_grad


def test_a_head_that_is_trained_has_its_gradient() -> None:
    """With the head among what is trained, its gradient is the plain one too."""
    lm, some = loaded(PACKED["plain"]), mails(20, 30)
    head = lm.model.get_output_embeddings().weight.requires_grad_()
    (expected,) = torch.autograd.grad(plain(lm, some).sum(), head)
    (found,) = torch.autograd.grad(Objective(lm, logits=_VOCABULARY * 4).loss(some), head)
    assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()


@pytest.mark.parametrize("name", PACKED)
def test_mails_in_one_row_do_not_see_each_other(name: str) -> None:
    """Packed behind others, a mail's logits are those it has alone: windows and positions hold."""
    lm, some = loaded(PACKED[name]), mails(30, 12, 25)
    assert Objective(lm).packs
    tokens = torch.tensor([[token for one in some for token in one.tokens]])
    positions = torch.tensor([[i for one in some for i in range(len(one.tokens))]])
    with torch.no_grad():
        packed = lm.model(tokens, position_ids=positions, use_cache=False).logits[0]
        alone = [lm.model(torch.tensor([one.tokens])).logits[0] for one in some]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", IN_LINES)
def test_models_that_mix_mails_in_a_row_get_each_in_its_own_line(name: str) -> None:
    """A recurrent model, or one with a position bias, is noticed, and served with padded lines."""
    objective = Objective(loaded(IN_LINES[name]))
    assert not objective.packs
    some = mails(40, 20, 39, 21)
    assert objective.rows(some, 400) == [[some[1], some[3]], [some[2], some[0]]]
    assert objective.lengths([some[1], some[3]]) == [21, 21]


@pytest.mark.parametrize("name", ["position bias", "half recurrent"])
def test_models_that_mix_mails_in_a_row_are_trained(name: str) -> None:
    """A whole training in padded lines, mask and hold-out and all, learns."""
    lm, some = loaded(IN_LINES[name]), mails(40, 41, 20, 21)
    settings = FinetuneSettings(
        rosa=RosaConfig(rank=2, density=0.05), epochs=8, batch=4, row=90, lora_rate=0.02, warmup=1
    )
    done = finetune(lm, some, settings, hold_out=some[:2])
    assert done.losses[-1] < done.losses[0]
    assert (done.tokens, done.positions) == (8 * 122, 8 * 124)


def test_at_most_a_twentieth_of_the_positions_is_padding() -> None:
    """Packed rows have no padding; lines have little, at lengths as mails have them."""
    dice = random.Random(2)
    some = mails(*(int(dice.lognormvariate(5, 0.7)) + 20 for _ in range(200)))
    real = sum(len(one.tokens) for one in some)
    rows = [row for i in range(0, 200, 8) for row in lines(some[i : i + 8], 384)]
    processed = sum(max(len(one.tokens) for one in row) * len(row) for row in rows)
    assert sum(len(row) for row in rows) == 200
    assert real / processed >= 0.95
    assert sum(len(one.tokens) for row in pack(some, 384) for one in row) == real


def test_bf16_models_have_an_fp32_loss() -> None:
    """The loss of a bf16 model is near the fp32 model's, and is not rounded to bf16."""
    config, some = PACKED["plain"], mails(40, 23)
    exact = Objective(loaded(config)).loss(some)
    lm = loaded(config)
    lm.model.to(torch.bfloat16)  # type: ignore[arg-type]  # its decorator hides `self` from mypy
    rounded = Objective(lm, logits=_VOCABULARY * 4).loss(some)
    assert rounded.dtype is torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=0.01)
    assert rounded.item() != rounded.bfloat16().item()
