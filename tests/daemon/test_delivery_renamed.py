"""Drafts on servers that give each message a Message-ID of their own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from connectors.base import Cursor, Role, UnreachableError
from connectors.memory import MemoryConnector
from daemon import delivery
from daemon.journal import Journal, Kind, State
from daemon.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_LOST = UnreachableError("outlook.example", 993, "the connection broke")


class Renaming(MemoryConnector):
    """A server that gives what is appended a Message-ID of its own."""

    def append(
        self, role: Role, raw: bytes, *, flags: Iterable[str] = (), date: datetime | None = None
    ) -> int | None:
        """Store under another Message-ID."""
        number = self.state(role).uidnext
        renamed = raw.replace(b"<panza.", b"<%d.AM0PR." % number)
        return super().append(role, renamed, flags=flags, date=date)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Return an empty journal."""
    with Store(tmp_path) as store:
        yield Journal(store.database, lambda: datetime(2024, 3, 5, 12, tzinfo=UTC))


def enter(journal: Journal, key: str, text: str = "all right.") -> None:
    """Enter a request whose draft is written."""
    journal.open(key, f"{key}@example.org", Cursor(1, 1), "{}")
    journal.generated(
        key,
        b"Date: Tue, 05 Mar 2024 12:00:00 +0000\r\nFrom: jen@example.org\r\n"
        b"Subject: Thursday\r\nMessage-ID: <panza.%s@example.org>\r\n\r\n%s\r\n"
        % (key.encode(), text.encode()),
    )


def state(journal: Journal, key: str) -> State:
    """Return how far a request's draft has come."""
    (parcel,) = journal.parcels(key, Kind.DRAFT)
    return parcel.state


def attempt(journal: Journal, mailbox: MemoryConnector, key: str) -> None:
    """Deliver a request's draft."""
    (parcel,) = journal.parcels(key, Kind.DRAFT)
    assert delivery.deliver(mailbox, journal, parcel) is None


def test_a_draft_under_another_name_is_not_made_twice(journal: Journal) -> None:
    """When the answer was lost the draft is known by its words, and only by all of them."""
    mailbox = Renaming()
    enter(journal, "a")
    mailbox.fail("append", _LOST, done=True)
    with pytest.raises(UnreachableError):
        attempt(journal, mailbox, "a")
    mailbox.append(Role.DRAFTS, b"Subject: hers\r\n\r\nSomething else.\r\n")
    assert delivery.resume(mailbox, journal) == []
    assert state(journal, "a") is State.APPENDED
    assert mailbox.state(Role.DRAFTS).messages == 2


@pytest.mark.parametrize("theirs", [b"Something else.", b"\0" * 2000])
def test_a_draft_that_did_not_arrive_is_made(journal: Journal, theirs: bytes) -> None:
    """Another mail that came meanwhile is not taken for it."""
    mailbox = Renaming()
    enter(journal, "a")
    mailbox.fail("append", _LOST)
    with pytest.raises(UnreachableError):
        attempt(journal, mailbox, "a")
    mailbox.append(Role.DRAFTS, b"Subject: Thursday\r\n\r\n" + theirs)
    assert delivery.resume(mailbox, journal) == []
    assert state(journal, "a") is State.GENERATED
    attempt(journal, mailbox, "a")
    assert mailbox.state(Role.DRAFTS).messages == 2


def test_two_drafts_may_say_the_same(journal: Journal) -> None:
    """One of Panza's drafts is not taken for another one with the same words."""
    mailbox = MemoryConnector()
    for key in ("a", "b"):
        enter(journal, key)
    mailbox.fail("append", _LOST)
    with pytest.raises(UnreachableError):
        attempt(journal, mailbox, "a")
    attempt(journal, mailbox, "b")
    assert delivery.resume(mailbox, journal) == []
    attempt(journal, mailbox, "a")
    assert sorted(mailbox.message_ids(Role.DRAFTS).values()) == [
        "panza.a@example.org",
        "panza.b@example.org",
    ]
