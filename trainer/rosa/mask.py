"""The mask of S: the entries of W whose gradient is largest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trainer.rosa.layer import SparseLinear


def nonzeros(size: int, density: float) -> int:
    """Return how many of ``size`` entries a density stands for; at least one above density 0."""
    return max(1, math.floor(density * size)) if density > 0 else 0


def top_entries(score: Tensor, count: int) -> Tensor:
    """Return where the ``count`` largest of ``score.view(-1)`` are: int32, ascending."""
    return score.view(-1).topk(count, sorted=False).indices.sort().values.int()


def gradient_masks(
    layers: Mapping[str, SparseLinear],
    lengths: list[int],
    backward: Callable[[], None],
    density: float,
) -> dict[str, Tensor]:
    """Choose each layer's mask from one backward pass.

    An entry's score is the mean over the mails of its squared gradient: the diagonal of the
    empirical Fisher information, the criterion of arXiv 2401.04679. A layer's scores exist only
    while its own backward runs, in fp32; what is kept of them is the mask.

    Args:
        layers: The layers by name, without an update.
        lengths: The tokens of each mail in the packed row that ``backward`` runs over.
        backward: Runs forward and backward once.
        density: Share of the entries of each layer to choose, above 0.

    Returns:
        For each layer its mask: positions in ``weight.view(-1)``, int32, ascending.
    """
    masks: dict[str, Tensor] = {}

    def watch(name: str, layer: SparseLinear) -> Callable[[Tensor, Tensor], None]:
        def observe(x: Tensor, dy: Tensor) -> None:
            flat_x = x.reshape(-1, x.shape[-1]).float()
            flat_dy = dy.reshape(-1, dy.shape[-1]).float()
            score = torch.zeros_like(layer.weight, dtype=torch.float32)
            for part_x, part_dy in zip(flat_x.split(lengths), flat_dy.split(lengths), strict=True):
                score += (part_dy.T @ part_x).square_()
            masks[name] = top_entries(score, nonzeros(score.numel(), density))

        return observe

    for name, layer in layers.items():
        layer.observer = watch(name, layer)
    try:
        backward()
    finally:
        for layer in layers.values():
            layer.observer = None
    return masks
