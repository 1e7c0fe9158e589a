"""The scores of a training or an evaluation as a table for a terminal, 60 columns wide."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Scores = Mapping[str, Mapping[str, float] | None]
    Intervals = Mapping[str, Mapping[str, Sequence[float]]]

_COLUMNS = {
    "base": "base",
    "few_shot": "5 mails",
    "current": "in use",
    "candidate": "candidate",
}
_ROWS = {
    "perplexity": "perplexity",
    "bleu": "BLEU",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
    "mauve": "MAUVE",
    "greeting": "greeting",
    "closing": "closing",
    "length_ratio": "length",
    "sentence_length": "sentences off",
    "punctuation": "marks off",
    "delta": "Burrows' delta",
    "facts_kept": "facts kept",
    "facts_invented": "facts invented",
    "refused_nonsense": "noise refused",
    "refused_sense": "sense refused",
    "copied": "copied",
}
_HEADING = 16
_WIDTH = 11  # of a column: "1234-1234" and two blanks


def lines(scores: Scores, intervals: Intervals) -> Iterator[str]:
    """Yield a table of the columns that there are.

    Below the perplexity stands its 95 % interval, for by it a candidate is judged.

    Args:
        scores: By column and score, None for a column that there is not.
        intervals: Low and high, by column and score.
    """
    shown = {name: column for name, column in scores.items() if column}
    yield _line("", (_COLUMNS.get(name, name) for name in shown))
    known = {score for column in shown.values() for score in column}
    for score in [*(one for one in _ROWS if one in known), *sorted(known - _ROWS.keys())]:
        yield _line(_ROWS.get(score, score), (_told(one.get(score)) for one in shown.values()))
        if score == "perplexity":
            found = (intervals.get(name, {}).get(score) for name in shown)
            yield _line("  95 % interval", map(_between, found))


def _line(heading: str, cells: Iterator[str]) -> str:
    return f"{heading:<{_HEADING}}{''.join(f'{cell:>{_WIDTH}}' for cell in cells)}".rstrip()


def _told(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.0f}"  # noqa: PLR2004


def _between(interval: Sequence[float] | None) -> str:
    return "-".join(_short(bound) for bound in interval) if interval else "-"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"  # noqa: PLR2004
