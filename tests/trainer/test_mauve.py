"""MAUVE beside what its authors' package computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from trainer.mauve import area, mauve

if TYPE_CHECKING:
    from numpy.typing import NDArray


def clouds(*sizes: int) -> NDArray[np.float64]:
    """Return so many vectors around each axis."""
    around = np.repeat(np.eye(len(sizes), 8), sizes, axis=0)
    return around + 1e-3 * np.random.default_rng(0).standard_normal((sum(sizes), 8))


# mauve-text 0.4.0: compute_mauve(p_features=clouds(*p), q_features=clouds(*q), num_buckets=3).mauve
@pytest.mark.parametrize(
    ("drafts", "own", "expected"),
    [
        ((18, 9, 3), (6, 9, 15), 0.5789393058069949),
        ((10, 10, 10), (10, 10, 10), 1.0),
        ((20, 10, 0), (0, 10, 20), 0.03342745001427784),
        ((28, 1, 1), (1, 1, 28), 0.01985642042822544),
    ],
)
def test_it_is_what_its_authors_compute(
    drafts: tuple[int, ...], own: tuple[int, ...], expected: float
) -> None:
    """Clusters that lie apart are found, and the area is that of the authors' package."""
    assert mauve(clouds(*drafts), clouds(*own)).value == pytest.approx(expected, rel=1e-9)


def test_nothing_in_common_is_nothing() -> None:
    """Two histograms that nowhere overlap have an area near 0, equal ones of 1."""
    assert float(area(np.array([5.0, 0, 0, 5]))) < 0.01
    assert float(area(np.array([5.0, 5, 5, 5]))) == pytest.approx(1)


def test_it_has_an_interval() -> None:
    """Drawing mails moves the histograms, and the area with them."""
    score = mauve(clouds(18, 9, 3), clouds(6, 9, 15))
    low, high = score.interval
    assert 0 < low < score.value < high < 1
