"""Which texts are nearly the same."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.duplicates import MIN_WORDS, NEAR, SHINGLE, leaders

VOCABULARY = [f"word{number}" for number in range(2000)]


def text(length: int, seed: int) -> list[str]:
    """Return words drawn by chance."""
    return random.Random(seed).choices(VOCABULARY, k=length)


def similarity(one: list[str], other: list[str]) -> float:
    """Return the Jaccard similarity of the shingles of two texts."""
    first, second = (
        {tuple(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)}
        for words in (one, other)
    )
    return len(first & second) / len(first | second)


def test_different_texts_lead_themselves() -> None:
    """A text that is like no other is its own leader."""
    assert leaders([text(50, seed) for seed in range(300)]) == list(range(300))


def test_equal_texts_have_one_leader() -> None:
    """Copies are led by the first of them, whatever the case of their letters."""
    one, other = text(50, 1), text(50, 2)
    assert leaders([one, other, one, [word.upper() for word in other]]) == [0, 1, 0, 1]


@settings(deadline=None)
@given(st.integers(90, 300), st.integers(0, 10**6), st.data())
def test_a_word_more_or_less_in_a_long_text(length: int, seed: int, data: st.DataObject) -> None:
    """A word that is changed, added or left out makes no other text of ninety words and more."""
    words = text(length, seed)
    place = data.draw(st.integers(0, length - 1))
    new = data.draw(st.sampled_from([[], ["new"], ["new", words[place]]]))
    assert leaders([words, words[:place] + new + words[place + 1 :]]) == [0, 0]


@settings(deadline=None)
@given(st.integers(MIN_WORDS, 300), st.integers(0, 10**6), st.floats(0, 1))
def test_similarity_decides(length: int, seed: int, share: float) -> None:
    """Texts well above the threshold are one, texts well below it are two."""
    words = text(length, seed)
    cut = round(length * share)
    other = words[:cut] + text(length - cut, seed + 1)
    alike, same = similarity(words, other), leaders([words, other]) == [0, 0]
    if alike > NEAR + 0.15:
        assert same
    if alike < NEAR - 0.25:
        assert not same


def test_short_texts_have_to_be_equal() -> None:
    """Of a few words, another word makes another text."""
    assert leaders([["see", "you", "at", "ten"], ["see", "you", "at", "nine"]]) == [0, 1]
    assert leaders([[], [], ["a"]]) == [0, 0, 2]


def test_a_form_that_is_filled_in_is_no_duplicate() -> None:
    """Short mails that differ in their facts are different mails."""
    form = "please bring {} boards of larch on day {} and stack them behind the shed"
    assert leaders([form.format(n, n + 1).split() for n in range(0, 60, 2)]) == list(range(30))


def test_the_same_texts_have_the_same_leaders() -> None:
    """Nothing depends on the process: no hash of Python's that is salted."""
    texts = [text(30, seed // 2) for seed in range(40)]
    assert leaders(texts) == leaders(texts) == [number // 2 * 2 for number in range(40)]
