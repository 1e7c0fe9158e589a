"""Attention over a row of mails, mail by mail.

transformers keeps the mails of a packed row apart by a mask over the whole row. Its cost grows with
the square of the row, and it keeps the fast kernels away: on a CPU, where rows are short, attention
took a sixth of a training step; on a GPU, where they are long, it would take most of it. Here each
mail is attended to on its own: by torch's kernel for sequences of many lengths on a GPU, else by a
causal one for each mail.

It is a function of transformers' `AttentionInterface`, which the models that follow that interface
call with the lengths that `lengths` adds to a forward. A model that asks for more than plain causal
attention, or needs what torch cannot do here, stays as it was.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transformers import PreTrainedModel

    _States = tuple[Tensor, Tensor, Tensor]

NAME = "mail_by_mail"
_OURS = {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "panza_sizes"}
_HARMLESS = {"position_ids", "use_cache", "output_attentions", "output_hidden_states", "is_causal"}
_PROBE = (7, 5)


@contextmanager
def mail_by_mail(model: PreTrainedModel) -> Iterator[None]:
    """Within the block the model attends to each mail of a row on its own, if it can.

    Every forward in the block must have the words of `lengths`, and its backward too must be in the
    block, since activations may be recomputed there.
    """
    before = model.config._attn_implementation  # noqa: SLF001 - transformers' own way to ask
    if before != "sdpa" or not _able(model):
        yield
        return
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def lengths(model: PreTrainedModel, sizes: Sequence[int]) -> dict[str, Any]:
    """Return what a forward over a row of mails needs besides tokens and positions.

    Args:
        model: The model.
        sizes: The tokens of each mail in the row.
    """
    if model.config._attn_implementation != NAME:  # noqa: SLF001
        return {}
    edges = torch.tensor([0, *accumulate(sizes)], dtype=torch.int32, device=model.device)
    longest = max(sizes)
    words = {
        "cu_seq_lens_q": edges,
        "cu_seq_lens_k": edges,
        "max_length_q": longest,
        "max_length_k": longest,
    }
    # A graph that was compiled for so many mails is of no use for others where it knows them all.
    return words if edges.is_cuda else words | {"panza_sizes": tuple(sizes)}


def _able(model: PreTrainedModel) -> bool:
    """Tell whether a model computes here as it does by itself, on a row of two short mails."""
    ids = torch.arange(3, 3 + sum(_PROBE), device=model.device)[None]
    positions = torch.cat([torch.arange(n, device=model.device) for n in _PROBE])[None]
    rows = {"input_ids": ids, "position_ids": positions, "use_cache": False, "logits_to_keep": 1}
    training = model.training
    before = model.config._attn_implementation  # noqa: SLF001
    model.eval()
    try:
        with torch.no_grad():
            expected = model(**rows).logits.float()
            model.set_attn_implementation(NAME)
            found = model(**rows, **lengths(model, _PROBE)).logits.float()
    except (NotImplementedError, TypeError):
        return False
    finally:
        model.set_attn_implementation(before)
        model.train(training)
    return bool((found - expected).norm() <= 0.05 * expected.norm())  # 0.01 is rounding in bf16


def _attend(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **options: Any,  # noqa: ANN401 - each model has its own
) -> tuple[Tensor, None]:
    """Attend as `AttentionInterface` asks for.

    From (1, heads, tokens, width) to (1, tokens, heads, width).
    """
    asked = {name for name, value in options.items() if value is not None and value is not False}
    plain = attention_mask is None and not dropout and options.get("is_causal") is not False
    if not plain or asked - _OURS - _HARMLESS:
        raise NotImplementedError
    attend = _by_one_kernel if query.device.type == "cuda" else _one_by_one
    return attend((query, key, value), scaling, sliding_window or 0, options), None


def _one_by_one(
    states: _States, scaling: float | None, window: int, options: dict[str, Any]
) -> Tensor:
    sizes: tuple[int, ...] = options["panza_sizes"]
    # On a CPU the backward of bf16 takes twice the time of fp32, whose sums are better too.
    dtype = states[0].dtype
    wide = torch.promote_types(dtype, torch.float32)
    parts = zip(*(one.to(wide).split(sizes, 2) for one in states), strict=True)
    mails = []
    for q, k, v in parts:
        size = q.shape[2]
        band = _band(size, window, q.device) if 0 < window < size else None
        mails.append(
            scaled_dot_product_attention(
                q, k, v, attn_mask=band, is_causal=band is None, scale=scaling, enable_gqa=True
            )
        )
    return torch.cat(mails, 2).to(dtype).transpose(1, 2)


def _band(size: int, window: int, device: torch.device) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool, device=device).tril().triu(1 - window)


def _by_one_kernel(
    states: _States, scaling: float | None, window: int, options: dict[str, Any]
) -> Tensor:
    kernel = _kernel()
    if kernel is None or states[0].dtype not in {torch.bfloat16, torch.float16}:
        raise NotImplementedError
    q, k, v = (one[0].transpose(0, 1) for one in states)
    edges, longest = options["cu_seq_lens_q"], options["max_length_q"]
    out: Tensor = kernel(
        q,
        k,
        v,
        edges,
        edges,
        longest,
        longest,
        scale=scaling,
        window_size=(window - 1 if 0 < window < longest else -1, 0),
        enable_gqa=True,
    )
    return out[None]


def _kernel() -> Callable[..., Any] | None:
    """Return torch's attention for sequences of many lengths, None where it is too old for it."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "enable_gqa" in inspect.signature(varlen_attn).parameters else None


AttentionInterface.register(NAME, _attend)
