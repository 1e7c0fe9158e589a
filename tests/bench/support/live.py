"""The bytes of the tensors that live, counted rather than measured: the same on a busy machine."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

if TYPE_CHECKING:
    from collections.abc import Callable


class Live(TorchDispatchMode):
    """Within the block, counts the bytes of all storages that are made there and still live.

    What a single operation takes for itself and gives back is not seen.

    Attributes:
        peak: The most bytes at one moment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Run an operation and count what it made."""
        del types
        given = {id(one.untyped_storage()) for one in _tensors((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for one in _tensors(out):
            storage = one.untyped_storage()
            if id(storage) not in given and id(storage) not in self._known:
                self._add(storage)
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        self._known[key] = weakref.ref(storage)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._now -= size
        self._known.pop(key, None)


def _tensors(tree: Any) -> list[torch.Tensor]:  # noqa: ANN401
    return [one for one in tree_iter(tree) if isinstance(one, torch.Tensor)]
