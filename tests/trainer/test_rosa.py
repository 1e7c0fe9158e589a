"""The adapter's arithmetic, on tiny models with fixed weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from trainer.rosa import RosaConfig, RosaModel, get_rosa_model, load_rosa_model
from trainer.rosa.layer import RosaLayer, sampled_gradient
from trainer.rosa.mask import MaskChoice, nonzeros

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.base_model import LanguageModel

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
    randomise(rosa, random)
    return rosa


def randomise(rosa: RosaModel, random: torch.Generator) -> None:
    """Give the active adapter random A, B, mask and values, and whole modules random changes."""
    for parameter in rosa.lora_parameters().values():
        parameter.data = torch.randn(parameter.shape, generator=random).to(parameter) * 0.1
    for parameter in rosa.saved_parameters().values():
        parameter.data += torch.randn(parameter.shape, generator=random).to(parameter) * 0.1
    for name, layer in rosa.layers.items():
        size = layer.weight.numel()
        count = nonzeros(size, rosa.adapter_config.density_of(name))
        mask = torch.randperm(size, generator=random)[:count].sort().values.int()
        active = rosa.active_adapters[0]
        layer.set_mask(active, mask, torch.randn(count, generator=random) * 0.1)
    rosa.write()


def indices(layer: RosaLayer, adapter: str = "default") -> torch.Tensor:
    """Return where an adapter's S has its entries, int64."""
    return layer.rosa_indices[adapter].long()


def dense_delta(rosa: RosaModel, name: str) -> torch.Tensor:
    """Return (alpha / rank) B A + S of one layer as a dense matrix, computed the plain way."""
    layer, config = rosa.layers[name], rosa.adapter_config
    delta = torch.zeros_like(layer.weight)
    if config.density:
        delta.view(-1)[indices(layer)] += layer.rosa_values["default"].detach()
    lora = rosa.lora_parameters()
    if lora:
        scale = config.alpha / config.rank
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
    assert not any(isinstance(module, RosaLayer) for module in model.modules())


def test_saved_and_loaded_it_answers_the_same(make_tiny: Make, tmp_path: Path) -> None:
    """An adapter read back from its file gives equal logits on a fresh base model."""
    rosa = random_adapter(make_tiny(), RosaConfig(rank=4, density=0.05))
    rosa.save(tmp_path / "a.safetensors")
    loaded = load_rosa_model(make_tiny().model, tmp_path / "a.safetensors")
    assert loaded.adapter_config == rosa.adapter_config
    assert torch.equal(logits(loaded.base), logits(rosa.base))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_it_answers_the_same_and_unmerged_it_is_the_same(
    make_tiny: Make, dtype: torch.dtype
) -> None:
    """Merging changes logits by rounding alone; unmerging gives weights and logits bit for bit."""
    rosa = random_adapter(make_tiny(dtype=dtype), RosaConfig())
    expected, weights = logits(rosa.base), [one.weight.clone() for one in rosa.layers.values()]
    bounds = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0, "atol": 0.1}
    rosa.merge_adapter()
    torch.testing.assert_close(logits(rosa.base), expected, **bounds)
    with rosa.disabled():  # PEFT's way: a merged adapter stays in the weights
        torch.testing.assert_close(logits(rosa.base), expected, **bounds)
    rosa.unmerge_adapter()
    assert torch.equal(logits(rosa.base), expected)
    assert all(torch.equal(a.weight, b) for a, b in zip(rosa.layers.values(), weights, strict=True))
    merged = rosa.merge_and_unload()
    torch.testing.assert_close(logits(merged), expected, **bounds)
    assert not any(isinstance(module, RosaLayer) for module in merged.modules())


def test_a_damaged_adapter_is_not_merged_where_that_is_asked(make_tiny: Make) -> None:
    """With PEFT's safe_merge, a sum that is not finite is refused and the model stays as it was."""
    rosa = random_adapter(make_tiny(), RosaConfig())
    expected = logits(rosa.base)
    next(iter(rosa.lora_parameters().values())).data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        rosa.merge_adapter(safe_merge=True)
    next(iter(rosa.lora_parameters().values())).data[0, 0] = 0.0
    assert not next(iter(rosa.layers.values())).merged
    assert logits(rosa.base).shape == expected.shape


