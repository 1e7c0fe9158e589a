"""The plan of a training beside what one takes: peak memory and speed of real steps.

    .venv/bin/python tests/bench/plan.py [--rows 96,384,1024] [--recompute 0,1] [--model embedded]
        [--density 0.01] [--precision auto] [--batch 1]

Each line is a training of a few steps in a process of its own: mask, steps, hold-out. Memory is its
peak, planned over measured. Efficiency is the training's FLOP a second over those of matrix
products, measured before and after it in the same process.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

MAIL = 96  # tokens
STEPS = 3


def main() -> None:
    """Run the bench once and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", default="96,384,1024")
    options.add_argument("--recompute", default="0,1")
    options.add_argument("--density", default="0.01")
    options.add_argument("--model", default="embedded")
    options.add_argument("--precision", default="auto")
    options.add_argument("--batch", type=int, default=1, help="rows in one step")
    options.add_argument("--cache", type=Path)
    options.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        row, recompute, density = chosen.child
        print(json.dumps(measured(chosen, int(row), float(density), recompute=recompute == "1")))
        return
    with TemporaryDirectory(prefix="panza-bench-") as folder:
        for row in chosen.rows.split(","):
            for recompute in chosen.recompute.split(","):
                for density in chosen.density.split(","):
                    words = [sys.executable, __file__, "--model", chosen.model]
                    words += ["--cache", str(chosen.cache or folder)]
                    words += ["--precision", chosen.precision, "--batch", str(chosen.batch)]
                    words += ["--child", row, recompute, density]
                    done = subprocess.run(  # noqa: S603
                        words, stdout=subprocess.PIPE, text=True, check=True
                    )
                    report(row, recompute, density, json.loads(done.stdout))


def report(row: str, recompute: str, density: str, found: dict[str, float]) -> None:
    """Print one line."""
    print(
        f"row {row}, {'recomputed' if recompute == '1' else 'kept'}, density {density}: "
        f"planned {found['planned'] / 2**20:.0f} MiB, measured {found['peak'] / 2**20:.0f} "
        f"({found['planned'] / found['peak']:.2f}); {found['tokens'] / found['seconds']:.0f} "
        f"tokens/s, efficiency {found['efficiency']:.2f} of {found['speed'] / 1e9:.0f} GFLOP/s",
        flush=True,
    )


def measured(
    chosen: argparse.Namespace, row: int, density: float, *, recompute: bool
) -> dict[str, float]:
    """Train a few steps of full rows, and return what was planned and what they took."""
    import torch

    from trainer import base_model, memory, plan, shapes, speed
    from trainer.examples import Example
    from trainer.finetune import FinetuneSettings, finetune
    from trainer.rosa import RosaConfig

    lm = base_model.load(chosen.model, cache=chosen.cache, precision=chosen.precision)
    model = shapes.read(base_model.resolve(chosen.model, cache=chosen.cache))
    dice = random.Random(0)
    mails_in_row = max(1, row // MAIL)
    batch = mails_in_row * chosen.batch
    size = lm.tokenizer.vocab_size - 3
    examples = [
        Example(str(i), tuple(dice.randrange(3, size) for _ in range(row // mails_in_row)), 32, 32)
        for i in range(batch * STEPS)
    ]
    config = RosaConfig(density=density)
    settings = FinetuneSettings(
        rosa=config, epochs=1, batch=batch, row=row, recompute=recompute, mask_warmup=0
    )
    before = speed.measure(model, lm.device, lm.dtype)
    memory.forget_peak()  # loading may hold the file as well, but the system can drop that
    times: list[float] = []

    def progress(step: int, _total: int) -> None:
        if step == len(times):
            times.append(time.monotonic())

    done = finetune(lm, examples, settings, hold_out=examples[:1], progress=progress)
    fast = (before + speed.measure(model, lm.device, lm.dtype)) / 2
    peak = memory.peak()
    if lm.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(lm.device)
    took = times[-1] - times[1]  # without the mask and the first step
    tokens = done.tokens * (STEPS - 1) // STEPS
    machine = plan.Machine(lm.device.type, lm.precision, lm.dtype.itemsize, 1 << 60, fast)
    mails = plan.Mails(
        [len(one.tokens) for one in examples[batch:]],
        targets=sum(len(one.tokens) - one.learned for one in examples[batch:]),
        batch=batch,
        epochs=1,
    )
    shape = plan.Size(config.rank, config.density, config.dropout)
    work = plan.step_work(model, shape, mails, recompute=recompute)
    return {
        "planned": plan.memory(model, shape, machine, mails, row, recompute=recompute),
        "peak": peak,
        "tokens": tokens,
        "seconds": took,
        "speed": fast,
        "efficiency": work / took / fast,
    }


if __name__ == "__main__":
    main()
