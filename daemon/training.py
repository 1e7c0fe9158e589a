"""One training: corpus, playback, fine-tuning, evaluation, promotion."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from daemon import fitting, report
from daemon.columns import (
    BASE,
    CANDIDATE,
    CURRENT,
    FEW_SHOT,
    SHOTS,
    Columns,
    Examiner,
    Trial,
    figures,
    intervals,
)
from daemon.errors import UnfitError
from daemon.material import Material, corpus
from daemon.promotion import judge
from trainer import base_model, memory, shapes, speed
from trainer.adapters import Manifest, Registry
from trainer.corpus import split
from trainer.finetune import FinetuneSettings, finetune
from trainer.plan import Machine, Mails, Plan, plan
from trainer.rosa import RosaConfig
from trainer.style import Habits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from daemon.config import Account, Config, Training
    from daemon.progress import Progress
    from daemon.store import Store
    from trainer.base_model import LanguageModel
    from trainer.corpus import SentMail, Split
    from trainer.examples import Example
    from trainer.finetune import Finetuned

_CHECKPOINT = "training.safetensors"
_CURVE = 1000  # points of the loss curve: what nobody could see need not be kept


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The mails of a training.

    Attributes:
        examples: How many mails it learned from.
        held_out: How many it was judged by.
        languages: How many of both are in which language (ISO 639-1), "" where not known.
        left_out: How many mails were not used, by reason.
        instructions: How many instructions came from the model, how many from the mail's words.
    """

    examples: int
    held_out: int
    languages: dict[str, int]
    left_out: dict[str, int]
    instructions: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a training went.

    Attributes:
        estimate: What was stated before it began: seconds, memory_bytes, tokens, row, recompute.
        measured: What it then was of that, and the optimizer steps; seconds are those of perplexity
            and fine-tuning, those of the drafts that were judged stand beside them.
        losses: The mean loss of each optimizer step, in nats per token; of a long training, of
            some steps together.
        hold_out: The hold-out's perplexity after each epoch.
        epoch: The epoch that was kept, from 1.
    """

    estimate: dict[str, float]
    measured: dict[str, float]
    losses: list[float]
    hold_out: list[float]
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Trained(Counts, Course):
    """What a training came to; the fields are those of ``panza train --json``.

    Attributes:
        adapter: The id of the new adapter.
        promoted: Whether it is in use now.
        verdict: Why, or why not.
        seconds: How long all of it took.
        peak_memory_bytes: The most memory that was held, on the GPU where there is one; loading the
            base model aside.
        scores: Scores by column: base, few_shot, current, candidate; see `daemon.columns`.
        intervals: The 95 % interval of each, low and high, by column and score.
    """

    adapter: str
    promoted: bool
    verdict: str
    seconds: float
    peak_memory_bytes: int
    scores: dict[str, dict[str, float] | None]
    intervals: dict[str, dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class _Work:
    """The mails of a training in tokens, by use.

    Attributes:
        train: To learn from.
        plain: The held-out ones with no earlier mail in the prompt, for the base model.
        shots: The same with five of them.
        unseen: The same with as many as a draft has.
    """

    train: list[Example]
    plain: list[Example]
    shots: list[Example]
    unseen: list[Example]

    @classmethod
    def of(cls, material: Material, parts: Split, seed: int) -> _Work:
        return cls(
            train=material.training_examples(parts.train, seed),
            plain=material.examples(parts.held_out, 0),
            shots=material.examples(parts.held_out, SHOTS),
            unseen=material.examples(parts.held_out, material.config.retrieval.emails),
        )


def adapters_folder(config: Config, account: Account) -> Registry:
    """Return the account's adapter registry."""
    return Registry(config.folder(account) / "adapters")


