"""Fine-tuning: examples in, a trained adapter out; stops and resumes anywhere."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainer.errors import DivergedError
from trainer.examples import pack, token_losses
from trainer.rosa import RosaConfig, RosaModel, get_rosa_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from trainer.base_model import LanguageModel
    from trainer.examples import Example


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """How an adapter is trained.

    Attributes:
        rosa: The adapter.
        epochs: How often each mail is seen.
        batch: Mails per optimizer step.
        lora_rate: Learning rate of A and B (AdamW).
        sparse_rate: Learning rate of the values of S (AdamW).
        warmup: Steps over which the rates rise; they fall linearly to zero afterwards.
        mask_warmup: LoRA-only steps before the mask is chosen, at most a tenth of all steps; their
            result is thrown away.
        row: The most tokens in one packed row, which bounds the memory of a step. The mask is
            chosen by the gradient of one row of mails.
        seed: Of everything random: order, initialisation, dropout.
        checkpoint_seconds: How much work an interruption may cost.
    """

    rosa: RosaConfig = field(default_factory=RosaConfig)
    epochs: int = 5
    batch: int = 8
    lora_rate: float = 2e-3
    sparse_rate: float = 1e-3
    warmup: int = 8
    mask_warmup: int = 8
    row: int = 384
    seed: int = 0
    checkpoint_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Finetuned:
    """What a training came to.

    Attributes:
        rosa: The model with the trained adapter on it.
        losses: Mean loss of each optimizer step, in nats per token.
        tokens: Tokens processed, prompts included.
        resumed: The step it went on from; 0 for a training in one go.
    """

    rosa: RosaModel
    losses: tuple[float, ...]
    tokens: int
    resumed: int


class _Run:
    """One training between two checkpoints: adapter, optimizer, step, losses."""

    def __init__(self, rosa: RosaModel, settings: FinetuneSettings, total: int) -> None:
        self.rosa, self.settings, self.total = rosa, settings, total
        self.step, self.tokens = 0, 0
        self.losses: list[float] = []
        self.start_optimizer()

    def start_optimizer(self) -> None:
        """Begin the optimizer anew for the parameters that exist now."""
        lora, sparse = self.rosa.lora_parameters(), self.rosa.sparse_parameters()
        self.names = [*lora, *sparse]
        groups = [
            {"params": list(part.values()), "lr": rate, "base": rate}
            for part, rate in (
                (lora, self.settings.lora_rate),
                (sparse, self.settings.sparse_rate),
            )
            if part
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), weight_decay=0.0)

    def set_rates(self, step: int, total: int) -> None:
        """Set the rates of a step: a linear rise, then a linear fall to zero."""
        rise = min(1.0, (step + 1) / max(1, self.settings.warmup))
        fall = max(0.0, 1.0 - step / max(1, total))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * min(rise, fall)


def finetune(
    lm: LanguageModel,
    examples: Sequence[Example],
    settings: FinetuneSettings,
    *,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Finetuned:
    """Train a RoSA adapter on a base model.

    LoRA alone is warmed up, the gradient then chooses the mask of S, and LoRA and S start together
    from zero (arXiv 2401.04679, algorithm 1).

    Args:
        lm: The base model; the adapter stays on it.
        examples: What to learn.
        settings: How.
        checkpoint: A safetensors file to resume from and to keep while training. One that was
            written for other examples, settings or another base model is started over.
        progress: Called with the optimizer steps done and their total. What it raises breaks the
            training off, and no step is lost by that.

    Raises:
        DivergedError: The loss is not a number; the checkpoint is removed, since it may carry it.
    """
    batches = _schedule(examples, settings)
    run = _Run(_adapter(lm, settings), settings, total=len(batches))
    identity = _identity(lm, examples, settings)
    resumed = _restore(run, checkpoint, identity)
    if not resumed:
        torch.manual_seed(settings.seed)
        _choose_masks(lm, run, examples)
    run.rosa.train_sparse(on=settings.rosa.density > 0)
    saved = time.monotonic()
    run.rosa.base.train()
    try:
        for batch in batches[run.step :]:
            try:
                progress(run.step, run.total)
            except BaseException:
                if checkpoint and run.step:
                    _save(run, checkpoint, identity)
                raise
            _step(lm, run, [examples[i] for i in batch], checkpoint)
            if checkpoint and time.monotonic() - saved >= settings.checkpoint_seconds:
                _save(run, checkpoint, identity)
                saved = time.monotonic()
    finally:
        run.rosa.base.eval()
    progress(run.total, run.total)
    if checkpoint:
        _save(run, checkpoint, identity)
    return Finetuned(run.rosa, tuple(run.losses), run.tokens, resumed)


def _adapter(lm: LanguageModel, settings: FinetuneSettings) -> RosaModel:
    torch.manual_seed(settings.seed)  # A is random: initialised here
    return get_rosa_model(lm.model, settings.rosa)


def _schedule(examples: Sequence[Example], settings: FinetuneSettings) -> list[list[int]]:
    """Return the indices of each optimizer step: every epoch a new order, from the seed alone."""
    order = torch.Generator().manual_seed(settings.seed)
    steps = []
    for _ in range(settings.epochs):
        shuffled = torch.randperm(len(examples), generator=order).tolist()
        steps += [shuffled[i : i + settings.batch] for i in range(0, len(shuffled), settings.batch)]
    return steps


def _step(
    lm: LanguageModel, run: _Run, batch: Sequence[Example], checkpoint: Path | None = None
) -> None:
    run.set_rates(run.step, run.total)
    loss = _accumulate(lm, batch, run.settings.row)
    if not math.isfinite(loss):
        if checkpoint:
            checkpoint.unlink(missing_ok=True)
        raise DivergedError(run.step)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    run.rosa.write()
    run.step += 1
    run.losses.append(loss)
    run.tokens += sum(len(one.tokens) for one in batch)


def _accumulate(lm: LanguageModel, batch: Sequence[Example], row: int) -> float:
    """Add up the gradient of the mean loss over all target tokens of the batch; return the mean."""
    count = sum(len(one.tokens) - one.learned for one in batch)
    total = 0.0
    for mails in pack(batch, row):
        # A mail longer than a row is computed twice rather than held whole in memory.
        _recompute(lm, on=sum(len(one.tokens) for one in mails) > row)
        loss = token_losses(lm, mails).sum() / count
        loss.backward()
        total += loss.item()
    return total


def _recompute(lm: LanguageModel, *, on: bool) -> None:
    """Keep the activations of a forward for its backward, or recompute them layer by layer."""
    if on:
        lm.model.activation_checkpointing_enable({"use_reentrant": False})
    else:
        lm.model.activation_checkpointing_disable()


def _choose_masks(lm: LanguageModel, run: _Run, examples: Sequence[Example]) -> None:
    """Warm up LoRA alone, choose the mask of S by the gradient, and start both from zero."""
    settings = run.settings
    if not settings.rosa.density:
        return
    batches = [[examples[i] for i in batch] for batch in _schedule(examples, settings)]
    run.rosa.base.train()
    if settings.rosa.rank:
        for step, batch in enumerate(batches[: min(settings.mask_warmup, run.total // 10)]):
            run.set_rates(step, run.total)
            _accumulate(lm, batch, settings.row)
            run.optimizer.step()
            run.optimizer.zero_grad(set_to_none=True)
    chosen = pack((one for batch in batches for one in batch), settings.row)[0]
    lengths = [len(one.tokens) for one in chosen]
    _recompute(lm, on=sum(lengths) > settings.row)
    run.rosa.choose_masks(lengths, lambda: token_losses(lm, chosen).mean().backward())
    run.optimizer.zero_grad(set_to_none=True)
    run.rosa.reset_lora()
    run.start_optimizer()


def _identity(lm: LanguageModel, examples: Sequence[Example], settings: FinetuneSettings) -> str:
    digest = hashlib.sha256(json.dumps([lm.hash, asdict(settings)], sort_keys=True).encode())
    for one in examples:
        digest.update(json.dumps([one.tokens, one.learned]).encode())
    return digest.hexdigest()


def _save(run: _Run, file: Path, identity: str) -> None:
    """Write the checkpoint beside, sync it, and rename it: it is whole or it is not there."""
    tensors = {f"adapter.{name}": value for name, value in run.rosa.tensors().items()}
    for name, parameter in _parameters(run):
        for key, value in run.optimizer.state[parameter].items():
            tensors[f"optimizer.{name}.{key}"] = value.detach().cpu().contiguous()
    for name, state in _generators(run):
        tensors[f"random.{name}"] = state
    notes = {
        "identity": identity,
        "step": str(run.step),
        "tokens": str(run.tokens),
        "losses": json.dumps(run.losses),
    }
    beside = file.with_suffix(".writing")
    save_file(tensors, beside, metadata=notes)
    beside.chmod(0o600)  # what was learned of the owner's mail is hers alone
    with beside.open("rb") as written:
        os.fsync(written.fileno())
    beside.replace(file)


def _restore(run: _Run, file: Path | None, identity: str) -> int:
    """Bring a run back to its checkpoint; return its step, 0 where there is none that fits."""
    if file is None or not file.is_file():
        return 0
    try:
        with safe_open(file, framework="pt") as stored:
            notes = stored.metadata() or {}
            if notes.get("identity") != identity:
                return 0
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return 0
    run.rosa.load_tensors(
        {k.removeprefix("adapter."): v for k, v in tensors.items() if k.startswith("adapter.")}
    )
    run.start_optimizer()
    for name, parameter in _parameters(run):
        prefix = f"optimizer.{name}."
        run.optimizer.state[parameter] = {
            key.removeprefix(prefix): value if key.endswith(".step") else value.to(parameter.device)
            for key, value in tensors.items()
            if key.startswith(prefix)
        }
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])
    run.step, run.tokens = int(notes["step"]), int(notes["tokens"])
    run.losses = json.loads(notes["losses"])
    return run.step


def _parameters(run: _Run) -> Iterator[tuple[str, torch.nn.Parameter]]:
    known = {**run.rosa.lora_parameters(), **run.rosa.sparse_parameters()}
    yield from ((name, known[name]) for name in run.names)


def _generators(run: _Run) -> Iterator[tuple[str, Tensor]]:
    yield "cpu", torch.get_rng_state()
    if run.rosa.base.device.type == "cuda":
        yield "cuda", torch.cuda.get_rng_state()
