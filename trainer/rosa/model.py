"""A RoSA adapter on a transformers model."""

from __future__ import annotations

import json
import warnings
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from trainer.rosa.config import RosaConfig
from trainer.rosa.layer import RosaLinear, SparseLinear
from trainer.rosa.mask import gradient_masks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from transformers import PreTrainedModel

FORMAT = "panza-rosa-1"


class RosaModel:
    """A base model with one RoSA adapter, on.

    The low-rank half is PEFT's LoRA; the sparse half lives inside the weights of the same layers.
    The base model is taken over: its linear layers are replaced in place, and `unload` gives them
    back bit for bit.

    Attributes:
        model: What to call: the base model, or PEFT's wrapper around it.
        config: The adapter's settings.
        layers: The adapted layers by their names in the base model.
    """

    def __init__(self, base: PreTrainedModel, config: RosaConfig) -> None:
        self.config = config
        self.base = base
        self.layers = _sparse_layers(base)
        self.model: PreTrainedModel | PeftModel = base
        if config.rank:
            training = base.training
            with warnings.catch_warnings():
                # PEFT 0.21 reads an attribute that transformers 5 has renamed, and still serves.
                warnings.simplefilter("ignore", FutureWarning)
                self.model = get_peft_model(base, self._lora_config())
            base.train(training)  # PEFT's layers come in training mode, with dropout on

    def _lora_config(self) -> LoraConfig:
        config = LoraConfig(
            r=self.config.rank,
            lora_alpha=self.config.alpha,  # type: ignore[arg-type]  # PEFT takes any number
            lora_dropout=self.config.dropout,
            target_modules=list(self.layers),
            task_type="CAUSAL_LM",
        )
        config._register_custom_module({SparseLinear: RosaLinear})  # noqa: SLF001 - PEFT's own way
        return config

    def lora_parameters(self) -> dict[str, nn.Parameter]:
        """Return A and B of every layer, fp32, by ``<layer>.lora_A`` and ``<layer>.lora_B``."""
        if not self.config.rank:
            return {}
        found = {}
        for name in self.layers:
            module: Any = self.base.get_submodule(name)  # a layer of PEFT's
            found[f"{name}.lora_A"] = module.lora_A["default"].weight
            found[f"{name}.lora_B"] = module.lora_B["default"].weight
        return found

    def sparse_parameters(self) -> dict[str, nn.Parameter]:
        """Return the values of S of every layer, fp32, by ``<layer>.values``."""
        if not self.config.density:
            return {}
        return {f"{name}.values": layer.values for name, layer in self.layers.items()}

    def train_sparse(self, *, on: bool) -> None:
        """Let gradients flow to the values of S, or not."""
        for layer in self.layers.values():
            layer.values.requires_grad_(on)

    def reset_lora(self) -> None:
        """Start the low-rank half anew: A random, B zero."""
        for name in self.layers if self.config.rank else ():
            module: Any = self.base.get_submodule(name)
            module.reset_lora_parameters("default", init_lora_weights=True)

    def choose_masks(self, lengths: list[int], backward: Callable[[], None]) -> None:
        """Choose the mask of S from one backward pass over one packed row; S starts at zero.

        Args:
            lengths: The tokens of each mail in the row.
            backward: Runs forward and backward once.
        """
        self.train_sparse(on=True)
        masks = gradient_masks(self.layers, lengths, backward, self.config.density)
        for name, layer in self.layers.items():
            layer.set_mask(masks[name])

    def write(self) -> None:
        """Write S into the weights; to be called after each optimizer step."""
        for layer in self.layers.values():
            layer.write()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within the block the base model answers as if there were no adapter."""
        for layer in self.layers.values():
            layer.restore()
        try:
            if isinstance(self.model, PeftModel):
                with self.model.disable_adapter():
                    yield
            else:
                yield
        finally:
            self.write()

    def merge(self) -> PreTrainedModel:
        """Add (alpha / rank) B A to the weights, S being there, and return the plain model.

        The sums are taken in fp32 and rounded once to the dtype of the weights.
        """
        if isinstance(self.model, PeftModel):
            self.model.merge_and_unload()
        for name, layer in self.layers.items():
            _replace(self.base, name, layer.to_linear())
        return self.base

    def unload(self) -> PreTrainedModel:
        """Take the adapter off and return the base model, its weights bit for bit as they were."""
        for layer in self.layers.values():
            layer.restore()
        if isinstance(self.model, PeftModel):
            self.model.unload()
        for name, layer in self.layers.items():
            _replace(self.base, name, layer.to_linear())
        return self.base

    def tensors(self) -> dict[str, Tensor]:
        """Return all that makes the adapter, on the CPU, by the names of the format on disk."""
        found = {**self.lora_parameters(), **self.sparse_parameters()}
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}
        if self.config.density:
            for name, layer in self.layers.items():
                state[f"{name}.indices"] = layer.indices.cpu()
        return state

    @torch.no_grad()
    def load_tensors(self, state: dict[str, Tensor]) -> None:
        """Put an adapter's tensors in place of this one's.

        Raises:
            ValueError: A tensor is missing, unknown, or of another shape.
        """
        lora = self.lora_parameters()
        wanted = set(lora)
        for name, layer in self.layers.items() if self.config.density else ():
            wanted |= {f"{name}.indices", f"{name}.values"}
            if f"{name}.indices" in state and f"{name}.values" in state:
                layer.set_mask(state[f"{name}.indices"], state[f"{name}.values"])
        if odd := sorted(wanted ^ set(state)):
            raise ValueError(f"tensors that are missing or not expected: {', '.join(odd[:3])}")
        for name, parameter in lora.items():
            if parameter.shape != state[name].shape:
                raise ValueError(f"{name} is {tuple(state[name].shape)}, not the model's shape")
            parameter.copy_(state[name])

    def save(self, file: Path) -> None:
        """Write the adapter into one safetensors file; see `load_rosa_model` for the format."""
        save_file(self.tensors(), file, metadata={"format": FORMAT, **_written(self.config)})


def get_rosa_model(base: PreTrainedModel, config: RosaConfig) -> RosaModel:
    """Put a fresh RoSA adapter on a model: B zero, no mask yet, so that it changes nothing.

    Raises:
        ValueError: The model has no linear layers besides its output head.
    """
    return RosaModel(base, config)


def load_rosa_model(base: PreTrainedModel, file: Path) -> RosaModel:
    """Put a saved adapter on a model.

    The format: one safetensors file; metadata ``format`` (``panza-rosa-1``) and ``config`` (JSON
    of `RosaConfig`); for every adapted layer, by its name in the base model, ``.lora_A`` (rank, in)
    and ``.lora_B`` (out, rank) in fp32 unless rank is 0, and ``.indices`` (int32, ascending
    positions in the row-major weight) and ``.values`` (fp32) unless density is 0.

    Raises:
        ValueError: The file is no such adapter, or one of another model.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            notes = stored.metadata() or {}
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file.name} cannot be read: {error}") from error
    if notes.get("format") != FORMAT:
        raise ValueError(f"{file.name} is of format {notes.get('format')!r}, not {FORMAT!r}")
    rosa = RosaModel(base, RosaConfig(**json.loads(notes["config"])))
    rosa.load_tensors(state)
    return rosa


def _written(config: RosaConfig) -> dict[str, str]:
    return {"config": json.dumps(asdict(config), sort_keys=True)}


def _sparse_layers(base: PreTrainedModel) -> dict[str, SparseLinear]:
    head = base.get_output_embeddings()
    found = {
        name: module
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    if not found:
        raise ValueError("the model has no linear layers that an adapter could change")
    layers = {}
    for name, linear in found.items():
        layers[name] = SparseLinear(linear)
        _replace(base, name, layers[name])
    return layers


def _replace(base: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(base.get_submodule(parent), child, module)
