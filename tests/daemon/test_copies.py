"""What stands in a draft a second time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from connectors.mail import Address
from daemon.copies import RUN, closed_once, copied
from daemon.store import Place, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectors.mail import Mail

STORY = (
    "between us, the yard is to be sold in autumn because the bank will not wait any longer, and "
    "I have told nobody yet but you and my brother, who took it better than I did myself"
)
STEW, ANA = Address("Stew", "stew@example.org"), Address("Ana", "ana@example.org")


@pytest.fixture
def told(store: Store, make_mail: Callable[..., Mail]) -> Callable[..., Store]:
    """Return what keeps a mail of this text to each of these people."""

    def tell(text: str, *people: Address) -> Store:
        for number, person in enumerate(people):
            mail = make_mail(number, text=text, to=(person,))
            store.keep(Place("server", 1, number + 1), mail)
        return store

    return tell


def test_a_long_run_of_a_mail_to_somebody_else_is_found(told: Callable[..., Store]) -> None:
    """Wherever it stands in the draft, and however it is broken into lines, all of it is found."""
    store = told(f"Dear Stew,\n\n{STORY}.\n\nJen", STEW)
    for lead in range(12):
        before = "word " * lead
        text = f"Hi Ana, {before}{STORY.upper().replace(', ', ',' + chr(10))} and so on"
        (passage,) = copied(text, store, [ANA.email], ())
        assert passage.casefold().split() == STORY.casefold().split()


def test_a_short_run_is_chance(told: Callable[..., Store]) -> None:
    """Fewer words than a run has may be repeated; one more may not."""
    words = STORY.replace(",", "").split()
    store = told(STORY, STEW)
    for size, expected in ((RUN - 1, 0), (RUN, 1)):
        text = f"Hello. {' '.join(words[3 : 3 + size])}. Goodbye"
        assert len(copied(text, store, [ANA.email], ())) == expected


def test_what_the_recipient_knows_may_be_repeated(told: Callable[..., Store]) -> None:
    """A mail to the same person, or what the owner gives herself, is no secret of others."""
    store = told(STORY, STEW)
    assert copied(STORY, store, ["Stew@Example.org"], ()) == []
    assert copied(STORY, store, [ANA.email], (f"Tell Ana that {STORY}!",)) == []
    assert copied(STORY, store, [ANA.email], ("Tell Ana the rest",)) == [STORY]


def test_what_everybody_was_told_is_no_secret(told: Callable[..., Store]) -> None:
    """Words that the owner wrote to several people are hers to repeat."""
    several = [Address("", f"p{number}@example.org") for number in range(3)]
    store = told(f"{STORY}, yours", *several)
    assert copied(STORY, store, [ANA.email], ()) == []


def test_two_people_are_not_everybody(told: Callable[..., Store]) -> None:
    """Words that two others know are found."""
    store = told(STORY, STEW, Address("", "bo@example.org"))
    assert len(copied(STORY, store, [ANA.email], ())) == 1


@pytest.mark.parametrize(
    ("text", "once"),
    [
        ("Hi,\n\nyes.\n\nBest,\nJen\n\nBest,\nJen", "Hi,\n\nyes.\n\nBest,\nJen"),
        ("Hi,\n\nyes.\n\nBest,\nJen\nbest,\njen\nBest,\nJen", "Hi,\n\nyes.\n\nBest,\nJen"),
        ("Hi,\n\nyes.\n\nBest,\nJen", "Hi,\n\nyes.\n\nBest,\nJen"),
        ("yes, yes", "yes, yes"),
        ("", ""),
    ],
)
def test_a_closing_stands_once(text: str, once: str) -> None:
    """A closing that is repeated is taken off until it stands there once."""
    assert closed_once(text) == once
