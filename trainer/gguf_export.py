"""A base model with an adapter merged into it as one GGUF file, which llama.cpp loads."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader, GGUFWriter

from trainer.card import prompt_format
from trainer.errors import ExportError, ModelMissingError
from trainer.export import read_tokenizer
from trainer.gguf_arch import (
    Architecture,
    UnknownModelError,
    add_hyperparameters,
    architecture,
    extra_tensors,
)
from trainer.gguf_vocab import UnknownTokenizerError, Vocabulary
from trainer.merging import DTYPES, Merged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedConfig

    from trainer.merging import Source
    from trainer.target import Target

Type = Literal["q8_0", "f16"]
_KINDS = {"q8_0": Kind.Q8_0, "f16": Kind.F16}
_FILES = {"q8_0": gguf.LlamaFileType.MOSTLY_Q8_0, "f16": gguf.LlamaFileType.MOSTLY_F16}
_F16_LARGEST, _F32_LARGEST = 65504.0, float(np.finfo(np.float32).max)
_METADATA = 64 << 20  # more than a header ever takes
# What of a GGUF file's metadata is about that file alone.
_NOT_CARRIED = (
    "GGUF.",
    "general.architecture",
    "general.alignment",
    "general.file_type",
    "general.quantization_version",
    "general.description",
    "general.finetune",
    "quantize.",
    "split.",
)


def export_gguf(
    source: Source,
    target: Target,
    *,
    kind: Type = "q8_0",
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """Write one GGUF file that stands alone; return its size in bytes.

    Where the base model came as a GGUF file itself, all metadata and the tokenizer are those of
    that file; else they are made from the model's configuration and its tokenizer.

    Args:
        source: What to export.
        target: Where to.
        kind: What matrices are held in; vectors are always in fp32.
        progress: Told how many tensors are written, and how many there are.

    Raises:
        TrainerError: The base model or the adapter cannot be read, the two do not fit, llama.cpp
            would compute something else, a value does not fit the type, or the disk is too small.
        OSError: It cannot be written. Nothing is there then that was not there before.
    """
    config = _config(source)
    base = GGUFReader(source.gguf) if source.gguf else None
    try:
        family = architecture(config)
        with Merged(source) as merged:
            extra = _extra_tensors(base, config)
            planned = list(_planned(merged, config, family, kind, extra))
            target.require_space(sum(one.size for one in planned) + _METADATA)
            with target.written() as beside:
                writer = GGUFWriter(beside, gguf.MODEL_ARCH_NAMES[family.arch])
                _describe(writer, source, planned, base=base, config=config, kind=kind)
                _write(writer, planned, progress)
    except (UnknownModelError, UnknownTokenizerError) as error:
        raise ExportError(
            str(target.path),
            f"llama.cpp may not compute as this model does: {error}. Export a folder instead of a "
            ".gguf file: that works for every model, and llama.cpp's own converter reads it.",
        ) from error
    return target.path.stat().st_size


@dataclass(frozen=True, slots=True)
class _Planned:
    """A tensor of the file to come.

    Attributes:
        name: Its name in llama.cpp.
        shape: Its shape, rows first.
        kind: What it is held in.
        size: Its bytes.
        values: Makes it, fp32.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    size: int
    values: Callable[[], Tensor]

    @classmethod
    def of(
        cls, name: str, shape: tuple[int, ...], kind: Kind, values: Callable[[], Tensor]
    ) -> _Planned:
        chosen = kind if len(shape) > 1 else Kind.F32
        block, block_size = gguf.GGML_QUANT_SIZES[chosen]
        if shape[-1] % block:
            chosen = Kind.F16  # a row is no whole number of blocks
            block, block_size = gguf.GGML_QUANT_SIZES[chosen]
        size = int(np.prod(shape)) // block * block_size
        return cls(name, shape, chosen, size, values)

    def data(self) -> NDArray[Any]:
        """Return what goes into the file.

        Raises:
            ExportError: A value is too large for the type.
        """
        values = self.values()
        largest = max(abs(float(edge)) for edge in values.aminmax())
        if not largest <= (_F16_LARGEST if self.kind == Kind.F16 else _F32_LARGEST):
            way_out = "; use --type q8_0" if self.kind == Kind.F16 else ""
            fault = f"a value of {largest:g} is too large for {self.kind.name.lower()}{way_out}"
            raise ExportError(self.name, fault)
        return gguf.quants.quantize(values.contiguous().numpy(), self.kind)


