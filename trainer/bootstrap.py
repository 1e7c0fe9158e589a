"""How far a score may be off, given the mails that it was taken from.

The bootstrap (Efron and Tibshirani 1993; for scores of texts Koehn 2004): mails are drawn with
replacement, as many as there are, a thousand times, and the middle 95 % of what the score then is
are its interval. Two models that are judged by the same mails are compared by the difference of
their scores over the same draws (paired): that a mail is hard for all models then cancels out.

A score is a function of sums over mails: of a sum of ones and of how many there are, of nats and
tokens, of counts of n-grams. So a draw is one product of matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Numbers = NDArray[np.float64]
Interval = tuple[float, float]

DRAWS = 1000
_SEED = 0
_LEVEL = (2.5, 97.5)  # percent


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """A score as a function of sums over mails.

    Attributes:
        parts: What each mail adds to the sums, (mails, sums).
        of: The score of such sums, (..., sums) to (...); not a number where it has none.
    """

    parts: Numbers
    of: Callable[[Numbers], Numbers]

    @property
    def value(self) -> float:
        """The score of all mails."""
        return float(self.of(self.parts.sum(0)))

    @property
    def interval(self) -> Interval:
        """Where the score lies in 95 % of the draws."""
        return _middle(self._drawn())

    def less(self, other: Score) -> Interval:
        """Return the interval of this score less another one of the same mails.

        Raises:
            ValueError: The mails are not as many.
        """
        if len(self.parts) != len(other.parts):
            raise ValueError(f"{len(self.parts)} mails cannot be paired with {len(other.parts)}")
        return _middle(self._drawn() - other._drawn())

    def _drawn(self) -> Numbers:
        return self.of(_draws(len(self.parts)) @ self.parts)


def mean(values: Sequence[float]) -> Score:
    """Return the mean of a number that each mail has."""
    return ratio([(value, 1.0) for value in values])


def ratio(pairs: Sequence[tuple[float, float]]) -> Score:
    """Return the sum of the first numbers over that of the second ones."""
    parts = np.asarray(pairs, dtype=np.float64).reshape(-1, 2)
    return Score(parts, lambda sums: divided(sums[..., 0], sums[..., 1]))


def divided(above: Numbers, below: Numbers) -> Numbers:
    """Return quotients; where there is nothing to divide by, not a number."""
    quotient: Numbers = np.divide(
        above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0
    )
    return quotient


def _draws(mails: int) -> Numbers:
    """Return how often each mail is in each draw, (draws, mails); for so many always the same."""
    dice = np.random.default_rng(_SEED)
    return dice.multinomial(mails, np.full(mails, 1 / mails), size=DRAWS).astype(np.float64)


def _middle(values: Numbers) -> Interval:
    """Return the middle 95 % of the draws in which there is a score."""
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, _LEVEL)
    return float(low), float(high)
