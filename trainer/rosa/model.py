"""RoSA adapters on a transformers model."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import torch
from peft.config import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn

from trainer.rosa.config import ALL_LINEAR, RosaConfig
from trainer.rosa.files import read, write
from trainer.rosa.layer import RosaLayer
from trainer.rosa.mask import MaskChoice
from trainer.rosa.quantised import QuantisedRosaLayer, is_quantised

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel

FORMAT = "panza-rosa-2"
MASKS = "panza-rosa-masks-2"


class RosaModel(BaseTuner):
    """A transformers model with RoSA adapters, of which one computes.

    A tuner in PEFT's terms: `set_adapter`, `delete_adapter`, `merge_adapter`, `unmerge_adapter`,
    `merge_and_unload`, `enable_adapter_layers` and `disable_adapter_layers` are PEFT's own. The
    base model is taken over: its linear layers are replaced in place, and `unload` gives it back
    bit for bit.

    Attributes:
        model: The base model with the layers in it.
        layers: The adapted layers by their names in the base model.
        adapters: The settings of each adapter by name.
    """

    prefix = "rosa_"
    tuner_layer_cls = RosaLayer

    def __init__(self, model: PreTrainedModel, config: RosaConfig, adapter_name: str) -> None:
        training = model.training
        super().__init__(model, _TunerConfig.of(model, config), adapter_name)
        self.layers: dict[str, RosaLayer] = {}
        self._masters: dict[str, dict[str, tuple[nn.Parameter, nn.Parameter]]] = {}
        self._injected(adapter_name, training=training)

    @property
    def base(self) -> PreTrainedModel:
        """The model that computes, without PEFT's wrapper around it."""
        found: PreTrainedModel = self.model
        return found

    @property
    def adapters(self) -> dict[str, RosaConfig]:
        """The settings of each adapter by name."""
        known = self.peft_config.items()
        return {name: one.rosa for name, one in known if isinstance(one, _TunerConfig)}

    @property
    def adapter_config(self) -> RosaConfig:
        """The settings of the active adapter."""
        return self.adapters[self.active_adapters[0]]

    def add_adapter(self, name: str, config: RosaConfig) -> None:
        """Add a fresh adapter; `set_adapter` makes it the one that computes.

        Raises:
            ValueError: There is one of this name, or no layer for it.
        """
        if name in self.peft_config:
            raise ValueError(f"there is an adapter {name!r} already")
        training = self.base.training
        self.peft_config[name] = _TunerConfig.of(self.base, config)
        self.inject_adapter(self.base, name)
        self._injected(name, training=training)

    def lora_parameters(self) -> dict[str, nn.Parameter]:
        """Return A and B of the active adapter by ``<layer>.lora_A`` and ``<layer>.lora_B``."""
        found = {}
        for layer, module, name in self._active():
            if name in module.rosa_A:
                found[f"{layer}.lora_A"] = module.rosa_A[name]
                found[f"{layer}.lora_B"] = module.rosa_B[name]
        return found

    def sparse_parameters(self) -> dict[str, nn.Parameter]:
        """Return the values of the active adapter's S by ``<layer>.values``."""
        return {f"{n}.values": m.rosa_values[a] for n, m, a in self._active() if self._density(n)}

    def saved_parameters(self) -> dict[str, nn.Parameter]:
        """Return the masters of the active adapter's whole modules by ``<module>.saved.<name>``.

        They are fp32 or better; gradients arrive in them, and `write` copies them into the modules.
        """
        return {name: master for name, (_, master) in self._saved().items()}

    def reset_lora(self) -> None:
        """Start the low-rank half of the active adapter anew: A random, B zero."""
        for _, module, name in self._active():
            module.reset_low_rank(name)

    def choose_masks(
        self,
        backward: Callable[[], None],
        lengths: Sequence[int],
        reduce: Callable[[Tensor], None] | None = None,
    ) -> None:
        """Choose the masks of the active adapter from one backward pass; S starts at zero.

        Args:
            backward: Runs forward and backward once over one packed row of mails.
            lengths: The tokens of each mail in the row.
            reduce: Sums a tensor over all processes in place, where several train together; each
                must call it as often, so all need the same layers.

        Raises:
            ValueError: Backward did not come through a layer.
        """
        config = self.adapter_config
        choice = MaskChoice(tuple(lengths), config.criterion, config.structure, reduce)
        masks: dict[str, Tensor] = {}

        def chooser(layer: str, density: float) -> Callable[[Tensor, Tensor], None]:
            return lambda x, dy: masks.update({layer: choice.mask(x, dy, density)})

        chosen = [(n, m, a) for n, m, a in self._active() if self._density(n)]
        for layer, module, _ in chosen:
            module.chooser = chooser(layer, self._density(layer))
        try:
            backward()
        finally:
            for _, module, _ in chosen:
                module.chooser = None
        if missed := [layer for layer, _, _ in chosen if layer not in masks]:
            raise ValueError(f"no gradient reached {', '.join(missed[:3])}; leave it unadapted")
        for layer, module, name in chosen:
            module.set_mask(name, masks[layer])

    @torch.no_grad()
    def write(self) -> None:
        """Put what was trained where it computes; to be called after each optimizer step."""
        for layer in self.layers.values():
            layer.write()
        for parameter, master in self._saved().values():
            if parameter is not master:
                parameter.copy_(master)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within the block the base model computes, bit for bit as if there were no adapter."""
        self.disable_adapter_layers()
        try:
            yield
        finally:
            self.enable_adapter_layers()

    def unload(self) -> PreTrainedModel:
        """Take all adapters off and return the base model, its weights bit for bit as they were."""
        self.disable_adapter_layers()
        super().unload()
        return self.base

    def tensors(self) -> dict[str, Tensor]:
        """Return all that makes the active adapter, on the CPU, by the names of the format."""
        found = {
            **self.lora_parameters(),
            **self.sparse_parameters(),
            **self.saved_parameters(),
            **self._indices(),
        }
        return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}

    @torch.no_grad()
    def load_tensors(self, state: Mapping[str, Tensor]) -> None:
        """Put an adapter's tensors in place of the active one's.

        Raises:
            ValueError: A tensor is missing, unknown, or of another shape; the adapter is then to be
                thrown away.
        """
        dense = {**self.lora_parameters(), **self.saved_parameters()}
        wanted = {*dense, *self.sparse_parameters(), *self._indices()}
        if odd := sorted(wanted ^ set(state)):
            raise ValueError(f"tensors that are missing or not expected: {', '.join(odd[:3])}")
        for name, parameter in dense.items():
            if parameter.shape != state[name].shape:
                raise ValueError(f"{name} is {tuple(state[name].shape)}, not the model's shape")
            parameter.copy_(state[name])
        for layer, module, name in self._active():
            if f"{layer}.indices" in state:
                module.set_mask(name, state[f"{layer}.indices"], state[f"{layer}.values"])
        self.write()

    def save(self, file: Path, *, base_hash: str = "") -> None:
        """Write the active adapter into one safetensors file; the format is in docs/rosa.md.

        Args:
            file: Where.
            base_hash: What tells the base model from others; kept in the file, and compared by
                `load_rosa_model` where it is given one too.
        """
        notes = {"base": base_hash, "config": json.dumps(asdict(self.adapter_config))}
        write(file, FORMAT, self.tensors(), notes)

    def save_masks(self, file: Path, *, base_hash: str = "") -> None:
        """Write where the active adapter's S has its entries: four bytes for each, and names.

        Args:
            file: Where.
            base_hash: As for `save`.
        """
        tensors = {name: tensor.detach().cpu() for name, tensor in self._indices().items()}
        write(file, MASKS, tensors, {"base": base_hash, "shapes": self._shapes()})

    def load_masks(self, file: Path, *, base_hash: str = "") -> None:
        """Put the active adapter's S, at zero, where a file says.

        Raises:
            ValueError: It is no such file, is damaged, or was made for another model.
        """
        tensors, notes = read(file, MASKS)
        other = base_hash and notes["base"] and base_hash != notes["base"]
        if other or notes["shapes"] != self._shapes() or set(tensors) != set(self._indices()):
            raise ValueError(f"{file.name} holds the masks of another model or other settings")
        for layer, module, name in self._active():
            if f"{layer}.indices" in tensors:
                module.set_mask(name, tensors[f"{layer}.indices"])

    def _active(self) -> list[tuple[str, RosaLayer, str]]:
        """Return the layers of the active adapter: name, layer, the adapter's name."""
        name = self.active_adapters[0]
        return [(n, m, name) for n, m in self.layers.items() if name in m.rosa_values]

    def _shapes(self) -> str:
        return json.dumps({n: [m.out_features, m.in_features] for n, m, _ in self._active()})

    def _density(self, layer: str) -> float:
        return self.adapter_config.density_of(layer)

    def _indices(self) -> dict[str, nn.Parameter]:
        return {f"{n}.indices": m.rosa_indices[a] for n, m, a in self._active() if self._density(n)}

    def _saved(self) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
        return self._masters[self.active_adapters[0]]

    def _hold_masters(self, adapter: str) -> None:
        """Make the masters of an adapter's whole modules, and let their gradients arrive there."""
        self._masters[adapter] = {
            f"{module}.saved.{of}": (parameter, _master(parameter))
            for module, wrapper in self.base.named_modules()
            if isinstance(wrapper, ModulesToSaveWrapper) and adapter in wrapper.modules_to_save
            for of, parameter in wrapper.modules_to_save[adapter].named_parameters()
        }

    def _injected(self, adapter: str, *, training: bool) -> None:
        self.base.train(training)  # new layers come in training mode, with dropout on
        self.layers = {n: m for n, m in self.base.named_modules() if isinstance(m, RosaLayer)}
        self._hold_masters(adapter)

    def _create_and_replace(  # noqa: PLR0917 - PEFT's signature
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        del current_key, parameter_name
        if not isinstance(peft_config, _TunerConfig):
            raise TypeError(f"no settings of RoSA: {type(peft_config).__name__}")
        layer = target if isinstance(target, RosaLayer) else _layer(target)
        layer.add(adapter_name, peft_config.rosa)
        if layer is not target:
            self._replace_module(parent, target_name, layer, target)


def get_rosa_model(
    model: PreTrainedModel, config: RosaConfig, adapter_name: str = "default"
) -> RosaModel:
    """Put a fresh RoSA adapter on a model: B zero, no mask yet, so that it changes nothing.

    Raises:
        ValueError: The model has no linear layers besides its output head, or none that is meant.
    """
    return RosaModel(model, config, adapter_name)


def load_rosa_model(
    model: PreTrainedModel | RosaModel,
    file: Path,
    *,
    base_hash: str = "",
    adapter_name: str = "default",
) -> RosaModel:
    """Put a saved adapter on a model, or beside the adapters that are on it, and activate it.

    Args:
        model: The base model, or the base model with adapters.
        file: What `RosaModel.save` wrote.
        base_hash: What tells the base model from others, "" if that is not known.
        adapter_name: What to call it.

    Raises:
        ValueError: The file is no such adapter, is damaged, or was made for another model. The
            model is then as it was.
    """
    tensors, notes = read(file, FORMAT)
    if base_hash and notes["base"] and base_hash != notes["base"]:
        raise ValueError(f"{file.name} was trained on another base model; train again on this one")
    config = RosaConfig.from_json(notes["config"])
    if isinstance(model, RosaModel):
        rosa, before = model, model.active_adapter
        rosa.add_adapter(adapter_name, config)
        rosa.set_adapter(adapter_name)
    else:
        rosa, before = RosaModel(model, config, adapter_name), None
    try:
        rosa.load_tensors(tensors)
    except ValueError as error:
        if before is None:
            rosa.unload()
        else:
            rosa.set_adapter(before)
            rosa.delete_adapter(adapter_name)
        raise ValueError(f"{file.name} does not fit the model: {error}") from error
    return rosa


@dataclass
class _TunerConfig(PeftConfig):
    """What PEFT's base class wants to know of an adapter."""

    rosa: RosaConfig = field(default_factory=RosaConfig)
    target_modules: list[str] = field(default_factory=list)
    modules_to_save: list[str] | None = None

    @classmethod
    def of(cls, model: PreTrainedModel, config: RosaConfig) -> _TunerConfig:
        # Whole names: PEFT would take `norm` for `input_layernorm` too.
        saved = [
            name
            for name, module in model.named_modules()
            if _ends(name, config.modules_to_save) and not isinstance(module, RosaLayer)
        ]
        if bool(saved) != bool(config.modules_to_save):
            raise ValueError(f"no module's name ends with one of {config.modules_to_save}")
        for name in saved:
            if any(map(is_quantised, model.get_submodule(name).modules())):
                raise ValueError(f"{name} is in 4 bits and cannot be trained whole; adapt it")
        return cls(rosa=config, target_modules=_targets(model, config), modules_to_save=saved)


def _targets(model: PreTrainedModel, config: RosaConfig) -> list[str]:
    """Return the names of the linear layers that a configuration means."""
    wrapped = tuple(
        f"{name}."
        for name, module in model.named_modules()
        if isinstance(module, (RosaLayer, ModulesToSaveWrapper))
    )
    head = model.get_output_embeddings()
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, RosaLayer))
        and module is not head
        and not name.startswith(wrapped)
        and not _ends(name, config.modules_to_save)
    ]
    if not linear:
        raise ValueError("the model has no linear layers that an adapter could change")
    if config.target_modules == ALL_LINEAR:
        return linear
    meant = [name for name in linear if _ends(name, config.target_modules)]
    if not meant:
        raise ValueError(f"no linear layer's name ends with one of {config.target_modules}")
    return meant


def _ends(name: str, ends: Sequence[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def _layer(linear: nn.Module) -> RosaLayer:
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"only linear layers can be adapted, not {type(linear).__name__}")
    if is_quantised(linear):
        return QuantisedRosaLayer(linear)
    return RosaLayer(linear)


def _master(parameter: nn.Parameter) -> nn.Parameter:
    """Return a parameter's master in fp32 or better: itself, or a copy that gets its gradients."""
    wide = torch.promote_types(parameter.dtype, torch.float32)
    if parameter.dtype == wide:
        return parameter
    master = nn.Parameter(parameter.detach().to(wide))

    def hand_over(of: Tensor) -> None:
        if of.grad is not None:
            grad = of.grad.to(wide)
            master.grad = grad if master.grad is None else master.grad + grad
            of.grad = None

    parameter.register_post_accumulate_grad_hook(hand_over)
    return master
