"""A linear layer with a low-rank update beside its weight and a sparse one inside it."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from trainer.rosa.mask import row_chunks

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from trainer.rosa.config import RosaConfig


class RosaLayer(nn.Module, BaseTunerLayer):
    """A frozen linear layer with RoSA adapters, of which at most one computes.

    S is a vector of values for fixed entries of W. The values live beside W as masters, in fp32 or
    better, and are written into W by `write`, so that forward and the gradient of the input are
    plain matrix products, and nothing is saved for backward that LoRA would not save. The entries
    of W that S covers are kept as they were, and put back whenever the adapter stops computing:
    disabled, switched or taken off, W is the base model's, bit for bit.

    Attributes:
        base_layer: The layer that is adapted; its weight, (out_features, in_features), is W.
        rosa_A: A by adapter, (rank, in_features), fp32 or better; none where the rank is 0.
        rosa_B: B by adapter, (out_features, rank).
        rosa_values: The entries of S by adapter, (non-zeros,), fp32 or better.
        rosa_indices: Their positions in the flat W by adapter, int32, ascending.
        chooser: Where set, backward hands it the layer's input and its output's gradient, as
            matrices of tokens by features: a mask is being chosen.
    """

    adapter_layer_names = ("rosa_A", "rosa_B", "rosa_values")
    other_param_names = ("rosa_indices", "rosa_configs")
    chunk = 1 << 26  # entries of a dense gradient, or of a sum in fp32, that exist at one time

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.in_features, self.out_features = base_layer.in_features, base_layer.out_features
        self.rosa_A = nn.ParameterDict()
        self.rosa_B = nn.ParameterDict()
        self.rosa_values = nn.ParameterDict()
        self.rosa_indices = nn.ParameterDict()
        self.rosa_configs: dict[str, RosaConfig] = {}
        self.chooser: Callable[[Tensor, Tensor], None] | None = None
        self.merged_adapters: list[str] = []
        self._computing = ""
        self._original: Tensor | None = None
        self._before_merge: Tensor | None = None
        self._cuts: list[tuple[int, int, int, int]] = []

    @property
    def master_dtype(self) -> torch.dtype:
        """The dtype of all that is trained."""
        return torch.promote_types(self.base_layer.weight.dtype, torch.float32)

    @property
    def computing(self) -> str:
        """The name of the adapter whose update is in effect, "" for none."""
        return self._computing

    def add(self, name: str, config: RosaConfig) -> None:
        """Add an adapter that changes nothing yet: A random, B zero, S without entries."""
        none = torch.zeros(0, dtype=self.master_dtype, device=self.base_layer.weight.device)
        if config.rank:
            self.rosa_A[name] = nn.Parameter(none.new_empty(config.rank, self.in_features))
            self.rosa_B[name] = nn.Parameter(none.new_empty(self.out_features, config.rank))
        self.rosa_values[name] = nn.Parameter(none)
        self.rosa_indices[name] = nn.Parameter(none.int(), requires_grad=False)
        self.rosa_configs[name] = config
        self.reset_low_rank(name)

    @torch.no_grad()
    def reset_low_rank(self, name: str) -> None:
        """Start B A anew: A random as in a linear layer of torch's (and PEFT's LoRA), B zero."""
        if name in self.rosa_A:
            nn.init.kaiming_uniform_(self.rosa_A[name], a=math.sqrt(5))
            nn.init.zeros_(self.rosa_B[name])

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        name = self._computing
        if not name:
            plain: Tensor = self.base_layer(x, *args, **kwargs)
            return plain
        config = self.rosa_configs[name]
        kept, share = None, 1.0
        if self.training and config.rank:
            kept, share = _dropout(x, config.dropout)
        out: Tensor = _Adapted.apply(  # type: ignore[no-untyped-call]
            x,
            self.computed_weight(),
            self.base_layer.bias,
            self.rosa_values[name],
            self.rosa_indices[name],
            self.rosa_A[name] if config.rank else None,
            self.rosa_B[name] if config.rank else None,
            config.alpha / config.rank / share if config.rank else 0.0,
            kept,
            self._cuts,
            self.chooser,
        )
        return out

    def computed_weight(self) -> Tensor | Callable[[], AbstractContextManager[Tensor]]:
        """Return W + S, or what makes it anew each time it is needed, for as long as it is."""
        return self.base_layer.weight

    @torch.no_grad()
    def set_mask(self, name: str, indices: Tensor, values: Tensor | None = None) -> None:
        """Put an adapter's S at these positions, replacing what was there.

        Args:
            name: The adapter.
            indices: Ascending, unique, shape (non-zeros,).
            values: The same shape; zeros when left out.

        Raises:
            ValueError: The positions are not ascending positions of W, or the shapes differ.
        """
        size = self.in_features * self.out_features
        wide = indices.to(self.base_layer.weight.device).long()
        ascending = bool((wide[1:] > wide[:-1]).all())
        if wide.numel() and not (ascending and int(wide[0]) >= 0 and int(wide[-1]) < size):
            raise ValueError(f"the mask's positions are not ascending positions below {size}")
        if values is not None and values.shape != indices.shape:
            raise ValueError(f"{values.numel()} values for {indices.numel()} positions")
        computing = self._computing
        self._compute(with_="")
        start = torch.zeros(wide.shape) if values is None else values
        self.rosa_values[name].data = start.to(wide.device, self.master_dtype, copy=True)
        self.rosa_values[name].grad = None
        self.rosa_indices[name].data = wide.int()
        self._compute(with_=computing)

    @torch.no_grad()
    def write(self) -> None:
        """Write W + S into W; to be called after each change of the values."""
        if self._original is not None:
            entries = self._original + self.rosa_values[self._computing]
            self._flat()[self.rosa_indices[self._computing].long()] = entries.to(
                self._original.dtype
            )

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:  # noqa: FBT001, FBT002 - PEFT's signature
        """Compute with one adapter, or with none where this layer does not have it.

        Raises:
            ValueError: Several adapters are named.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        if len(names) > 1:
            raise ValueError(f"one adapter computes at a time, got {', '.join(names)}")
        super().set_adapter(names, inference_mode=inference_mode)
        self._settle()

    def enable_adapters(self, enabled: bool) -> None:  # noqa: FBT001 - PEFT's signature
        """Compute with the active adapter, or as the base model does, bit for bit."""
        super().enable_adapters(enabled)
        self._settle()

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter; where it was the active one, the next one in order becomes it."""
        if adapter_name == self._computing:
            self._compute(with_="")
        super().delete_adapter(adapter_name)
        self._settle()

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:  # noqa: FBT001, FBT002 - PEFT's signature
        """Make W the sum of all three; the layer then computes as a plain one.

        The sum is taken in fp32 or better and rounded once. A copy of W is kept on the CPU until
        `unmerge`, which gives it back bit for bit.

        Args:
            safe_merge: Leave W alone if the sum is not finite.
            adapter_names: The active adapter or None.

        Raises:
            ValueError: Another adapter is named, or the sum is not finite.
        """
        name = self._computing
        if not name:
            return
        if adapter_names not in (None, [name]):
            raise ValueError(f"{name} is active; only the active adapter can be merged")
        self._compute(with_="")
        weight = self.base_layer.weight
        before = weight.detach().to("cpu", copy=True)
        for first, end in row_chunks(self.out_features, self.in_features, self.chunk):
            weight[first:end] = self.summed(name, first, end)
        if safe_merge and not bool(weight.isfinite().all()):
            weight.copy_(before)
            self._settle()
            raise ValueError(f"merged with {name}, weights are not finite: it is damaged")
        self._before_merge = before
        self.merged_adapters.append(name)

    @torch.no_grad()
    def summed(self, name: str, first: int, end: int) -> Tensor:
        """Return rows ``first`` to ``end`` of W + (alpha / rank) B A + S, in the masters' dtype.

        W is the base model's: no adapter may be computing.
        """
        config, width = self.rosa_configs[name], self.in_features
        rows = self.base_layer.weight[first:end].to(self.master_dtype, copy=True)
        indices = self.rosa_indices[name].long()
        edges = torch.tensor([first * width, end * width], device=indices.device)
        c0, c1 = torch.searchsorted(indices, edges).tolist()
        rows.view(-1)[indices[c0:c1] - first * width] += self.rosa_values[name][c0:c1]
        if config.rank:
            scale = config.alpha / config.rank
            rows.addmm_(self.rosa_B[name][first:end], self.rosa_A[name], alpha=scale)
        return rows

    @torch.no_grad()
    def unmerge(self) -> None:
        """Give W back as it was before `merge`, and compute with the adapter beside it again."""
        if self._before_merge is not None:
            self.base_layer.weight.copy_(self._before_merge)
            self._before_merge = None
            self.merged_adapters.clear()
            self._settle()

    def _settle(self) -> None:
        """See to it that W holds the S that belongs there."""
        active = self.active_adapters[0] if self.active_adapters else ""
        off = self.disable_adapters or self.merged or active not in self.rosa_values
        self._compute(with_="" if off else active)

    @torch.no_grad()
    def _compute(self, with_: str) -> None:
        if with_ == self._computing:
            return
        if self._original is not None:
            self._flat()[self.rosa_indices[self._computing].long()] = self._original
        self._original, self._cuts, self._computing = None, [], with_
        if with_ and self.rosa_indices[with_].numel():
            wide = self.rosa_indices[with_].long()
            self._cuts = self._cut(wide)
            self._original = self._flat()[wide]
            self.write()

    def _flat(self) -> Tensor:
        return self.base_layer.weight.data.view(-1)

    def _cut(self, wide: Tensor) -> list[tuple[int, int, int, int]]:
        """Cut W into runs of rows: first row and end, first non-zero and end."""
        runs = list(row_chunks(self.out_features, self.in_features, self.chunk))
        ends = torch.tensor([end for _, end in runs], device=wide.device) * self.in_features
        cuts = [0, *torch.searchsorted(wide, ends).tolist()]
        found = zip(runs, cuts[:-1], cuts[1:], strict=True)
        return [(first, end, c0, c1) for (first, end), c0, c1 in found if c1 > c0]


def _dropout(x: Tensor, share: float) -> tuple[Tensor | None, float]:
    """Draw which entries of x are kept; return them (1 or 0, uint8) and the share kept.

    A random byte decides on each entry, which is several times faster on a CPU than a random
    float; the share is rounded to a 256th for it. It then becomes the answer itself: on a CPU a
    bool is slow to make, and slow to multiply with.
    """
    dropped = round(share * 256)
    if not dropped:
        return None, 1.0
    count = (x.numel() + 7) // 8
    words = torch.randint(-(2**63), 2**63 - 1, (count,), dtype=torch.int64, device=x.device)
    dice = words.view(torch.uint8)[: x.numel()].view(x.shape)
    return dice.ge_(dropped), 1 - dropped / 256


class _Adapted(torch.autograd.Function):
    """y = x Wᵀ + b + scale · (x · kept) Aᵀ Bᵀ, with S inside W and W frozen.

    Gradients go to x, to the values of S, and to A and B; A and B may be None.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes them by position
        ctx: Any,  # noqa: ANN401 - autograd gives its contexts no type
        x: Tensor,
        weight: Tensor | Callable[[], AbstractContextManager[Tensor]],
        bias: Tensor | None,
        values: Tensor,
        indices: Tensor,
        a: Tensor | None,
        b: Tensor | None,
        scale: float,
        kept: Tensor | None,
        cuts: list[tuple[int, int, int, int]],
        chooser: Callable[[Tensor, Tensor], None] | None,
    ) -> Tensor:
        del values  # they are inside W already; autograd needs to see them go in
        made = None if isinstance(weight, Tensor) else weight
        with _held(weight) as dense:
            out = nn.functional.linear(x, dense, bias)
        low = None
        if a is not None and b is not None:
            flat = (x if kept is None else x * kept).reshape(-1, x.shape[-1])
            low = flat @ a.to(x.dtype).T
            out.view(-1, out.shape[-1]).addmm_(low, b.to(x.dtype).T, alpha=scale)
        ctx.made, ctx.scale, ctx.cuts, ctx.chooser = made, scale, cuts, chooser
        # W itself, not a copy: autograd then notices if it is changed before backward.
        ctx.save_for_backward(x, None if made else weight, indices, a, b, low, kept)
        return out

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight, indices, a, b, low, kept = ctx.saved_tensors
        flat_x, flat_dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        if ctx.chooser is not None:
            ctx.chooser(flat_x, flat_dy)
        dx = dvalues = da = db = None
        if ctx.needs_input_grad[0]:
            with _held(ctx.made if weight is None else weight) as dense:
                dx = flat_dy @ dense
        if ctx.needs_input_grad[3]:
            dvalues = sampled_gradient(flat_x, flat_dy, indices, ctx.cuts)
        if a is not None:
            dlow = (flat_dy @ b.to(dy.dtype)).mul_(ctx.scale)
            if kept is not None:
                kept = kept.view(flat_x.shape)
            if ctx.needs_input_grad[5]:
                da = (dlow.T @ (flat_x if kept is None else flat_x * kept)).to(a.dtype)
                db = (flat_dy.T @ low).mul_(ctx.scale).to(b.dtype)
            if dx is not None and kept is None:
                dx.addmm_(dlow, a.to(dy.dtype))
            elif dx is not None:
                dx += (dlow @ a.to(dy.dtype)).mul_(kept)
        dx = None if dx is None else dx.view(x.shape)
        return dx, None, None, dvalues, None, da, db, None, None, None, None


def _held(
    weight: Tensor | Callable[[], AbstractContextManager[Tensor]],
) -> AbstractContextManager[Tensor]:
    return nullcontext(weight) if isinstance(weight, Tensor) else weight()


def sampled_gradient(
    x: Tensor, dy: Tensor, indices: Tensor, cuts: list[tuple[int, int, int, int]]
) -> Tensor:
    """Return the entries of ``dyᵀ x`` under a mask, fp32 or better, shape (non-zeros,).

    A dense product of a few rows at a time and a gather: above a density of about 0.7 % faster
    on an H100 than any sampled product, and on a CPU always.

    Args:
        x: The layer's input, (tokens, in_features).
        dy: The gradient of its output, (tokens, out_features).
        indices: Positions in the flat W, int32, ascending.
        cuts: Runs of rows of W: first row and end, first non-zero and end.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    out = torch.empty(indices.numel(), dtype=wide, device=x.device)
    for first, end, c0, c1 in cuts:
        dense = (dy[:, first:end].T @ x).view(-1)
        whole = c1 - c0 == dense.numel()
        at = indices[c0:c1] - first * x.shape[1]
        out[c0:c1] = dense if whole else dense.index_select(0, at)
    return out
