"""The report of a training, for the owner: one page that needs nothing but itself.

It holds mail of hers, so it stays in the adapter's folder, private as all there. What it says is
what the manifest says; only the three instructions and their drafts are nowhere else.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

from daemon import report_chart, report_scores
from daemon.notes import sentences
from daemon.page import document, element
from daemon.report_style import STYLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from xml.etree.ElementTree import Element

    from daemon.page import Child
    from trainer.adapters import Manifest

_LANGUAGES = {
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "hu": "Hungarian",
    "it": "Italian",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "tr": "Turkish",
    "": "not known",
}
_SOURCES = {
    "model": "written by the base model",
    "few_shot": "written by the base model after a few examples",
    "extractive": "put together from words of the mail itself",
}
_REASONS = {
    "one-liner": "too short to learn a voice from",
    "too long": "longer than a thousand words",
    "mass mail": "the same words to many people",
    "same text as a newer mail, or nearly": "the newest one is kept",
}
_SETTINGS = {
    "precision": "precision of the weights",
    "epochs": "passes over the mails, at most",
    "patience": "passes without gain before it stops",
    "batch": "mails for each step",
    "lora_rate": "learning rate of the low-rank part",
    "sparse_rate": "learning rate of the sparse part",
    "seed": "seed",
}
_ROSA = {"rank": "rank", "density": "density", "alpha": "alpha", "dropout": "dropout"}


def render(manifest: Manifest, samples: Sequence[Mapping[str, Any]]) -> str:
    """Return the report as HTML.

    Args:
        manifest: What is known of the adapter.
        samples: Instructions of held-out mails, each with ``instruction``, ``own`` (what the owner
            wrote) and ``drafts`` by column.
    """
    parts = [*_verdict(manifest), *_scores(manifest)]
    if samples:
        parts += _samples(samples)
    parts += [*_corpus(manifest.counts), *_course(manifest), *_details(manifest), _footer()]
    return document(f"Panza: {headline(manifest)}", STYLE, [element("main", *parts)])


def headline(manifest: Manifest) -> str:
    """Return in a few words what became of a training."""
    return {
        "in use": "The new adapter is in use",
        "kept aside": "The new adapter was kept aside",
    }.get(manifest.verdict.partition(":")[0], "A training has ended")


def reason(manifest: Manifest) -> str:
    """Return in a sentence why an adapter was put in use, or was not; "" where nobody said."""
    decision, _, why = manifest.verdict.partition(":")
    return sentences(why or decision)


def way(manifest: Manifest) -> tuple[str, str]:
    """Return what comes of the verdict, and the command for who wants it otherwise."""
    return {
        "in use": (
            "Panza writes your drafts with it from now on. To go back:",
            "panza adapters rollback",
        ),
        "kept aside": (
            "What wrote your drafts before goes on writing them. To use this one all the same:",
            f"panza adapters promote {manifest.id}",
        ),
    }.get(manifest.verdict.partition(":")[0], ("", ""))


def day(manifest: Manifest) -> str:
    """Return when an adapter was made, as a date in words."""
    try:
        made = datetime.fromisoformat(manifest.created)
    except ValueError:
        return manifest.created
    return f"{made.day} {made:%B %Y}"


def _verdict(manifest: Manifest) -> Iterator[Element]:
    kind = "verdict" if manifest.verdict.startswith("in use") else "verdict aside"
    told, command = way(manifest)
    yield element("p", f"Panza: training of {day(manifest)}", class_="quiet top")
    yield element(
        "header",
        element("h1", f"{headline(manifest)}."),
        element("p", reason(manifest)),
        element("p", f"{told} ", element("code", command)) if told else None,
        class_=kind,
    )


def _scores(manifest: Manifest) -> Iterator[Element]:
    if not any(manifest.scores.values()):
        return
    held_out = manifest.counts.get("held_out")
    yield element("h2", "Who writes most like you")
    if held_out:
        yield element(
            "p",
            f"Judged by your newest {held_out} mails, which the training has not seen. "
            "The base model is the one that your adapter changes; five of your mails in its prompt "
            "are what it can do for you without any training.",
        )
    yield report_scores.table(manifest.scores, manifest.intervals)


def _samples(samples: Sequence[Mapping[str, Any]]) -> Iterator[Element]:
    yield element("h2", "The same instruction, answered by each")
    for number, sample in enumerate(samples, start=1):
        drafts = sample["drafts"]
        yield element("h3", f"Instruction {number}")
        yield element("blockquote", str(sample["instruction"]), dir="auto")
        yield element(
            "div",
            _draft("What you wrote", str(sample["own"]), "draft own"),
            *(
                _draft(name, str(drafts[column]), "draft")
                for column, name in report_scores.COLUMNS.items()
                if drafts.get(column) is not None
            ),
            class_="drafts",
        )


def _draft(heading: str, text: str, kind: str) -> Element:
    shown = text.strip() or "(nothing)"
    return element("div", element("h3", heading), element("p", shown, dir="auto"), class_=kind)


def _corpus(counts: Mapping[str, Any]) -> Iterator[Element]:
    if not counts:
        return
    yield element("h2", "What it learned from")
    yield element(
        "p",
        f"{_mails(counts.get('examples', 0))} of yours to learn from, "
        f"{counts.get('held_out', 0)} newer ones to judge by.",
    )
    languages = {_LANGUAGES.get(code, code): n for code, n in counts.get("languages", {}).items()}
    yield from _counted("Languages", languages)
    sources = {_SOURCES.get(name, name): n for name, n in counts.get("instructions", {}).items()}
    yield from _counted("Where the instructions came from", sources)
    left_out = counts.get("left_out", {})
    told = {f"{why}: {_REASONS[why]}" if why in _REASONS else why: n for why, n in left_out.items()}
    yield from _counted("Left out, and why", told)


def _counted(heading: str, counts: Mapping[str, int]) -> Iterator[Element]:
    if not any(counts.values()):
        return
    yield element("h3", heading)
    rows = (
        element("tr", element("td", f"{count}"), element("td", what))
        for what, count in counts.items()
        if count
    )
    yield element("table", element("tbody", *rows), class_="counts")


def _course(manifest: Manifest) -> Iterator[Element]:
    course = manifest.course
    losses = [value for value in course.get("losses", ()) if math.isfinite(value)]
    hold_out = [value for value in course.get("hold_out", ()) if math.isfinite(value)]
    if not (losses or hold_out):
        return
    epoch = course.get("epoch", 0)
    steps = course.get("measured", {}).get("steps", len(losses))
    yield element("h2", "How it learned")
    if hold_out:
        values = ", ".join(report_scores.shown("perplexity", value) for value in hold_out)
        yield element(
            "p",
            "Both curves should fall. Where the second one rises again, it begins to learn your "
            "mails by heart instead of your voice; so the best pass over the mails is kept, here "
            f"number {epoch}. Surprise at the held-out mails after each pass: {values}.",
        )
    yield element(
        "div",
        report_chart.losses(losses, steps) if losses else None,
        report_chart.perplexities(hold_out, epoch) if hold_out else None,
        class_="charts",
    )


def _details(manifest: Manifest) -> Iterator[Element]:
    settings = manifest.settings
    pairs: list[tuple[str, str]] = [
        ("adapter", manifest.id),
        ("made", manifest.created),
        ("base model", manifest.base),
        ("its hash", manifest.base_hash[:16]),
        ("method", manifest.method),
        *_measured(manifest.course),
        *((name, f"{settings[key]}") for key, name in _SETTINGS.items() if key in settings),
    ]
    rosa = settings.get("rosa") or {}
    pairs += [(name, f"{rosa[key]}") for key, name in _ROSA.items() if key in rosa]
    yield element("h2", "In numbers")
    both: list[Child] = []
    for name, value in pairs:
        both += [element("dt", name), element("dd", value)]
    yield element("dl", *both)


def _measured(course: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a training took, beside what was said before it began."""
    estimate, measured = course.get("estimate", {}), course.get("measured", {})
    units = {"seconds": ("time", _duration), "memory_bytes": ("memory", _memory)}
    for key, (name, unit) in units.items():
        if key in measured:
            said = f", {unit(estimate[key])} were expected" if key in estimate else ""
            yield name, f"{unit(measured[key])}{said}"
    if measured.get("drafts_seconds"):
        yield "time for the drafts that were judged", _duration(measured["drafts_seconds"])
    if "tokens" in measured:
        yield "tokens learned from", f"{measured['tokens']:,.0f}"
    if "row" in measured:
        yield "tokens at a time", f"{measured['row']:,.0f}"


def _footer() -> Element:
    return element(
        "footer",
        element(
            "p",
            "This page holds mail of yours. Panza made it on your own machine; it loads nothing "
            "and tells nobody.",
            class_="quiet",
        ),
    )


def _mails(count: int) -> str:
    return f"{count} mail" if count == 1 else f"{count} mails"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes >= 60:  # noqa: PLR2004 - an hour
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes > 1 else f"{seconds:.0f} s"


def _memory(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
