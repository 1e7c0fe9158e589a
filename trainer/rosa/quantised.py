"""RoSA on weights of 4 bits (bitsandbytes nf4 or fp4; QLoRA, arXiv 2305.14314).

W exists in 4 bits alone. When it is needed, W + S is made in a workspace that all layers share:
once in forward, and once more in backward for the gradient of the input.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from trainer.rosa.layer import RosaLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_CHUNK = 1 << 18  # entries that are dequantised at one time where there is no way in place


def is_quantised(layer: nn.Module) -> bool:
    """Tell whether a layer's weight is in 4 bits, without importing what would make it so."""
    known: Any = sys.modules.get("bitsandbytes")
    return known is not None and isinstance(layer, known.nn.Linear4bit)


class QuantisedRosaLayer(RosaLayer):
    """A `RosaLayer` whose W stays in 4 bits.

    W is never written to, so the base model computes bit for bit as before whenever no adapter
    does. Nothing of the size of W is kept for backward. Merging is refused: rounded to 4 bits, W
    would lose most of what was learned.

    Args:
        base_layer: A ``Linear4bit`` of bitsandbytes, its weight quantised.

    Raises:
        ValueError: Its weight is not quantised yet, or in a form that cannot be read back.
    """

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__(base_layer)
        base: Any = base_layer
        state = getattr(base.weight, "quant_state", None)
        if state is None:
            raise ValueError("a 4-bit layer is not quantised yet; move the model to its device")
        if getattr(state, "packing_format_for_cpu", False):
            raise ValueError(
                "the 4-bit weights were repacked for inference on this CPU, which rounds their "
                "scales; load the model again and put the adapter on before it computes"
            )
        if self.in_features % state.blocksize:
            raise ValueError(
                f"a 4-bit layer of {self.in_features} inputs is not read back right by "
                f"bitsandbytes, whose blocks are of {state.blocksize}; load it in bf16 or fp32"
            )
        base.support_avx512bf16_for_cpu = False  # that is the repacking
        self.dtype: torch.dtype = base.compute_dtype or state.dtype
        if base.bias is not None:
            base.bias.data = base.bias.data.to(self.dtype)  # as its own forward does
        self._workspace = _workspace(base.weight.device, self.dtype)
        self._workspace.reserve(self.in_features * self.out_features)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        if not self._computing:
            return super().forward(x, *args, **kwargs)
        return super().forward(x.to(self.dtype)).to(x.dtype)

    def computed_weight(self) -> Callable[[], AbstractContextManager[Tensor]]:
        """Return what makes W + S, for as long as a `with` lasts."""
        values, indices = self.rosa_values[self._computing], self.rosa_indices[self._computing]
        return partial(self._made, values, indices, values._version)  # noqa: SLF001 - torch's own

    def write(self) -> None:
        """Do nothing: S is put into W each time that W is made."""

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> NoReturn:  # noqa: FBT001, FBT002 - PEFT's signature
        """Refuse.

        Raises:
            ValueError: Always.
        """
        del safe_merge, adapter_names
        raise ValueError(
            "an adapter is not merged into weights of 4 bits, which would round it away; load the "
            "base model in bf16 or fp32, put the adapter on that, and merge there"
        )

    def summed(self, name: str, first: int, end: int) -> NoReturn:
        """Refuse, as `merge` does."""
        del name, first, end
        self.merge()

    def _compute(self, with_: str) -> None:
        if with_ == self._computing:
            return
        self._computing, self._cuts = with_, []
        if with_ and self.rosa_indices[with_].numel():
            self._cuts = self._cut(self.rosa_indices[with_].long())

    @contextmanager
    def _made(self, values: Tensor, indices: Tensor, version: int) -> Iterator[Tensor]:
        if values._version != version:  # noqa: SLF001 - as autograd does for what it saves
            raise RuntimeError("S was modified by an inplace operation before backward")
        weight: Any = self.base_layer.weight
        self._workspace = _workspace(weight.device, self.dtype)
        with self._workspace.held(self.out_features, self.in_features) as dense:
            dequantise(weight, dense)
            if indices.numel():
                flat, at = dense.view(-1), indices.long()
                flat[at] = (flat[at] + values.detach()).to(self.dtype)
            yield dense


class Workspace:
    """Room for one dense matrix at a time, on one device.

    It is held from the moment that a matrix is made until the product with it has been taken, also
    against other threads. On a GPU that means until the product is in the queue, so all threads
    have to compute in one stream, as they do unless they are told otherwise.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._room = torch.empty(0, device=device, dtype=dtype)
        self._lock = Lock()

    def __deepcopy__(self, memo: object) -> Workspace:
        """Return itself: a copy of a model shares the room too."""
        return self

    def reserve(self, entries: int) -> None:
        """Make sure that a matrix of so many entries has room."""
        with self._lock:
            self._grow(entries)

    @contextmanager
    def held(self, rows: int, columns: int) -> Iterator[Tensor]:
        """Give room for a matrix, its entries undefined; nobody else has it within the block."""
        with self._lock:
            self._grow(rows * columns)
            yield self._room[: rows * columns].view(rows, columns)

    def _grow(self, entries: int) -> None:
        if self._room.numel() < entries:
            self._room = self._room.new_empty(entries)


_workspaces: WeakValueDictionary[tuple[torch.device, torch.dtype], Workspace] = (
    WeakValueDictionary()
)


def _workspace(device: torch.device, dtype: torch.dtype) -> Workspace:
    """Return the one workspace of a device; it goes when the last layer that uses it does."""
    found = _workspaces.get((device, dtype))
    if found is None:
        found = _workspaces[device, dtype] = Workspace(device, dtype)
    return found


def dequantise(weight: Tensor, out: Tensor) -> None:
    """Write a matrix of 4 bits into a dense one, in that one's dtype.

    bitsandbytes writes in place on a GPU only; elsewhere a few blocks at a time are copied.

    Args:
        weight: A ``Params4bit`` of bitsandbytes, with its ``quant_state``.
        out: Contiguous, of the shape that the matrix had.
    """
    from bitsandbytes import functional

    state: Any = weight.quant_state  # type: ignore[attr-defined]  # of Params4bit
    scales = state.absmax
    if state.nested:
        scales = functional.dequantize_blockwise(scales, state.state2).add_(state.offset)
    packed, flat, block = weight.data.view(-1).view(torch.uint8), out.view(-1), state.blocksize
    step = flat.numel() if out.is_cuda else _CHUNK
    for first in range(0, flat.numel(), step):
        part = flat[first : first + step].view(-1, block)
        codes = packed[first // 2 : (first + step) // 2]
        here = functional.QuantState(
            absmax=scales[first // block : (first + step) // block].float(),
            shape=part.shape,
            dtype=out.dtype,
            blocksize=block,
            quant_type=state.quant_type,
        )
        if out.is_cuda:
            functional.dequantize_4bit(codes, here, out=part)
        else:
            part.copy_(functional.dequantize_4bit(codes, here))
