"""RoSA on weights of 4 bits computes what RoSA on the same weights, dequantised, does."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.base_model import LanguageModel, load
from trainer.examples import Example
from trainer.finetune import FinetuneSettings, finetune
from trainer.rosa import RosaConfig, RosaModel, get_rosa_model, load_rosa_model
from trainer.rosa.mask import nonzeros
from trainer.rosa.quantised import QuantisedRosaLayer, Workspace, dequantise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedModel

bitsandbytes = pytest.importorskip("bitsandbytes")

IDS = torch.arange(3, 67).view(2, 32)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@pytest.fixture(name="folder", scope="session")
def _folder(
    make_tiny: Callable[..., LanguageModel], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a tiny model whose matrices have whole blocks in each row."""
    lm = make_tiny(hidden=64, wide=128)
    path = tmp_path_factory.mktemp("4bit") / "model"
    lm.model.save_pretrained(path)
    lm.tokenizer.save_pretrained(path)
    return path


def quantised(
    folder: Path, dtype: torch.dtype = torch.float32, *, repacks: bool = False
) -> PreTrainedModel:
    """Return the model in 4 bits, in the way in which anybody makes one.

    On CPUs with bf16 units inference would then repack W and round its scales, unless forbidden.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=config, dtype=dtype, device_map={"": "cpu"}
    )
    for layer in model.modules():
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            layer.support_avx512bf16_for_cpu &= repacks
    return model.requires_grad_(requires_grad=False).eval()


def dequantised(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Return the model with the weights that the 4 bits stand for, in a plain form."""
    from transformers import AutoModelForCausalLM

    plain: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    for name, layer in quantised(folder, dtype).named_modules():
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            whole = bitsandbytes.functional.dequantize_4bit(layer.weight, layer.weight.quant_state)
            plain.get_submodule(name).weight.data = whole
    return plain.requires_grad_(requires_grad=False).eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    """Return a model's logits for the same two rows of tokens."""
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=IDS).logits
    return out


