"""The settings of a RoSA adapter."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL_LINEAR: Literal["all-linear"] = "all-linear"


@dataclass(frozen=True, slots=True)
class RosaConfig:
    """W' = W + (alpha / rank) B A + S, for every adapted linear layer.

    Robust adaptation, Nikdan et al., arXiv 2401.04679. Density 0 is LoRA; rank 0 with density 1
    is full fine-tuning of the same layers.

    Attributes:
        rank: Rank of B A; 0 for none.
        alpha: Scale of B A, divided by the rank.
        dropout: Share of the inputs of A that are dropped in training.
        density: Share of the entries of each W that S may change, 0 to 1.
        density_pattern: Other densities for some layers: a regular expression that matches the
            end of a layer's name, and its density. The first that matches counts.
        target_modules: ``all-linear`` for every linear layer but the output head; else the ends
            of the names of those that are meant, such as ``("q_proj", "v_proj")``.
        modules_to_save: Ends of the names of modules that are trained whole beside the adapter,
            such as ``("lm_head",)``.
        criterion: What makes an entry worth training: ``mean_squared``, the mean over the mails
            of its squared gradient (the diagonal of the empirical Fisher information, the paper's
            choice), or ``mean``, the magnitude of its mean gradient.
        structure: What is chosen as one: ``entries``, as in the paper, or whole ``rows`` of W, or
            ``blocks`` of 32 by 32. The last two are cheaper and have not been shown to be as good.

    Raises:
        ValueError: A value is impossible, or the adapter would have nothing to train.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    density: float = 0.01
    density_pattern: Mapping[str, float] = field(default_factory=dict)
    target_modules: Literal["all-linear"] | tuple[str, ...] = ALL_LINEAR
    modules_to_save: tuple[str, ...] = ()
    criterion: Literal["mean_squared", "mean"] = "mean_squared"
    structure: Literal["entries", "rows", "blocks"] = "entries"

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ValueError(f"rank must be 0 or more, got {self.rank}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha must be above 0, got {self.alpha}")
        for density in (self.density, *self.density_pattern.values()):
            if not 0.0 <= density <= 1.0:
                raise ValueError(f"density must be between 0 and 1, got {density}")
        if self.rank == 0 and not self.sparse and not self.modules_to_save:
            raise ValueError("rank 0 and density 0 leave nothing to train; raise one of them")
        if self.criterion not in {"mean_squared", "mean"}:
            raise ValueError(f"criterion must be mean_squared or mean, got {self.criterion!r}")
        if self.structure not in {"entries", "rows", "blocks"}:
            raise ValueError(f"structure must be entries, rows or blocks, got {self.structure!r}")

    @classmethod
    def from_json(cls, text: str) -> RosaConfig:
        """Return the settings that stand in an adapter's file.

        Raises:
            ValueError: The text holds none.
        """
        try:
            found = json.loads(text)
            lists = {name: tuple(x) for name, x in found.items() if isinstance(x, list)}
            return cls(**{**found, **lists})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"these are no settings of an adapter: {error}") from error

    @property
    def sparse(self) -> bool:
        """Whether any layer has an S."""
        return any((self.density, *self.density_pattern.values()))

    def density_of(self, layer: str) -> float:
        """Return the density of S in a layer, by the layer's name in the base model."""
        for pattern, density in self.density_pattern.items():
            if re.search(rf"(^|\.)({pattern})$", layer):
                return density
        return self.density
