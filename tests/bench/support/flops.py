"""What a training step has to compute, counted from shapes, and how fast plain products are."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from trainer.examples import Example


class Work:
    """The floating-point operations of training steps of one model.

    Counted: a product of x and W forward, one for the gradient of x, one for that of S; the same of
    A and B, both trained; attention from each token to those before it in its mail; the head at the
    tokens to learn, forward and for its input's gradient. Not counted: what is computed twice, what
    a row's padding costs, and all that is done entry by entry.

    Attributes:
        shapes: Rows and columns, (out, in), of each adapted layer.
        head: Those of the head.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        head = model.get_output_embeddings()
        linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        found = {n: m for n, m in linear.items() if m is not head}
        self.shapes = [(m.out_features, m.in_features) for m in found.values()]
        # The first layer's inputs are embeddings, which nothing trains: no gradient goes there.
        ends = ("q_proj", "k_proj", "v_proj")
        first = [m for n, m in found.items() if ".layers.0." in n and n.endswith(ends)]
        self._without_dx = sum(m.out_features * m.in_features for m in first)
        weight = head.weight
        self.head = (weight.shape[0], weight.shape[1])
        queries = [m.out_features for n, m in found.items() if n.endswith("q_proj")]
        self._attended = sum(queries)

    def of(self, mails: Sequence[Example], *, rank: int, sparse: bool) -> float:
        """Return the operations of a step over some mails."""
        sizes = [len(one.tokens) for one in mails]
        learned = sum(len(one.tokens) - one.learned for one in mails)
        dense = sum(rows * columns for rows, columns in self.shapes)
        low = rank * sum(rows + columns for rows, columns in self.shapes)
        per_token = (3 if sparse else 2) * dense - self._without_dx + 3 * low
        # Scores and their sums over half a square: two products forward, four backward.
        attention = sum(size * (size + 1) / 2 for size in sizes) * self._attended * 6
        return 2.0 * (
            per_token * sum(sizes) + attention + 2 * self.head[0] * self.head[1] * learned
        )


class Products:
    """Plain `torch.mm` of the shapes of a model, as many of each as the model has.

    Args:
        work: The model's.
        tokens: In a row.
        learned: Tokens to learn in a row.
    """

    def __init__(
        self, work: Work, tokens: int, learned: int, dtype: torch.dtype, device: str = "cpu"
    ) -> None:
        self._cuda = torch.device(device).type == "cuda"
        self._many = Counter((tokens, columns, rows) for rows, columns in work.shapes)
        self._many[learned, work.head[1], work.head[0]] = 1
        self._pairs: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {
            (n, k, m): (
                torch.randn(n, k, device=device).to(dtype),
                torch.randn(k, m, device=device).to(dtype),
            )
            for n, k, m in self._many
        }

    def rates(self) -> tuple[float, float]:
        """Return operations a second, by the clock and by the processor's seconds."""
        operations, wall, busy = 0.0, 0.0, 0.0
        for shape, (x, w) in self._pairs.items():
            torch.mm(x, w)
            begun = self._now(), time.process_time()
            for _ in range(3):
                torch.mm(x, w)
            many = self._many[shape]
            wall += many * (self._now() - begun[0]) / 3
            busy += many * (time.process_time() - begun[1]) / 3
            operations += many * 2.0 * shape[0] * shape[1] * shape[2]
        return operations / wall, operations / busy

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()
