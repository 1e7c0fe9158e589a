"""The report of a training: what it says, and that nothing in it does anything."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from daemon.page import harmless
from daemon.report import render
from daemon.report_style import STYLE
from trainer.adapters import Manifest

EVIL = "<img src=http://x.example/?q onerror=alert(1)></p><script>x()</script>"

MANIFEST = Manifest(
    id="20261122-031402-rosa",
    created="2026-11-22T03:14:02+00:00",
    base="embedded",
    base_hash="9f" * 32,
    method="rosa",
    counts={
        "examples": 412,
        "held_out": 46,
        "languages": {"en": 390, "de": 62, "": 6},
        "left_out": {"one-liner": 131, "holds a secret: password or code": 3, "mass mail": 0},
        "instructions": {"model": 402, "extractive": 56},
    },
    settings={"rosa": {"rank": 8, "density": 0.01}, "epochs": 5, "seed": 7, "precision": "fp32"},
    scores={
        "base": {"perplexity": 41.27, "closing": 0.04, "length_ratio": 2.4},
        "few_shot": {"perplexity": 30.12, "closing": 0.5, "length_ratio": 0.9},
        "current": None,
        "candidate": {"perplexity": 18.93, "closing": 0.92, "length_ratio": 1.3, "newest": 3.5},
    },
    intervals={"candidate": {"perplexity": [17.6, 20.4], "closing": [0.81, 0.98]}},
    course={
        "estimate": {"seconds": 2520.0, "memory_bytes": 2**30},
        "measured": {
            "seconds": 5400.0,
            "drafts_seconds": 900.0,
            "memory_bytes": 1.5 * 2**30,
            "tokens": 311020,
            "steps": 9,
        },
        "losses": [4.0, 3.1, 2.8, 2.6, 2.5, 2.4, 2.4, 2.3, 2.3],
        "hold_out": [24.1, 18.93, 19.2],
        "epoch": 2,
    },
    verdict="in use: its perplexity 18.93 is below all other columns",
)
SAMPLES = [
    {
        "instruction": f"Ask Stew for {number} bowls",
        "own": f"Hi Stew,\n\n{number} bowls, please.\n\nJen",
        "drafts": {"base": f"Dear Stew {number}", "few_shot": "", "candidate": f"Hi {number}"},
    }
    for number in (1, 2, 3)
]


class Page(HTMLParser):
    """Reads a page into its elements with their attributes, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._in_style = False
        self.feed(text)
        self.words = re.sub(r"\s+", " ", self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        self._in_style = tag == "style"

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if not self._in_style:
            self.words += f"{data} "

    def count(self, tag: str, **attributes: str) -> int:
        """Count the elements of this name and these attributes."""
        return sum(
            name == tag and attributes.items() <= given.items() for name, given in self.elements
        )


def test_the_verdict_comes_first_in_plain_words() -> None:
    """What became of it, why, and what to do for who wants it otherwise."""
    words = Page(render(MANIFEST, [])).words
    start = words.index("The new adapter is in use.")
    assert "Its perplexity 18.93 is below all other columns." in words[start:]
    assert "panza adapters rollback" in words
    aside = replace(MANIFEST, verdict="kept aside: too few mails to decide")
    words = Page(render(aside, [])).words
    assert "The new adapter was kept aside. Too few mails to decide." in words
    assert f"panza adapters promote {MANIFEST.id}" in words


def test_every_score_stands_in_its_column_with_its_interval() -> None:
    """Shares are percents, the best is marked, a score that nobody knows has its own name."""
    text = render(MANIFEST, [])
    words = Page(text).words
    assert "41.3 30.1 \N{EN DASH} 18.9 17.6 to 20.4" in words
    assert "4 % 50 % \N{EN DASH} 92 % 81 to 98 %" in words
    assert "newest \N{EN DASH} \N{EN DASH} \N{EN DASH} 3.50" in words
    best = re.findall(r'<strong class="best">(.*?)</strong>', text)
    assert best == ["18.9", "92 %", "0.90"]  # the length that is nearest to hers


def test_three_instructions_are_answered_by_each() -> None:
    """Her own mail and each column's draft, where there is one, with the lines that they have."""
    page = Page(render(MANIFEST, SAMPLES))
    assert page.count("div", **{"class": "draft own"}) == 3
    assert page.count("div", **{"class": "draft"}) == 9
    assert "Ask Stew for 2 bowls" in page.words
    assert "(nothing)" in page.words
    assert '<p dir="auto">Hi Stew,\n\n3 bowls, please.\n\nJen</p>' in render(MANIFEST, SAMPLES)


def test_it_tells_of_the_mails_and_of_the_course() -> None:
    """What it learned from, what was left out and why, and what it took against what was said."""
    page = Page(render(MANIFEST, []))
    told = (
        "412 mails of yours to learn from, 46 newer ones",
        "62 German",
        "6 not known",
        "131 one-liner: too short to learn a voice from",
        "3 holds a secret: password or code",
        "56 put together from words of the mail itself",
        "time 1 h 30 min, 42 min were expected",
        "time for the drafts that were judged 15 min",
        "memory 1.5 GiB, 1.0 GiB were expected",
        "number 2",
        "24.1, 18.9, 19.2",
        "20261122-031402-rosa",
        "seed 7",
    )
    for one in told:
        assert one in page.words, one
    assert "mass mail" not in page.words  # none was left out for that
    assert page.count("svg", role="img") == 2
    assert page.count("circle", **{"class": "kept"}) == 1
    for label in ("optimizer step", "loss (nats per token)", "epoch", "perplexity"):
        assert f" {label} " in page.words, label


def test_nothing_in_it_loads_or_runs_anything() -> None:
    """Whatever mails, model and manifest say is text; the page needs nothing but itself."""
    manifest = replace(
        MANIFEST,
        verdict=f"kept aside: {EVIL}",
        base=EVIL,
        counts={**MANIFEST.counts, "left_out": {EVIL: 1}, "languages": {EVIL: 1}},
        scores={"base": {EVIL: 1.0}},
    )
    samples = [{"instruction": EVIL, "own": EVIL, "drafts": {"base": EVIL}}]
    text = render(manifest, samples)
    page = Page(text)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img", "link", "iframe", "a"})
    names = {name for _, given in page.elements for name in given}
    assert not names & {"src", "href", "style", "onerror"}
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    assert harmless(text, STYLE)


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": {}, "counts": {}, "course": {}, "settings": {}, "verdict": "", "intervals": {}},
        {"course": {"losses": [2.5], "hold_out": [], "epoch": 1}},
        {"course": {"losses": [], "hold_out": [3.0, 3.0], "epoch": 1}},
        {"course": {"losses": [3.0, float("nan"), 0.0], "hold_out": [1e12, 1e-9], "epoch": 2}},
        {"course": {"losses": [1.0 / (n + 1) for n in range(1000)], "measured": {"steps": 31000}}},
        {"created": "some day"},
    ],
)
def test_a_manifest_that_knows_little_has_a_report_too(changes: dict[str, Any]) -> None:
    """What is missing is left out; a curve of one step or of a thousand is drawn."""
    text = render(replace(MANIFEST, **changes), SAMPLES)
    assert harmless(text, STYLE)
    assert MANIFEST.id in text
    assert "nan" not in re.sub("<style>.*?</style>", "", text, flags=re.DOTALL)


def test_a_phone_has_room_for_it() -> None:
    """Nothing has a width of its own that is wider than 360 pixels: grids and tables give way."""
    widths = [float(one) for one in re.findall(r"(?<!max-)width: ([\d.]+)rem", STYLE)]
    assert max(widths, default=0.0) * 17 < 360
    assert "minmax(min(100%" in STYLE
    assert "table-layout: fixed" in STYLE
    assert "overflow-wrap: anywhere" in STYLE
    assert "prefers-color-scheme: dark" in STYLE
    assert "@media print" in STYLE


def test_a_report_is_made_without_torch() -> None:
    """The mail process reads what it needs of a report, and has no model."""
    code = "import sys, daemon.report; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603
