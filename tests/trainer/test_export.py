"""An export: the merged model in a folder that stands alone, whole or not at all."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from adapters import random_adapter
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PhiConfig, PhiForCausalLM

from trainer.card import Origin
from trainer.errors import AdapterError, ExportError, ModelMissingError
from trainer.export import export_folder
from trainer.gguf_export import export_gguf
from trainer.merging import Source
from trainer.rosa import RosaConfig, get_rosa_model, load_rosa_model
from trainer.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedModel

    from trainer.base_model import LanguageModel

HASH = "ab" * 32


@pytest.fixture
def source(make_tiny: Callable[..., LanguageModel], tmp_path: Path) -> Source:
    """A tiny base model on the disk, and a random adapter."""
    return saved(make_tiny(), tmp_path)


def saved(lm: LanguageModel, folder: Path, **options: Any) -> Source:  # noqa: ANN401
    """Save a model and a random adapter for it."""
    lm.model.save_pretrained(folder / "base", **options)
    lm.tokenizer.save_pretrained(folder / "base")
    adapter = random_adapter(lm.model, folder / "adapter.safetensors")
    return Source(Origin("base", HASH, "one"), folder / "base", adapter=adapter)


def merged(source: Source) -> PreTrainedModel:
    """Merge the same way of the model in memory, in fp32."""
    model = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.float32)
    assert source.adapter
    return load_rosa_model(model, source.adapter).merge_and_unload()


def entries(folder: Path) -> set[str]:
    """Return the names of all that lies in a folder, hidden or not."""
    return {path.name for path in folder.iterdir()}


def test_a_folder_loads_alone_and_computes_as_the_merged_model(
    source: Source, tmp_path: Path
) -> None:
    """In a fresh process, transformers reads it and gets the same tokens and the same logits."""
    target = tmp_path / "export"
    size = export_folder(source, Target(target, replace=False))
    assert size == sum(file.stat().st_size for file in target.iterdir())
    code = (
        "import sys, torch\n"
        "from safetensors.torch import save_file\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "base = sys.argv[1]\n"
        "ids = AutoTokenizer.from_pretrained(base)('Hi Stew', return_tensors='pt').input_ids\n"
        "logits = AutoModelForCausalLM.from_pretrained(base)(ids).logits\n"
        "save_file({'ids': ids, 'logits': logits.detach()}, sys.argv[2])\n"
    )
    answer = tmp_path / "answer.safetensors"
    subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, str(target), str(answer)],
        check=True,
        cwd="/",
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    found = load_file(answer)
    assert found["ids"].shape == (1, 7)
    expected = merged(source)(found["ids"]).logits
    torch.testing.assert_close(found["logits"], expected, rtol=1e-5, atol=1e-5)


def test_the_sum_is_taken_in_fp32_and_rounded_once(
    make_tiny: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    """From a base in bf16 each weight is the rounded sum, and what has no adapter is as it was."""
    source = saved(make_tiny(dtype=torch.bfloat16), tmp_path)
    export_folder(source, Target(tmp_path / "export", replace=False))
    exact = merged(source).state_dict()
    for name, tensor in load_file(tmp_path / "export" / "model.safetensors").items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, exact[name].to(torch.bfloat16)), name


def test_a_checkpoint_of_several_files_stays_one(
    make_tiny: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    """The files, and the index that names them, are those of the base model."""
    source = saved(make_tiny(), tmp_path, max_shard_size="60KB")
    export_folder(source, Target(tmp_path / "export", replace=False))
    weights = {name for name in entries(source.folder) if "safetensors" in name}
    assert len(weights) > 2
    assert weights <= entries(tmp_path / "export")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "export").state_dict()
    for name, tensor in merged(source).state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-6)


def test_modules_that_were_trained_whole_take_the_place_of_the_base_models(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    """An output head that the adapter brings is the one that is exported."""
    source = saved(tiny, tmp_path)
    config = RosaConfig(rank=2, dropout=0, density=0.01, modules_to_save=("lm_head",))
    rosa = get_rosa_model(tiny.model, config)
    with torch.no_grad():
        for parameter in rosa.saved_parameters().values():
            parameter.fill_(0.25)
    assert source.adapter
    rosa.save(source.adapter)
    export_folder(source, Target(tmp_path / "export", replace=False))
    head = load_file(tmp_path / "export" / "model.safetensors")["lm_head.weight"]
    assert set(head.unique().tolist()) == {0.25}


def test_the_base_model_alone_is_copied(source: Source, tmp_path: Path) -> None:
    """Without an adapter the weights are those of the base model, byte for byte."""
    alone = Source(Origin("base", HASH, None), source.folder)
    export_folder(alone, Target(tmp_path / "export", replace=False))
    weights = "model.safetensors"
    assert (tmp_path / "export" / weights).read_bytes() == (source.folder / weights).read_bytes()


def test_the_card_shows_the_prompt_and_nothing_of_this_machine(
    source: Source, tmp_path: Path
) -> None:
    """What is needed elsewhere is there: base, adapter, the prompt in the model's chat format."""
    export_folder(source, Target(tmp_path / "export", replace=False))
    card = (tmp_path / "export" / "README.md").read_text(encoding="utf-8")
    assert "<s>user\n" in card
    assert "Subject:\n" in card
    assert HASH in card
    assert "Private" in card
    assert str(tmp_path) not in card
    known = json.loads((tmp_path / "export" / "panza.json").read_text(encoding="utf-8"))
    assert known == {"base": "base", "base_hash": HASH, "adapter": "one"}


