"""The loss of a language model over rows of mails, at the tokens to learn alone.

The head of a small model costs a fifth of a forward, and its logits, vocabulary times tokens,
are the largest thing in memory. So the head sees only the positions that predict a token to learn,
in chunks whose logits are gone before the next chunk's are made: the gradient of the hidden states
is taken with the loss, in forward. `torch.nn.functional.linear_cross_entropy` (torch 2.13) does the
same for a bare matrix; on a CPU it takes 4 times as long and more at the shapes of SmolLM2-135M
(tests/bench/loss.py), it rounds the loss of bf16 to bf16, knows no head that does more than
multiply, and is not in the torch versions before, which Panza supports.
"""

from __future__ import annotations

import inspect
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainer import attention
from trainer.examples import lines, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import nn

    from trainer.base_model import LanguageModel
    from trainer.examples import Example

    Tail = Callable[[Tensor], Tensor]

_LOGITS = 1 << 24
_LEAK = 0.05  # relative difference of states; bf16 rounds by 0.01, another mail makes 0.3 or more


class Objective:
    """The loss of one model, with or without an adapter on it.

    Args:
        lm: The model.
        logits: The most logits that exist at one time.

    Attributes:
        packs: Whether the model keeps mails apart that are laid behind each other into one row. It
            is tried out on a few tokens: attention keeps them apart by their positions, a
            recurrent layer or a position bias does not.
    """

    def __init__(self, lm: LanguageModel, *, logits: int = _LOGITS) -> None:
        self._lm, self._logits = lm, logits
        self._positions = "position_ids" in inspect.signature(lm.model.forward).parameters
        training = lm.model.training
        lm.model.eval()
        try:
            self._tail = self._find_tail()
            self.packs = self._positions and self._keeps_apart()
        finally:
            lm.model.train(training)

    def rows(self, mails: Iterable[Example], limit: int) -> list[list[Example]]:
        """Lay mails into rows of at most ``limit`` tokens; a longer mail has a row of its own."""
        return pack(mails, limit) if self.packs else lines(mails, limit)

    def lengths(self, row: Sequence[Example]) -> list[int]:
        """Return how many positions each mail of a row takes, padding included."""
        sizes = [len(one.tokens) for one in row]
        return sizes if self.packs else [max(sizes)] * len(sizes)

    def loss(self, row: Sequence[Example]) -> Tensor:
        """Return the negative log-likelihood of all that is to be learned in a row, summed.

        Returns:
            A number in nats, fp32 or better, ready for ``backward``.
        """
        ids, sizes, at, targets = self._tensors(row, words_only=False)
        if self._tail is None:
            logits = self._own_logits(ids, sizes, at)
            return -_log_softmax(logits).gather(1, targets[:, None]).sum()
        hidden = self._states(ids, sizes)[at]
        trained = [p for p in self._head.parameters() if p.requires_grad]
        parts = self._chunks(len(targets))
        return summed(hidden, targets, parts, self._head, self._tail, *trained)

    @torch.no_grad()
    def losses(self, row: Sequence[Example], *, words_only: bool = False) -> Tensor:
        """Return the negative log-likelihood of each target token of a row, in nats.

        It is fp32, or better where the model is.

        Args:
            row: The mails of the row.
            words_only: Only the owner's own words, without the subject and the token that ends a
                mail; else all that is learned.
        """
        ids, sizes, at, targets = self._tensors(row, words_only=words_only)
        if self._tail is None:
            logits = self._own_logits(ids, sizes, at)
            return -_log_softmax(logits).gather(1, targets[:, None])[:, 0]
        hidden = self._states(ids, sizes)[at]
        found = torch.empty(targets.shape, dtype=_wide(hidden), device=targets.device)
        for part in self._chunks(len(targets)):
            logs = _log_softmax(self._tail(self._head(hidden[part])))
            found[part] = -logs.gather(1, targets[part, None])[:, 0]
        return found

    def _chunks(self, targets: int) -> list[slice]:
        size = max(1, self._logits // self._vocabulary)
        return [slice(i, i + size) for i in range(0, targets, size)]

    @property
    def _vocabulary(self) -> int:
        return int(self._lm.model.config.get_text_config().vocab_size)

    @property
    def _head(self) -> nn.Module:
        head: nn.Module | None = self._lm.model.get_output_embeddings()
        if head is None:
            raise ValueError("the model has no output head")
        return head

    def _tensors(
        self, row: Sequence[Example], *, words_only: bool
    ) -> tuple[Tensor, list[int], tuple[Tensor, Tensor], Tensor]:
        """Return token ids, (lines, tokens); mails' sizes; where targets are predicted; targets."""
        sizes = self.lengths(row)
        starts = [0, *accumulate(sizes)][:-1]
        flat = [token for one, n in zip(row, sizes, strict=True) for token in _padded(one, n)]
        where = [
            start + i
            for start, one in zip(starts, row, strict=True)
            for i in range(
                *(
                    (one.words, len(one.tokens) - 1)
                    if words_only
                    else (one.learned, len(one.tokens))
                )
            )
        ]
        shape = (1, -1) if self.packs else (len(row), -1)
        device = self._lm.device
        ids = torch.tensor(flat, device=device)
        at = torch.tensor(where, device=device)
        before = (at - 1).div(sizes[0], rounding_mode="floor"), (at - 1).remainder(sizes[0])
        if self.packs:
            before = torch.zeros_like(at), at - 1
        return ids.view(shape), sizes, before, ids[at]

    def _run(self, ids: Tensor, sizes: Sequence[int]) -> Any:  # noqa: ANN401 - a model's own output
        given = attention.lengths(self._lm.model, sizes)
        if self._positions:
            positions = torch.tensor([i for n in sizes for i in range(n)], device=ids.device)
            given["position_ids"] = positions.view(ids.shape)
        return self._lm.model(input_ids=ids, use_cache=False, **given)

    def _states(self, ids: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return what the model gives to its head, (lines, tokens, width); the head does nothing.

        Taken at the head's door, it is right for every model, whatever it does before its head.
        """
        taken: list[Tensor] = []

        def take(_head: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            taken.append(given[0])
            return given[0][:, :0], *given[1:]

        with self._head.register_forward_pre_hook(take):
            self._run(ids, sizes)
        return taken[0]

    def _own_logits(self, ids: Tensor, sizes: Sequence[int], at: tuple[Tensor, Tensor]) -> Tensor:
        """Return the model's own logits at some positions, all at one time."""

        def choose(_head: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return given[0][at][None], *given[1:]

        with self._head.register_forward_pre_hook(choose):
            logits: Tensor = self._run(ids, sizes).logits[0]
        return logits

    @torch.no_grad()
    def _find_tail(self) -> Tail | None:
        """Return what the model does to its head's output, None where it is nothing we know."""
        ids = self._probe(8)
        made: list[Tensor] = []
        with self._head.register_forward_hook(lambda _head, _given, out: made.append(out)):
            logits = self._run(ids, [8]).logits
        for tail in _tails(self._lm.model.config.get_text_config()):
            if torch.equal(tail(made[0]).to(logits.dtype), logits):
                return tail
        return None

    @torch.no_grad()
    def _keeps_apart(self) -> bool:
        """Return whether a mail's states are the same behind another mail as alone."""
        first, second = self._probe(7), self._probe(12)[:, 7:]
        behind = self._states(torch.cat([first, second], 1), [7, 5])[0, 7:].float()
        alone = self._states(second, [5])[0].float()
        return bool(((behind - alone).norm(dim=1) <= _LEAK * alone.norm(dim=1)).all())

    def _probe(self, count: int) -> Tensor:
        size = self._vocabulary
        some = torch.arange(1, count + 1, device=self._lm.device) * 7919 % max(1, size - 3) + 3
        return some.clamp(max=size - 1)[None]


def _padded(one: Example, size: int) -> Iterator[int]:
    """Yield a mail's tokens and its last one again up to a size; no mail sees what is behind it."""
    yield from one.tokens
    yield from one.tokens[-1:] * (size - len(one.tokens))


def _tails(config: Any) -> Iterator[Tail]:  # noqa: ANN401 - any model's configuration
    """Yield what models do to their head's output."""
    yield lambda out: out
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma 2
        yield lambda out: torch.tanh(out / cap) * cap
    if divisor := getattr(config, "logits_scaling", None):  # Granite
        yield lambda out: torch.div(out, divisor)
    if scale := getattr(config, "logit_scale", None):  # Cohere
        yield lambda out: torch.mul(out, scale)
    if factor := getattr(config, "lm_head_multiplier", None):  # Falcon H1
        yield lambda out: torch.mul(out, factor)


def _log_softmax(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1, dtype=_wide(logits))


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def summed(
    hidden: Tensor,
    targets: Tensor,
    parts: Sequence[slice],
    head: nn.Module,
    tail: Tail,
    *trained: Tensor,
) -> Tensor:
    """Return the summed loss of hidden states, (tokens, width), whose gradient is taken with it.

    Args:
        hidden: What goes into the head.
        targets: The tokens to predict from them.
        parts: The chunks in which the head sees them.
        head: From width to vocabulary.
        tail: What is done to its output.
        trained: The parameters of the head that have a gradient too.
    """
    apply = _SummedLoss.apply
    loss: Tensor = apply(hidden, targets, parts, head, tail, *trained)  # type: ignore[no-untyped-call]
    return loss


class _SummedLoss(torch.autograd.Function):
    """The sum of the losses of hidden states, (tokens, width); their gradient is taken with it."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes them by position
        ctx: Any,  # noqa: ANN401 - autograd gives its contexts no type
        hidden: Tensor,
        targets: Tensor,
        parts: Sequence[slice],
        head: nn.Module,
        tail: Tail,
        *trained: Tensor,
    ) -> Tensor:
        total = torch.zeros((), dtype=_wide(hidden), device=hidden.device)
        slope = torch.empty_like(hidden)
        sums = [torch.zeros_like(one) for one in trained]
        for part in parts:
            with torch.enable_grad():
                states = hidden[part].detach().requires_grad_()
                logits = tail(head(states))
            logs = _log_softmax(logits.detach())
            total -= logs.gather(1, targets[part, None]).sum()
            error = logs.exp_()  # softmax less one at the target: the gradient of the logits
            error.scatter_add_(1, targets[part, None], -torch.ones_like(error[:, :1]))
            found = torch.autograd.grad(logits, (states, *trained), error.to(logits.dtype))
            slope[part] = found[0]
            for one, more in zip(sums, found[1:], strict=True):
                one.add_(more)
        ctx.save_for_backward(slope, *sums)
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        slope, *sums = ((scale * one).to(one.dtype) for one in ctx.saved_tensors)
        return slope, None, None, None, None, *sums
