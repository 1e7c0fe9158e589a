"""A training in several processes of this machine, each with a GPU of its own.

`finetune` starts them, takes part as the first of them, and sees them end. Each loads the base
model for itself and is sent the same tokens; nothing of the owner's mail touches the disk. They
meet by a file and speak on loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from trainer import base_model
from trainer import finetune as alone
from trainer.errors import PeerError, TrainerError
from trainer.examples import Example
from trainer.finetune import FinetuneSettings
from trainer.rosa import RosaConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.base_model import LanguageModel
    from trainer.finetune import Finetuned

_PATIENCE = timedelta(minutes=10)  # a process may have to load its model from a slow disk
_GRACE = 30.0  # seconds to end after all is done


@dataclass(frozen=True, slots=True)
class Base:
    """How each process loads the base model, see `trainer.base_model.load`."""

    name: str
    cache: Path
    precision: str
    device: str


def finetune(
    processes: int,
    base: Base,
    lm: LanguageModel,
    examples: Sequence[Example],
    settings: FinetuneSettings,
    *,
    hold_out: Sequence[Example],
    checkpoint: Path,
    progress: Callable[[int, int], None],
) -> Finetuned:
    """Do as `trainer.finetune.finetune`, in so many processes.

    Args:
        processes: How many, this one included; above 1.
        base: How the others load the base model.
        lm: The base model of this process.
        examples: What to learn.
        settings: How.
        hold_out: What the adapter of each epoch is judged by.
        checkpoint: What this process alone writes and all of them read.
        progress: Told how far it is.

    Raises:
        PeerError: One of the others has ended in the middle.
        TrainerError: As where there is one process alone.
    """
    given = {
        "base": [base.name, str(base.cache), base.precision, base.device],
        "settings": asdict(settings),
        "examples": [asdict(one) for one in examples],
        "hold_out": [asdict(one) for one in hold_out],
        "checkpoint": str(checkpoint),
    }
    with tempfile.TemporaryDirectory(prefix="panza-peers-") as folder:
        meeting = Path(folder) / "meeting"
        with _others(processes, meeting, given) as others:
            try:
                with _met(meeting, 0, processes, lm.device):
                    return alone.finetune(
                        lm,
                        examples,
                        settings,
                        hold_out=hold_out,
                        checkpoint=checkpoint,
                        progress=progress,
                    )
            except (RuntimeError, OSError) as error:
                # What is lost shows first as a connection that is closed.
                if code := _fault(others):
                    raise PeerError(processes, code) from error
                raise


def main(meeting: Path, rank: int, size: int) -> int:
    """Be one of the others: read what to do, do it, and end with who started this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the first process, and that ends us
    given = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_first, daemon=True).start()
    name, cache, precision, device = given["base"]
    settings = given["settings"]
    settings["rosa"] = RosaConfig.from_json(json.dumps(settings["rosa"]))
    try:
        if device != "cpu" and torch.cuda.is_available():
            torch.cuda.set_device(rank)
        lm = base_model.load(name, cache=Path(cache), precision=precision, device=device)
        with _met(meeting, rank, size, lm.device):
            alone.finetune(
                lm,
                [_example(one) for one in given["examples"]],
                FinetuneSettings(**settings),
                hold_out=[_example(one) for one in given["hold_out"]],
                checkpoint=Path(given["checkpoint"]),
            )
    except (TrainerError, RuntimeError, OSError):
        return 1  # the first process tells the owner
    return 0


def _example(given: dict[str, Any]) -> Example:
    return Example(**{**given, "tokens": tuple(given["tokens"])})


def _end_with_first() -> None:
    sys.stdin.buffer.read()  # its end is that of the first process
    os._exit(1)


@contextlib.contextmanager
def _met(meeting: Path, rank: int, size: int, device: torch.device) -> Iterator[None]:
    """Join the others for the block."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def _others(
    size: int, meeting: Path, given: dict[str, Any]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run the others while the block runs."""
    line = json.dumps(given).encode() + b"\n"
    threads = max(1, (os.cpu_count() or 1) // size)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(1, size):
            words = (sys.executable, "-P", "-m", "trainer.peers", str(meeting), str(rank))
            started.append(
                subprocess.Popen(  # noqa: S603
                    (*words, str(size)), stdin=subprocess.PIPE, stdout=2, env=environment
                )
            )
            _send(started[-1], line)
        yield started
        for one in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.wait(_GRACE)
    finally:
        for one in started:
            one.kill()
            one.communicate()


def _send(process: subprocess.Popen[bytes], line: bytes) -> None:
    if process.stdin is None:
        raise AssertionError("it is a pipe")
    with contextlib.suppress(BrokenPipeError):  # it has ended, which shows when they meet
        process.stdin.write(line)
        process.stdin.flush()


def _fault(others: list[subprocess.Popen[bytes]]) -> int:
    """Return how one of the others has ended, 0 where all are at work."""
    for one in others:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if code := one.wait(1):
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
