"""The four columns of a report: each score by a name and in words that need no dictionary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from daemon.page import element

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from xml.etree.ElementTree import Element

    Scores = Mapping[str, Mapping[str, float] | None]

COLUMNS = {
    "base": "The base model",
    "few_shot": "The base model with five of your mails",
    "current": "The adapter in use before",
    "candidate": "The new adapter",
}
"""The columns by the name that a manifest has for each."""


@dataclass(frozen=True, slots=True)
class _Metric:
    """One kind of score.

    Attributes:
        name: What it is called.
        meaning: What it says, in one line.
        best: Which value is better; ``one`` for the one that is nearest to 1.
        shown: As a number or as a share, in percent.
    """

    name: str
    meaning: str
    best: Literal["low", "high", "one", ""] = ""
    shown: Literal["number", "share"] = "number"


_METRICS = {
    "perplexity": _Metric(
        "Surprise (perplexity)",
        "Among how many possible words it wavers before each next one of yours; less is better. "
        "This decides first.",
        "low",
    ),
    "bleu": _Metric(
        "Same phrases (BLEU)", "Of 100; runs of words that its drafts share with yours.", "high"
    ),
    "rouge_l": _Metric(
        "Same order (ROUGE-L)",
        "How much of your mail its draft has, in your order; 1 is all.",
        "high",
    ),
    "chrf": _Metric(
        "Same spelling (chrF)", "Of 100; runs of letters that its drafts share with yours.", "high"
    ),
    "mauve": _Metric(
        "Likeness as a whole (MAUVE)",
        "How alike all drafts and all your mails are, taken together; 1 is the most.",
        "high",
    ),
    "greeting": _Metric("Greeting", "Drafts that greet as you did.", "high", "share"),
    "closing": _Metric("Closing", "Drafts that close as you do.", "high", "share"),
    "length_ratio": _Metric(
        "Length", "Words of a draft for each word of yours; 1 is as long as you write.", "one"
    ),
    "sentence_length": _Metric(
        "Sentence length",
        "By how many words its sentences are longer or shorter than yours.",
        "low",
    ),
    "punctuation": _Metric(
        "Punctuation",
        "In 100 words, how many commas, dots and other marks are too many or too few.",
        "low",
    ),
    "delta": _Metric(
        "Small words (Burrows' delta)",
        "How far its use of your most frequent words is from yours; 0 is the same.",
        "low",
    ),
    "facts_kept": _Metric(
        "Facts kept", "Names, dates and numbers of the instruction that arrive.", "high", "share"
    ),
    "facts_invented": _Metric(
        "Facts invented",
        "Names, dates and numbers in a draft, on average, that come from nowhere.",
        "low",
    ),
    "refused_nonsense": _Metric(
        "Nonsense refused", "Instructions without sense that it does not answer.", "high", "share"
    ),
    "refused_sense": _Metric(
        "Sense refused", "Sound instructions that it does not answer.", "low", "share"
    ),
    "copied": _Metric(
        "Copied", "Drafts that repeat a long run of words from a mail to others.", "low", "share"
    ),
}
_NONE = "\N{EN DASH}"


def table(scores: Scores, intervals: Mapping[str, Any]) -> Element:
    """Return the scores as a table of four columns, with a row for the meaning of each score."""
    head = element("tr", *(element("th", name, scope="col") for name in COLUMNS.values()))
    return element(
        "table",
        element("caption", "Bold is best. Small: the range that is 95 % sure."),
        element("thead", head),
        *(element("tbody", *_rows(name, scores, intervals)) for name in _present(scores)),
    )


def lines(scores: Scores, intervals: Mapping[str, Any]) -> list[str]:
    """Return the scores as text, a paragraph for each."""
    found = []
    for metric in _present(scores):
        about = _METRICS.get(metric, _Metric(metric, ""))
        values = [
            f"  {title}: {_with_interval(metric, value, (intervals.get(name) or {}).get(metric))}"
            for name, title in COLUMNS.items()
            if (value := (scores.get(name) or {}).get(metric)) is not None
        ]
        found.append("\n".join((f"{about.name}. {about.meaning}".strip(), *values)))
    return found


def _with_interval(metric: str, value: float, interval: Any) -> str:  # noqa: ANN401
    return f"{shown(metric, value)}" + (f" ({_range(metric, interval)})" if interval else "")


def _range(metric: str, interval: Any) -> str:  # noqa: ANN401
    low, high = interval
    return f"{shown(metric, low).removesuffix(' %')} to {shown(metric, high)}"


def shown(metric: str, value: float) -> str:
    """Return a score as it is read: 12.3, or 64 %."""
    about = _METRICS.get(metric, _Metric(metric, ""))
    if about.shown == "share":
        return f"{100 * value:.0f} %"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"  # noqa: PLR2004


def _present(scores: Scores) -> Iterator[str]:
    """Yield the scores that any column has, those that are known first."""
    there = {name for column in scores.values() if column for name in column}
    yield from (name for name in _METRICS if name in there)
    yield from sorted(there - _METRICS.keys())


def _rows(metric: str, scores: Scores, intervals: Mapping[str, Any]) -> Iterator[Element]:
    about = _METRICS.get(metric, _Metric(metric, ""))
    meaning = element("small", about.meaning) if about.meaning else None
    heading = element("th", about.name, meaning, colspan=len(COLUMNS), scope="rowgroup")
    yield element("tr", heading, class_="name")
    values = {name: (scores.get(name) or {}).get(metric) for name in COLUMNS}
    best = _best(about, [value for value in values.values() if value is not None])
    yield element(
        "tr",
        *(
            _cell(metric, value, (intervals.get(name) or {}).get(metric), best=value == best)
            for name, value in values.items()
        ),
    )


def _cell(metric: str, value: float | None, interval: Any, *, best: bool) -> Element:  # noqa: ANN401
    if value is None:
        return element("td", _NONE)
    number = shown(metric, value)
    about = [element("strong", number, class_="best") if best else number]
    if interval:
        about.append(element("small", _range(metric, interval)))
    return element("td", *about)


def _best(about: _Metric, values: list[float]) -> float | None:
    if len(set(values)) < 2 or not about.best:  # noqa: PLR2004 - nothing to choose from
        return None
    keys = {"low": lambda v: v, "high": lambda v: -v, "one": lambda v: abs(v - 1)}
    return min(values, key=keys[about.best])
