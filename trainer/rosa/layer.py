"""A linear layer whose weight holds a sparse, trainable update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 1 << 22  # entries of a dense gradient that exist at one time


class SparseLinear(nn.Linear):
    """A frozen linear layer with S kept inside W.

    S is a vector of fp32 values for fixed entries of W. The values live beside W as masters and
    are written into W by `write`, so forward and the gradient of the input are plain matrix
    products, and nothing is saved for backward that a frozen layer would not save. The entries
    that S covers are kept as they were, so that `restore` gives W back bit for bit.

    Attributes:
        indices: Positions in ``weight.view(-1)``, int32, ascending, shape (non-zeros,).
        values: The entries of S at these positions, fp32, shape (non-zeros,).
        original: What W holds there without S, in the dtype of W.
    """

    indices: Tensor
    original: Tensor

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(1, 1, bias=False, device="meta")
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.training = base.training
        device = self.weight.device
        self.values = nn.Parameter(torch.zeros(0, dtype=torch.float32, device=device))
        self.register_buffer("indices", torch.zeros(0, dtype=torch.int32, device=device))
        self.register_buffer("original", torch.zeros(0, dtype=self.weight.dtype, device=device))
        self.observer: Callable[[Tensor, Tensor], None] | None = None
        self._bounds: list[tuple[int, int, int, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        if not self.values.requires_grad:
            return super().forward(x)
        out: Tensor = _FrozenLinear.apply(x, self.values, self)  # type: ignore[no-untyped-call]
        return out

    @torch.no_grad()
    def set_mask(self, indices: Tensor, values: Tensor | None = None) -> None:
        """Put S at these positions, with zeros or the given values, replacing what was there.

        Args:
            indices: int32, ascending, unique, shape (non-zeros,).
            values: fp32, the same shape; zeros when left out.

        Raises:
            ValueError: The positions are not ascending positions of W, or the shapes differ.
        """
        size = self.weight.numel()
        wide = indices.to(self.weight.device).long()
        ascending = bool((wide[1:] > wide[:-1]).all()) if wide.numel() > 1 else True
        if wide.numel() and not (ascending and int(wide[0]) >= 0 and int(wide[-1]) < size):
            raise ValueError(f"the mask's positions are not ascending positions below {size}")
        if values is not None and values.shape != indices.shape:
            raise ValueError(f"{values.numel()} values for {indices.numel()} positions")
        self.restore()
        start = torch.zeros(indices.shape) if values is None else values
        self.indices = wide.int()
        self.values.data = start.to(self.weight.device, torch.float32).clone()
        self.original = self.weight.view(-1)[wide]
        self._bounds = self._chunks(wide)
        self.write()

    @torch.no_grad()
    def write(self) -> None:
        """Write W + S into W; to be called after each change of the values."""
        if self.indices.numel():
            entries = self.original.float() + self.values
            self.weight.view(-1)[self.indices.long()] = entries.to(self.weight.dtype)

    @torch.no_grad()
    def restore(self) -> None:
        """Give W back as it was, bit for bit; `write` puts S in again."""
        if self.indices.numel():
            self.weight.view(-1)[self.indices.long()] = self.original

    def to_linear(self) -> nn.Linear:
        """Return a plain layer around the same weight, as it is now."""
        plain = nn.Linear(1, 1, bias=False, device="meta")
        plain.in_features, plain.out_features = self.in_features, self.out_features
        plain.weight, plain.bias = self.weight, self.bias
        return plain.train(self.training)

    def _chunks(self, wide: Tensor) -> list[tuple[int, int, int, int]]:
        """Cut W into runs of rows: first and last row, first and last non-zero, half open."""
        rows = max(1, _CHUNK // self.in_features)
        firsts = list(range(0, self.out_features, rows))
        edges = torch.tensor([*firsts, self.out_features], device=wide.device) * self.in_features
        cuts = torch.searchsorted(wide, edges).tolist()
        lasts = [*firsts[1:], self.out_features]
        return [
            (r0, r1, c0, c1)
            for r0, r1, c0, c1 in zip(firsts, lasts, cuts[:-1], cuts[1:], strict=True)
            if c1 > c0
        ]

    def sampled_gradient(self, x: Tensor, dy: Tensor) -> Tensor:
        """Return the entries of ``dyᵀ x`` under the mask, fp32, shape (non-zeros,).

        Args:
            x: The layer's input, (tokens, in_features).
            dy: The gradient of its output, (tokens, out_features).
        """
        out = torch.empty(self.indices.numel(), dtype=torch.float32, device=x.device)
        for r0, r1, c0, c1 in self._bounds:
            dense = dy[:, r0:r1].T @ x
            at = self.indices[c0:c1] - r0 * self.in_features
            out[c0:c1] = dense.view(-1).index_select(0, at)
        return out


class _FrozenLinear(torch.autograd.Function):
    """y = x Wᵀ + b with W frozen: gradients go to x and to the values of S alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, layer: SparseLinear) -> Tensor:  # noqa: ANN401
        del values  # they are inside W already; autograd needs to see them go in
        ctx.layer = layer
        ctx.save_for_backward(x, layer.weight)
        return nn.functional.linear(x, layer.weight, layer.bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        layer: SparseLinear = ctx.layer
        if layer.observer is not None:
            layer.observer(x, dy)
        dx = dy @ weight if ctx.needs_input_grad[0] else None
        dvalues = None
        if ctx.needs_input_grad[1]:
            flat_x, flat_dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
            dvalues = layer.sampled_gradient(flat_x, flat_dy)
        return dx, dvalues, None
