"""A base model's checkpoint with an adapter added to it, one tensor at a time.

What is read is the checkpoint on the disk, never a model in memory: the sums are those of its
full precision whatever ``model.precision`` says, and no more than one layer is in memory at once.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainer.errors import AdapterError, ModelMissingError
from trainer.rosa import RosaConfig
from trainer.rosa.model import FORMAT

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.card import Origin

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_INDEX = "model.safetensors.index.json"
_SAVED = ".saved."


class Checkpoint:
    """The tensors of a folder of safetensors; a context manager that holds its files open.

    Attributes:
        folder: Where it lies.
        files: Its files of weights, in order.
        names: The names of the tensors in each file, in the order of their bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = weight_files(folder)
        self.names: dict[Path, list[str]] = {}
        self._stack = ExitStack()
        self._open: dict[str, Any] = {}  # safetensors gives its readers no type

    def __enter__(self) -> Self:
        """Open the files.

        Raises:
            ModelMissingError: One of them cannot be read.
        """
        try:
            for file in self.files:
                opened = self._stack.enter_context(safe_open(file, framework="pt"))
                self.names[file] = list(opened.offset_keys())
                self._open |= dict.fromkeys(self.names[file], opened)
        except (SafetensorError, OSError) as error:
            self._stack.close()
            raise ModelMissingError(str(self.folder), f"{file.name} cannot be read") from error
        return self

    def __exit__(self, *details: object) -> None:
        """Close the files."""
        self._open.clear()
        self._stack.close()

    def __contains__(self, name: str) -> bool:
        return name in self._open

    def dtype(self, name: str) -> str:
        """Return what a tensor is stored in, by safetensors' name: ``F32`` or ``BF16``, say."""
        return str(self._open[name].get_slice(name).get_dtype())

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return tuple(self._open[name].get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        """Return a tensor as it is stored; not to be written into."""
        found: Tensor = self._open[name].get_tensor(name)
        return found


def weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers reads a model's weights from, in order."""
    index = folder / _INDEX
    if not index.is_file():
        return [folder / "model.safetensors"]
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [folder / name for name in sorted(set(names))]


class Update:
    """What an adapter makes of the weights, one tensor at a time; a context manager.

    It reads the format that docs/rosa.md documents. The file's checksum is the caller's to look at.

    Attributes:
        tensors: The names of the tensors that it changes.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the adapter's file.

        Raises:
            AdapterError: It is of a format that is not known.
        """
        self._stored = self._stack.enter_context(safe_open(self._file, framework="pt"))
        notes = self._stored.metadata() or {}
        if notes.get("format") != FORMAT:
            self._stack.close()
            raise AdapterError(
                self._file.parent.name, f"its format is {notes.get('format')!r}; train again"
            )
        self._config = RosaConfig.from_json(notes["config"])
        self._names = set(self._stored.keys())
        self.tensors = {self._changed(name) for name in self._names}
        return self

    def __exit__(self, *details: object) -> None:
        """Close the file."""
        self._stack.close()

    def applied(self, name: str, stored: Tensor) -> Tensor:
        """Return W + (alpha / rank) B A + S in fp32, or what was trained in place of W.

        Args:
            name: One of `tensors`.
            stored: W; it stays as it is.
        """
        module, _, parameter = name.rpartition(".")
        if (whole := f"{module}{_SAVED}{parameter}") in self._names:
            return self._get(whole).float()
        # Not `.float()`: where W is fp32 already, that would be the base model's own file.
        total = stored.to(torch.float32, copy=True)
        if f"{module}.values" in self._names:
            where = self._get(f"{module}.indices").long()
            total.view(-1)[where] += self._get(f"{module}.values").float()
        if f"{module}.lora_A" in self._names:
            a, b = self._get(f"{module}.lora_A").float(), self._get(f"{module}.lora_B").float()
            total.addmm_(b, a, alpha=self._config.alpha / self._config.rank)
        return total

    def _get(self, name: str) -> Tensor:
        found: Tensor = self._stored.get_tensor(name)
        return found

    @staticmethod
    def _changed(name: str) -> str:
        """Return which tensor of the base model a tensor of the adapter is about."""
        if _SAVED in name:
            return name.replace(_SAVED, ".")
        return f"{name.rpartition('.')[0]}.weight"


@dataclass(frozen=True, slots=True)
class Source:
    """What is exported.

    Attributes:
        origin: Base model and adapter, by name.
        folder: The base model's folder of safetensors.
        gguf: The GGUF file that this folder was made from, None where it was not.
        adapter: The adapter's file, its checksum proved; None for the base model alone.
    """

    origin: Origin
    folder: Path
    gguf: Path | None = None
    adapter: Path | None = None


class Merged:
    """The tensors of a base model with an adapter in them; a context manager.

    Attributes:
        checkpoint: The base model's.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._adapter = str(source.origin.adapter)
        self._stack = ExitStack()
        self._update: Update | None = None

    def __enter__(self) -> Self:
        """Open base model and adapter.

        Raises:
            ModelMissingError: The base model cannot be read.
            AdapterError: The adapter changes tensors that the base model does not have, or has in
                a quantised form.
        """
        with ExitStack() as stack:
            self.checkpoint = stack.enter_context(Checkpoint(self._source.folder))
            if self._source.adapter:
                self._update = stack.enter_context(Update(self._source.adapter))
                self._require_fitting(self._update)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        """Close both."""
        self._stack.close()

    def _require_fitting(self, update: Update) -> None:
        for name in sorted(update.tensors):
            if name not in self.checkpoint:
                raise AdapterError(
                    self._adapter,
                    f"it changes {name}, which the base model's files do not hold by this name",
                )
            if self.checkpoint.dtype(name) not in DTYPES:
                raise ModelMissingError(
                    self._source.origin.base,
                    f"{name} is quantised ({self.checkpoint.dtype(name)}), and an adapter is "
                    "merged into full precision alone; set model.name to the unquantised model",
                )

    def tensor(self, name: str) -> Tensor:
        """Return a tensor: in fp32 where the adapter changes it, else as it is stored.

        Raises:
            AdapterError: A value is not finite.
        """
        stored = self.checkpoint.tensor(name)
        if self._update is None or name not in self._update.tensors:
            return stored
        merged = self._update.applied(name, stored)
        if not bool(merged.isfinite().all()):
            raise AdapterError(self._adapter, f"merged, {name} is not finite: it is damaged")
        return merged
