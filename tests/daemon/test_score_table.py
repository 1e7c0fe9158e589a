"""Scores for a terminal."""

from __future__ import annotations

from daemon.score_table import lines

NARROW = 60
BASE = {"perplexity": 23.456, "bleu": 1.5, "closing": 0.0}
OURS = {"perplexity": 7.0, "bleu": 12.25, "closing": 0.875, "delta": 0.5}


def test_the_columns_stand_side_by_side() -> None:
    """A row for each score that any column has, the interval below the perplexity."""
    scores = {"base": BASE, "few_shot": None, "current": None, "candidate": OURS}
    intervals = {"base": {"perplexity": [20.0, 27.25]}, "candidate": {"perplexity": [6.5, 7.5]}}
    assert list(lines(scores, intervals)) == [
        "                       base  candidate",
        "perplexity            23.46       7.00",
        "  95 % interval     20-27.2    6.5-7.5",
        "BLEU                   1.50      12.25",
        "closing                0.00       0.88",
        "Burrows' delta            -       0.50",
    ]


def test_four_columns_of_any_size_fit_a_narrow_terminal() -> None:
    """No line is longer than 60 characters, and no two numbers touch."""
    huge = {"perplexity": 123456.789, "bleu": 100.0, "facts_invented": 12.5, "something_new": 1.0}
    scores = dict.fromkeys(("base", "few_shot", "current", "candidate"), huge)
    intervals = {name: {"perplexity": [1001.25, 9999.5]} for name in scores}
    table = list(lines(scores, intervals))
    assert all(len(line) <= NARROW for line in table)
    assert table[2].split()[3:] == ["1001-10000"] * 4
    assert table[-1].split() == ["something_new", *["1.00"] * 4]