def test_several_adapters_take_turns(make_tiny: Make, tmp_path: Path) -> None:
    """Each of several adapters answers as it does alone, in any order; deleted, it is gone."""
    configs = {"default": RosaConfig(rank=4), "b": RosaConfig(rank=2, density=0.1)}
    alone = {}
    for seed, (name, config) in enumerate(configs.items()):
        rosa = random_adapter(make_tiny(), config, seed)
        rosa.save(tmp_path / name)
        alone[name] = logits(rosa.base)
    base = logits(make_tiny().model)
    rosa = load_rosa_model(make_tiny().model, tmp_path / "default")
    assert load_rosa_model(rosa, tmp_path / "b", adapter_name="b") is rosa
    assert rosa.adapters == configs
    for name in ("b", "default", "b", "default"):
        rosa.set_adapter(name)
        assert torch.equal(logits(rosa.base), alone[name])
        with rosa.disabled():
            assert torch.equal(logits(rosa.base), base)
    with pytest.raises(ValueError, match="already"):
        rosa.add_adapter("b", RosaConfig())
    with pytest.raises(ValueError, match="one adapter computes at a time"):
        rosa.set_adapter(["default", "b"])
    rosa.set_adapter("b")
    with pytest.warns(UserWarning, match="Setting active adapter to default"):
        rosa.delete_adapter("b")
    assert torch.equal(logits(rosa.base), alone["default"])
    assert list(rosa.adapters) == ["default"]
    assert torch.equal(logits(rosa.unload()), base)


def test_only_the_active_adapter_is_trained(make_tiny: Make) -> None:
    """Gradients arrive in the active adapter, and in nothing of the others or the base model."""
    rosa = random_adapter(make_tiny(), RosaConfig(rank=4))
    rosa.add_adapter("b", RosaConfig(rank=4))
    rosa.set_adapter("b")
    rosa.base(input_ids=IDS, labels=IDS).loss.backward()
    trained = {name for name, one in rosa.base.named_parameters() if one.grad is not None}
    assert trained
    assert all(name.endswith(".b") for name in trained)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_equal_those_of_the_dense_formulation(
    make_tiny: Make, dtype: torch.dtype, bound: float, *, recompute: bool
) -> None:
    """A, B and each value of S get what autograd gives for the dense weight, recomputing or not."""
    config = RosaConfig(rank=4, density=0.05, dropout=0)
    rosa = random_adapter(make_tiny(dtype=dtype), config)
    dense = make_tiny(dtype=dtype).model.requires_grad_(requires_grad=True)
    with torch.no_grad():
        for name in rosa.layers:
            dense.get_submodule(name).weight += dense_delta(rosa, name)
    if recompute:
        rosa.base.gradient_checkpointing_enable({"use_reentrant": False})
        rosa.base.train()
    for model in (rosa.base, dense):
        model(input_ids=IDS, labels=IDS).loss.backward()
    lora, scale = rosa.lora_parameters(), config.alpha / config.rank
    for name, layer in rosa.layers.items():
        full = dense.get_submodule(name).weight.grad
        a, b = lora[f"{name}.lora_A"], lora[f"{name}.lora_B"]
        pairs = [
            (layer.rosa_values["default"].grad, full.view(-1)[indices(layer)]),
            (a.grad, scale * b.detach().T @ full),
            (b.grad, scale * full @ a.detach().T),
        ]
        for found, expected in pairs:
            assert (found - expected).norm() <= bound * expected.norm()


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
    layer = get_rosa_model(make_tiny().model, RosaConfig(dropout=0.25)).layers[
        "model.layers.0.mlp.up_proj"
    ]
    torch.manual_seed(0)
    torch.nn.init.ones_(layer.rosa_B["default"])
    torch.nn.init.ones_(layer.rosa_A["default"])
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
    layer = RosaLayer(torch.nn.Linear(99, 410, bias=True))
    layer.chunk = 2000
    layer.add("a", RosaConfig(rank=0))
    layer.set_adapter("a")
    layer.set_mask("a", torch.randperm(layer.weight.numel())[:500].sort().values)
    assert len(layer._cuts) == 21
    x, dy = torch.randn(7, 99), torch.randn(7, 410)
    expected = (dy.T @ x).view(-1)[indices(layer, "a")]
    found = sampled_gradient(x, dy, layer.rosa_indices["a"], layer._cuts)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(40, 25), (333, 3), (5, 2), (2100, 1100)])
