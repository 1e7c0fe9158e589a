"""What its writer wrote of a reply, for the formats of many clients and languages."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from connectors import footers
from connectors.mail import parse


class Case(TypedDict, total=False):
    """One reply of replies.yaml."""

    group: str
    name: str
    own: str
    text: str
    html: str


CASES: list[Case] = yaml.safe_load(
    Path(__file__).with_name("replies.yaml").read_text(encoding="utf-8")
)


def raw(case: Case) -> bytes:
    """Build the message of a case."""
    kind, content = ("html", case["html"]) if "html" in case else ("plain", case["text"])
    return f"From: jen@example.org\nContent-Type: text/{kind}; charset=utf-8\n\n{content}".encode()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['group']}: {case['name']}")
def test_what_its_writer_wrote(case: Case) -> None:
    """A reply gives what its writer wrote, letter for letter, and nothing else."""
    assert parse(raw(case)).text == case["own"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['group']}: {case['name']}")
def test_own_words_have_nothing_to_take_off(case: Case) -> None:
    """Cleaned once, a text is clean: its own words alone are a mail that stays whole."""
    again: Case = {"text": case["own"]}
    assert parse(raw(again)).text == case["own"]


def test_names_are_unique() -> None:
    """Each case can be called by its name."""
    names = [(case["group"], case["name"]) for case in CASES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "sentence",
    [
        "Sent from my iPhone",
        "Diese E-Mail wurde von Avast auf Viren geprüft.\nwww.avast.com",
        "Please consider the environment before\nprinting this e-mail.",
    ],
)
def test_footers_are_cut_at_the_end_only(sentence: str) -> None:
    """What a client puts below a mail stays where own words follow it."""
    assert footers.cut(f"Hello.\n\n{sentence}") == "Hello."
    kept = f"Hello.\n\n{sentence}\n\nThat is what I mean."
    assert footers.cut(kept) == kept


_LINES = st.sampled_from(
    ["Sent from my iPhone", "", "____", "Yes.", "Get Outlook for iOS", "Virus-free.", "Bye, Jen"]
)


@given(st.lists(_LINES, max_size=12).map("\n".join))
def test_cutting_footers_again_changes_nothing(text: str) -> None:
    """What is left is how the text begins, and is left by another cut."""
    once = footers.cut(text)
    assert text.startswith(once)
    assert footers.cut(once) == once
