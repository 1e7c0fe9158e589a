"""What both sides of tests/bench/official.py share: the job, the order of steps, the wire.

Imported by two Pythons with different libraries: it needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail in tokens; see `trainer.examples.Example`."""

    tokens: list[int]
    learned: int
    words: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one side has to do; the settings are those of `trainer.finetune.FinetuneSettings`.

    Attributes:
        model: The folder of the base model's safetensors.
        folder: Where this side may write.
        train: The mails to learn from.
        held_out: The mails to be judged by.
        steps: The indices of the mails of each optimizer step.
        micro: Mails that peft-rosa computes at once.
        mask_warmup: Steps of LoRA alone before peft-rosa chooses its mask.
    """

    model: str
    folder: str
    train: list[Mail]
    held_out: list[Mail]
    steps: list[list[int]]
    rank: int
    alpha: float
    dropout: float
    density: float
    precision: str
    lora_rate: float
    sparse_rate: float
    warmup: int
    epochs: int
    batch: int
    seed: int
    micro: int
    mask_warmup: int

    def write(self, file: Path) -> None:
        """Write the job where its side will read it."""
        file.write_text(json.dumps(asdict(self)), encoding="ascii")

    @classmethod
    def read(cls, file: Path) -> Job:
        """Return the job in a file."""
        found = json.loads(file.read_text(encoding="ascii"))
        for name in ("train", "held_out"):
            found[name] = [Mail(**mail) for mail in found[name]]
        return cls(**found)

    def rise_and_fall(self, step: int) -> float:
        """Return the share of the full rate at a step: a linear rise, then a fall to zero."""
        return min((step + 1) / self.warmup, 1.0, max(0.0, 1.0 - step / len(self.steps)))


class Wire:
    """How a side takes turns: it tells what its last turn came to, and waits for the next."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="ascii")
        os.dup2(2, 1)  # what a library prints is no answer
        self._began = (time.monotonic(), time.process_time())

    def turn(self, event: str, **facts: Any) -> None:  # noqa: ANN401 - what JSON takes
        """Tell of an event and of the time since the last one; return when it goes on."""
        seconds = time.monotonic() - self._began[0]
        cpu = time.process_time() - self._began[1]
        told = {"event": event, "seconds": seconds, "cpu": cpu, **facts}
        self._answers.write(json.dumps(told) + "\n")
        if not sys.stdin.readline():
            sys.exit()
        self._began = (time.monotonic(), time.process_time())


def forget_peak() -> int:
    """Begin the peak of resident memory anew; return what is resident now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def peak() -> int:
    """Return the peak of resident memory since `forget_peak`, in bytes."""
    return _status("VmHWM")


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
