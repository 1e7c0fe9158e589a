"""What goes into use, and what is kept aside, with the reason."""

from __future__ import annotations

import math

import numpy as np
import pytest

from daemon.columns import Column, Columns
from daemon.promotion import LEAST, judge
from trainer.bootstrap import Score, mean

MAILS = 30
HARD = np.random.default_rng(0).normal(0, 0.5, MAILS)  # some mails are, for every model


def column(perplexity: float, mails: int = MAILS, noise: int = 0, **shares: float) -> Column:
    """Return a column of this perplexity, and of guards that so many of 20 drafts trip."""
    level = math.log(perplexity) + HARD[:mails] - HARD[:mails].mean()
    if noise:
        chance = np.random.default_rng(noise).normal(0, 0.3, mails)
        level += chance - chance.mean()
    parts = np.stack((100 * level, np.full(mails, 100.0)), 1)
    scores = {"perplexity": Score(parts, lambda sums: np.exp(sums[..., 0] / sums[..., 1]))}
    scores |= {name: mean([i < 20 * one for i in range(20)]) for name, one in shares.items()}
    return Column(scores)


def columns(candidate: Column, **others: Column) -> Columns:
    """Return all columns, with a base model that is beaten unless another one is given."""
    usual = {"base": column(9.0), "few_shot": column(8.0)}
    return {**usual, "current": None, **others, "candidate": candidate}


@pytest.mark.parametrize(
    ("others", "fault"),
    [
        ({}, ""),
        ({"current": column(5.5)}, ""),
        ({"base": column(3.0)}, "is not below 3.00 of the base model;"),
        ({"few_shot": column(4.0)}, "is not below 4.00 of the base model with five mails"),
        ({"current": column(5.0)}, "is not below 5.00 of the adapter in use; the adapter in use s"),
        ({"current": column(5.05, noise=1)}, "30 held-out mails are too few to tell"),
    ],
)
def test_a_candidate_must_beat_every_column_beyond_chance(
    others: dict[str, Column], fault: str
) -> None:
    """The lowest perplexity goes into use where it is lower by more than the mails' chance."""
    better, verdict = judge(columns(column(5.0), **others))
    assert better == (not fault)
    assert verdict.startswith("kept aside: " if fault else "in use: ")
    assert fault in verdict


@pytest.mark.parametrize(
    ("ours", "theirs", "fault"),
    [
        ({"copied": 0.0}, {"copied": 0.0}, ""),
        ({"copied": 0.05}, {"copied": 0.0}, ""),
        ({"copied": 0.5}, {"copied": 0.0}, "it repeats mails to others more often than the base"),
        ({"copied": 0.5}, {"copied": 0.6}, ""),
        ({"facts_invented": 0.9}, {"facts_invented": 0.2}, "invents more names, dates and numbers"),
        ({"refused_sense": 0.1}, {"refused_sense": 0.0}, ""),
        ({"refused_sense": 0.4}, {"refused_sense": 0.0}, "refuses more instructions that have"),
        ({"refused_nonsense": 0.9}, {"refused_nonsense": 0.0}, ""),
        ({"refused_nonsense": 0.1}, {"refused_nonsense": 0.9}, "answers more instructions that"),
        ({}, {"refused_nonsense": 0.9}, ""),
    ],
)
def test_no_guard_may_get_worse_beyond_chance(
    ours: dict[str, float], theirs: dict[str, float], fault: str
) -> None:
    """One draft more by chance stops nothing; many do, and the verdict says what and how many."""
    better, verdict = judge(columns(column(5.0, **ours), few_shot=column(8.0, **theirs)))
    assert better == (not fault)
    assert fault in verdict


def test_guards_are_held_to_what_is_in_use() -> None:
    """Where an adapter is in use, it is the measure, and the base model is not."""
    worse = column(5.0, refused_nonsense=0.2)
    now = column(6.0, refused_nonsense=0.9)
    better, verdict = judge(columns(worse, few_shot=column(8.0, refused_nonsense=0), current=now))
    assert not better
    assert "than the adapter in use (0.20 to 0.90); the adapter in use stays" in verdict


def test_a_hold_out_that_is_too_small_says_so() -> None:
    """Five mails decide nothing, however much better a candidate is; six may."""
    few = {"base": column(9.0, LEAST - 1), "few_shot": column(8.0, LEAST - 1)}
    better, verdict = judge(columns(column(2.0, LEAST - 1), **few))
    assert not better
    assert verdict == (
        "kept aside: 5 held-out mails are too few to tell its perplexity 2.00 from 9.00 of the "
        "base model; the base model writes as before"
    )
    enough = {"base": column(9.0, LEAST), "few_shot": column(8.0, LEAST)}
    assert judge(columns(column(2.0, LEAST), **enough))[0]


def test_a_candidate_without_scores_cannot_be_judged() -> None:
    """Nothing is decided of nothing."""
    with pytest.raises(ValueError, match="without scores"):
        judge({"base": None, "few_shot": None, "current": None, "candidate": None})