def train(
    config: Config,
    account: Account,
    store: Store,
    *,
    progress: Progress,
    seed: int = 0,
    processes: int = 1,
    state: Callable[[Plan], None] = lambda _plan: None,
    trial: Callable[[Sequence[SentMail], int], Trial] = Trial.of,
) -> Trained:
    """Train an adapter on the owner's mails, and put it in use if it has proved itself.

    Interrupted anywhere and called again, it goes on where it was: instructions and embeddings
    are kept as they are made, and the fine-tuning has a checkpoint.

    Args:
        config: The whole configuration.
        account: Whose mail is learned from.
        store: Her mails.
        progress: Told how far it is.
        seed: Of everything random.
        processes: How many share the fine-tuning, each with a GPU of its own.
        state: Told what scores and fine-tuning will take, before they begin; drafts aside.
        trial: Makes of the held-out mails, and of `training.drafts`, what all are judged by.

    Raises:
        trainer.errors.NotEnoughMemoryError: It will not fit; nothing was loaded or computed, but
            for mails that are known to be longer than usual only then.
        trainer.errors.TrainerError: Too few mails, no model, a loss that is not a number.
        daemon.errors.StoreError: The store cannot be read or written.
        OSError: The adapter cannot be written.
    """
    started = time.monotonic()
    fitting.expected(config)
    registry = adapters_folder(config, account)
    mails, left_out = corpus(store.mails(), newest=config.training.emails)
    parts = split(mails)
    material = Material.prepared(
        config, account, store, mails, held_out=parts.held_out, progress=progress
    )
    lm = material.lm
    work = _Work.of(material, parts, seed)
    settings = finetune_settings(config.training, seed)
    _enough_gpus(lm, processes)
    planned = _planned(config, lm, work, settings, processes)
    state(planned)
    settings = replace(settings, row=planned.row, recompute=planned.recompute)
    began = time.monotonic()
    _forget_peak(lm)
    judged_by = trial(parts.held_out, config.training.drafts)
    examiner = Examiner(material, judged_by, Habits.of(parts.train), progress)
    columns = _bars(examiner, work, registry)
    tuned = _finetuned(config, lm, work, settings, registry, progress, processes)
    emails = config.retrieval.emails
    columns[CANDIDATE] = examiner.column(CANDIDATE, work.unseen, emails, tuned.rosa)
    better, verdict = judge(columns)
    counts = _counts(mails, left_out, parts, material)
    course = _course(planned, tuned, lm, time.monotonic() - began, examiner.seconds)
    manifest = registry.add(
        Manifest(
            id=registry.new_id(store.clock(), config.training.method),
            created=store.clock().isoformat(timespec="seconds"),
            base=lm.name,
            base_hash=lm.hash,
            method=config.training.method,
            counts=asdict(counts),
            settings={**asdict(settings), "precision": lm.precision},
            scores=figures(columns),
            intervals=intervals(columns),
            course=asdict(course),
            verdict=verdict,
        ),
        lambda file: tuned.rosa.save(file, base_hash=lm.hash),
        partial(report.render, samples=examiner.samples(columns)),
    )
    (registry.folder / _CHECKPOINT).unlink(missing_ok=True)
    if better:
        registry.promote(manifest.id)
    return Trained(
        **asdict(counts),
        **asdict(course),
        adapter=manifest.id,
        promoted=better,
        verdict=verdict,
        seconds=round(time.monotonic() - started, 1),
        peak_memory_bytes=_peak_memory(lm),
        scores=manifest.scores,
        intervals=manifest.intervals,
    )


def _counts(
    mails: Sequence[SentMail], left_out: Mapping[str, int], parts: Split, material: Material
) -> Counts:
    return Counts(
        examples=len(parts.train),
        held_out=len(parts.held_out),
        languages=dict(Counter(mail.language for mail in mails).most_common()),
        left_out=dict(left_out),
        instructions=dict(Counter(one.source for one in material.instructions.values())),
    )


def _course(
    planned: Plan, tuned: Finetuned, lm: LanguageModel, seconds: float, drafting: float
) -> Course:
    return Course(
        estimate=_estimate(planned),
        measured={
            "seconds": round(seconds - drafting, 1),
            "drafts_seconds": round(drafting, 1),
            "memory_bytes": _peak_memory(lm),
            "tokens": tuned.tokens,
            "steps": len(tuned.losses),
            "row": tuned.row,
        },
        losses=_curve(tuned.losses),
        hold_out=[round(value, 4) for value in tuned.hold_out],
        epoch=tuned.epoch,
    )


def stated(planned: Plan) -> str:
    """Return in a sentence what a training will take."""
    minutes = planned.seconds / 60
    takes = f"{minutes:.0f} min" if minutes >= 1.5 else f"{planned.seconds:.0f} s"  # noqa: PLR2004
    return (
        f"training takes about {takes}, drafts to judge by aside, and "
        f"{planned.memory_bytes >> 20} MiB of memory: "
        f"{planned.tokens} tokens, {planned.row} at a time"
        f"{', computed twice to save memory' if planned.recompute else ''}"
    )


def _enough_gpus(lm: LanguageModel, processes: int) -> None:
    if lm.device.type == "cuda" and processes > torch.cuda.device_count():
        raise UnfitError(
            f"{processes} processes need as many GPUs, and there are {torch.cuda.device_count()}.",
            "Choose fewer with --processes.",
        )


