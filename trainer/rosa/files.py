"""The files of an adapter: safetensors whose metadata says what they are and holds a checksum."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


def write(file: Path, kind: str, tensors: dict[str, Tensor], notes: dict[str, str]) -> None:
    """Write tensors and notes, with a checksum over both."""
    notes = {"format": kind, **notes}
    save_file(tensors, file, metadata={**notes, "sha256": _digest(tensors, notes)})


def read(file: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and notes of a file that `write` wrote.

    Raises:
        ValueError: It is none of this kind, or is damaged.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            notes = dict(stored.metadata() or {})
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file.name} cannot be read: {error}") from error
    if notes.get("format") != kind:
        raise ValueError(f"{file.name} is of format {notes.get('format')!r}, not {kind!r}")
    if notes.pop("sha256", "") != _digest(tensors, notes):
        raise ValueError(f"{file.name} is damaged: its checksum differs; restore it or train again")
    return tensors, notes


def _digest(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    """Return SHA-256 over names, types, shapes and bytes of all tensors, and over the notes."""
    digest = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
