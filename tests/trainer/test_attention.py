"""Attention mail by mail: what a model computes by itself, forward, backward and recomputed."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

from trainer.attention import NAME, _by_one_kernel, _kernel, lengths, mail_by_mail

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

SIZES = (9, 14, 3)
_SHAPE: dict[str, Any] = {
    "vocab_size": 67,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
ABLE = {
    "plain": LlamaConfig(**_SHAPE),
    "sliding window": MistralConfig(**_SHAPE, sliding_window=5),
    "normed queries": Qwen3Config(**_SHAPE),
}


def made(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Return a model with random weights, in evaluation mode."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model.eval().to(dtype)


def row(model: PreTrainedModel) -> dict[str, Any]:
    """Return a row of mails, as a model is given it."""
    ids = (torch.arange(sum(SIZES)) * 7 % 61 + 3)[None]
    positions = torch.tensor([[i for n in SIZES for i in range(n)]])
    return {"input_ids": ids, "position_ids": positions, "use_cache": False} | lengths(model, SIZES)


def outcome(model: PreTrainedModel, within: AbstractContextManager[None]) -> list[Tensor]:
    """Return a row's logits, and the gradients of all that a model has."""
    model.zero_grad()
    with within:
        logits = model(**row(model)).logits
        logits.float().square().mean().backward()
    return [logits.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("config", ABLE.values(), ids=ABLE.keys())
def test_mails_in_a_row_come_to_the_same(config: PreTrainedConfig) -> None:
    """Logits and gradients are those under transformers' mask, which is back afterwards."""
    model = made(config)
    expected = outcome(model, nullcontext())
    with mail_by_mail(model):
        assert model.config._attn_implementation == NAME
    for found, wanted in zip(outcome(model, mail_by_mail(model)), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert model.config._attn_implementation == "sdpa"


def test_layers_may_be_recomputed() -> None:
    """With recomputed activations the gradients are the same."""
    model = made(ABLE["plain"])
    expected = outcome(model, nullcontext())
    model.train()
    model.activation_checkpointing_enable({"use_reentrant": False})
    for found, wanted in zip(outcome(model, mail_by_mail(model)), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_bf16_is_no_worse() -> None:
    """In bf16 the gradients are as near to those of fp32 as under the mask."""
    exact = outcome(made(ABLE["plain"]), nullcontext())
    model = made(ABLE["plain"], torch.bfloat16)
    errors = [
        sum(float((a.float() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))
        for found in (outcome(model, nullcontext()), outcome(model, mail_by_mail(model)))
    ]
    assert errors[1] <= 1.1 * errors[0]


def test_a_model_that_asks_for_more_stays_as_it_was() -> None:
    """A cap on the attention scores is not done here: the model keeps its own attention."""
    model = made(
        Gemma2Config(**_SHAPE, query_pre_attn_scalar=8, attn_logit_softcapping=20.0),
    )
    before = model.config._attn_implementation
    with mail_by_mail(model):
        assert model.config._attn_implementation == before
        assert lengths(model, SIZES) == {}


def test_without_the_lengths_nothing_is_computed() -> None:
    """A row whose mails are not told is refused rather than attended to as one mail."""
    model = made(ABLE["plain"])
    given = row(model)
    with mail_by_mail(model), pytest.raises((KeyError, NotImplementedError)):
        model(**given)


def test_the_call_of_the_gpu_kernel_fits_it() -> None:
    """Where torch has the kernel, shapes and words of our call are those it takes."""
    if _kernel() is None:
        pytest.skip("this torch has no attention for many lengths; a GPU would have no use of it")
    with FakeTensorMode():
        shape = {"dtype": torch.bfloat16, "device": "meta"}
        query, key = torch.empty(1, 4, 26, 8, **shape), torch.empty(1, 2, 26, 8, **shape)
        edges = torch.empty(4, dtype=torch.int32, device="meta")
        options = {"cu_seq_lens_q": edges, "max_length_q": 14}
        out = _by_one_kernel((query, key, key), None, 5, options)
    assert out.shape == (1, 26, 4, 8)
