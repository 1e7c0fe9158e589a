"""Which facts of a mail an instruction carries, and how those are told that it would leave out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from trainer.check import COPIED, MAX_RUN, MAX_WORDS, fault, longest_run, overlap
from trainer.corpus import SentMail, words
from trainer.extractive import habits, instruct
from trainer.facts import found
from trainer.mention import phrases
from trainer.recall import allowance, held, invented, lost


def mail(
    text: str, *, subject: str = "Re: the oars", answered: str = "", language: str = "en"
) -> SentMail:
    """Return a mail to Tom."""
    sent = datetime(2024, 1, 1, tzinfo=UTC)
    return SentMail("k", sent, ("Tom Pell",), subject, text, answered, language)


def told(text: str, language: str = "en") -> dict[str, list[str]]:
    """Return the facts of a text by their kinds."""
    kinds: dict[str, list[str]] = {}
    for fact in held(text, language):
        assert text[fact.start : fact.stop].startswith(fact.text)
        kinds.setdefault(fact.kind, []).append(fact.text)
    return kinds


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        (
            "Come on Friday at 14:30 or on 3 June, next week is full.",
            "en",
            {"date": ["Friday", "14:30", "3", "June", "next week"]},
        ),
        ("It was Ana who met Bo in NY.", "en", {"name": ["Ana", "Bo", "NY"]}),
        (
            "It is 120 euros for 5 oars, 2.5% less than in 2023.",
            "en",
            {"number": ["120", "5", "2.5%"], "date": ["2023"]},
        ),
        ("The order is A62-123, see https://a.example/B7?x=1.", "en", {
            "number": ["A62-123"], "link": ["https://a.example/B7?x=1"],
        }),
        ("Morgen um 15 Uhr bringe ich die Bretter.", "de", {"date": ["Morgen", "15"]}),
        ("Je viens demain \u00e0 10h.", "fr", {"date": ["demain", "10h"]}),
        ("OK, as it is. I'm glad.", "en", {}),
    ],
)  # fmt: skip
def test_facts_have_kinds(text: str, language: str, expected: dict[str, list[str]]) -> None:
    """Days and times, names, quantities and codes, links are told apart, in several languages."""
    assert told(text, language) == expected


@pytest.mark.parametrize(
    ("figure", "kind"),
    [("14:30", "date"), ("3rd", "date"), ("2024", "date"), ("12.5.2024", "date"), ("40", "number")],
)
def test_a_figure_is_a_date_or_a_number(figure: str, kind: str) -> None:
    """A time, an ordinal, a year and a full date are dates."""
    assert [fact.kind for fact in found(f"the boat {figure} there", language="en")] == [kind]


def test_what_an_instruction_loses() -> None:
    """A fact is carried however it is spelled; what stands beside it in the prompt counts too."""
    text = "Hi Tom,\n\nFriday at 14:30 suits Ana, the oars are 40 euros, see https://a.example/7."
    one = mail(text)
    assert [fact.text for fact in lost("Tell Tom Friday at 2:30pm suits", one)] == [
        "Ana", "40", "https://a.example/7",
    ]  # fmt: skip
    soon = mail("Hi Tom,\n\nI come tomorrow, and Ana next week.")
    assert [fact.text for fact in lost("Tell Tom Ana comes this week", soon)] == [
        "tomorrow",
        "next week",
    ]
    asked = mail(text, answered="Is 40 right, and what does Ana say to Friday?")
    assert [fact.text for fact in lost("Tell Tom half past two", asked)] == [
        "14:30",
        "https://a.example/7",
    ]
    assert len(lost("Tell Tom half past two", asked, alone=True)) == 5


def test_what_an_instruction_makes_up() -> None:
    """Facts of an instruction that are neither in the mail nor beside it in the prompt."""
    one = mail("Hi Tom,\n\nI come on Friday.\n\nJen", answered="Could Ana come?")
    assert [fact.text for fact in invented("Tell Tom I come on Friday, ask Ana", one)] == []
    said = "Tell Tom I come on Monday at 9 with Bo"
    assert [fact.text for fact in invented(said, one)] == ["Monday", "9", "Bo"]


def test_few_facts_are_all_wanted() -> None:
    """No date, number or link of three may be left out, one of four; of names every other one."""
    assert [allowance("date", count) for count in (1, 3, 4, 8)] == [0, 0, 1, 2]
    assert [allowance("name", count) for count in (1, 2, 3)] == [0, 1, 1]


def test_an_overlap_is_of_words_not_of_facts() -> None:
    """An instruction in the mail's own words overlaps it, an address alone does not."""
    text = "I would need one bag for each flight please, and a seat at the window."
    assert overlap("Tell them I would need one bag for each flight please", text) >= COPIED
    assert overlap("Ask for one checked bag each way, with window seat", text) == 0
    assert overlap("Say 7 Gannet Quay 01632 960417", "at 7 Gannet Quay 01632 960417") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We are around from the 26th or on the 28th of June.", ["26th or on the 28th of June"]),
        ("It takes about 2 weeks.", ["about 2 weeks"]),
        ("Meet on Monday (6th floor).", ["Monday", "6th floor"]),
        ("See https://a.example/1 and https://a.example/2.", [
            "https://a.example/1", "https://a.example/2",
        ]),
    ],
)  # fmt: skip
def test_a_fact_is_mentioned_with_its_small_words(text: str, expected: list[str]) -> None:
    """Prepositions before it and its unit belong to it; facts that stand together stay so."""
    made = list(phrases(held(text, "en"), text))
    assert made == expected


FULL = (
    "Hi Tom,\n\nThanks for the drawings, they came out very well. I had a longer look and found "
    "only one small thing at the stern. Could you please send me the new ones? I will be in Graz "
    "until the 14th, after that you reach me at 01632 960417. The launch is on 3 June at 10:30 in "
    "Pollenhythe, everybody is welcome to it.\n\nBest,\nJen"
)


def test_an_extractive_instruction_carries_every_fact() -> None:
    """What its acts leave out is mentioned besides: telephone number, day, time, place."""
    one = mail(FULL)
    made = instruct(one)
    assert lost(made, one) == []
    assert fault(made, one) == ""
    assert "send me" in made
    assert len(words(made)) <= MAX_WORDS
    assert longest_run(made, one.text) <= MAX_RUN


def test_habitual_facts_are_not_mentioned() -> None:
    """An address that stands in mail after mail is known to the model, and not spelled out."""
    mails = [mail(FULL.replace("14th", day)) for day in ("14th", "15th", "16th")]
    known = habits(mails)
    made = instruct(mails[0], known)
    assert "960417" in made
    mails = [mail(f"Hi Tom,\n\nRing me.\n\nMy number is {n} 960417.\n\nJen") for n in (1, 1, 1)]
    assert "960417" not in instruct(mails[0], habits(mails))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Liebe Ana,\n\nleider nein, aber morgen um 15 Uhr oder am 3. Juni ginge es.\n\nJo"),
        ("fr", "Bonjour Ana,\n\nNon, mais demain \u00e0 10h ou le 3 juin, oui.\n\nJo"),
        ("es", "Hola Ana,\n\nNo puedo, pero ma\u00f1ana a las 10 o el 3 de junio s\u00ed.\n\nJo"),
    ],
)
def test_facts_are_carried_in_other_languages(language: str, text: str) -> None:
    """Days that are told from today, times and dates are in the instruction."""
    one = mail(text, language=language)
    made = instruct(one)
    assert lost(made, one) == []
    assert fault(made, one) == ""
