"""The steps of a training: gradients that fit into memory, and what is done with them."""

from __future__ import annotations

import hashlib
import logging
import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from trainer.errors import DivergedError, OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

    from trainer.examples import Example
    from trainer.finetune import FinetuneSettings
    from trainer.loss import Objective
    from trainer.ranks import Ranks
    from trainer.rosa import RosaModel

_log = logging.getLogger(__name__)

_MASK_ROWS = 4  # so many rows' worth of recomputed mails need less memory than one row that is kept
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "out of memory",
    "ALLOC_FAILED",
)


@dataclass(slots=True)
class State:
    """How far a training is, beside its tensors.

    Attributes:
        row: The most tokens in a row.
        recompute: Whether activations are recomputed in every row.
        warmed: Steps of the warm-up that are done.
        started: Whether the warm-up and the choice of the mask are done.
        step: Optimizer steps that are done.
        tokens: Tokens that were learned from in them.
        positions: Positions that were computed for these.
        losses: The mean loss of each step.
        scores: The hold-out's perplexity after each epoch.
    """

    row: int
    recompute: bool
    warmed: int = 0
    started: bool = False
    step: int = 0
    tokens: int = 0
    positions: int = 0
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


class Stepper:
    """What takes the steps of one training.

    Everything random is drawn from the seed and the place where it is needed. So a step that is
    done again, be it after a lack of memory or in another process, comes to the same.

    Attributes:
        optimizer: AdamW over all that is trained now.
        whole: Whether the adapter is between two steps, and not in the middle of being changed.
    """

    def __init__(
        self,
        *,
        rosa: RosaModel,
        objective: Objective,
        settings: FinetuneSettings,
        state: State,
        ranks: Ranks,
        total: int,
        tell: Callable[[], None],
    ) -> None:
        self.rosa, self.objective, self.settings, self.state = rosa, objective, settings, state
        self.ranks, self.total, self.tell = ranks, total, tell
        self.whole = True
        self.start_optimizer()

    def trained(self) -> dict[str, nn.Parameter]:
        """Return all that the optimizer changes."""
        rosa = self.rosa
        found = rosa.lora_parameters() | rosa.sparse_parameters() | rosa.saved_parameters()
        return {name: one for name, one in found.items() if one.numel()}

    def start_optimizer(self) -> None:
        """Begin the optimizer anew for the parameters that exist now."""
        lora = self.rosa.lora_parameters()
        others = [one for name, one in self.trained().items() if name not in lora]
        parts = (
            (list(lora.values()), self.settings.lora_rate),
            (others, self.settings.sparse_rate),
        )
        self.optimizer = torch.optim.AdamW(
            [{"params": part, "lr": rate, "base": rate} for part, rate in parts],
            betas=(0.9, 0.999),
            weight_decay=0.0,
            fused=True,
        )

    def step(self, batch: Sequence[Example]) -> None:
        """Learn from one batch.

        Raises:
            DivergedError: The loss or its gradient is not a number; nothing was changed.
            OutOfMemoryError: Not even one mail at a time fits; nothing was changed.
        """
        state = self.state
        loss, positions = self._gradient(batch, "step", state.step)
        self._update(loss, state.step)
        state.step += 1
        state.losses.append(loss)
        state.tokens += sum(len(one.tokens) for one in batch)
        state.positions += positions

    def start(self, batches: Sequence[Sequence[Example]]) -> None:
        """Warm up LoRA alone, choose the mask of S by the gradient, and start both from zero.

        Raises:
            DivergedError: The loss or its gradient is not a number.
            OutOfMemoryError: Not even one mail at a time fits.
        """
        state, config = self.state, self.settings.rosa
        if state.started:
            return
        if config.sparse:
            steps = min(self.settings.mask_warmup, self.total // 10) if config.rank else 0
            for step in range(state.warmed, steps):
                self.tell()
                loss, _ = self._gradient(batches[step], "warm-up", step)
                self._update(loss, step)
                state.warmed += 1
            self._choose_masks(batches[0])
            seed(self.settings.seed, "start")
            self.rosa.reset_lora()
            self.ranks.copy_first(one.data for one in self.trained().values())
            self.start_optimizer()
        state.started = True

    def make_rows_smaller(self, mails: Sequence[Example]) -> None:
        """Halve the rows after a lack of memory.

        Raises:
            OutOfMemoryError: Each mail was in a row of its own, and recomputed, already.
        """
        sizes = [len(one.tokens) for one in mails]
        if self.state.row < min(sizes):
            raise OutOfMemoryError(max(sizes), self.state.row)
        self.state.row = min(self.state.row, sum(sizes)) // 2
        _log.warning("there is not enough memory; going on with rows of %d tokens", self.state.row)

    def recompute(self, *, on: bool) -> None:
        """Keep the activations of a forward for its backward, or recompute them layer by layer."""
        base = self.rosa.base
        if not base.supports_gradient_checkpointing:
            return
        if on:
            base.activation_checkpointing_enable({"use_reentrant": False})
        else:
            base.activation_checkpointing_disable()

    def _gradient(self, batch: Sequence[Example], *what: object) -> tuple[float, int]:
        """Leave the gradient of a batch's mean loss in the parameters; return it and positions."""
        row = self.state.row
        while True:
            share = (0.0, 0)
            self.optimizer.zero_grad(set_to_none=True)
            with lack_of_memory() as memory:
                share = self._share_of_gradient(batch, *what)
            loss, positions, lacked = self.ranks.sums(*share, memory.lacked)
            if not lacked:
                return loss, int(positions)
            self.optimizer.zero_grad(set_to_none=True)
            try:
                self.make_rows_smaller(batch)
            except OutOfMemoryError:
                self.state.row = row  # there may be more memory another time
                raise

    def _share_of_gradient(self, batch: Sequence[Example], *what: object) -> tuple[float, int]:
        count = sum(len(one.tokens) - one.learned for one in batch)
        total = torch.zeros((), dtype=torch.float64, device=self.ranks.device)
        positions = 0
        rows = self.objective.rows(self._share(batch), self.state.row)
        for number, row in enumerate(rows):
            self.tell()
            size = sum(self.objective.lengths(row))
            # A mail longer than a row is computed twice rather than held whole in memory.
            self.recompute(on=self.state.recompute or size > self.state.row)
            seed(self.settings.seed, *what, self.ranks.rank, number)
            loss = self.objective.loss(row) / count
            loss.backward()
            total += loss.detach()
            positions += size
        for one in self.trained().values():
            if one.grad is None:  # this process had no mail of the batch
                one.grad = torch.zeros_like(one)
        return total.item(), positions

    def _update(self, loss: float, step: int) -> None:
        """Let the optimizer take the step whose gradient is in the parameters."""
        parameters = list(self.trained().values())
        gradients = [one.grad for one in parameters if one.grad is not None]
        self.ranks.sum_all(gradients)
        norm = torch.nn.utils.get_total_norm(gradients)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise DivergedError(step)
        if math.isfinite(self.settings.max_norm):
            torch.nn.utils.clip_grads_with_norm_(parameters, self.settings.max_norm, norm)
        self._set_rates(step)
        self.whole = False
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.rosa.write()
        self.whole = True

    def _set_rates(self, step: int) -> None:
        """Set the rates of a step: a linear rise, then a linear fall to zero."""
        rise = min(1.0, (step + 1) / max(1, self.settings.warmup))
        fall = max(0.0, 1.0 - step / max(1, self.total))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * min(rise, fall)

    def _choose_masks(self, batch: Sequence[Example]) -> None:
        """Choose the mask by as much of a batch, in one row, as needs no more than a step does."""
        limit = self.state.row * (1 if self.state.recompute else _MASK_ROWS)
        while True:
            row = self._fitting(self._share(batch), limit)
            with lack_of_memory() as memory:
                self._choose_by(row)
            self.optimizer.zero_grad(set_to_none=True)
            if not memory.lacked:
                return
            tokens = sum(len(one.tokens) for one in row)
            if len(row) == 1 or self.ranks.size > 1:  # the others wait in the middle of a sum
                raise OutOfMemoryError(tokens, limit)
            limit = tokens // 2

    def _choose_by(self, row: Sequence[Example]) -> None:
        self.recompute(on=True)
        seed(self.settings.seed, "mask", self.ranks.rank)
        count = self.ranks.sums(sum(len(one.tokens) - one.learned for one in row))[0]
        losses = []

        def backward() -> None:
            loss = self.objective.loss(row) / count
            loss.backward()
            losses.append(loss.detach())

        self.rosa.choose_masks(
            backward, self.objective.lengths(row), self.ranks.sum if self.ranks.size > 1 else None
        )
        gradients = [one.grad for one in self.trained().values() if one.grad is not None]
        if not all(bool(one.isfinite().all()) for one in (*losses, *gradients)):
            raise DivergedError(0)

    def _share(self, batch: Sequence[Example]) -> Sequence[Example]:
        """Return the mails of this process: about as many tokens for each."""
        if self.ranks.size == 1:
            return batch
        shares: list[list[Example]] = [[] for _ in range(self.ranks.size)]
        for one in sorted(batch, key=lambda one: -len(one.tokens)):
            min(shares, key=lambda some: sum(len(x.tokens) for x in some)).append(one)
        return shares[self.ranks.rank]

    @staticmethod
    def _fitting(mails: Sequence[Example], limit: int) -> Sequence[Example]:
        tokens = 0
        for many, one in enumerate(mails):
            tokens += len(one.tokens)
            if many and tokens > limit:
                return mails[:many]
        return mails


def seed(*what: object) -> None:
    """Seed torch by what is about to be drawn."""
    digest = hashlib.sha256(repr(what).encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:7], "big"))


class Memory:
    """Whether memory was lacking in a block."""

    lacked = False


@contextmanager
def lack_of_memory() -> Iterator[Memory]:
    """End the block where memory does not suffice for it, and give back what it held."""
    memory = Memory()
    try:
        yield memory
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        memory.lacked = True
    if memory.lacked and torch.cuda.is_available():
        torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python's or torch's says that memory is lacking."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)
