"""Several processes that train one adapter: what each needs of the others.

Under ``torchrun`` or ``accelerate launch`` each process holds the whole model and computes its
share of each batch; sums over the processes make the gradients, and so the adapters, equal.
One process alone is the case of size 1, in which nothing here costs anything.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import distributed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

_BUCKET = 1 << 24  # numbers that are summed in one message
_PATIENCE = timedelta(minutes=30)  # a process may have to load its model from a slow disk


class Ranks:
    """The processes of this training.

    Attributes:
        rank: Which of them this one is, from 0.
        size: How many there are.
        device: Where the tensors live that they exchange.
    """

    def __init__(self, device: torch.device) -> None:
        together = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if together else 0
        self.size = distributed.get_world_size() if together else 1
        self.device = device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and tells progress."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes, the same bits on each."""
        if self.size > 1:
            distributed.all_reduce(tensor)

    def sums(self, *numbers: float) -> list[float]:
        """Return the sums of some numbers over all processes."""
        if self.size == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self.sum(tensor)
        return tensor.tolist()

    def sum_all(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in few messages."""
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.view(-1) for tensor in bucket])
            self.sum(flat)
            for tensor, summed in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
                tensor.view(-1).copy_(summed)

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by that of the first process."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def any(self, flag: bool) -> bool:  # noqa: FBT001 - the question itself, as in the builtin
        """Return whether it is so in any process."""
        return self.sums(float(flag))[0] > 0

    def wait(self) -> None:
        """Wait until every process is here."""
        self.sums(0.0)


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that ``torchrun`` or ``accelerate launch`` has started, for the block.

    Each process takes the GPU of its local rank, so that a model that is loaded within the block
    onto ``cuda`` is there. Without their environment variables nothing is done.
    """
    alone = "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) < 2  # noqa: PLR2004
    if alone or distributed.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    room = _BUCKET
    for tensor in tensors:
        if bucket and tensor.numel() > room:
            yield bucket
            bucket, room = [], _BUCKET
        bucket.append(tensor)
        room -= tensor.numel()
    if bucket:
        yield bucket
