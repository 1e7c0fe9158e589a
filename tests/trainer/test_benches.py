"""The benches of RoSA run, at tiny shapes: a GPU that is had for an hour meets no slip of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


def test_the_gpu_bench_takes_all_its_paths() -> None:
    """On a CPU at tiny shapes it measures mask, steps, LoRA, PEFT's LoRA and 4-bit."""
    pytest.importorskip("bitsandbytes")
    words = ["--shapes", "tiny", "--device", "cpu", "--row", "64", "--steps", "1", "--warm", "0"]
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(BENCH / "gpu.py"), *words, "--recompute"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert all(line.startswith("tiny: ") for line in lines)
    for part in ("bf16, mask", "PEFT's LoRA", "torch.mm", "4-bit, mask", "4-bit / bf16"):
        assert any(part in line for line in lines), part


def test_the_gpu_bench_without_a_gpu_is_skipped() -> None:
    """Where torch sees no GPU it says so and ends well, so that `make bench` goes on."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(BENCH / "gpu.py")], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout == "skipped: lacks a GPU that torch sees\n"
