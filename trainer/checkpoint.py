"""Checkpoints: tensors and notes in one safetensors file that is whole or is not there.

Written tensor by tensor, so that no second copy of what is saved exists in memory, and with the
SHA-256 of the file (its own place in the header counted as zeros), so that a damaged one is known.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from trainer.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

_log = logging.getLogger(__name__)

_NOTES, _SUM = "notes", "sha256"
_UNKNOWN = b"0" * 64
_CHUNK = 1 << 22
_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write(file: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Write beside, sync, and rename.

    Args:
        file: Where; what stands there stays until the new one is whole.
        tensors: On any device.
        notes: What JSON can hold.

    Raises:
        CheckpointError: It cannot be written.
    """
    beside = file.with_suffix(".writing")
    try:
        _write(beside, tensors, notes)
        beside.replace(file)
        _sync(file.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise CheckpointError(str(file), error.strerror or str(error)) from error


def read(file: Path, *, check: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return a checkpoint's tensors and notes; None where there is none, or a damaged one.

    The tensors are on the CPU, mapped from the file, and take memory once they are looked at.

    Args:
        file: What `write` wrote.
        check: Read all of it for its sum; not needed for what was written a moment ago.
    """
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as stored:
            head = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        if not check or head[_SUM] == _sum(file, head[_SUM].encode()):
            return tensors, json.loads(head[_NOTES])
    except (SafetensorError, OSError, ValueError, KeyError):
        pass
    _log.warning("the checkpoint %s is damaged, the training starts over", file.name)
    return None


def _write(file: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    head = _header(tensors, notes)
    digest = hashlib.sha256(head)
    # What was learned of the owner's mail is hers alone.
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(head)
        for tensor in tensors.values():
            plain = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
            digest.update(plain)
            stream.write(plain)
        stream.seek(head.index(_UNKNOWN))
        stream.write(digest.hexdigest().encode())
        stream.flush()
        os.fsync(stream.fileno())


def _header(tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> bytes:
    """Return the length and the JSON with which a safetensors file begins."""
    about: dict[str, Any] = {
        "__metadata__": {_SUM: _UNKNOWN.decode(), _NOTES: json.dumps(notes)},
    }
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        about[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 8)  # what follows is aligned
    return len(text).to_bytes(8, "little") + text


def _sum(file: Path, found: bytes) -> str:
    """Return the SHA-256 of a file in which zeros stand in the place of the sum that was found."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        length = stream.read(8)
        digest.update(length)
        head = stream.read(int.from_bytes(length, "little"))
        digest.update(head.replace(found, _UNKNOWN, 1) if found else head)
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
