"""How fast this machine multiplies matrices of a model's shapes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from trainer.shapes import Shapes

_SECONDS = 0.3  # of measuring
_TOKENS = {"cpu": 384, "cuda": 4096}


def measure(
    shapes: Shapes, device: torch.device, dtype: torch.dtype, *, seconds: float = _SECONDS
) -> float:
    """Return the FLOP a second of plain matrix products, one for each layer of the widest block.

    Args:
        shapes: Of the model.
        device: Where it computes.
        dtype: What it computes in.
        seconds: How long to measure; whole rounds are made, at least one after a first that warms
            up.
    """
    tokens = _TOKENS[device.type]
    pairs = [
        (
            torch.randn(tokens, columns, device=device, dtype=dtype),
            torch.randn(columns, rows, device=device, dtype=dtype),
        )
        for rows, columns in set(shapes.widest)
    ]
    work = sum(2 * x.shape[0] * w.numel() for x, w in pairs)
    rounds, started = 0, _round(pairs, device)
    while True:
        ended = _round(pairs, device)
        rounds += 1
        if ended - started >= seconds:
            return rounds * work / (ended - started)


def _round(pairs: list[tuple[torch.Tensor, torch.Tensor]], device: torch.device) -> float:
    """Multiply each pair once; return the time at which all of it is done."""
    for x, w in pairs:
        x @ w
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
