"""Instructions without sense, and their refusal."""

from __future__ import annotations

import pytest

from trainer.refusal import NONSENSE, REFUSAL, SOUND, nonsense, refused, sense


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (REFUSAL, True),
        ("sorry but I don\u2019t get it", True),
        ("Sorry, but I do not get it. Could you say more?", True),
        ("Sorry, but I don't get it why the boat", True),
        ("Sorry, I can't make it.", False),
        ("Hi Ana,\n\nSorry, but I don't get it.", False),
        ("", False),
    ],
)
def test_a_refusal_is_known_by_its_sentence(text: str, *, refusal: bool) -> None:
    """A draft that begins with the sentence is one, however the apostrophe is written."""
    assert refused(text) is refusal


def test_nonsense_is_drawn_by_its_seed() -> None:
    """The same seed draws the same instructions, another one others; all differ."""
    drawn = nonsense(100, 1)
    assert drawn == nonsense(100, 1)
    assert len(set(drawn) & set(nonsense(100, 2))) < 5
    assert len(set(drawn)) > 95
    assert all(one == one.strip() and one for one in drawn)


def test_no_training_shows_what_a_model_is_judged_by() -> None:
    """What is drawn for training is not among the fifty, of which all differ."""
    drawn = {one for seed in range(50) for one in nonsense(100, seed)}
    drawn |= {one for seed in range(50) for one, _ in sense(100, seed)}
    assert not drawn & {*NONSENSE, *SOUND}
    assert len(set(NONSENSE)) == len(set(SOUND)) == 50