def _planned(
    config: Config, lm: LanguageModel, work: _Work, settings: FinetuneSettings, processes: int
) -> Plan:
    """Plan scores and fine-tuning for the model that is loaded and the mails as they are.

    Raises:
        trainer.errors.NotEnoughMemoryError: It will not fit.
    """
    gpu = lm.device.type == "cuda"
    model = shapes.read(base_model.resolve(config.model.name, cache=config.cache))
    machine = Machine(
        device="cuda" if gpu else "cpu",
        precision="4bit" if lm.precision == "4bit" else "fp32" if _wide(lm) else "bf16",
        computed=lm.dtype.itemsize,
        # Each of several processes has a GPU of its own, but they share memory and cores.
        available=round(_memory(lm) * fitting.RESERVE / (1 if gpu else processes)),
        speed=speed.measure(model, lm.device, lm.dtype) * (processes if gpu else 1),
    )
    mails = Mails(
        [len(one.tokens) for one in work.train],
        targets=sum(len(one.tokens) - one.learned for one in work.train),
        # The hold-out is scored by the base model with and without mails, perhaps by the adapter in
        # use, and by the candidate.
        scored=_tokens(work.plain) + _tokens(work.shots) + 2 * _tokens(work.unseen),
        judged=_tokens(work.unseen),
        batch=settings.batch,
        epochs=settings.epochs,
    )
    return plan(model, fitting.size(config.training), machine, mails)


def _curve(losses: Sequence[float]) -> list[float]:
    """Return the losses of a training, the means of so many steps that they are not too many."""
    size = math.ceil(len(losses) / _CURVE) or 1
    groups = [losses[first : first + size] for first in range(0, len(losses), size)]
    return [round(sum(one) / len(one), 4) for one in groups]


def _estimate(planned: Plan) -> dict[str, float]:
    return {**asdict(planned), "seconds": round(planned.seconds, 1)}


def _tokens(examples: Sequence[Example]) -> int:
    return sum(len(one.tokens) for one in examples)


def _wide(lm: LanguageModel) -> bool:
    return lm.dtype == torch.float32


def _memory(lm: LanguageModel) -> int:
    """Return the bytes that this process holds or may still take, where the model computes."""
    if lm.device.type == "cuda":
        return int(torch.cuda.mem_get_info(lm.device)[0] + torch.cuda.memory_reserved(lm.device))
    return memory.available() + memory.resident()


def _bars(examiner: Examiner, work: _Work, registry: Registry) -> Columns:
    """Score all that a candidate has to beat."""
    columns: Columns = {
        BASE: examiner.column(BASE, work.plain, 0),
        FEW_SHOT: examiner.column(FEW_SHOT, work.shots, SHOTS),
        CURRENT: None,
    }
    lm, emails = examiner.material.lm, examiner.material.config.retrieval.emails
    if current := registry.in_use(base_hash=lm.hash).adapter:
        rosa = registry.load(current, lm)
        try:
            columns[CURRENT] = examiner.column(CURRENT, work.unseen, emails, rosa)
        finally:
            rosa.unload()
    return columns


def _finetuned(  # noqa: PLR0917 - all of it is needed
    config: Config,
    lm: LanguageModel,
    work: _Work,
    settings: FinetuneSettings,
    registry: Registry,
    progress: Progress,
    processes: int,
) -> Finetuned:
    registry.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    share = finetune
    if processes > 1:
        from trainer import peers

        base = peers.Base(lm.name, config.cache, config.model.precision, config.model.device)
        share = partial(peers.finetune, processes, base)
    return share(
        lm,
        work.train,
        settings,
        hold_out=work.unseen,
        checkpoint=registry.folder / _CHECKPOINT,
        progress=lambda step, total: progress("fine-tuning", step, total),
    )


def overridden(config: Config, given: Mapping[str, object]) -> Config:
    """Return a configuration with other settings of the training; those of None stay."""
    chosen = {name: value for name, value in given.items() if value is not None}
    training = config.training.model_copy(update=chosen)
    return config.model_copy(update={"training": training})


def finetune_settings(training: Training, seed: int = 0) -> FinetuneSettings:
    """Return the trainer's settings for those of panza.yaml.

    ``lora`` is RoSA without the sparse part; ``full`` is RoSA whose sparse part is everything.
    """
    shape = training.rosa.model_dump()
    if training.method == "lora":
        shape["density"] = 0.0
    elif training.method == "full":
        shape |= {"rank": 0, "density": 1.0}
    return FinetuneSettings(
        rosa=RosaConfig(**shape), epochs=training.epochs, patience=training.patience, seed=seed
    )


def _forget_peak(lm: LanguageModel) -> None:
    """Begin to measure the peak anew: while a model is read, its file may be in memory as well."""
    if lm.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(lm.device)
    else:
        memory.forget_peak()


def _peak_memory(lm: LanguageModel) -> int:
    if lm.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(lm.device))
    return memory.peak()
