"""The plan of a training: how long its rows may be, and what memory and time it will take.

Plain arithmetic over the shapes of the base model (`trainer.shapes`), so that it can be done before
anything is loaded, and by who has no torch. In bytes, N being the entries of all linear layers but
the head:

* libraries: what Python, torch, transformers and PEFT take in main memory, 400 MiB, and 200 that
  threads, kernels and the heap hold beside;
* weights: N and the rest in their precision, fp32 or bf16; in 4 bits N takes 0.52 bytes an entry
  (nf4, its scales quantised twice) and one workspace of the largest layer, the rest is as before;
* S: for each non-zero 20 bytes: value 4, gradient 4, AdamW's two averages 8, position 4; and the
  original, in the precision of the weights; not in 4 bits, where W is made anew each time;
* A and B: for each parameter 16 bytes: value, gradient, averages;
* a pass: of each token and block twice the outputs of all its linear layers (what a layer gives is
  kept by what follows, and what that gives is kept by the next layer) and the hidden state, by
  numbers saved for backward in a Llama, a byte for each input where there is dropout, and 4 bytes
  for each token before it of the row (the attention's mask). Recomputed, a block keeps its input
  alone, and one block at a time is whole;
* beside a pass: the gradient of the widest states, the logits of one chunk, one chunk of a dense
  gradient. The choice of the mask is a recomputed pass over up to four rows.

The allocators' waste comes on top, see `_WASTE` and `_HOLES`. `tests/bench/plan.py` holds all this
to what a training takes: on SmolLM2 in fp32, 96 to 1024 tokens a row, kept and recomputed, planned
over measured was 0.97 to 1.12.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Literal

from trainer.errors import NotEnoughMemoryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.shapes import Shapes

Precision = Literal["fp32", "bf16", "4bit"]

_MIB = 1 << 20
_LIBRARIES = {"cpu": 600 * _MIB, "cuda": 0}
_WASTE = {"cpu": 1.25, "cuda": 1.1}  # of a pass: what is freed lies between what is not
# In main memory, times the inputs that recomputed blocks keep: on glibc's heap what the blocks gave
# back lies between them (with MALLOC_MMAP_THRESHOLD_ at 1 MiB it is not there).
_HOLES = {"cpu": 6.5, "cuda": 0.0}
_ROWS = {
    # Behind the first of them a longer row gains nothing. On a GPU half a thousand tokens are few
    # for each weight that is read, so there recomputing them is better than shorter rows.
    "cpu": (384, 256, 192, 128, 96, 64),
    "cuda": (16384, 12288, 8192, 6144, 4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, 128),
}
_SHORT = {"cpu": 64, "cuda": 1024}
_FP32 = 4  # bytes
_MASK_ROWS = 4
_MASK_WARMUP = 8
_LOGITS = 1 << 24
_GRADIENT = 1 << 24
_4BIT = (
    0.5 + 1 / 64 + 4 / (64 * 256)
)  # nf4, a byte for each 64 entries, 4 bytes for each 256 of these

# Of the speed of a bare matrix product, as `trainer.speed` measures it, what a training reaches.
# CPU: `tests/bench/plan.py`, SmolLM2-135M on two cores. GPU: NeMo's LoRA of 8B on an H100 reaches
# 400 of 790 TFLOP/s; not measured here.
EFFICIENCY = {"cpu": 0.5, "cuda": 0.5}


@dataclass(frozen=True, slots=True)
class Size:
    """The size of an adapter.

    Attributes:
        rank: Of B A; 0 for none.
        density: Share of each W that S may change; 0 for none.
        dropout: Share of the inputs of A that are dropped.
    """

    rank: int
    density: float
    dropout: float = 0.0


@dataclass(frozen=True, slots=True)
class Mails:
    """What is learned, in tokens.

    Attributes:
        lengths: Of each mail with its prompt.
        targets: To learn among all of these.
        scored: That are only scored, once.
        judged: That are scored after each epoch.
        batch: Mails per step.
        epochs: How often each is seen, at the most.
    """

    lengths: Sequence[int]
    targets: int = 0
    scored: int = 0
    judged: int = 0
    batch: int = 8
    epochs: int = 5

    @property
    def longest(self) -> int:
        """The tokens of the longest mail."""
        return max(self.lengths)

    @property
    def widest(self) -> int:
        """The tokens of the most that a batch can hold."""
        return sum(sorted(self.lengths)[-self.batch :])


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a training is to be done.

    Attributes:
        device: ``cpu`` or ``cuda``.
        precision: Of the base model's weights.
        computed: Bytes of a number that is computed with: 4 for fp32, 2 for bf16.
        available: Bytes of memory that a training may take: in main memory libraries and weights
            included, on a GPU weights and without its context.
        speed: FLOP a second of a matrix product at the model's shapes; 0 where it is not known.
    """

    device: Literal["cpu", "cuda"]
    precision: Precision
    computed: int
    available: int
    speed: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How a training is to be done, and what it will take.

    Attributes:
        row: The most tokens in one pass.
        recompute: Whether activations are computed twice rather than kept.
        memory_bytes: The most memory it will hold, on the GPU where it computes there.
        tokens: How many it learns from, all epochs together.
        seconds: How long it will take; 0 where the machine's speed is not known.
    """

    row: int
    recompute: bool
    memory_bytes: int
    tokens: int
    seconds: float


def plan(shapes: Shapes, size: Size, machine: Machine, mails: Mails) -> Plan:
    """Choose the longest rows that fit, and whether activations are recomputed for them.

    Raises:
        NotEnoughMemoryError: Nothing fits; it tells what would.
    """
    row, recompute = _chosen(shapes, size, machine, mails)
    return Plan(
        row=row,
        recompute=recompute,
        memory_bytes=memory(shapes, size, machine, mails, row, recompute=recompute),
        tokens=sum(mails.lengths) * mails.epochs,
        seconds=seconds(shapes, size, machine, mails, recompute=recompute),
    )


def _chosen(shapes: Shapes, size: Size, machine: Machine, mails: Mails) -> tuple[int, bool]:
    """Return row and recompute: kept activations where the rows are then not short."""

    def longest(*, recompute: bool) -> int:
        rows = {min(row, mails.widest) for row in _ROWS[machine.device]}
        for row in sorted(rows, reverse=True):
            taken = memory(shapes, size, machine, mails, row, recompute=recompute)
            if taken <= machine.available:
                return row
        return 0

    kept = longest(recompute=False)
    if kept >= min(_SHORT[machine.device], mails.widest):
        return kept, False
    recomputed = longest(recompute=True)
    if recomputed > kept:
        return recomputed, True
    if kept:
        return kept, False
    raise NotEnoughMemoryError(
        needed=least(shapes, size, machine, mails),
        available=machine.available,
        device=machine.device,
        fits=_what_fits(shapes, size, machine, mails),
    )


def least(shapes: Shapes, size: Size, machine: Machine, mails: Mails) -> int:
    """Return the least memory with which such a training can be done."""
    row = min(_ROWS[machine.device][-1], mails.widest)
    return memory(shapes, size, machine, mails, row, recompute=True)


def memory(
    shapes: Shapes, size: Size, machine: Machine, mails: Mails, row: int, *, recompute: bool
) -> int:
    """Return the most bytes that a training will hold."""
    passes = [
        _pass(shapes, size, machine, min(row, mails.widest), recompute=recompute),
        # A mail longer than a row is recomputed, and so is the row that chooses the mask.
        _pass(shapes, size, machine, mails.longest, recompute=True) if mails.longest > row else 0,
    ]
    if size.density:
        mask = max(mails.longest, min(mails.widest, row * (1 if recompute else _MASK_ROWS)))
        passes.append(_pass(shapes, size, machine, mask, recompute=True))
    return round(_held(shapes, size, machine) + max(passes) * _WASTE[machine.device])


def _held(shapes: Shapes, size: Size, machine: Machine) -> float:
    """Return what is held from the beginning to the end."""
    largest = max(map(prod, shapes.linears), default=0)
    if machine.precision == "4bit":
        weights = shapes.adapted * _4BIT + (shapes.rest + largest) * machine.computed
        original = 0
    else:
        weights = (shapes.adapted + shapes.rest) * machine.computed
        original = machine.computed
    sparse = size.density * shapes.adapted * (20 + original)
    low_rank = size.rank * sum(map(sum, shapes.linears)) * 16
    return _LIBRARIES[machine.device] + weights + sparse + low_rank


def _pass(shapes: Shapes, size: Size, machine: Machine, tokens: int, *, recompute: bool) -> float:
    """Return what forward and backward over so many tokens hold."""
    width = machine.computed
    outputs = sum(rows for rows, _ in shapes.widest)
    inputs = sum(columns for _, columns in shapes.widest)
    # Below fp32 the two norms of a block keep their input in fp32.
    states = shapes.hidden * (1 if width == _FP32 else 3)
    block = tokens * ((2 * outputs + states) * width + tokens * width)
    if size.dropout and size.rank:
        block += tokens * inputs
    states_kept = tokens * shapes.hidden * width * shapes.blocks
    kept = block + states_kept * (1 + _HOLES[machine.device])
    if not recompute:
        kept = block * shapes.blocks
    widest = max((max(shape) for shape in shapes.widest), default=0)
    beside = 4 * tokens * widest * width
    logits = min(_LOGITS, tokens * shapes.vocabulary) * (8 + width)
    largest = max(map(prod, shapes.linears), default=0)
    dense = min(_GRADIENT, largest) * 4 if size.density else 0
    return max(kept + beside + dense, kept + logits)


def seconds(
    shapes: Shapes, size: Size, machine: Machine, mails: Mails, *, recompute: bool
) -> float:
    """Return how long a training with its scores will take; 0 where the speed is not known."""
    if not machine.speed:
        return 0.0
    steps = -(-len(mails.lengths) // mails.batch)
    epoch = step_work(shapes, size, mails, recompute=recompute)
    work = mails.epochs * epoch
    if size.density:
        warm = min(_MASK_WARMUP, steps * mails.epochs // 10) if size.rank else 0
        alone = step_work(shapes, replace(size, density=0.0), mails, recompute=recompute)
        work += (warm * alone + step_work(shapes, size, mails, recompute=True)) / steps
    scored = mails.scored + mails.epochs * mails.judged
    head = shapes.hidden * shapes.vocabulary * mails.targets / sum(mails.lengths)
    work += scored * 2 * (shapes.adapted + head)
    return work / (machine.speed * EFFICIENCY[machine.device])


def step_work(shapes: Shapes, size: Size, mails: Mails, *, recompute: bool) -> float:
    """Return the FLOP of learning once from each mail.

    A token costs 2N forward, 2N for the gradient of the states, and with S 2N for the dense
    gradient of W, of which its entries are taken; 2N more where it is recomputed. A and B cost 6
    for each of their parameters, the head 4 for each of its own at a target.
    """
    times = 4 + (2 if size.density else 0) + (2 if recompute else 0)
    low_rank = 6 * size.rank * sum(map(sum, shapes.linears))
    head = 4 * shapes.hidden * shapes.vocabulary
    return sum(mails.lengths) * (times * shapes.adapted + low_rank) + mails.targets * head


def _what_fits(
    shapes: Shapes, size: Size, machine: Machine, mails: Mails
) -> tuple[tuple[str, float | str], ...]:
    """Return the settings, each by itself, with which the least training would fit."""
    found: dict[str, float | str] = {}
    for name, value, other, elsewhere in _changes(size, machine):
        if name not in found and least(shapes, other, elsewhere, mails) <= machine.available:
            found[name] = value
    return tuple(found.items())


def _changes(size: Size, machine: Machine) -> Iterator[tuple[str, float | str, Size, Machine]]:
    """Yield the changes that could help, of each setting the smallest first."""
    for density in (0.02, 0.01, 0.006, 0.003, 0.001):
        if density < size.density < 1:
            yield "density", density, replace(size, density=density), machine
    for rank in (64, 32, 16, 8, 4):
        if rank < size.rank:
            yield "rank", rank, replace(size, rank=rank), machine
    if size.density == 1:
        yield "method", "rosa", Size(8, 0.01, 0.05), machine
    if size.density:
        yield "method", "lora", Size(size.rank or 8, 0.0, size.dropout), machine
    if machine.precision == "fp32" and machine.device == "cuda":
        yield "precision", "bf16", size, replace(machine, precision="bf16", computed=2)
    if machine.precision != "4bit":
        yield "precision", "4bit", size, replace(machine, precision="4bit")
