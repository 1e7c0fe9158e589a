"""What stands in a draft a second time."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest

from connectors.mail import Address
from daemon.copies import RUN, closed_once, copied, without
from daemon.store import Place, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectors.mail import Mail

STORY = (
    "between us, the yard is to be sold in autumn because the bank will not wait any longer, and "
    "I have told nobody yet but you and my brother, who took it better than I did myself"
)
REST = (
    "my sister wants the house by the river instead, and the lawyer says that she may have it if "
    "the two of us agree on a price before the winter comes"
)
STEW, ANA = Address("Stew", "stew@example.org"), Address("Ana", "ana@example.org")


def pieces(text: str) -> list[tuple[int, int]]:
    """Return where the tokens of a text stand: four letters are one, and so is any other mark."""
    return [one.span() for one in re.finditer(r"\w{1,4}|[^\w\s]", text)]


def characters(text: str) -> list[tuple[int, int]]:
    """Return where the tokens stand for a model that takes each character for one."""
    return [(place, place + 1) for place in range(len(text))]


def of_words(text: str) -> list[tuple[int, int]]:
    """Return where the tokens stand for a model that knows every word."""
    return [one.span() for one in re.finditer(r"\w+", text)]


@pytest.fixture
def told(store: Store, make_mail: Callable[..., Mail]) -> Callable[..., Store]:
    """Return what keeps a mail of this text to each of these people."""

    def tell(text: str, *people: Address) -> Store:
        for person in people:
            number = store.total() + 1
            mail = make_mail(number, text=text, to=(person,))
            store.keep(Place("server", 1, number), mail)
        return store

    return tell


def test_a_long_run_of_a_mail_to_somebody_else_is_found(told: Callable[..., Store]) -> None:
    """Wherever it stands in the draft, and however it is broken into lines, all of it is found."""
    store = told(f"Dear Stew,\n\n{STORY}.\n\nJen", STEW)
    for lead in range(12):
        before = "word " * lead
        text = f"Hi Ana, {before}{STORY.upper().replace(', ', ',' + chr(10))} and so on"
        (passage,) = copied(text, store, [ANA.email], (), pieces)
        assert passage.casefold().split() == STORY.casefold().split()


@pytest.mark.parametrize("lead", range(RUN))
def test_a_short_run_is_chance(told: Callable[..., Store], lead: int) -> None:
    """Fewer tokens than a run has may be repeated; one more may not, wherever it stands."""
    words = STORY.replace(",", "").split()
    store = told(STORY, STEW)
    for size, expected in ((RUN - 1, 0), (RUN, 1)):
        text = f"Hello. {'so ' * lead}{' '.join(words[3 : 3 + size])}. Goodbye"
        assert len(copied(text, store, [ANA.email], (), of_words)) == expected


@pytest.mark.parametrize(
    "secret",
    [
        "DE02 1203 0000 0000 2020 51, 4821 7730 1946 2208",
        "8f3c9a0b7d2e4f6181a0c3d5e7f9b2a4c6d8e0f1a3b5",
        "来月の十五日に工場を売ることを銀行と決めました。弟のほかにはまだ誰にも言っていません",
        "Donaudampfschifffahrtsgesellschaftskapitaenswitwe",
        "a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p",
    ],
)
def test_a_run_of_few_words_is_found(told: Callable[..., Store], secret: str) -> None:
    """Numbers, long words and scripts without spaces have many tokens in few words."""
    store = told(f"Stew: {secret} - Jen", STEW)
    for lead in range(17):
        text = f"Hi Ana,{' so' * lead} {secret}, bye"
        (passage,) = copied(text, store, [ANA.email], (), characters)
        assert secret in passage


def test_a_run_may_begin_and_end_within_a_word(told: Callable[..., Store]) -> None:
    """What is left when the last letters differ is as long a copy; words are cut out whole."""
    store = told("x" * 40 + "abc", STEW)
    assert copied("y" + "x" * 29, store, [ANA.email], (), characters) == []
    assert copied(f"so {'x' * 30}y.", store, [ANA.email], (), characters) == [f"{'x' * 30}y"]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_copied_no_run_is_left(told: Callable[..., Store], seed: int) -> None:
    """Of drafts that are patched together from mails nothing of a run's length stays."""
    dice = random.Random(seed)
    alphabet = "aaaabbbccde 4711日本のßÄ.\n -"
    mails = ["".join(dice.choices(alphabet, k=dice.randint(20, 300))) for _ in range(30)]
    for mail in mails:
        store = told(mail, STEW)
    parts = []
    for mail in dice.sample(mails, 8):
        start = dice.randrange(len(mail))
        parts += [mail[start : start + dice.randint(10, 80)], dice.choice(["", " so ", "日"])]
    text = "".join(parts)
    text = without(text, copied(text, store, [ANA.email], (), characters), "|")
    runs = {text[i : i + RUN] for i in range(len(text) - RUN + 1)}
    assert not {run for run in runs for mail in mails if run in mail and run.strip(" \n.-")}


def test_punctuation_is_no_secret(told: Callable[..., Store]) -> None:
    """A line across the page may stand in any mail."""
    line = "-" * 60
    store = told(f"Hello\n{line}\nthe boat", STEW)
    assert copied(f"Good day\n{line}\na mast", store, [ANA.email], (), characters) == []


def test_what_the_recipient_knows_may_be_repeated(told: Callable[..., Store]) -> None:
    """A mail to the same person, or what the owner gives herself, is no secret of others."""
    store = told(STORY, STEW)
    assert copied(STORY, store, ["Stew@Example.org"], (), pieces) == []
    assert copied(STORY, store, [ANA.email], (f"Tell Ana that {STORY}!",), pieces) == []
    assert copied(STORY, store, [ANA.email], ("Tell Ana the rest",), pieces) == [STORY]


def test_a_known_part_is_no_excuse_for_the_rest(told: Callable[..., Store]) -> None:
    """Of a long copy that begins with what the recipient knows, what she does not is found."""
    told("Good morning. " + STORY, ANA)
    store = told(f"{STORY}. {REST}", STEW)
    (passage,) = copied(f"{STORY}. {REST}", store, [ANA.email], (), pieces)
    assert passage.endswith(REST)
    assert not passage.startswith(STORY[:40])


def test_what_everybody_was_told_is_no_secret(told: Callable[..., Store]) -> None:
    """Words that the owner wrote to several people are hers to repeat."""
    several = [Address("", f"p{number}@example.org") for number in range(3)]
    store = told(f"{STORY}, yours", *several)
    assert copied(STORY, store, [ANA.email], (), pieces) == []


def test_two_people_are_not_everybody(told: Callable[..., Store]) -> None:
    """Words that two others know are found, however often they were told."""
    bo = Address("", "bo@example.org")
    store = told(STORY, STEW, bo, STEW, bo)
    assert len(copied(STORY, store, [ANA.email], (), pieces)) == 1


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
