"""The adapter's arithmetic, on tiny models with fixed weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.rosa import RosaConfig, get_rosa_model, load_rosa_model
from trainer.rosa.layer import SparseLinear
from trainer.rosa.mask import nonzeros, top_entries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.base_model import LanguageModel
    from trainer.rosa import RosaModel

    Make = Callable[..., LanguageModel]

IDS = torch.arange(3, 67).view(2, 32)


def logits(model: torch.nn.Module) -> torch.Tensor:
    """Return a model's logits for the same two rows of tokens."""
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=IDS).logits
    return out


def random_adapter(lm: LanguageModel, config: RosaConfig, seed: int = 1) -> RosaModel:
    """Put an adapter with random A, B, mask and values on a model."""
    random = torch.Generator().manual_seed(seed)
    rosa = get_rosa_model(lm.model, config)
    for parameter in rosa.lora_parameters().values():
        parameter.data = torch.randn(parameter.shape, generator=random) * 0.1
    for layer in rosa.layers.values() if config.density else ():
        size = layer.weight.numel()
        count = nonzeros(size, config.density)
        mask = torch.randperm(size, generator=random)[:count].sort().values.int()
        layer.set_mask(mask, torch.randn(count, generator=random) * 0.1)
    return rosa


def dense_delta(rosa: RosaModel, name: str) -> torch.Tensor:
    """Return (alpha / rank) B A + S of one layer as a dense matrix, computed the plain way."""
    layer = rosa.layers[name]
    delta = torch.zeros_like(layer.weight)
    if rosa.config.density:
        delta.view(-1)[layer.indices.long()] += layer.values.detach()
    lora = rosa.lora_parameters()
    if lora:
        scale = rosa.config.alpha / rosa.config.rank
        delta += scale * (lora[f"{name}.lora_B"] @ lora[f"{name}.lora_A"]).detach()
    return delta


@pytest.mark.parametrize(
    "config",
    [
        RosaConfig(rank=4),
        RosaConfig(rank=4, density=0),
        RosaConfig(rank=0, density=0.1),
        RosaConfig(rank=0, density=1),
    ],
)
def test_the_adapter_adds_scaled_ba_plus_s(make_tiny: Make, config: RosaConfig) -> None:
    """An adapted model answers like the base model with the dense delta added to its weights."""
    rosa = random_adapter(make_tiny(), config)
    plain = make_tiny()
    with torch.no_grad():
        for name in rosa.layers:
            plain.model.get_submodule(name).weight += dense_delta(rosa, name)
    torch.testing.assert_close(logits(rosa.base), logits(plain.model), rtol=1e-4, atol=1e-5)


def test_a_fresh_adapter_changes_nothing(make_tiny: Make) -> None:
    """Before training, the adapted model gives the base model's logits bit for bit."""
    expected = logits(make_tiny().model)
    assert torch.equal(logits(get_rosa_model(make_tiny().model, RosaConfig()).base), expected)


def test_the_head_and_the_embeddings_are_not_adapted(tiny: LanguageModel) -> None:
    """Every linear layer but the output head is adapted."""
    names = set(get_rosa_model(tiny.model, RosaConfig()).layers)
    assert len(names) == 2 * 7
    assert not any("lm_head" in name or "embed" in name for name in names)


def test_a_disabled_adapter_leaves_the_base_bit_for_bit(make_tiny: Make) -> None:
    """Within `disabled` and after `unload` the base model's weights and logits are the old ones."""
    before = {k: v.clone() for k, v in make_tiny().model.state_dict().items()}
    expected = logits(make_tiny().model)
    rosa = random_adapter(make_tiny(), RosaConfig())
    adapted = logits(rosa.base)
    with rosa.disabled():
        assert torch.equal(logits(rosa.base), expected)
    assert torch.equal(logits(rosa.base), adapted)
    model = rosa.unload()
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(isinstance(module, SparseLinear) for module in model.modules())


def test_saved_and_loaded_it_answers_the_same(make_tiny: Make, tmp_path: Path) -> None:
    """An adapter read back from its file gives equal logits on a fresh base model."""
    rosa = random_adapter(make_tiny(), RosaConfig(rank=4, density=0.05))
    rosa.save(tmp_path / "a.safetensors")
    loaded = load_rosa_model(make_tiny().model, tmp_path / "a.safetensors")
    assert loaded.config == rosa.config
    assert torch.equal(logits(loaded.base), logits(rosa.base))


