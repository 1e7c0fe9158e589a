"""The register of a draft, by the owner's own history."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from connectors.mail import Address
from daemon.register import register
from daemon.store import Place, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from connectors.mail import Mail

LONG = "The boat is done and stands in the shed until somebody comes to take it home. " * 4
SHORT = "Das Boot ist fertig und steht noch bei mir im Schuppen."
LATER = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path, make_mail: Callable[..., Mail]) -> Iterator[Store]:
    """Return the mail of an owner who writes long to Ana, and short and in German to Lea."""
    with Store(tmp_path / "jen") as opened:
        for number, (email, text) in enumerate(
            [("ana@a.example", LONG)] * 5 + [("lea@l.example", SHORT)] * 4, start=1
        ):
            mail = make_mail(number, text=f"{text} {number}", to=(Address("", email),))
            opened.keep(Place("test", 1, number), mail)
        yield opened


def test_who_is_known_has_a_register_of_her_own(store: Store) -> None:
    """Language and length are those of the mails to her, by whichever case she is written."""
    assert register(store, ["ANA@a.example"], LATER) == "known, English, about 60 words"
    assert register(store, ["lea@l.example"], LATER) == "known, German, about 10 words"


def test_a_stranger_is_told_from_who_is_known(store: Store) -> None:
    """An address that only begins alike is another's; the length is that of the newest mails."""
    assert register(store, ["ana@a.example.org"], LATER).startswith("stranger, English, about ")
    assert register(store, [], LATER).startswith("English, about ")


def test_an_answer_is_in_the_language_of_its_thread(store: Store) -> None:
    """The mail that is answered tells the language better than the owner's habit."""
    thread = "Bonjour, le bateau est-il pr\u00eat pour la semaine prochaine ou faut-il attendre ?"
    assert register(store, ["ana@a.example"], LATER, thread=thread).startswith("known, French")


def test_nothing_later_counts(store: Store) -> None:
    """Before her first mail the owner has no register."""
    assert not register(store, ["ana@a.example"], datetime(2000, 1, 1, tzinfo=UTC))[8:]
