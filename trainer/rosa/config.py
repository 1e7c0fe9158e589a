"""The settings of a RoSA adapter."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RosaConfig:
    """W' = W + (alpha / rank) B A + S, for every linear layer but the output head.

    Robust adaptation, Nikdan et al., arXiv 2401.04679. Density 0 is LoRA; rank 0 with density 1
    is full fine-tuning of the same layers.

    Attributes:
        rank: Rank of B A; 0 for none.
        alpha: Scale of B A, divided by the rank.
        dropout: Share of the inputs of A that are dropped in training.
        density: Share of the entries of each W that S may change, 0 to 1.

    Raises:
        ValueError: A value is impossible, or the adapter would have nothing to train.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    density: float = 0.01

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ValueError(f"rank must be 0 or more, got {self.rank}")
        if not 0.0 <= self.density <= 1.0:
            raise ValueError(f"density must be between 0 and 1, got {self.density}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha must be above 0, got {self.alpha}")
        if self.rank == 0 and self.density == 0:
            raise ValueError("rank 0 and density 0 leave nothing to train; raise one of them")
