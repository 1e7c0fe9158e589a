"""Facts in a text, and those that come from nowhere."""

from __future__ import annotations

import pytest

from trainer.facts import Given, mark, marks


def marked(text: str, *given: str, language: str = "en", mails: tuple[str, ...] = ()) -> list[str]:
    """Return what is marked in a text that was written from these."""
    whole = mark(
        text,
        Given.by(given),
        language=language,
        spelled=lambda word, _: sum(word in mail for mail in mails),
    )
    return [one.removeprefix("[check: ").removesuffix("]") for one in marks(whole)]


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("I come on Friday at 14:30.", "Tell her Friday at 2.30pm", []),
        ("I come on Friday at 14:30.", "Tell her I come on Thursday", ["Friday", "14:30"]),
        ("It is 1,200 euros, so 20K in all.", "1200 euros, 20 000 in all", []),
        ("It is 1,250 euros.", "It is 1,200 euros", ["1,250"]),
        ("On 12 May at noon", "12.5. at 12", []),
        ("On 12 May and 3 June", "on 12.5.", ["3 June"]),
        ("We are five and have 3 boats.", "We are 5", ["3"]),
        ("I saw Peter in New York with Ana.", "Tell Ana hello", ["Peter", "New York"]),
        ("Dear Peter,\n\nAna's boat is done.\n\nBest,\nJen", "Ana's boat, from Jen", ["Peter"]),
        ("Two things:\n\n1. The boat\n2. The oars", "the boat and the oars", []),
        ("The PDF is OK for the EU. I'm glad, and I'll send it.", "send the file", []),
        ("See https://a.example/Room12 or ask x9@a.example [link removed]", "see the link", []),
        ("In May we may march.", "in spring", []),
    ],
)
def test_what_was_not_given_is_marked(text: str, given: str, expected: list[str]) -> None:
    """A number, day, month or name of no source is marked, however else a given one is spelled."""
    assert marked(text, given) == expected


def test_the_rest_of_the_text_stays() -> None:
    """Only the marks are added."""
    text = "Dear Ana,\n\nI come at 10:30 to Graz.\n\nJen"
    assert mark(text, Given.by(["Ana Jen"]), language="en", spelled=lambda _word, _most: 0) == (
        "Dear Ana,\n\nI come at [check: 10:30] to [check: Graz].\n\nJen"
    )


def test_capitals_that_make_no_name() -> None:
    """Heads of sentences, common words, German nouns and the owner's usual names are no facts."""
    assert (
        marked("Yes. Great! \u201cNice\u201d: Well\n- Boats\n\u2014 Where: Shed", "say yes") == []
    )
    assert marked("We use Larch for it", "the boat", mails=("some larch is here",)) == []
    assert marked("See you on Zoom", "meet", mails=("Zoom at 3", "on Zoom", "by Zoom")) == []
    assert marked("Ich bringe die Bretter nach Graz", "die bretter", language="de") == []
    assert marked("Am Freitag um 9 Uhr", "Friday at nine", language="de") == []
    assert marked("Ich komme um 15 Uhr", "sag ihr ja", language="de") == ["15"]


@pytest.mark.parametrize("piece", ["1", "1.", "A", "A ", "1 ", "Aa'", "-", "[", "(1) "])
def test_no_text_takes_long(piece: str) -> None:
    """A long run of whatever the shapes begin with is gone through without going back."""
    assert isinstance(marked(piece * 3000), list)
