"""The chunked loss beside the plain one and torch's own, at the shape of a model's head.

    .venv/bin/python tests/bench/loss.py [--targets 700] [--vocabulary 49152] [--width 576]

Forward and backward, in turns; a figure is the median of the processor time, and how far the
gradient of the hidden states is from the plain one's, as a share of its largest entry.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from trainer.loss import summed

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_CHUNKS = (64, 128, 341)


def main() -> None:
    """Run the bench once and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--targets", type=int, default=700)
    options.add_argument("--vocabulary", type=int, default=49152)
    options.add_argument("--width", type=int, default=576)
    options.add_argument("--rounds", type=int, default=4)
    given = options.parse_args()
    torch.manual_seed(0)
    head = torch.nn.Linear(given.width, given.vocabulary, bias=False).requires_grad_(
        requires_grad=False
    )
    hidden = torch.randn(given.targets, given.width)
    targets = torch.randint(0, given.vocabulary, (given.targets,))
    kinds = _kinds(head, targets)
    laps: dict[str, list[float]] = {name: [] for name in kinds}
    slopes: dict[str, Tensor] = {}
    for _ in range(given.rounds):
        for name, loss in kinds.items():
            states = hidden.clone().requires_grad_()
            began = time.process_time()
            loss(states).backward()
            laps[name].append(time.process_time() - began)
            if states.grad is not None:
                slopes[name] = states.grad
    plain = slopes["plain"]
    for name, times in laps.items():
        apart = float((slopes[name] - plain).abs().max() / plain.abs().max())
        print(f"{name}: {statistics.median(times[1:]):.3f} s, {apart:.1e} apart")


def _kinds(head: torch.nn.Linear, targets: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    def chunked(size: int) -> Callable[[Tensor], Tensor]:
        parts = [slice(i, i + size) for i in range(0, len(targets), size)]
        return lambda states: summed(states, targets, parts, head, lambda out: out)

    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "plain": lambda states: functional.cross_entropy(head(states), targets, reduction="sum")
    }
    if hasattr(functional, "linear_cross_entropy"):
        chosen = torch.nn.LinearCrossEntropyOptions()
        kinds["torch's"] = lambda states: functional.linear_cross_entropy(
            states, head.weight, targets, reduction="sum", options=chosen
        )
    return kinds | {f"chunks of {size}": chunked(size) for size in _CHUNKS}


if __name__ == "__main__":
    main()
