"""The shapes of a base model, read from the head of its files; no weight is loaded."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

from trainer.errors import ModelMissingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_MATRIX = 2  # dimensions
_MOST = 100_000_000  # bytes of a header that safetensors itself allows
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|blk|layer)\.(\d+)\.")
_TABLE = re.compile(r"embed|wte|wpe|token_embd|position_embd|rope")  # looked up, not multiplied
_HEAD = re.compile(r"^(?:lm_head|output|embed_out)\.weight$")


@dataclass(frozen=True, slots=True)
class Shapes:
    """What the plan of a training needs to know of a base model.

    Attributes:
        linears: Rows and columns, (out, in), of every linear layer but the output head.
        blocks: How many blocks the model has.
        widest: Columns and rows of the linear layers of the block that has most of them.
        hidden: The width of what goes from block to block.
        vocabulary: How many tokens there are.
        rest: Parameters outside ``linears``: embedding, head, norms, biases.
    """

    linears: tuple[tuple[int, int], ...]
    blocks: int
    widest: tuple[tuple[int, int], ...]
    hidden: int
    vocabulary: int
    rest: int

    @property
    def adapted(self) -> int:
        """The entries of all ``linears``."""
        return sum(rows * columns for rows, columns in self.linears)


def read(path: Path) -> Shapes:
    """Read the shapes of the model in a folder of safetensors or in a GGUF file.

    Raises:
        ModelMissingError: There is no model there, or its head is damaged.
    """
    try:
        if path.is_file():
            return _shapes(_gguf(path))
        tensors: dict[str, tuple[int, ...]] = {}
        for file in _parts(path):
            tensors |= _safetensors(file)
        return _shapes(tensors)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise ModelMissingError(path.name, f"its shapes cannot be told: {error}") from error


def _shapes(tensors: Mapping[str, tuple[int, ...]]) -> Shapes:
    matrices = {
        name: (shape[0], shape[1]) for name, shape in tensors.items() if len(shape) == _MATRIX
    }
    tables = {name: shape for name, shape in matrices.items() if _TABLE.search(name)}
    blocks: dict[str, list[tuple[int, int]]] = {}
    for name, shape in matrices.items():
        if name not in tables and not _HEAD.search(name):
            block = _BLOCK.search(name)
            blocks.setdefault(block[1] if block else "", []).append(shape)
    if not blocks:
        raise ValueError("it has no linear layers that an adapter could change")
    # The embedding of a model that calls it by another name is its largest matrix.
    vocabulary, hidden = max((tables or matrices).values(), key=prod)
    linears = tuple(shape for block in blocks.values() for shape in block)
    widest = max(blocks.values(), key=lambda block: sum(map(prod, block)))
    return Shapes(
        linears=linears,
        blocks=max(1, len(blocks.keys() - {""})),
        widest=tuple(widest),
        hidden=hidden,
        vocabulary=vocabulary,
        rest=sum(map(prod, tensors.values())) - sum(map(prod, linears)),
    )


def _parts(folder: Path) -> Iterable[Path]:
    """Return the files that transformers would load, of all that may lie there."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [folder / str(name) for name in sorted(set(names))]
    whole = folder / "model.safetensors"
    files = [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError("it holds no .safetensors")
    return files


def _safetensors(file: Path) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes: 8 bytes of length, little end first, and JSON of that length."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > _MOST:
            raise ValueError("its header is too long")
        header: dict[str, Any] = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return {name: tuple(map(int, one["shape"])) for name, one in header.items()}


# GGUF, version 2 and 3: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


def _gguf(file: Path) -> dict[str, tuple[int, ...]]:
    with file.open("rb") as stream:
        magic, version, tensors, fields = struct.unpack("<4sIQQ", stream.read(24))
        if magic != b"GGUF" or version not in {2, 3}:
            raise ValueError("it is no GGUF file of version 2 or 3")
        for _ in range(fields):
            _text(stream)
            _skip(stream, *struct.unpack("<I", stream.read(4)))
        found = {}
        for _ in range(tensors):
            name = _text(stream)
            (count,) = struct.unpack("<I", stream.read(4))
            sizes = struct.unpack(f"<{min(count, 8)}Q", stream.read(8 * min(count, 8)))
            stream.read(12)  # its type and where it begins
            found[name] = tuple(reversed(sizes))  # the fastest comes first there
        return found


def _text(stream: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > _MOST:
        raise ValueError("its header is damaged")
    return stream.read(length).decode("utf-8", "replace")


def _skip(stream: BinaryIO, kind: int) -> None:
    """Pass over one value of a field."""
    if kind == _STRING:
        _text(stream)
    elif kind == _ARRAY:
        kind, count = struct.unpack("<IQ", stream.read(12))
        if kind in _SIZES:
            stream.seek(_SIZES[kind] * count, 1)
        else:
            for _ in range(count):
                _skip(stream, kind)
    else:
        stream.seek(_SIZES[kind], 1)