def _config(source: Source) -> PreTrainedConfig:
    from transformers import AutoConfig

    try:
        found: PreTrainedConfig = AutoConfig.from_pretrained(source.folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = f"the configuration in {source.folder} cannot be read: {error}"
        raise ModelMissingError(source.origin.base, reason) from error
    return found


def _extra_tensors(base: GGUFReader | None, config: PreTrainedConfig) -> dict[str, Tensor]:
    """Return the tensors that no checkpoint of transformers holds, by llama.cpp's name."""
    if base is None:
        return extra_tensors(config)
    return {
        one.name: torch.from_numpy(one.data.copy())
        for one in base.tensors
        if one.name == "rope_freqs.weight"
    }


def _planned(
    merged: Merged,
    config: PreTrainedConfig,
    family: Architecture,
    kind: Type,
    extra: dict[str, Tensor],
) -> Iterator[_Planned]:
    """Plan every tensor.

    Raises:
        UnknownModelError: One has no place in llama.cpp.
    """
    names = gguf.get_tensor_name_map(family.arch, config.num_hidden_layers)
    for name, tensor in extra.items():
        yield _Planned.of(name, tuple(tensor.shape), Kind.F32, partial(torch.clone, tensor))
    for of_file in merged.checkpoint.names.values():
        for name in of_file:
            if name == "lm_head.weight" and config.tie_word_embeddings:
                continue
            if name.endswith("rotary_emb.inv_freq"):
                continue  # old checkpoints keep it, and nobody reads it
            there = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if there is None:
                raise UnknownModelError(f"it has a tensor {name}")
            if merged.checkpoint.dtype(name) not in DTYPES:
                raise UnknownModelError(f"its tensor {name} is quantised")

            def values(name: str = name) -> Tensor:
                return family.stored(name, merged.tensor(name).to(torch.float32), config)

            yield _Planned.of(there, merged.checkpoint.shape(name), _KINDS[kind], values)


def _describe(
    writer: GGUFWriter,
    source: Source,
    planned: list[_Planned],
    *,
    base: GGUFReader | None,
    config: PreTrainedConfig,
    kind: Type,
) -> None:
    """Write the metadata."""
    tokenizer = read_tokenizer(source)
    if base:
        _carry_over(writer, base)
    else:
        rows = next(one.shape[0] for one in planned if one.name == "token_embd.weight")
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_name(source.origin.title)
        add_hyperparameters(writer, config)
        Vocabulary.of(tokenizer, rows).add_to(writer)
    if source.origin.adapter:
        writer.add_finetune(source.origin.adapter)
        writer.add_description(prompt_format(tokenizer))
    writer.add_file_type(_FILES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _carry_over(writer: GGUFWriter, base: GGUFReader) -> None:
    """Take the metadata over from another GGUF file."""
    for name, entry in base.fields.items():
        if not name.startswith(_NOT_CARRIED):
            array = entry.types[0] == gguf.GGUFValueType.ARRAY
            writer.add_key_value(
                name,
                entry.contents(),
                entry.types[0],
                sub_type=entry.types[-1] if array else None,
            )


def _write(
    writer: GGUFWriter, planned: list[_Planned], progress: Callable[[int, int], None]
) -> None:
    for one in planned:
        # The type that NumPy has for it does not matter where the type of the file is given.
        writer.add_tensor_info(one.name, one.shape, np.dtype(np.float32), one.size, one.kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, one in enumerate(planned):
            progress(done, len(planned))
            writer.write_tensor_data(one.data())
        progress(len(planned), len(planned))
    except OSError as error:
        if error.errno is None:  # NumPy does not say why it could write no more
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(writer.path)) from error
        raise
    finally:
        writer.close()
