"""A base model with an adapter merged into it, in a form that can be used without Panza.

Either a folder as transformers writes it, or one GGUF file for llama.cpp. Both are made from the
base model's checkpoint, one tensor after the other, with sums in fp32 and one rounding at the end.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, BinaryIO

import torch

from trainer.card import model_card
from trainer.errors import ExportError, ModelMissingError
from trainer.merging import DTYPES, Merged
from trainer.target import MARK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from trainer.merging import Source
    from trainer.target import Target

# What makes a folder of transformers beside the weights, and what the licence asks to be kept.
_SIDE_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer*",
    "*tokenizer.model",
    "tekken.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
)
_CHUNK = 1 << 24


def export_folder(
    source: Source,
    target: Target,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """Write a transformers folder that stands alone; return its size in bytes.

    The tensors keep the dtypes of the base model's checkpoint.

    Args:
        source: What to export.
        target: Where to.
        progress: Told how many tensors are written, and how many there are.

    Raises:
        TrainerError: The base model or the adapter cannot be read, the two do not fit, a value
            does not fit the dtype, or the disk is too small.
        OSError: It cannot be written. Nothing is there then that was not there before.
    """
    with Merged(source) as merged:
        sides = _side_files(source.folder)
        files = [*merged.checkpoint.files, *sides]
        target.require_space(sum(file.stat().st_size for file in files))
        tokenizer = read_tokenizer(source)
        with target.written() as beside:
            _write_weights(merged, beside, progress)
            for file in sides:
                with file.open("rb") as original, _created(beside / file.name) as copy:
                    shutil.copyfileobj(original, copy, _CHUNK)
            _write_text(beside / "README.md", model_card(source.origin, tokenizer))
            _write_text(beside / MARK, source.origin.json())
    return sum(file.stat().st_size for file in target.path.iterdir())


def read_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """Return the base model's tokenizer.

    Raises:
        ModelMissingError: It cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source.folder, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        reason = f"the tokenizer in {source.folder} cannot be read: {error}"
        raise ModelMissingError(source.origin.base, reason) from error
    return found


def _side_files(folder: Path) -> list[Path]:
    found = {path for pattern in _SIDE_FILES for path in folder.glob(pattern) if path.is_file()}
    return sorted(found)


def _write_weights(merged: Merged, folder: Path, progress: Callable[[int, int], None]) -> None:
    """Write each file of the checkpoint anew, with its header as it was."""
    names = merged.checkpoint.names
    total, done = sum(map(len, names.values())), 0
    for file in merged.checkpoint.files:
        with file.open("rb") as original, _created(folder / file.name) as copy:
            # A file of safetensors: the length of the header, eight bytes; the header, which says
            # for each tensor what it is and where; the tensors, one behind the other.
            length = original.read(8)
            copy.write(length + original.read(int.from_bytes(length, "little")))
            for name in names[file]:
                progress(done, total)
                copy.write(_bytes(_rounded(merged, name)))
                done += 1
    progress(done, total)


def _rounded(merged: Merged, name: str) -> Tensor:
    """Return a tensor in the dtype that it is stored in.

    Raises:
        ExportError: A value is too large for that.
    """
    tensor = merged.tensor(name)
    dtype = DTYPES.get(merged.checkpoint.dtype(name), tensor.dtype)
    if tensor.dtype == dtype:
        return tensor
    rounded = tensor.to(dtype)
    if not bool(rounded.isfinite().all()):
        raise ExportError(name, f"a merged value is too large for {dtype}, the base model's dtype")
    return rounded


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.contiguous().view(-1)
    return flat.view(torch.uint8).numpy().data


def _created(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _write_text(path: Path, text: str) -> None:
    with _created(path) as stream:
        stream.write(text.encode())