@pytest.mark.parametrize("density", [0.01, 0.006, 1.0])
def test_the_density_is_exact_and_the_mask_the_top(shape: tuple[int, int], density: float) -> None:
    """A mask has floor(density · size) entries, at least one: the top k, ascending."""
    torch.manual_seed(0)
    x, dy = torch.randn(9, shape[1]), torch.randn(9, shape[0])
    mask = MaskChoice((9,), "mean", "entries").mask(x, dy, density)
    score = (dy.T @ x).abs().view(-1)
    count = max(1, int(density * score.numel()))
    assert mask.dtype == torch.int32
    assert torch.equal(mask, score.topk(count).indices.sort().values.int())


@pytest.mark.parametrize("criterion", ["mean_squared", "mean"])
def test_the_mask_is_the_dense_references_top_k(make_tiny: Make, criterion: str) -> None:
    """Masks equal the top k of the per-mail gradients, squared or not, that autograd gives."""
    tokens, lengths = IDS.reshape(1, -1)[:, :40], [25, 15]
    positions = torch.tensor([[*range(25), *range(15)]])
    config = RosaConfig(rank=0, density=0.05, criterion=criterion)

    def losses(model: torch.nn.Module) -> torch.Tensor:
        out = model(input_ids=tokens, position_ids=positions, use_cache=False).logits[0]
        return torch.nn.functional.cross_entropy(out[:-1], tokens[0, 1:], reduction="none")

    rosa = get_rosa_model(make_tiny().model, config)
    rosa.choose_masks(lambda: losses(rosa.base).sum().backward(), lengths)
    reference = make_tiny().model.requires_grad_(requires_grad=True)
    total = {name: torch.zeros_like(layer.weight) for name, layer in rosa.layers.items()}
    # The positions of a mail's inputs are what its gradient is summed over.
    for part in (slice(0, 25), slice(25, 39)):
        reference.zero_grad()
        losses(reference)[part].sum().backward()
        for name, score in total.items():
            gradient = reference.get_submodule(name).weight.grad
            score.add_(gradient if criterion == "mean" else gradient.square())
    for name, score in total.items():
        count = nonzeros(score.numel(), config.density)
        top = score.abs().view(-1).topk(count).indices.sort().values
        assert torch.equal(indices(rosa.layers[name]), top), name


def test_a_layer_that_no_gradient_reaches_is_named(tiny: LanguageModel) -> None:
    """Where backward does not come through a layer, no mask is chosen and the layer is named."""
    rosa = get_rosa_model(tiny.model, RosaConfig())
    with pytest.raises(ValueError, match=r"model\.layers\.0\.self_attn\.q_proj"):
        rosa.choose_masks(lambda: None, [1])
    assert not any(one.numel() for one in rosa.sparse_parameters().values())


def test_scores_are_summed_over_processes_before_the_mask_is_chosen() -> None:
    """What `reduce` adds to the scores decides with them."""
    torch.manual_seed(0)
    x, dy = torch.randn(2, 9, 30), torch.randn(2, 9, 20)
    other = (dy[1].T @ x[1]).square()
    one = MaskChoice((9,), "mean_squared", "entries", lambda score: score.add_(other))
    both = (dy[0].T @ x[0]).square() + other
    expected = both.view(-1).topk(60).indices.sort().values.int()
    assert torch.equal(one.mask(x[0], dy[0], 0.1), expected)


