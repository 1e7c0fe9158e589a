"""The journal: what was done, what is due, and what can never happen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from connectors.base import Cursor
from daemon.journal import Journal, Kind, State, TransitionError
from daemon.sightings import Sightings

if TYPE_CHECKING:
    from daemon.store import Store

KEY = "ab" * 32
DRAFT = b"Message-ID: <draft@example.org>\r\n\r\nHello\r\n"
NOTE = b"Message-ID: <note@example.org>\r\n\r\nSorry\r\n"
PLACE = Cursor(7, 3)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2024, 3, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.time


@pytest.fixture
def clock() -> Clock:
    """Return a clock at a fixed time."""
    return Clock()


@pytest.fixture
def journal(store: Store, clock: Clock) -> Journal:
    """Return an empty journal."""
    return Journal(store.database, clock)


def _state(journal: Journal) -> State:
    found = journal.find(KEY)
    assert found
    return found.state


def test_a_request_goes_through_its_states(journal: Journal) -> None:
    """From new to done, and then nothing of it is left in the outbox or to do."""
    journal.open(KEY, "r@example.org", PLACE, "{}")
    assert _state(journal) is State.NEW
    journal.generated(KEY, DRAFT)
    (parcel,) = journal.parcels(KEY, Kind.DRAFT)
    assert (parcel.message_id, parcel.raw) == ("draft@example.org", DRAFT)
    journal.appending(parcel, 1, 10)
    assert _state(journal) is State.APPENDING
    journal.appended(parcel)
    assert _state(journal) is State.APPENDED
    journal.marked(KEY)
    assert _state(journal) is State.MARKED
    assert journal.unsettled() == [KEY]
    journal.done(KEY)
    assert _state(journal) is State.DONE
    assert journal.unsettled() == []
    assert journal.parcels(KEY, Kind.DRAFT) == []
    assert journal.counts() == {State.DONE: 1}


def test_what_was_appended_is_never_appended_again(journal: Journal) -> None:
    """The step from appended back to appending does not exist, however old the caller's view."""
    journal.open(KEY, "", PLACE, "{}")
    journal.generated(KEY, DRAFT)
    (parcel,) = journal.parcels(KEY, Kind.DRAFT)
    journal.appending(parcel, 1, 10)
    journal.appended(parcel)
    with pytest.raises(TransitionError):
        journal.appending(parcel, 1, 10)
    with pytest.raises(TransitionError):
        journal.not_appended(parcel)
    with pytest.raises(TransitionError):
        journal.generated(KEY, DRAFT)
    with pytest.raises(TransitionError):
        journal.park(KEY, "too late", NOTE)
    assert _state(journal) is State.APPENDED


def test_where_to_look_is_kept_from_before_the_append(journal: Journal) -> None:
    """UIDVALIDITY and UIDNEXT and the number of attempts are in the outbox before an APPEND."""
    journal.open(KEY, "", PLACE, "{}")
    journal.generated(KEY, DRAFT)
    (parcel,) = journal.parcels(KEY, Kind.DRAFT)
    journal.appending(parcel, 5, 11)
    (parcel,) = journal.parcels(KEY, Kind.DRAFT)
    assert (parcel.uidvalidity, parcel.uidnext, parcel.attempts) == (5, 11, 1)
    journal.appending(parcel, 5, 11)
    journal.appended(parcel)
    assert [p.message_id for p in journal.repeated()] == ["draft@example.org"]


def test_a_parked_request_can_be_taken_up_again_with_its_draft(journal: Journal) -> None:
    """What the server refused is kept, byte for byte; what was never written starts anew."""
    journal.open(KEY, "", PLACE, "{}")
    journal.generated(KEY, DRAFT)
    journal.park(KEY, "The mailbox is full.", NOTE)
    assert [p.raw for p in journal.parcels(KEY, Kind.NOTE)] == [NOTE]
    journal.settled(KEY)
    assert journal.unsettled() == []
    journal.reopen(KEY, "{}")
    assert _state(journal) is State.GENERATED
    assert [p.raw for p in journal.parcels(KEY, Kind.DRAFT)] == [DRAFT]

    other = "cd" * 32
    journal.open(other, "", PLACE, "")
    journal.park(other, "It has no text.", NOTE.replace(b"note@", b"note2@"))
    journal.settled(other)
    journal.reopen(other, "{}")
    assert journal.find(other).state is State.NEW  # type: ignore[union-attr]


def test_repeated_attempts_are_forgotten_in_time(journal: Journal, clock: Clock) -> None:
    """What took several attempts stays to be swept for as long as is asked, then it goes."""
    journal.open(KEY, "", PLACE, "{}")
    journal.generated(KEY, DRAFT)
    (parcel,) = journal.parcels(KEY, Kind.DRAFT)
    journal.appending(parcel, 5, 11)
    journal.appending(parcel, 5, 11)
    journal.appended(parcel)
    journal.marked(KEY)
    journal.done(KEY)
    clock.time += timedelta(hours=23)
    journal.forget_repeated(timedelta(days=1))
    assert journal.repeated()
    clock.time += timedelta(hours=2)
    journal.forget_repeated(timedelta(days=1))
    assert not journal.repeated()


def test_a_failing_step_leaves_nothing_behind(journal: Journal, store: Store) -> None:
    """A draft and the state that says it is there are stored together or not at all."""
    journal.open(KEY, "", PLACE, "{}")

    def interrupted() -> None:
        with store.transaction():
            journal.generated(KEY, DRAFT, "no recipient", NOTE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert _state(journal) is State.NEW
    assert journal.parcels(KEY, Kind.DRAFT) == []
    assert journal.parcels(KEY, Kind.NOTE) == []


def test_attempts_are_counted_and_can_be_taken_back(journal: Journal) -> None:
    """Each call of the writer is counted before it happens."""
    journal.open(KEY, "", PLACE, "{}")
    assert journal.count_attempt(KEY) == 1
    assert journal.count_attempt(KEY) == 2
    journal.discount_attempt(KEY)
    assert journal.count_attempt(KEY) == 2


def test_a_folder_is_read_on_and_begun_anew(store: Store, clock: Clock) -> None:
    """The cursor never goes back, and a new UIDVALIDITY begins anew without old refusals."""
    sightings = Sightings(store.database, clock)
    first = sightings.reading(7, 20)
    assert (first.cursor, first.backlog) == (Cursor(7), 20)
    sightings.advance(Cursor(7, 9))
    sightings.advance(Cursor(7, 4))
    sightings.refuse(Cursor(7, 5), "it has no proof", final=False)
    clock.time += timedelta(minutes=5)
    sightings.refuse(Cursor(7, 5), "it has no proof", final=False)
    assert sightings.unproven(7) == {5: clock.time - timedelta(minutes=5)}
    assert sightings.reading(7, 30).cursor == Cursor(7, 9)
    assert sightings.refusals() == {"it has no proof": 1}
    second = sightings.reading(8, 3)
    assert (second.cursor, second.backlog) == (Cursor(8), 3)
    assert sightings.refusals() == {}
