"""How much the owner's own words surprise a model, on mails it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainer.bootstrap import Score, divided
from trainer.loss import Objective

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.base_model import LanguageModel
    from trainer.bootstrap import Numbers
    from trainer.examples import Example

_ROW = 512  # tokens in one packed row


class Surprise(NamedTuple):
    """How much the owner's own words of one mail surprise a model.

    Attributes:
        nats: Their negative log-likelihood, summed.
        tokens: How many they are.
    """

    nats: float
    tokens: int


def perplexity(
    lm: LanguageModel,
    examples: Sequence[Example],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Score:
    """Return the perplexity of the owner's own words, by token, over all the examples.

    Raises:
        ValueError: There are no words to score.
    """
    found = surprises(Objective(lm), examples, _ROW, progress)
    if not any(one.tokens for one in found):
        raise ValueError("there are no words to score")
    return Score(np.asarray(found, dtype=np.float64), _perplexity)


def surprises(
    objective: Objective,
    examples: Sequence[Example],
    row: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Surprise]:
    """Return how much the owner's own words of each mail surprise a model in evaluation mode.

    Args:
        objective: The model's loss.
        examples: The mails.
        row: The most tokens in one row.
        progress: Called with the rows done and their total.
    """
    sizes = [max(0, len(one.tokens) - 1 - one.words) for one in examples]
    found: dict[int, Surprise] = {}
    # A mail that was cut to nothing says nothing, and a row of such mails could not be computed.
    rows = objective.rows([one for one, n in zip(examples, sizes, strict=True) if n], row)
    for done, mails in enumerate(rows):
        progress(done, len(rows))
        lengths = [len(one.tokens) - 1 - one.words for one in mails]
        losses = objective.losses(mails, words_only=True).double().split(lengths)
        for one, own in zip(mails, losses, strict=True):
            found[id(one)] = Surprise(float(own.sum()), len(own))
    progress(len(rows), len(rows))
    return [found.get(id(one), Surprise(0.0, 0)) for one in examples]


def nats(
    objective: Objective,
    examples: Sequence[Example],
    row: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[float, int]:
    """Return the same, as for `surprises`, summed over all mails."""
    found = surprises(objective, examples, row, progress)
    return sum(one.nats for one in found), sum(one.tokens for one in found)


def _perplexity(sums: Numbers) -> Numbers:
    return np.exp(divided(sums[..., 0], sums[..., 1]))
