"""Fine-tuning: examples in, a trained adapter out; stops and resumes anywhere."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from trainer.errors import OutOfMemoryError
from trainer.rosa import RosaConfig
from trainer.run import Run
from trainer.step import out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trainer.base_model import LanguageModel
    from trainer.examples import Example
    from trainer.rosa import RosaModel


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """How an adapter is trained.

    Attributes:
        rosa: The adapter.
        epochs: How often each mail is seen, at the most.
        batch: Mails per optimizer step.
        lora_rate: Learning rate of A and B (AdamW).
        sparse_rate: Learning rate of the values of S, and of modules that are trained whole.
        warmup: Steps over which the rates rise; they fall linearly to zero afterwards, whether the
            training stops early or not.
        mask_warmup: LoRA-only steps before the mask is chosen, at most a tenth of all steps; their
            result is thrown away.
        patience: The training ends after so many epochs that did not lower the hold-out's
            perplexity.
        max_norm: The most that the gradient of a step may measure; a longer one is shortened.
        row: The most tokens in one packed row, which bounds the memory of a step. It is halved
            where a step does not fit.
        recompute: Keep the input of each decoder layer alone and compute the layer again in
            backward: a third more time for far longer rows. A mail that is longer than a row is
            always computed in this way.
        seed: Of everything random: order, initialisation, dropout.
        checkpoint_seconds: How much work a kill may cost; more where saving takes long, so that
            it takes a twentieth of the time at the most.
    """

    rosa: RosaConfig = field(default_factory=RosaConfig)
    epochs: int = 5
    batch: int = 8
    lora_rate: float = 2e-3
    sparse_rate: float = 1e-3
    warmup: int = 8
    mask_warmup: int = 8
    patience: int = 2
    max_norm: float = math.inf
    row: int = 384
    recompute: bool = False
    seed: int = 0
    checkpoint_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuned:
    """What a training came to.

    Attributes:
        rosa: The model with the trained adapter on it, that of the best epoch.
        losses: Mean loss of each optimizer step, in nats per token.
        hold_out: The hold-out's perplexity after each epoch; empty without a hold-out.
        epoch: The epoch that the adapter is of, from 1; the last one without a hold-out.
        tokens: Tokens of mails and prompts that were learned from, warm-up and mask aside.
        positions: Positions that were computed for them, padding included.
        row: The most tokens in one packed row at the end.
        resumed: The step it went on from; 0 for a training in one go.
    """

    rosa: RosaModel
    losses: tuple[float, ...]
    hold_out: tuple[float, ...]
    epoch: int
    tokens: int
    positions: int
    row: int
    resumed: int


def finetune(
    lm: LanguageModel,
    examples: Sequence[Example],
    settings: FinetuneSettings,
    *,
    hold_out: Sequence[Example] = (),
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Finetuned:
    """Train a RoSA adapter on a base model.

    LoRA alone is warmed up, the gradient then chooses the mask of S, and LoRA and S start together
    from zero (arXiv 2401.04679, algorithm 1). In a process group of `torch.distributed` each
    process calls this with the same arguments, computes its share of each batch, and returns the
    same; the first one alone writes the checkpoint, which all must be able to read.

    Args:
        lm: The base model; the adapter stays on it, unless this raises.
        examples: What to learn.
        settings: How.
        hold_out: What the adapter of each epoch is judged by; the best epoch's is returned.
        checkpoint: A safetensors file to resume from and to keep while training. One that is
            damaged, or was written for other examples, settings or another base model, is started
            over. Its ``row`` counts, not that of the settings.
        progress: Called with the optimizer steps done and their total, often within a step too.
            What it raises breaks the training off, and no finished step is lost by that.

    Raises:
        DivergedError: The loss or its gradient is not a number; the checkpoint is removed, since
            it leads there.
        OutOfMemoryError: Even one mail alone does not fit into memory.
        CheckpointError: The checkpoint cannot be written; the one before it stays.
    """
    if not examples:
        raise ValueError("there are no examples to learn from")
    try:
        run = Run(
            lm,
            examples,
            hold_out,
            settings,
            checkpoint=checkpoint,
            identity=_identity(lm, examples, hold_out, settings),
            progress=progress,
        )
        run.train()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        longest = max(len(one.tokens) for one in examples)
        raise OutOfMemoryError(longest, settings.row) from error
    state = run.state
    return Finetuned(
        rosa=run.rosa,
        losses=tuple(state.losses),
        hold_out=tuple(state.scores),
        epoch=run.best_epoch or math.ceil(state.step / run.steps_per_epoch),
        tokens=state.tokens,
        positions=state.positions,
        row=state.row,
        resumed=run.resumed,
    )


def _identity(
    lm: LanguageModel,
    examples: Sequence[Example],
    hold_out: Sequence[Example],
    settings: FinetuneSettings,
) -> str:
    """Return a hash of all that decides what a training comes to, rounding aside."""
    chosen = asdict(settings)
    for free in ("row", "recompute", "checkpoint_seconds"):
        del chosen[free]
    about = [lm.hash, lm.precision, str(lm.dtype), chosen, len(examples)]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for one in (*examples, *hold_out):
        digest.update(json.dumps([one.tokens, one.learned, one.words]).encode())
    return digest.hexdigest()