@pytest.mark.parametrize("shape", [(96, 64), (70, 100), (3000, 700)])
def test_rows_and_blocks_are_chosen_whole(shape: tuple[int, int]) -> None:
    """A structured mask is the rows or blocks whose scores sum up highest, cut at the edges."""
    torch.manual_seed(0)
    x, dy = torch.randn(9, shape[1]), torch.randn(9, shape[0])
    score = (dy.T @ x).square()
    rows = MaskChoice((9,), "mean_squared", "rows").mask(x, dy, 0.1).long()
    best = score.sum(1).topk(shape[0] // 10).indices.sort().values
    assert torch.equal(rows.view(-1, shape[1])[:, 0], best * shape[1])
    assert torch.equal(rows, rows.unique())
    assert rows.numel() == best.numel() * shape[1]
    blocks = MaskChoice((9,), "mean_squared", "blocks").mask(x, dy, 0.2)
    assert torch.equal(blocks, blocks.unique())
    chosen = torch.zeros(shape, dtype=torch.bool).view(-1)
    chosen[blocks.long()] = True
    sums, whole = {}, set()
    for r in range(0, shape[0], 32):
        for c in range(0, shape[1], 32):
            part = chosen.view(shape)[r : r + 32, c : c + 32]
            assert part.all() or not part.any()
            sums[r, c] = score[r : r + 32, c : c + 32].sum().item()
            whole |= {(r, c)} if part.all() else set()
    assert whole == set(sorted(sums, key=lambda at: -sums[at])[: int(0.2 * len(sums))])


@pytest.mark.parametrize("structure", ["rows", "blocks"])
def test_structured_masks_train(make_tiny: Make, structure: str) -> None:
    """A structured S gets the gradients that the dense weight has at its entries."""
    config = RosaConfig(rank=2, density=0.1, dropout=0, structure=structure)

    def losses(model: torch.nn.Module) -> torch.Tensor:
        loss: torch.Tensor = model(input_ids=IDS, labels=IDS).loss
        return loss

    rosa = get_rosa_model(make_tiny().model, config)
    rosa.choose_masks(lambda: losses(rosa.base).backward(), [32, 32])
    dense = make_tiny().model.requires_grad_(requires_grad=True)
    for model in (rosa.base, dense):
        model.zero_grad()
        losses(model).backward()
    for name, layer in rosa.layers.items():
        expected = dense.get_submodule(name).weight.grad.view(-1)[indices(layer)]
        torch.testing.assert_close(layer.rosa_values["default"].grad, expected)


def test_layers_may_have_densities_of_their_own(make_tiny: Make, tmp_path: Path) -> None:
    """A pattern gives some layers another density, or none; saved and loaded it is the same."""
    config = RosaConfig(density=0.01, density_pattern={"q_proj": 0.1, r"1\.mlp\..*": 0})
    rosa = random_adapter(make_tiny(), config)
    found = {n: layer.rosa_values["default"].numel() for n, layer in rosa.layers.items()}
    assert found["model.layers.0.self_attn.q_proj"] == 102
    assert found["model.layers.1.mlp.up_proj"] == 0
    assert found["model.layers.0.mlp.up_proj"] == 15
    assert "model.layers.1.mlp.up_proj.values" not in rosa.tensors()
    rosa.save(tmp_path / "a")
    loaded = load_rosa_model(make_tiny().model, tmp_path / "a")
    assert loaded.adapter_config == config
    assert torch.equal(logits(loaded.base), logits(rosa.base))


def test_some_layers_alone_can_be_adapted(make_tiny: Make) -> None:
    """Layers are chosen by the ends of their names; an end that no layer has is refused."""
    rosa = get_rosa_model(make_tiny().model, RosaConfig(target_modules=("q_proj", "0.mlp.up_proj")))
    assert set(rosa.layers) == {
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.0.mlp.up_proj",
    }
    with pytest.raises(ValueError, match="name ends with"):
        get_rosa_model(make_tiny().model, RosaConfig(target_modules=("query",)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_modules_are_trained_whole_beside_the_adapter(
    make_tiny: Make, tmp_path: Path, dtype: torch.dtype
) -> None:
    """The modules to save are trained by fp32 masters, saved, loaded, switched off and merged."""
    config = RosaConfig(rank=2, modules_to_save=("lm_head", "norm"))
    base = make_tiny(dtype=dtype).model
    expected = logits(base)
    rosa = get_rosa_model(base, config)
    masters = rosa.saved_parameters()
    assert set(masters) == {"lm_head.saved.weight", "model.norm.saved.weight"}
    optimizer = torch.optim.SGD(masters.values(), lr=1e-3)
    rosa.base(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    rosa.write()
    assert all(master.dtype == torch.float32 for master in masters.values())
    assert not torch.equal(logits(rosa.base), expected)
    rosa.save(tmp_path / "a")
    with rosa.disabled():
        assert torch.equal(logits(rosa.base), expected)
    loaded = load_rosa_model(make_tiny(dtype=dtype).model, tmp_path / "a")
    assert torch.equal(logits(loaded.base), logits(rosa.base))
    merged = logits(loaded.merge_and_unload())
    bound = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(merged, logits(rosa.base), rtol=0, atol=bound)
    assert torch.equal(logits(rosa.unload()), expected)


def test_torch_compile_takes_a_layer_as_one_graph(make_tiny: Make) -> None:
    """Decoder layers compile without graph breaks and give the same gradients."""
    rosa = random_adapter(make_tiny(), RosaConfig(rank=4, dropout=0))
    found = []
    for mode in ("eager", "compiled"):
        if mode == "compiled":
            for layer in rosa.base.model.layers:
                layer.compile(backend="aot_eager", fullgraph=True)
        rosa.base.zero_grad()
        rosa.base(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
        parameters = {**rosa.lora_parameters(), **rosa.sparse_parameters()}
        found.append({name: one.grad.clone() for name, one in parameters.items()})
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-4, atol=1e-6)


def test_nothing_dense_is_saved_for_backward(tiny: LanguageModel) -> None:
    """No tensor of a weight's size is kept for backward, besides the weights themselves."""
    rosa = random_adapter(tiny, RosaConfig())
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


def test_a_mask_is_saved_in_four_bytes_an_entry(make_tiny: Make, tmp_path: Path) -> None:
    """A mask file holds int32 positions, and puts S at zero where it was on another model."""
    rosa = random_adapter(make_tiny(), RosaConfig(density=0.5))
    rosa.save_masks(tmp_path / "m")
    entries = sum(layer.rosa_values["default"].numel() for layer in rosa.layers.values())
    assert (tmp_path / "m").stat().st_size <= 4 * entries + 4000
    other = get_rosa_model(make_tiny().model, RosaConfig(density=0.5))
    other.load_masks(tmp_path / "m")
    for name, layer in rosa.layers.items():
        assert torch.equal(indices(other.layers[name]), indices(layer))
    assert torch.equal(logits(other.base), logits(make_tiny().model))


def test_a_mask_file_of_another_model_is_refused(make_tiny: Make, tmp_path: Path) -> None:
    """The masks of a model of other shapes or hash, or an adapter's file, are refused."""
    rosa = random_adapter(make_tiny(), RosaConfig(target_modules=("up_proj",)))
    rosa.save_masks(tmp_path / "m", base_hash="one")
    rosa.load_masks(tmp_path / "m", base_hash="one")
    with pytest.raises(ValueError, match="another model"):
        rosa.load_masks(tmp_path / "m", base_hash="two")
    other = get_rosa_model(make_tiny().model, RosaConfig())
    with pytest.raises(ValueError, match="another model"):
        other.load_masks(tmp_path / "m")
    rosa.save(tmp_path / "a")
    with pytest.raises(ValueError, match="format"):
        other.load_masks(tmp_path / "a")


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": -1},
        {"density": 1.5},
        {"density": -0.1},
        {"alpha": 0},
        {"dropout": 1.0},
        {"rank": 0, "density": 0},
        {"density_pattern": {"q_proj": 2}},
        {"criterion": "median"},
        {"structure": "columns"},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    """Each impossible value is refused with its name and the value."""
    with pytest.raises(ValueError, match=next(iter(wrong)).removesuffix("_pattern")):
        RosaConfig(**wrong)  # type: ignore[arg-type]


def test_a_model_without_linear_layers_is_refused() -> None:
    """A model that has nothing to adapt is refused, not adapted to no effect."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=10))
    with pytest.raises(ValueError, match="no linear layers"):
        get_rosa_model(model, RosaConfig())


@pytest.mark.parametrize("positions", [[3, 1], [1, 1], [-1, 2], [0, 10**6]])
def test_a_mask_that_does_not_fit_is_refused(positions: list[int]) -> None:
    """Positions that are not ascending positions of the weight are refused."""
    layer = RosaLayer(torch.nn.Linear(4, 4))
    layer.add("a", RosaConfig(rank=0))
    with pytest.raises(ValueError, match="positions"):
        layer.set_mask("a", torch.tensor(positions))


def test_a_weight_changed_between_forward_and_backward_is_noticed(tiny: LanguageModel) -> None:
    """Writing S between forward and backward is an error, not a wrong gradient."""
    rosa = random_adapter(tiny, RosaConfig())
    loss = rosa.base(input_ids=IDS, labels=IDS).loss
    rosa.set_adapter("default")
    with torch.no_grad():
        rosa.layers["model.layers.0.mlp.up_proj"].weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_an_adapter_of_another_base_model_is_refused(make_tiny: Make, tmp_path: Path) -> None:
    """Another hash, and other shapes, are refused; the model is then as it was."""
    file = tmp_path / "a"
    random_adapter(make_tiny(), RosaConfig()).save(file, base_hash="one")
    load_rosa_model(make_tiny().model, file, base_hash="one")
    with pytest.raises(ValueError, match="another base model"):
        load_rosa_model(make_tiny().model, file, base_hash="two")
    wide = make_tiny(hidden=64).model
    before = logits(wide)
    with pytest.raises(ValueError, match="does not fit"):
        load_rosa_model(wide, file)
    assert not any(isinstance(module, RosaLayer) for module in wide.modules())
    assert torch.equal(logits(wide), before)
    rosa = random_adapter(make_tiny(hidden=64), RosaConfig())
    before = logits(rosa.base)
    with pytest.raises(ValueError, match="does not fit"):
        load_rosa_model(rosa, file, adapter_name="b")
    assert list(rosa.adapters) == ["default"]
    assert torch.equal(logits(rosa.base), before)


def test_no_flipped_bit_goes_unnoticed(make_tiny: Make, tmp_path: Path) -> None:
    """Wherever a bit of an adapter's or a mask's file flips, loading says so."""
    rosa = random_adapter(make_tiny(), RosaConfig(rank=1, density=0.001))
    rosa.save(tmp_path / "a", base_hash="one")
    rosa.save_masks(tmp_path / "m")
    random = torch.Generator().manual_seed(0)
    model = get_rosa_model(make_tiny().model, RosaConfig(rank=1, density=0.001))
    load: dict[str, Callable[[Path], object]] = {
        "a": lambda file: load_rosa_model(model, file, adapter_name="b", base_hash="one"),
        "m": model.load_masks,
    }
    for file in (tmp_path / "a", tmp_path / "m"):
        whole = file.read_bytes()
        places = torch.randint(len(whole) * 8, (150,), generator=random).tolist()
        for place in [*range(0, 64, 3), *places, len(whole) * 8 - 1]:
            broken = bytearray(whole)
            broken[place // 8] ^= 1 << place % 8
            file.write_bytes(broken)
            with pytest.raises(ValueError, match=r"read|format|damaged"):
                load[file.name](file)
    file.write_bytes(whole[:100])
    with pytest.raises(ValueError, match="cannot be read"):
        model.load_masks(file)
