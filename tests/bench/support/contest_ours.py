"""Panza's side of tests/bench/official.py: `trainer.finetune`, a turn for each step."""

from __future__ import annotations

import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from contest import Job, Mail, Wire, forget_peak, peak

from trainer import base_model
from trainer.evaluation import perplexity
from trainer.examples import Example
from trainer.finetune import FinetuneSettings, finetune
from trainer.rosa import RosaConfig
from trainer.run import Run

if TYPE_CHECKING:
    from trainer.base_model import LanguageModel

_LORA_STEPS = 5


def main() -> None:
    """Do the job in the file that the first argument names."""
    job = Job.read(Path(sys.argv[1]))
    folder = Path(job.folder)
    wire = Wire()
    wire.turn("ready")
    lm = base_model.load(job.model, cache=folder, precision=job.precision, device="cpu")
    held_out = [example(mail) for mail in job.held_out]
    wire.turn("base", perplexity=perplexity(lm, held_out).value)
    wanted = settings(job)
    if job.density and job.rank:
        wire.turn("mask", **mask(lm, job, wanted))
    done = 0

    def progress(step: int, _total: int) -> None:
        nonlocal done
        if step > done:  # it is told within a step too
            done = step
            wire.turn("step")
            if step == 1:  # the first step, behind the mask, has made what all the others need
                forget_peak()

    wire.turn("begin")
    trained = finetune(lm, [example(mail) for mail in job.train], wanted, progress=progress)
    memory = peak()
    file = folder / "adapter.safetensors"
    trained.rosa.save(file)
    wire.turn(
        "done",
        perplexity=perplexity(lm, held_out).value,
        memory=memory,
        bytes=file.stat().st_size,
        losses=list(trained.losses),
    )


def settings(job: Job) -> FinetuneSettings:
    """Return the settings of a job as the trainer takes them."""
    return FinetuneSettings(
        rosa=RosaConfig(rank=job.rank, alpha=job.alpha, dropout=job.dropout, density=job.density),
        epochs=job.epochs,
        batch=job.batch,
        lora_rate=job.lora_rate,
        sparse_rate=job.sparse_rate,
        warmup=job.warmup,
        seed=job.seed,
    )


def mask(lm: LanguageModel, job: Job, wanted: FinetuneSettings) -> dict[str, float]:
    """Return what the mask takes beside a step of LoRA's warm-up on the same batch."""
    mails = [example(mail) for mail in job.train]
    run = Run(lm, mails, (), wanted, checkpoint=None, identity="", progress=lambda *_: None)
    batch = [mails[i] for i in job.steps[0]]
    lm.model.train()
    laps = [time.process_time()]
    for step in range(_LORA_STEPS):
        loss, _ = run._stepper._gradient(batch, "warm-up", step)
        run._stepper._update(loss, step)
        laps.append(time.process_time())
        if step == 0:
            forget_peak()
    usual = peak()
    forget_peak()
    run._stepper._choose_masks(batch)
    laps.append(time.process_time())
    *lora, seconds = [after - before for before, after in pairwise(laps)]
    memory = peak() - usual
    file = Path(job.folder) / "mask.safetensors"
    run.rosa.save_masks(file)
    lm.model.eval()
    run.rosa.unload()
    return {
        "mask": seconds,
        "lora": statistics.median(lora[1:]),
        "memory": memory,
        "bytes": file.stat().st_size,
    }


def example(mail: Mail) -> Example:
    """Return a mail as the trainer takes it."""
    return Example("", tuple(mail.tokens), mail.learned, mail.words)


if __name__ == "__main__":
    main()