def test_merged_it_answers_the_same(make_tiny: Make) -> None:
    """Merging gives a plain model with equal logits, up to fp32 rounding."""
    rosa = random_adapter(make_tiny(), RosaConfig())
    expected = logits(rosa.base)
    merged = rosa.merge()
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, SparseLinear) for module in merged.modules())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_equal_those_of_the_dense_formulation(
    make_tiny: Make, dtype: torch.dtype
) -> None:
    """The gradient of each value of S is autograd's gradient of the dense weight at its entry."""
    rosa = random_adapter(make_tiny(dtype=dtype), RosaConfig(rank=0, density=0.1))
    rosa.train_sparse(on=True)
    rosa.base(input_ids=IDS, labels=IDS).loss.backward()
    dense = make_tiny(dtype=dtype).model
    with torch.no_grad():
        for name, layer in rosa.layers.items():
            dense.get_submodule(name).weight.copy_(layer.weight)
    dense.requires_grad_(requires_grad=True)
    dense(input_ids=IDS, labels=IDS).loss.backward()
    for name, layer in rosa.layers.items():
        expected = dense.get_submodule(name).weight.grad.view(-1)[layer.indices.long()]
        torch.testing.assert_close(layer.values.grad, expected.float(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-6)])
def test_gradients_of_a_and_b_equal_autograds(
    make_tiny: Make, dtype: torch.dtype, bound: float
) -> None:
    """A and B get the gradients that plain autograd gives for the dense formulation."""
    config = RosaConfig(rank=4, density=0.05, dropout=0)
    rosa = random_adapter(make_tiny(dtype=dtype), config)
    rosa.train_sparse(on=True)
    rosa.base(input_ids=IDS, labels=IDS).loss.backward()
    dense = make_tiny(dtype=dtype).model.requires_grad_(requires_grad=True)
    with torch.no_grad():
        for name in rosa.layers:
            dense.get_submodule(name).weight += dense_delta(rosa, name)
    dense(input_ids=IDS, labels=IDS).loss.backward()
    lora, scale = rosa.lora_parameters(), config.alpha / config.rank
    for name in rosa.layers:
        full = scale * dense.get_submodule(name).weight.grad.float()
        a, b = lora[f"{name}.lora_A"], lora[f"{name}.lora_B"]
        torch.testing.assert_close(a.grad, b.detach().T @ full, rtol=1e-4, atol=bound)
        torch.testing.assert_close(b.grad, full @ a.detach().T, rtol=1e-4, atol=bound)


def test_training_is_pefts_lora_where_there_is_no_sparse_half(make_tiny: Make) -> None:
    """Without S and dropout, logits and gradients equal those of PEFT's own LoRA layers."""
    from peft import LoraConfig, get_peft_model

    rosa = random_adapter(make_tiny(), RosaConfig(rank=4, density=0, dropout=0))
    names = list(rosa.layers)
    theirs = make_tiny().model
    get_peft_model(theirs, LoraConfig(r=4, lora_alpha=16, target_modules=names))
    lora = rosa.lora_parameters()
    pairs = []
    for name in names:
        module = theirs.get_submodule(name)
        for half, weight in (("A", module.lora_A), ("B", module.lora_B)):
            weight["default"].weight.data.copy_(lora[f"{name}.lora_{half}"])
            pairs.append((lora[f"{name}.lora_{half}"], weight["default"].weight))
    torch.testing.assert_close(logits(rosa.base), logits(theirs), rtol=1e-4, atol=1e-5)
    for model in (rosa.base, theirs):
        model(input_ids=IDS, labels=IDS).loss.backward()
    for ours, other in pairs:
        torch.testing.assert_close(ours.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_dropout_drops_its_share_and_keeps_the_mean(make_tiny: Make) -> None:
    """In training about the set share of inputs is dropped and the rest scaled; else nothing is."""
    layer = get_rosa_model(make_tiny().model, RosaConfig(dropout=0.25)).base.get_submodule(
        "model.layers.0.mlp.up_proj"
    )
    torch.manual_seed(0)
    torch.nn.init.ones_(layer.lora_B["default"].weight)
    torch.nn.init.ones_(layer.lora_A["default"].weight)
    x = torch.ones(4000, 32)
    with torch.no_grad():
        still = layer.eval()(x) - layer.get_base_layer()(x)
        moving = layer.train()(x) - layer.get_base_layer()(x)
    assert torch.allclose(still, still[0, 0].expand_as(still))
    ratio = moving[:, 0] / still[:, 0]
    assert ratio.mean().item() == pytest.approx(1.0, abs=0.01)
    # Each of 32 inputs counts 1 / (0.75 · 32) with probability 0.75.
    assert ratio.var().item() == pytest.approx(0.25 / 0.75 / 32, rel=0.15)


def test_the_gradient_in_chunks_of_rows_is_the_whole_gradient() -> None:
    """A matrix above the chunk size gives the same sampled gradient as one dense product."""
    torch.manual_seed(0)
    layer = SparseLinear(torch.nn.Linear(2049, 4100, bias=True))
    layer.set_mask(torch.randperm(layer.weight.numel())[:5000].sort().values.int())
    assert len(layer._bounds) > 1
    x, dy = torch.randn(7, 2049), torch.randn(7, 4100)
    expected = (dy.T @ x).view(-1)[layer.indices.long()]
    torch.testing.assert_close(layer.sampled_gradient(x, dy), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "density"), [(1000, 0.01), (999, 0.006), (10, 0.01), (64, 1.0)])