def randomised(rosa: RosaModel, seed: int = 1) -> RosaModel:
    """Give the active adapter random A, B, mask and values, and whole modules random changes."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in rosa.lora_parameters().values():
            parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.1)
        for parameter in rosa.saved_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=random).to(parameter) * 0.1)
    active = rosa.active_adapters[0]
    for name, layer in rosa.layers.items():
        size = layer.in_features * layer.out_features
        count = nonzeros(size, rosa.adapter_config.density_of(name))
        mask = torch.randperm(size, generator=random)[:count].sort().values.int()
        layer.set_mask(active, mask, torch.randn(count, generator=random) * 0.1)
    rosa.write()
    return rosa


def gradients(rosa: RosaModel) -> dict[str, torch.Tensor]:
    """Return what one backward pass gives for all that is trained."""
    rosa.base(input_ids=IDS, labels=IDS).loss.backward()
    trained = {**rosa.lora_parameters(), **rosa.sparse_parameters(), **rosa.saved_parameters()}
    assert all(parameter.grad is not None for parameter in trained.values())
    return {
        name: parameter.grad for name, parameter in trained.items() if parameter.grad is not None
    }


def equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    """Tell whether two sets of tensors are the same bit for bit."""
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


@DTYPES
@pytest.mark.parametrize(
    "config",
    [
        RosaConfig(rank=4, density=0.05, dropout=0),
        RosaConfig(rank=4, density=0, dropout=0),
        RosaConfig(rank=0, density=1),
        RosaConfig(rank=4, density=0.05, dropout=0, modules_to_save=("lm_head", "norm")),
    ],
    ids=["rosa", "lora", "full", "whole modules"],
)
def test_it_is_rosa_on_the_dequantised_weights_bit_for_bit(
    folder: Path, config: RosaConfig, dtype: torch.dtype
) -> None:
    """Logits and all gradients are those of the same adapter on a plain layer of the same W."""
    rosa = randomised(get_rosa_model(quantised(folder, dtype), config))
    plain = randomised(get_rosa_model(dequantised(folder, dtype), config))
    assert all(isinstance(layer, QuantisedRosaLayer) for layer in rosa.layers.values())
    assert not torch.equal(logits(rosa.base), logits(quantised(folder, dtype)))
    assert torch.equal(logits(rosa.base), logits(plain.base))
    assert equal(gradients(rosa), gradients(plain))


def test_gradients_equal_those_of_the_dense_formulation(folder: Path) -> None:
    """A, B and each value of S get what autograd gives for dequantised W + scale B A + S."""
    config = RosaConfig(rank=4, density=0.05, dropout=0)
    rosa = randomised(get_rosa_model(quantised(folder), config))
    found = gradients(rosa)
    dense = dequantised(folder).requires_grad_(requires_grad=True)
    lora, scale = rosa.lora_parameters(), config.alpha / config.rank
    with torch.no_grad():
        for name, layer in rosa.layers.items():
            weight = dense.get_submodule(name).weight
            at = layer.rosa_indices["default"].long()
            weight.view(-1)[at] += layer.rosa_values["default"]
            weight += scale * lora[f"{name}.lora_B"] @ lora[f"{name}.lora_A"]
    torch.testing.assert_close(logits(rosa.base), logits(dense), rtol=1e-4, atol=1e-5)
    dense(input_ids=IDS, labels=IDS).loss.backward()
    for name, layer in rosa.layers.items():
        full = dense.get_submodule(name).weight.grad
        at = layer.rosa_indices["default"].long()
        a, b = lora[f"{name}.lora_A"].detach(), lora[f"{name}.lora_B"].detach()
        expected = {
            f"{name}.values": full.view(-1)[at],
            f"{name}.lora_A": scale * b.T @ full,
            f"{name}.lora_B": scale * full @ a.T,
        }
        for key, one in expected.items():
            assert (found[key] - one).norm() <= 1e-5 * one.norm()


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputing_activations_changes_nothing(folder: Path, *, reentrant: bool) -> None:
    """The forwards within a backward use the same room, and gradients are the same bit for bit."""
    config = RosaConfig(rank=4, density=0.05, dropout=0.1)
    found = []
    for recompute in (False, True):
        rosa = randomised(get_rosa_model(quantised(folder), config))
        rosa.base.train()
        if recompute:
            rosa.base.gradient_checkpointing_enable({"use_reentrant": reentrant})
            rosa.base.enable_input_require_grads()
        torch.manual_seed(3)
        found.append(gradients(rosa))
    assert equal(*found)


def test_the_mask_is_that_of_the_dequantised_weights(folder: Path) -> None:
    """One backward pass chooses the same entries as on a plain layer of the same W."""
    masks = []
    for model in (quantised(folder), dequantised(folder)):
        rosa = get_rosa_model(model, RosaConfig(rank=4, density=0.03))
        row = IDS.view(1, -1)

        def backward(rosa: RosaModel = rosa, row: torch.Tensor = row) -> None:
            rosa.base(input_ids=row, labels=row).loss.backward()

        rosa.choose_masks(backward, [20, 44])
        masks.append({n: one for n, one in rosa.tensors().items() if n.endswith(".indices")})
    assert equal(*masks)
    assert all(len(one) for one in masks[0].values())


@DTYPES
def test_without_an_adapter_it_is_the_base_bit_for_bit(folder: Path, dtype: torch.dtype) -> None:
    """Within `disabled` and after `unload`, logits and the bytes of W are the base model's."""
    model = quantised(folder, dtype)
    expected, before = logits(model), {k: v.clone() for k, v in model.state_dict().items()}
    rosa = randomised(get_rosa_model(model, RosaConfig(density=0.05)))
    adapted = logits(rosa.base)
    with rosa.disabled():
        assert torch.equal(logits(rosa.base), expected)
    assert torch.equal(logits(rosa.base), adapted)
    base = rosa.unload()
    assert equal(base.state_dict(), before)
    assert torch.equal(logits(base), expected)


