"""Scores over mails, and how far they may be off."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.bootstrap import mean, ratio


def test_a_mean_and_a_ratio_are_what_they_are_called() -> None:
    """A mean counts each mail once, a ratio by its weight."""
    assert mean([1, 2, 6]).value == 3
    assert ratio([(1, 1), (9, 3)]).value == 2.5
    assert math.isnan(ratio([(0, 0), (0, 0)]).value)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Of the intervals of 300 samples of known distribution about 95 % hold its mean."""
    dice = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        low, high = mean(dice.exponential(2.0, size=40).tolist()).interval
        held += low <= 2.0 <= high
    assert 0.88 <= held / 300 <= 0.97


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    """Of 400 normal numbers the interval is 1.96 standard errors to each side."""
    values = np.random.default_rng(2).normal(10, 3, 400)
    low, high = mean(values.tolist()).interval
    error = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - error, abs=0.03)
    assert high == pytest.approx(values.mean() + error, abs=0.03)


def test_the_same_mails_have_the_same_interval() -> None:
    """Nothing is left to chance: asked again, an interval is what it was."""
    assert mean([1, 5, 2, 8]).interval == mean([1, 5, 2, 8]).interval


def test_pairs_tell_what_two_intervals_cannot() -> None:
    """A small gain on each of very different mails is seen, though the intervals overlap widely."""
    before = np.random.default_rng(3).normal(50, 20, 30)
    better, worse = mean((before - 1).tolist()), mean(before.tolist())
    assert better.interval[1] > worse.interval[0]
    low, high = better.less(worse)
    assert low == pytest.approx(-1)
    assert high == pytest.approx(-1)


def test_chance_is_no_difference() -> None:
    """Where the gain goes now one way and now the other, the interval of it holds 0."""
    dice = np.random.default_rng(4)
    one, other = mean(dice.normal(0, 1, 40).tolist()), mean(dice.normal(0, 1, 40).tolist())
    low, high = one.less(other)
    assert low < 0 < high


def test_other_mails_cannot_be_paired() -> None:
    """Scores of different numbers of mails have no paired difference."""
    with pytest.raises(ValueError, match="3 mails cannot be paired with 2"):
        mean([1, 2, 3]).less(mean([1, 2]))


def test_draws_without_a_score_do_not_count() -> None:
    """A share that some draws have no denominator for has the interval of the others."""
    low, high = ratio([(1, 1), (0, 0), (0, 0)]).interval
    assert (low, high) == (1, 1)
    assert all(math.isnan(bound) for bound in ratio([(0, 0)]).interval)