@pytest.mark.parametrize("name", ["export", "export.gguf"])
def test_an_export_is_for_its_owner_alone(source: Source, tmp_path: Path, name: str) -> None:
    """Folder and files are readable by nobody else."""
    wide = os.umask(0)
    try:
        write(source, tmp_path / name)
    finally:
        os.umask(wide)
    for path in (tmp_path / name, *(tmp_path / name).rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def write(source: Source, path: Path, *, replace: bool = False, after: int = -1) -> None:
    """Export to a folder or a file; interrupted after so many tensors."""

    def progress(done: int, _total: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    target = Target(path, replace=replace)
    if target.is_file:
        export_gguf(source, target, kind="f16", progress=progress)
    else:
        export_folder(source, target, progress)


@pytest.mark.parametrize("name", ["export", "export.gguf"])
def test_an_interrupted_export_leaves_what_was_there(
    source: Source, tmp_path: Path, name: str
) -> None:
    """Ctrl-C in the middle: no new export, nothing half-written, and an earlier one as it was."""
    before = entries(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(source, tmp_path / name, after=5)
    assert entries(tmp_path) == before
    write(source, tmp_path / name)
    whole = tmp_path / name if name.endswith(".gguf") else tmp_path / name / "model.safetensors"
    content = whole.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write(source, tmp_path / name, replace=True, after=5)
    assert entries(tmp_path) == before | {name}
    assert whole.read_bytes() == content
    write(source, tmp_path / name, replace=True)
    assert entries(tmp_path) == before | {name}


@pytest.mark.parametrize("name", ["export", "export.gguf"])
def test_what_a_killed_export_left_is_no_export_and_goes_with_the_next(
    source: Source, tmp_path: Path, name: str
) -> None:
    """Killed in the middle, it leaves one hidden entry, which the next export there removes."""
    before = entries(tmp_path)
    child = os.fork()
    if not child:
        try:
            write_and_die(source, tmp_path / name)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    (left,) = entries(tmp_path) - before
    assert left.startswith(f".{name}.exporting-")
    write(source, tmp_path / name)
    assert entries(tmp_path) == before | {name}


def write_and_die(source: Source, path: Path) -> None:
    """Export, and be killed after five tensors."""

    def progress(done: int, _total: int) -> None:
        if done == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    target = Target(path, replace=False)
    if target.is_file:
        export_gguf(source, target, kind="f16", progress=progress)
    else:
        export_folder(source, target, progress)


@pytest.mark.parametrize("name", ["export", "export.gguf"])
def test_a_disk_that_is_full_is_told_and_leaves_nothing(
    source: Source, tmp_path: Path, name: str
) -> None:
    """When the system takes no more bytes, the fault names the file, and nothing is left."""
    before = entries(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r".") as fault:
            write(source, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert fault.value.errno
    assert entries(tmp_path) == before


def test_a_disk_that_is_too_small_is_told_before_any_work(source: Source, tmp_path: Path) -> None:
    """What will not fit is not begun."""
    with pytest.raises(ExportError, match="the disk has"):
        Target(tmp_path / "export", replace=False).require_space(1 << 60)
    write(source, tmp_path / "export")


def test_a_place_that_cannot_be_written_to_is_told_before_any_work(tmp_path: Path) -> None:
    """Each fault names the place and the way out."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("Dear Stew")
    (tmp_path / "x.gguf").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "old.gguf").write_text("")
    mine = tmp_path / "mine"
    for path, options, fault in (
        (tmp_path / "no" / "where", {}, "make it first"),
        (mine, {}, "--force"),
        (mine, {"replace": True}, "no export of Panza's"),
        (tmp_path / "x.gguf", {"replace": True}, "a folder is there"),
        (tmp_path / "file", {"replace": True}, "no folder is there"),
        (tmp_path / "old.gguf", {}, "--force"),
        (mine / "adapters" / "new", {"off_limits": [mine]}, "make it first"),
        (mine / "new", {"off_limits": [mine]}, "Panza's own"),
        (tmp_path, {"replace": True, "off_limits": [mine]}, "Panza's own"),
        (tmp_path / "old.gguf", {"replace": True, "off_limits": [tmp_path / "old.gguf"]}, "own"),
    ):
        with pytest.raises(ExportError, match=fault):
            Target(path, **{"replace": False, **options})  # type: ignore[arg-type]


def test_a_value_that_the_dtype_cannot_hold_is_told(
    make_tiny: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    """A sum beyond 65504 is refused in F16, in a folder and in a file; Q8_0 holds it."""
    lm = make_tiny(dtype=torch.float16)
    layer = lm.model.get_submodule("model.layers.0.mlp.up_proj")
    with torch.no_grad():
        layer.weight.view(-1)[::7] = 65504.0  # type: ignore[operator, union-attr]
    lm.model.save_pretrained(tmp_path / "base")
    lm.tokenizer.save_pretrained(tmp_path / "base")
    adapter = random_adapter(lm.model, tmp_path / "adapter.safetensors", scale=40.0)
    source = Source(Origin("base", HASH, "one"), tmp_path / "base", adapter=adapter)
    for name in ("export", "export.gguf"):
        with pytest.raises(ExportError, match="too large"):
            write(source, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_an_adapter_that_does_not_fit_is_named(source: Source, tmp_path: Path) -> None:
    """An adapter for tensors that the base model lacks, or of an unknown format, is refused."""
    assert source.adapter
    state = load_file(source.adapter)
    notes = {"format": "panza-rosa-2", "config": "{}"}
    renamed = {name.replace("layers", "blocks"): tensor for name, tensor in state.items()}
    save_file(renamed, source.adapter, metadata=notes)
    with pytest.raises(AdapterError, match=r"blocks\.0"):
        write(source, tmp_path / "export")
    save_file(state, source.adapter, metadata=notes | {"format": "else"})
    with pytest.raises(AdapterError, match="format"):
        write(source, tmp_path / "export")


def test_a_quantised_base_model_is_refused(source: Source, tmp_path: Path) -> None:
    """Merging is done in full precision or not at all."""
    weights = source.folder / "model.safetensors"
    state = load_file(weights)
    for name in state:
        if name.endswith("_proj.weight"):
            state[name] = state[name].to(torch.float8_e4m3fn)
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(ModelMissingError, match="quantised"):
        write(source, tmp_path / "export")


def test_a_damaged_base_model_is_refused(source: Source, tmp_path: Path) -> None:
    """A truncated file of weights is a clear error."""
    weights = source.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelMissingError, match="cannot be read"):
        write(source, tmp_path / "export")


def test_an_architecture_that_is_not_known_goes_into_a_folder_alone(
    tiny: LanguageModel, tmp_path: Path
) -> None:
    """The fault says what to export instead, and that works."""
    config = PhiConfig(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    tiny.model = PhiForCausalLM(config)
    source = saved(tiny, tmp_path)
    with pytest.raises(ExportError, match=r"phi.*Export a folder instead"):
        write(source, tmp_path / "export.gguf")
    write(source, tmp_path / "export")
    assert entries(tmp_path) == {"base", "adapter.safetensors", "export"}