def test_nothing_dense_is_saved_for_backward(folder: Path) -> None:
    """No tensor of a weight's size is kept for backward, besides what the model itself holds."""
    rosa = randomised(get_rosa_model(quantised(folder), RosaConfig(density=0.05)))
    held = {parameter.data_ptr() for parameter in rosa.base.parameters()}
    smallest = min(layer.in_features * layer.out_features for layer in rosa.layers.values())
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in held:
            kept.append(tensor.numel())
        return tensor

    few = IDS[:1, :7]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        rosa.base(input_ids=few, labels=few).loss.backward()
    assert max(kept) < smallest


class Largest(TorchDispatchMode):
    """Notes the most entries that any operation has made anew."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        """Run an operation and look at what comes out, unless it came in."""
        given = {one.data_ptr() for one in args if isinstance(one, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(one, torch.Tensor) and one.data_ptr() not in given:
                self.entries = max(self.entries, one.numel())
        return out


def test_a_step_makes_nothing_of_the_size_of_w_but_w_in_the_workspace() -> None:
    """Dequantising, forward, backward and dS in chunks of rows: no temporary is as large as W."""
    random = torch.Generator().manual_seed(0)
    linear = bitsandbytes.nn.Linear4bit(
        512, 2048, bias=False, quant_type="nf4", compute_dtype=torch.float32
    ).to("cpu")
    layer = QuantisedRosaLayer(linear)
    size = 512 * 2048
    layer.chunk = size // 8
    layer.add("a", RosaConfig(rank=4))
    mask = torch.randperm(size, generator=random)[: size // 100].sort().values
    layer.set_mask("a", mask, torch.randn(len(mask), generator=random))
    layer.set_adapter("a")
    x = torch.randn(4, 512, generator=random, requires_grad=True)
    with Largest() as largest:
        layer(x).square().sum().backward()
    assert 0 < largest.entries <= size // 4
    assert x.grad is not None
    whole = torch.empty(2048, 512)
    dequantise(linear.weight, whole)
    whole.view(-1)[mask] += layer.rosa_values["a"].detach()
    torch.testing.assert_close(layer(x), x @ whole.T)


def test_all_layers_share_one_workspace_that_goes_with_them(folder: Path) -> None:
    """It is as large as the largest W, and freed when the model is."""
    gc.collect()  # the models of other tests
    rosa = get_rosa_model(quantised(folder), RosaConfig())
    copies: set[Workspace] = set()
    for layer in rosa.layers.values():
        assert isinstance(layer, QuantisedRosaLayer)
        copies.add(layer._workspace)
    (one,) = copies
    logits(rosa.base)
    assert one._room.numel() == 64 * 128
    gone = weakref.ref(one)
    copies.clear()
    del rosa, layer, one
    gc.collect()
    assert gone() is None


def test_threads_do_not_get_into_each_others_weights(folder: Path) -> None:
    """Several threads that compute with the same model get what one alone gets."""
    rosa = randomised(get_rosa_model(quantised(folder), RosaConfig(density=0.05)))
    expected = logits(rosa.base)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: logits(rosa.base), range(40)))
    assert all(torch.equal(one, expected) for one in found)


def test_s_changed_between_forward_and_backward_is_noticed(folder: Path) -> None:
    """An optimizer step in between is an error, not a wrong gradient."""
    rosa = randomised(get_rosa_model(quantised(folder), RosaConfig(density=0.05)))
    loss = rosa.base(input_ids=IDS, labels=IDS).loss
    with torch.no_grad():
        rosa.sparse_parameters()["model.layers.1.mlp.up_proj.values"].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_several_adapters_take_turns(folder: Path) -> None:
    """Each of two adapters answers as it does alone, whatever was active before."""
    shapes = {"a": RosaConfig(rank=4, density=0.05), "b": RosaConfig(rank=0, density=0.2)}
    alone = {
        name: logits(randomised(get_rosa_model(quantised(folder), config, name), seed).base)
        for seed, (name, config) in enumerate(shapes.items())
    }
    rosa = randomised(get_rosa_model(quantised(folder), shapes["a"], "a"), 0)
    rosa.add_adapter("b", shapes["b"])
    rosa.set_adapter("b")
    randomised(rosa, 1)
    for name in ("a", "b", "a"):
        rosa.set_adapter(name)
        assert torch.equal(logits(rosa.base), alone[name])
    rosa.delete_adapter("a")
    rosa.set_adapter("b")
    assert torch.equal(logits(rosa.base), alone["b"])


def test_an_adapter_fits_its_base_at_every_precision(folder: Path, tmp_path: Path) -> None:
    """Saved in 4 bits it loads into fp32, merges there, and comes back bit for bit."""
    config = RosaConfig(rank=4, density=0.05, modules_to_save=("lm_head",))
    rosa = randomised(get_rosa_model(quantised(folder), config))
    rosa.save(tmp_path / "a.safetensors", base_hash="0")
    expected, state = logits(rosa.base), rosa.tensors()

    plain = dequantised(folder)
    whole = load_rosa_model(plain, tmp_path / "a.safetensors", base_hash="0")
    whole.save(tmp_path / "b.safetensors", base_hash="0")
    torch.testing.assert_close(logits(whole.merge_and_unload()), expected, rtol=1e-4, atol=1e-4)

    again = load_rosa_model(quantised(folder), tmp_path / "b.safetensors", base_hash="0")
    assert equal(again.tensors(), state)
    assert torch.equal(logits(again.base), expected)


def test_merging_is_refused(folder: Path) -> None:
    """Four bits would round an adapter away: the error names the way, the model is as before."""
    rosa = randomised(get_rosa_model(quantised(folder), RosaConfig(density=0.05)))
    expected = logits(rosa.base)
    for merge in (rosa.merge_adapter, rosa.merge_and_unload):
        with pytest.raises(ValueError, match="load the base model in bf16 or fp32"):
            merge()
    assert torch.equal(logits(rosa.base), expected)


def test_a_module_in_4_bits_is_not_trained_whole(folder: Path) -> None:
    """The error names it, and the model is as before."""
    model = quantised(folder)
    with pytest.raises(ValueError, match=r"layers\.0\.mlp\.up_proj is in 4 bits"):
        get_rosa_model(model, RosaConfig(modules_to_save=("up_proj",)))
    assert torch.equal(logits(model), logits(quantised(folder)))


def examples(count: int = 8) -> list[Example]:
    """Return examples of growing length, of invented tokens."""
    return [
        Example(key=str(i), tokens=tuple(tokens), learned=10, words=6)
        for i in range(count)
        for tokens in [[1, *(3 + (7 * i + 5 * j) % 200 for j in range(14 + i)), 2]]
    ]


def test_training_learns_and_resumes_exactly(folder: Path, tmp_path: Path) -> None:
    """The loss falls; a training that was broken off ends like one in one go, bit for bit."""
    settings = FinetuneSettings(
        rosa=RosaConfig(rank=4, density=0.02),
        epochs=8,
        batch=4,
        row=64,
        lora_rate=1e-2,
        sparse_rate=1e-2,
        checkpoint_seconds=0,
    )

    def fresh() -> LanguageModel:
        return load(str(folder), cache=tmp_path, precision="4bit", device="cpu")

    whole = finetune(fresh(), examples(), settings)
    assert sum(whole.losses[-3:]) < 0.9 * sum(whole.losses[:3])

    def stop(done: int, _total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        finetune(fresh(), examples(), settings, checkpoint=checkpoint, progress=stop)
    resumed = finetune(fresh(), examples(), settings, checkpoint=checkpoint)
    assert resumed.resumed == 5
    assert resumed.losses == whole.losses
    assert equal(resumed.rosa.tensors(), whole.rosa.tensors())


def test_a_checkpoint_of_another_precision_is_started_over(folder: Path, tmp_path: Path) -> None:
    """Steps in 4 bits and in full precision are never mixed within one training."""
    settings = FinetuneSettings(rosa=RosaConfig(rank=2, density=0.02), epochs=1, batch=4, row=64)
    checkpoint = tmp_path / "c.safetensors"
    lm = load(str(folder), cache=tmp_path, precision="4bit", device="cpu")
    precision = {torch.float32: "fp32", torch.bfloat16: "bf16"}[lm.dtype]
    finetune(lm, examples(), settings, checkpoint=checkpoint)
    other = load(str(folder), cache=tmp_path, precision=precision, device="cpu")
    assert other.hash == lm.hash
    assert finetune(other, examples(), settings, checkpoint=checkpoint).resumed == 0


@DTYPES
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("shape", [(3, 64), (1024, 192), (2100, 256)])
def test_dequantising_in_chunks_is_bitsandbytes_own(
    shape: tuple[int, int], kind: str, dtype: torch.dtype, *, double: bool
) -> None:
    """Any matrix with whole blocks comes back as from the library, bit for bit, in any dtype."""
    functional = bitsandbytes.functional
    given = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    packed, state = functional.quantize_4bit(given, quant_type=kind, compress_statistics=double)
    weight = bitsandbytes.nn.Params4bit(packed, quant_state=state, bnb_quantized=True)
    out = torch.empty(shape, dtype=dtype)
    dequantise(weight, out)
    assert torch.equal(out, functional.dequantize_4bit(packed, state))


def linear(inputs: int = 64, **options: object) -> torch.nn.Linear:
    """Return a quantised layer."""
    made: torch.nn.Linear = bitsandbytes.nn.Linear4bit(inputs, 64, quant_type="nf4", **options)
    return made.to("cpu")


def test_what_cannot_be_read_back_is_refused() -> None:
    """Rows without whole blocks, a layer that is not quantised yet, one that was repacked."""
    with pytest.raises(ValueError, match="96 inputs"):
        QuantisedRosaLayer(linear(96))
    with pytest.raises(ValueError, match="not quantised yet"):
        QuantisedRosaLayer(bitsandbytes.nn.Linear4bit(64, 64, quant_type="nf4"))
    repacked = linear()
    repacked.weight.quant_state.packing_format_for_cpu = True  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="repacked"):
        QuantisedRosaLayer(repacked)


def test_other_dtypes_are_computed_in_that_of_the_layer() -> None:
    """An input in fp32 to a layer that computes in bf16 gives fp32, as in bitsandbytes' own."""
    base = linear(compute_dtype=torch.bfloat16)
    base.bias.data.normal_()
    x = torch.randn(3, 64)
    expected = base(x)
    layer = QuantisedRosaLayer(base)
    layer.add("a", replace(RosaConfig(), rank=2))
    layer.set_adapter("a")
    assert layer(x).dtype is torch.float32
    assert torch.equal(layer(x), expected)


