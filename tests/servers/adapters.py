"""Adapters of chance: what a training could have left, without the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.rosa import RosaConfig, get_rosa_model

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel


def random_adapter(
    model: PreTrainedModel, file: Path, *, scale: float = 0.05, base_hash: str = "", seed: int = 0
) -> Path:
    """Save an adapter with random values in all its parts; the model stays as it is.

    Args:
        model: The base model.
        file: Where to.
        scale: The standard deviation of the values of A, B and S.
        base_hash: What tells the base model from others.
        seed: Makes it repeatable.
    """
    dice = torch.Generator().manual_seed(seed)
    rosa = get_rosa_model(model, RosaConfig(rank=2, alpha=4, dropout=0, density=0.02))
    state = rosa.tensors()
    for name in [name for name in state if name.endswith((".lora_A", ".lora_B"))]:
        state[name] = scale * torch.randn(state[name].shape, generator=dice)
    for name, layer in rosa.layers.items():
        size = layer.in_features * layer.out_features
        where = torch.randint(size, (max(1, size // 50),), generator=dice).unique()
        state[f"{name}.indices"] = where.int()
        state[f"{name}.values"] = scale * torch.randn(len(where), generator=dice)
    rosa.load_tensors(state)
    rosa.save(file, base_hash=base_hash)
    rosa.unload()
    return file
