"""A linear layer with a low-rank update beside its weight and a sparse one inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from peft.tuners import lora
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
        return _apply(x, self.values, None, None, self, 0.0, None)

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


class RosaLinear(lora.Linear):
    """PEFT's LoRA layer around a `SparseLinear`, computed in one piece with it.

    PEFT's own forward keeps for each layer an fp32 copy of its input, the same with dropout, and
    the mask; this one keeps the input as it is and a byte of mask for each of its entries, and
    multiplies in the dtype of the weights. A and B stay fp32 masters.
    """

    def forward(self, x: Tensor, *_args: object, **_options: object) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        layer = self.get_base_layer()
        if self.disable_adapters or self.merged:
            plain: Tensor = layer(x)
            return plain
        name = self.active_adapters[0]
        dropout = getattr(self.lora_dropout[name], "p", 0.0) if self.training else 0.0
        kept, share = _dropout(x, dropout)
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        return _apply(x, layer.values, a, b, layer, self.scaling[name] / share, kept)


def _dropout(x: Tensor, share: float) -> tuple[Tensor | None, float]:
    """Draw which entries of x are kept; return them (bool, the shape of x) and the share kept.

    A random byte decides on each entry, which is several times faster on a CPU than a random
    float; the share is rounded to a 256th for it.
    """
    dropped = round(share * 256)
    if not dropped:
        return None, 1.0
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device)
    dice = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()].view(x.shape)
    return dice >= dropped, 1 - dropped / 256


def _apply(*arguments: object) -> Tensor:
    out: Tensor = _Adapted.apply(*arguments)  # type: ignore[no-untyped-call]
    return out


class _Adapted(torch.autograd.Function):
    """y = x Wᵀ + b + scale · (x · kept) Aᵀ Bᵀ, with S inside W and W frozen.

    Gradients go to x, to the values of S, and to A and B; A and B may be None.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes them by position
        ctx: Any,  # noqa: ANN401 - autograd gives its contexts no type
        x: Tensor,
        values: Tensor,
        a: Tensor | None,
        b: Tensor | None,
        layer: SparseLinear,
        scale: float,
        kept: Tensor | None,
    ) -> Tensor:
        del values  # they are inside W already; autograd needs to see them go in
        out = nn.functional.linear(x, layer.weight, layer.bias)
        low = None
        if a is not None and b is not None:
            low = (x if kept is None else x * kept) @ a.to(x.dtype).T
            out += (scale * low) @ b.to(x.dtype).T
        ctx.layer, ctx.scale = layer, scale
        ctx.save_for_backward(x, layer.weight, a, b, low, kept)
        return out

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight, a, b, low, kept = ctx.saved_tensors
        layer: SparseLinear = ctx.layer
        if layer.observer is not None:
            layer.observer(x, dy)
        dx = dy @ weight if ctx.needs_input_grad[0] else None
        flat_x, flat_dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        dvalues = layer.sampled_gradient(flat_x, flat_dy) if ctx.needs_input_grad[1] else None
        if a is None:
            return dx, dvalues, None, None, None, None, None
        dlow = ctx.scale * (flat_dy @ b.to(dy.dtype))
        db = ctx.scale * (flat_dy.T @ low.view(-1, low.shape[-1]))
        mask = None if kept is None else kept.view(flat_x.shape)
        da = dlow.T @ (flat_x if mask is None else flat_x * mask)
        if dx is not None:
            through = dlow @ a.to(dy.dtype)
            dx += (through if mask is None else through * mask).view(dx.shape)
        return dx, dvalues, da.to(a.dtype), db.to(b.dtype), None, None, None
