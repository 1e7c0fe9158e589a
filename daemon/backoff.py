"""How long to wait before the next try."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

_DOUBLINGS = 30  # beyond these the bound holds in any case


@dataclass(slots=True)
class Backoff:
    """Waits that double from ``first`` up to ``most`` seconds.

    Each is shortened by up to half at random, so that the accounts of a server that came back do
    not all knock at once.

    Attributes:
        first: Seconds of the first wait, at most.
        most: Seconds of any wait, at most.
        chance: Numbers from 0 up to 1.
        tries: How many waits there were since the last success.
    """

    first: float
    most: float
    chance: random.Random = field(default_factory=random.Random)
    tries: int = 0

    def next(self, *, at_least: float = 0.0) -> float:
        """Return the seconds to wait now; ``at_least`` is for what haste would make worse."""
        longest = min(self.most, max(self.first, at_least) * 2.0 ** min(self.tries, _DOUBLINGS))
        self.tries += 1
        return max(at_least, longest * (1 - self.chance.random() / 2))

    def reset(self) -> None:
        """Begin anew: it worked."""
        self.tries = 0
