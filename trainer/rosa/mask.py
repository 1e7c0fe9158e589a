"""The mask of S: the entries of W whose gradient is largest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BLOCK = 32
_CHUNK = 1 << 20  # scores that exist at one time


def nonzeros(size: int, density: float) -> int:
    """Return how many of ``size`` units a density stands for; at least one above density 0."""
    return max(1, math.floor(density * size)) if density > 0 else 0


def row_chunks(rows: int, columns: int, entries: int) -> Iterator[tuple[int, int]]:
    """Cut a matrix into runs of whole rows of about so many entries; yield first and end."""
    step = max(1, entries // columns)
    return ((first, min(first + step, rows)) for first in range(0, rows, step))


@dataclass(frozen=True, slots=True)
class MaskChoice:
    """How the mask of each layer is chosen from its own backward.

    A layer's scores are computed from its input and the gradient of its output as they pass, in
    fp32 and a few rows at a time; of each run of rows only what may belong to the top is kept. So
    nothing of the size of a weight is ever stored.

    Attributes:
        lengths: The tokens of each mail in the packed row that backward runs over.
        criterion: See `trainer.rosa.config.RosaConfig`.
        structure: See `trainer.rosa.config.RosaConfig`.
        reduce: Sums a tensor over all processes in place, for one mask on several GPUs.
    """

    lengths: Sequence[int]
    criterion: Literal["mean_squared", "mean"]
    structure: Literal["entries", "rows", "blocks"]
    reduce: Callable[[Tensor], None] | None = None

    def mask(self, x: Tensor, dy: Tensor, density: float) -> Tensor:
        """Return where the top gradients of a layer's W are: int32, ascending, in the flat W.

        Args:
            x: The layer's input, (tokens, in_features).
            dy: The gradient of its output, (tokens, out_features).
            density: Share of the entries, rows or blocks to choose, above 0.
        """
        shape = (dy.shape[1], x.shape[1])
        scores = ((first, self._scores(x, dy[:, first:end])) for first, end in self._runs(shape))
        if self.structure == "rows":
            chosen = _top(((first, part.sum(1)) for first, part in scores), shape[0], density)
            return _spread(chosen, 1, shape[1], shape)
        if self.structure == "blocks":
            across = math.ceil(shape[1] / BLOCK)
            parts = ((first // BLOCK * across, _by_block(part)) for first, part in scores)
            chosen = _top(parts, math.ceil(shape[0] / BLOCK) * across, density)
            return _spread(chosen, BLOCK, BLOCK, shape)
        flat = ((first * shape[1], part.view(-1)) for first, part in scores)
        return _top(flat, shape[0] * shape[1], density).int()

    def _runs(self, shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
        if self.structure == "blocks":
            runs = row_chunks(math.ceil(shape[0] / BLOCK), shape[1] * BLOCK, _CHUNK)
            return ((first * BLOCK, min(end * BLOCK, shape[0])) for first, end in runs)
        return row_chunks(*shape, _CHUNK)

    def _scores(self, x: Tensor, dy: Tensor) -> Tensor:
        if self.criterion == "mean":
            score = _product(dy, x)
        else:
            score = torch.zeros(dy.shape[1], x.shape[1], dtype=_wide(x), device=x.device)
            lengths = list(self.lengths)
            for part_dy, part_x in zip(dy.split(lengths), x.split(lengths), strict=True):
                gradient = _product(part_dy, part_x)
                score.addcmul_(gradient, gradient)
        if self.reduce:
            self.reduce(score)
        return score.abs_() if self.criterion == "mean" else score


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _product(dy: Tensor, x: Tensor) -> Tensor:
    """Return dyᵀ x in at least fp32: in fp16 the squares would vanish, in bf16 many would tie."""
    if x.is_cuda and x.dtype in {torch.float16, torch.bfloat16}:
        return torch.mm(dy.T, x, out_dtype=torch.float32)
    return dy.T.to(_wide(x)) @ x.to(_wide(x))


def _top(parts: Iterator[tuple[int, Tensor]], size: int, density: float) -> Tensor:
    """Return where the top scores are, ascending, from runs of scores and where each begins."""
    count = nonzeros(size, density)
    scores, places = [], []
    held = 0
    for first, part in parts:
        best = part.topk(min(count, part.numel()), sorted=False)
        scores.append(best.values)
        places.append(best.indices + first)
        held += best.values.numel()
        if held > 2 * count:
            kept = torch.cat(scores).topk(count, sorted=False)
            scores, places = [kept.values], [torch.cat(places)[kept.indices]]
            held = count
    kept = torch.cat(scores).topk(count, sorted=False)
    return torch.cat(places)[kept.indices].sort().values


def _by_block(scores: Tensor) -> Tensor:
    """Sum scores, (rows, columns), over blocks, row by row of blocks; the last may be cut off."""
    rows, columns = (math.ceil(n / BLOCK) for n in scores.shape)
    filled = pad(scores, (0, columns * BLOCK - scores.shape[1], 0, rows * BLOCK - scores.shape[0]))
    return filled.view(rows, BLOCK, columns, BLOCK).sum((1, 3)).view(-1)


def _spread(units: Tensor, height: int, width: int, shape: tuple[int, int]) -> Tensor:
    """Return the entries of W that rows or blocks stand for, int32, ascending."""
    across = math.ceil(shape[1] / width)
    down = torch.arange(height, device=units.device)
    along = torch.arange(width, device=units.device)
    row = (units // across * height)[:, None, None] + down[None, :, None]
    column = (units % across * width)[:, None, None] + along[None, None, :]
    inside = (row < shape[0]) & (column < shape[1])
    return (row * shape[1] + column)[inside].sort().values.int()