def test_the_density_is_exact(size: int, density: float) -> None:
    """A mask has floor(density · size) entries, at least one, ascending and without repeats."""
    score = torch.rand(size, generator=torch.Generator().manual_seed(0))
    chosen = top_entries(score, nonzeros(size, density))
    assert chosen.dtype == torch.int32
    assert chosen.numel() == max(1, int(density * size))
    assert torch.equal(chosen, chosen.unique())


def test_the_mask_is_the_dense_references_top_k(make_tiny: Make) -> None:
    """Masks equal the top k of the squared per-mail gradients that plain autograd gives."""
    tokens, lengths = IDS.reshape(1, -1)[:, :40], [25, 15]
    positions = torch.tensor([[*range(25), *range(15)]])
    lm, config = make_tiny(), RosaConfig(rank=0, density=0.05)

    def loss(model: torch.nn.Module, part: slice) -> torch.Tensor:
        out = model(input_ids=tokens, position_ids=positions, use_cache=False).logits[0]
        return torch.nn.functional.cross_entropy(out[:-1], tokens[0, 1:], reduction="none")[
            part
        ].sum()

    rosa = get_rosa_model(lm.model, config)
    rosa.choose_masks(lengths, lambda: loss(rosa.base, slice(None)).backward())
    reference = make_tiny().model.requires_grad_(requires_grad=True)
    # The positions of a mail's inputs are what its gradient is summed over.
    out = reference(input_ids=tokens, position_ids=positions, use_cache=False).logits[0]
    losses = torch.nn.functional.cross_entropy(out[:-1], tokens[0, 1:], reduction="none")
    total = {name: torch.zeros_like(rosa.layers[name].weight) for name in rosa.layers}
    for part in (slice(0, 25), slice(25, 39)):
        reference.zero_grad()
        losses[part].sum().backward(retain_graph=True)
        for name in total:
            total[name] += reference.get_submodule(name).weight.grad.square()
    for name, score in total.items():
        count = nonzeros(score.numel(), config.density)
        assert torch.equal(rosa.layers[name].indices, top_entries(score, count)), name


def test_nothing_dense_is_saved_for_backward(tiny: LanguageModel) -> None:
    """No tensor of a weight's size is kept for backward, besides the weights themselves."""
    rosa = random_adapter(tiny, RosaConfig())
    rosa.train_sparse(on=True)
    weights = {p.data_ptr() for p in tiny.model.parameters()}
    sizes = {layer.weight.shape for layer in rosa.layers.values()}
    copies = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        shape = tensor.shape
        if (shape in sizes or shape[::-1] in sizes) and tensor.data_ptr() not in weights:
            copies.append(shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        rosa.base(input_ids=IDS[:, :9], labels=IDS[:, :9]).loss.backward()
    assert copies == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": -1},
        {"density": 1.5},
        {"density": -0.1},
        {"alpha": 0},
        {"dropout": 1.0},
        {"rank": 0, "density": 0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    """Each impossible value is refused with its name and the value."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RosaConfig(**wrong)  # type: ignore[arg-type]


def test_a_model_without_linear_layers_is_refused() -> None:
    """A model that has nothing to adapt is refused, not adapted to no effect."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=10))
    with pytest.raises(ValueError, match="no linear layers"):
        get_rosa_model(model, RosaConfig())


@pytest.mark.parametrize("indices", [[3, 1], [1, 1], [-1, 2], [0, 10**6]])
def test_a_mask_of_another_model_is_refused(indices: list[int]) -> None:
    """Positions that are not ascending positions of the weight are refused."""
    layer = SparseLinear(torch.nn.Linear(4, 4))
    with pytest.raises(ValueError, match="positions"):
        layer.set_mask(torch.tensor(indices, dtype=torch.int32))


def test_a_damaged_file_is_refused(make_tiny: Make, tmp_path: Path) -> None:
    """Missing tensors, another format and a truncated file are each refused with a reason."""
    file = tmp_path / "a.safetensors"
    random_adapter(make_tiny(), RosaConfig()).save(file)
    state = load_file(file)
    state.popitem()
    save_file(
        state, tmp_path / "short.safetensors", metadata={"format": "panza-rosa-1", "config": "{}"}
    )
    with pytest.raises(ValueError, match="missing"):
        load_rosa_model(make_tiny().model, tmp_path / "short.safetensors")
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="format"):
        load_rosa_model(make_tiny().model, tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot be read"):
        load_rosa_model(make_tiny().model, tmp_path / "cut.safetensors")
