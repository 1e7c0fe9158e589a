"""One training: corpus, playback, fine-tuning, evaluation, promotion."""

from __future__ import annotations

import resource
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from daemon.material import Material, own_mails
from trainer.adapters import Manifest, Registry
from trainer.corpus import split, usable
from trainer.evaluation import perplexity
from trainer.finetune import FinetuneSettings, finetune
from trainer.rosa import RosaConfig, load_rosa_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.config import Account, Config, Training
    from daemon.progress import Progress
    from daemon.store import Store
    from trainer.base_model import LanguageModel
    from trainer.corpus import SentMail
    from trainer.examples import Example
    from trainer.rosa import RosaModel

FEW_SHOT = 5
_CHECKPOINT = "training.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The mails of a training.

    Attributes:
        examples: How many mails it learned from.
        held_out: How many it was judged by.
        left_out: How many mails were not used, by reason.
        instructions: How many instructions came from the model, how many from the mail's words.
    """

    examples: int
    held_out: int
    left_out: dict[str, int]
    instructions: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained(Counts):
    """What a training came to; the fields are those of ``panza train --json``.

    Attributes:
        adapter: The id of the new adapter.
        promoted: Whether it is in use now.
        verdict: Why, or why not.
        seconds: How long all of it took.
        peak_memory_bytes: The most memory that was held, on the GPU where there is one.
        scores: Perplexity by column: base, few_shot, current, candidate.
    """

    adapter: str
    promoted: bool
    verdict: str
    seconds: float
    peak_memory_bytes: int
    scores: dict[str, dict[str, float] | None]


def adapters_folder(config: Config, account: Account) -> Registry:
    """Return the account's adapter registry."""
    return Registry(config.folder(account) / "adapters")


def train(
    config: Config, account: Account, store: Store, *, progress: Progress, seed: int = 0
) -> Trained:
    """Train an adapter on the owner's mails, and put it in use if it has proved itself.

    Interrupted anywhere and called again, it goes on where it was: instructions and embeddings
    are kept as they are made, and the fine-tuning has a checkpoint.

    Raises:
        trainer.errors.TrainerError: Too few mails, no model, a loss that is not a number.
        daemon.errors.StoreError: The store cannot be read or written.
        OSError: The adapter cannot be written.
    """
    started = time.monotonic()
    registry = adapters_folder(config, account)
    mails, left_out = usable(own_mails(store.mails()), newest=config.training.emails)
    parts = split(mails)
    material = Material.prepared(
        config, account, store, mails, held_out=parts.held_out, progress=progress
    )
    scores = _bars(material, parts.held_out, registry, progress)
    settings = finetune_settings(config.training, seed)
    examples = material.training_examples(parts.train, seed)
    rosa = _finetuned(material.lm, examples, settings, registry, progress)
    unseen = material.examples(parts.held_out, config.retrieval.emails)
    scores["candidate"] = _score(material.lm, "candidate", unseen, progress)
    better, verdict = judge(scores)
    counts = Counts(
        examples=len(parts.train),
        held_out=len(parts.held_out),
        left_out=dict(left_out),
        instructions=dict(Counter(one.source for one in material.instructions.values())),
    )
    manifest = registry.add(
        Manifest(
            id=registry.new_id(store.clock(), config.training.method),
            created=store.clock().isoformat(timespec="seconds"),
            base=material.lm.name,
            base_hash=material.lm.hash,
            method=config.training.method,
            counts=asdict(counts),
            settings=asdict(settings),
            scores=scores,
            verdict=verdict,
        ),
        rosa.save,
    )
    (registry.folder / _CHECKPOINT).unlink(missing_ok=True)
    if better:
        registry.promote(manifest.id)
    return Trained(
        **asdict(counts),
        adapter=manifest.id,
        promoted=better,
        verdict=verdict,
        seconds=round(time.monotonic() - started, 1),
        peak_memory_bytes=_peak_memory(material.lm),
        scores=scores,
    )


def _bars(
    material: Material, held_out: Sequence[SentMail], registry: Registry, progress: Progress
) -> dict[str, dict[str, float] | None]:
    """Score all that a candidate has to beat."""
    lm, emails = material.lm, material.config.retrieval.emails
    shots = material.examples(held_out, FEW_SHOT)
    return {
        "base": _score(lm, "base model", material.examples(held_out, 0), progress),
        "few_shot": _score(lm, "base model with five mails", shots, progress),
        "current": _current(lm, registry, material.examples(held_out, emails), progress),
    }


def _finetuned(
    lm: LanguageModel,
    examples: Sequence[Example],
    settings: FinetuneSettings,
    registry: Registry,
    progress: Progress,
) -> RosaModel:
    registry.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return finetune(
        lm,
        examples,
        settings,
        checkpoint=registry.folder / _CHECKPOINT,
        progress=lambda step, total: progress("fine-tuning", step, total),
    ).rosa


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
    return FinetuneSettings(rosa=RosaConfig(**shape), epochs=training.epochs, seed=seed)


def judge(scores: dict[str, dict[str, float] | None]) -> tuple[bool, str]:
    """Decide on a candidate: it goes into use only if it beats every other column.

    Returns:
        Whether it does, and the reason in a sentence.
    """
    candidate = scores["candidate"]
    if candidate is None:
        raise ValueError("a candidate without scores cannot be judged")
    names = {
        "base": "the base model",
        "few_shot": "the base model with five mails in the prompt",
        "current": "the adapter in use",
    }
    for column, name in names.items():
        other = scores[column]
        if other is not None and candidate["perplexity"] >= other["perplexity"]:
            return False, (
                f"kept aside: its perplexity {candidate['perplexity']:.2f} is not below "
                f"{other['perplexity']:.2f} of {name}"
            )
    return True, "in use: its perplexity is the lowest of all columns"


def _score(
    lm: LanguageModel, name: str, examples: list[Example], progress: Progress
) -> dict[str, float]:
    value = perplexity(
        lm, examples, lambda done, total: progress(f"scoring the {name}", done, total)
    )
    return {"perplexity": round(value, 4)}


def _current(
    lm: LanguageModel, registry: Registry, examples: list[Example], progress: Progress
) -> dict[str, float] | None:
    current = registry.current()
    if current is None or registry.manifest(current).base_hash != lm.hash:
        return None
    rosa = load_rosa_model(lm.model, registry.weights(current, base_hash=lm.hash))
    try:
        return _score(lm, "adapter in use", examples, progress)
    finally:
        rosa.unload()


def _peak_memory(lm: LanguageModel) -> int:
    if lm.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(lm.device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
