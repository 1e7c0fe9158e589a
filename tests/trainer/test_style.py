"""Whether a draft opens, closes and runs as its owner's mails do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from trainer.corpus import SentMail
from trainer.style import Habits, compared


def mail(text: str, to: tuple[str, ...] = ("Stew Pott",)) -> SentMail:
    """Return a mail of the owner's."""
    return SentMail("0" * 64, datetime(2024, 1, 1, tzinfo=UTC), to, "Boards", text)


BODY = "please bring three boards of larch. I will be there at nine!"
OWN = f"Hi Stew,\n\n{BODY}\n\nCheers,\nJen"
HERS = Habits.of([mail(OWN), mail(OWN), mail(f"Dear Ana,\n\n{BODY}\n\nBest wishes,\nJen")] * 2)


def scores(draft: str, own: str = OWN, habits: Habits = HERS) -> dict[str, float]:
    """Return all scores of one draft."""
    return {name: one.value for name, one in compared([draft], [mail(own)], habits).items()}


@pytest.mark.parametrize(
    ("draft", "own", "alike"),
    [
        ("Hi Stew,", "Hi Stew,", True),
        ("hi Ana!", "Hi Stew,", True),
        ("Dear Stew,", "Hi Stew,", False),
        ("Stew,", "Hi Stew,", False),
        ("Pott,", "Stew,", True),
        ("Ahoy Stew,", "Ahoy Pott,", True),
        ("Sehr geehrte Frau Pell,", "Sehr geehrte Frau Aman,", True),
        ("", "Hi Stew,", False),
        ("", "", True),
        ("Hi Stew,", "", False),
    ],
)
def test_a_greeting_is_compared_by_its_form(
    draft: str,
    own: str,
    alike: bool,  # noqa: FBT001
) -> None:
    """The word of greeting counts and the name does not; no greeting is a form as well."""
    found = scores(f"{draft}\n\n{BODY}".strip(), f"{own}\n\n{BODY}".strip())
    assert found["greeting"] == alike


@pytest.mark.parametrize(
    ("draft", "own", "alike"),
    [
        ("Cheers,\nJen", "Cheers,\nJen", True),
        ("Best wishes\nJen", "Cheers,\nJen", True),
        ("Best wishes,\n[Your Name]", "Cheers,\nJen", False),
        ("Sincerely,\nJen", "Cheers,\nJen", False),
        ("", "Cheers,\nJen", False),
        ("", "", True),
        ("Cheers,\nJen", "", False),
        ("See you,\nJ.", "See you,\nJ.", True),
    ],
)
def test_a_closing_is_one_of_hers(draft: str, own: str, alike: bool) -> None:  # noqa: FBT001
    """Any ending that she uses will do where her mail has one, and none where it has none."""
    found = scores(f"Hi Stew,\n\n{BODY}\n\n{draft}".strip(), f"Hi Stew,\n\n{BODY}\n\n{own}".strip())
    assert found["closing"] == alike


def test_lengths_are_those_of_words_and_sentences() -> None:
    """Twice the words are a ratio of 2; a sentence of 8 words beside ones of 4 is 4 apart."""
    own = "One two three four. Five six seven eight."
    found = scores("One two three four five six seven eight. " * 2, own)
    assert found["length_ratio"] == 2
    assert found["sentence_length"] == pytest.approx(4)


def test_the_ratio_of_lengths_is_of_all_words_together() -> None:
    """A long mail weighs more than a short one."""
    drafts, own = ["a b", "c d e f g h"], [mail("a"), mail("c d e")]
    assert compared(drafts, own, HERS)["length_ratio"].value == 2


@pytest.mark.parametrize(
    ("draft", "own", "apart"),
    [
        ("a b c d, e f g h", "a b c d, e f g h", 0),
        ("a b c d e f g h", "a b c d, e f g h", 12.5),
        ("a b c d! e f g h", "a b c d, e f g h", 25),
        ("a b c d... e f g h", "a b c d\u2026 e f g h", 0),
        ("a b c d :-) e f g h", "a b c d \U0001f600 e f g h", 0),
        ("a b c d: e f g h", "a b c d \U0001f600 e f g h", 25),
        ("a b c d \u2014 e f g h", "a b c d - e f g h", 0),
    ],
)
def test_marks_are_counted_by_kind(draft: str, own: str, apart: float) -> None:
    """One mark more in eight words is 12.5 in a hundred; how it is typed does not matter."""
    assert scores(draft, own)["punctuation"] == pytest.approx(apart)


def test_delta_is_0_for_her_own_words_and_grows_with_strange_ones() -> None:
    """Burrows' delta tells texts with her shares of frequent words from texts with others."""
    texts = [f"the one and the other and a third of the {n} boards, I think" for n in range(120)]
    habits = Habits.of(mail(text) for text in texts)
    assert len(habits.spread) > 5
    assert scores(texts[0], texts[0], habits)["delta"] == 0
    near = scores(texts[3], texts[0], habits)["delta"]
    far = scores("whereas thou hast not writ unto me for so long", texts[0], habits)["delta"]
    assert near < far


def test_delta_by_hand() -> None:
    """One word with a known spread: the difference of its shares over that."""
    habits = Habits(frozenset(), ("the",), (0.1,))
    found = scores("the the a a", "the a a a", habits)
    assert found["delta"] == pytest.approx((0.5 - 0.25) / 0.1)


def test_too_little_text_has_no_delta() -> None:
    """Below a thousand words nothing is said of function words."""
    assert "delta" not in scores(OWN)