def test_inference_does_not_repack_the_weights(folder: Path) -> None:
    """On no CPU does an adapted model, or one whose adapter is off again, change its W."""
    model = quantised(folder, repacks=True)
    rosa = get_rosa_model(model, RosaConfig(rank=2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with rosa.disabled():
        logits(rosa.base)
    base = rosa.unload()
    logits(base)
    assert not any(
        getattr(one.weight.quant_state, "packing_format_for_cpu", False)
        for one in base.modules()
        if isinstance(one, bitsandbytes.nn.Linear4bit)
    )
    lora = {k for k in before if "rosa_" in k}
    assert equal(
        base.state_dict(),
        {k.replace(".base_layer", ""): v for k, v in before.items() if k not in lora},
    )


def test_it_works_without_a_network(folder: Path, tmp_path: Path) -> None:
    """Loading, a training step and writing need no socket, as in the model process."""
    code = f"""
from daemon import offline; offline.enter()
from pathlib import Path
import torch
from trainer.base_model import load
from trainer.rosa import RosaConfig, get_rosa_model
lm = load({str(folder)!r}, cache=Path({str(tmp_path)!r}), precision="4bit", device="cpu")
rosa = get_rosa_model(lm.model, RosaConfig(rank=2))
ids = torch.arange(3, 30).view(1, -1)
lm.model(input_ids=ids, labels=ids).loss.backward()
print(lm.precision, tuple(lm.model.generate(ids, max_new_tokens=3, do_sample=False).shape))
"""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "4bit"
    assert "kernels" not in done.stderr
