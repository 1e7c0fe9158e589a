"""The thread that watches a requests folder."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from connectors.base import FolderMissingError, Role, UnreachableError
from connectors.memory import MemoryConnector
from daemon.backoff import Backoff
from daemon.brief import Brief, Draft
from daemon.config import Account, Requests
from daemon.errors import ModelUnavailableError, StoreError
from daemon.store import Store
from daemon.troubles import Trouble, Troubles
from daemon.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REQUEST = b"From: jen@example.org\r\nMessage-ID: <%d@example.org>\r\n\r\nTell Stew I am late.\r\n"


class StubWriter:
    """Writes the same words each time, after as many faults as it is given."""

    def __init__(self) -> None:
        self.faults: list[Exception] = []
        self.held = 0.0

    def write(self, _brief: Brief) -> Draft:
        """Return a draft."""
        if self.faults:
            raise self.faults.pop(0)
        time.sleep(self.held)
        return Draft("Late", "I am late.")


class Shaky(MemoryConnector):
    """A mailbox that cannot be reached as often as it is told."""

    lost = 0

    def ensure(self, role: Role) -> str:
        """Fail, or do as the mailbox does."""
        if self.lost:
            self.lost -= 1
            raise UnreachableError("imap.example.org", 993, "it does not answer in time")
        return super().ensure(role)


@pytest.fixture
def mailbox() -> Shaky:
    """Return a mailbox."""
    return Shaky()


@pytest.fixture
def writer() -> StubWriter:
    """Return a writer."""
    return StubWriter()


@pytest.fixture
def make_worker(
    tmp_path: Path, mailbox: Shaky, writer: StubWriter
) -> Iterator[Callable[..., Worker]]:
    """Return a maker of workers, each of which is stopped at the end."""
    made: list[Worker] = []

    def make(poll: float = 60, first: float = 0.2, **more: threading.Event) -> Worker:
        account = Account(name="jen", address="jen@example.org", maildir=tmp_path / "mail")
        worker = Worker(
            account,
            mailbox,
            lambda: Store(tmp_path / "data"),
            writer,
            settings=Requests(poll=timedelta(seconds=poll)),
            backoff=Backoff(first, 2 * first, random.Random(1)),
            **more,
        )
        made.append(worker)
        worker.start()
        return worker

    yield make
    for worker in made:
        worker.stop()
        worker.join(10)
        assert not worker.is_alive()


def until(reached: Callable[[], bool], seconds: float = 10) -> bool:
    """Wait until something is so; tell whether it came to be."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if reached():
            return True
        time.sleep(0.01)
    return False


def drafts(mailbox: MemoryConnector) -> int:
    """Return how many drafts there are."""
    with suppress(FolderMissingError):
        return mailbox.state(Role.DRAFTS).messages
    return 0


def made(mailbox: MemoryConnector) -> bool:
    """Tell whether the requests folder is there."""
    with suppress(FolderMissingError):
        mailbox.state(Role.REQUESTS)  # a note may be in it by then
        return True
    return False


def troubles(folder: Path) -> list[Trouble]:
    """Return what the status would show; nothing before the store is there."""
    with suppress(StoreError), Store(folder / "data", read_only=True) as store:
        return Troubles(store.database, store.clock).all()
    return []


def test_answers_what_is_there_and_what_comes(
    mailbox: Shaky, make_worker: Callable[..., Worker]
) -> None:
    """A request is answered at the first look, and one that comes later long before the poll."""
    mailbox.append(Role.REQUESTS, REQUEST % 1)
    make_worker(poll=60)
    assert until(lambda: drafts(mailbox) == 1)
    mailbox.append(Role.REQUESTS, REQUEST % 2)
    assert until(lambda: drafts(mailbox) == 2, seconds=5)


def test_goes_on_when_the_server_is_back(
    tmp_path: Path, mailbox: Shaky, make_worker: Callable[..., Worker]
) -> None:
    """A server that is gone for a while is a trouble in the status, and then none any more."""
    mailbox.append(Role.REQUESTS, REQUEST % 1)
    mailbox.lost = 3
    make_worker()
    assert until(lambda: bool(troubles(tmp_path)))
    told = troubles(tmp_path)[0]
    assert told.job == "requests"
    assert "cannot be reached" in told.message
    assert told.retry is not None
    assert until(lambda: drafts(mailbox) == 1)
    assert until(lambda: not troubles(tmp_path))


def test_a_model_that_is_not_there_costs_no_request(
    tmp_path: Path, mailbox: Shaky, writer: StubWriter, make_worker: Callable[..., Worker]
) -> None:
    """However often the model process is missing, the request is answered in the end."""
    writer.faults = [ModelUnavailableError("nobody listens")] * 5
    mailbox.append(Role.REQUESTS, REQUEST % 1)
    make_worker()
    assert until(lambda: drafts(mailbox) == 1)
    assert until(lambda: not troubles(tmp_path))


def test_an_unknown_fault_ends_nothing(
    tmp_path: Path, mailbox: Shaky, writer: StubWriter, make_worker: Callable[..., Worker]
) -> None:
    """A fault that nobody foresaw is told by its kind alone, and the watch goes on."""
    writer.faults = [ZeroDivisionError("Dear Stew")]
    mailbox.append(Role.REQUESTS, REQUEST % 1)
    make_worker()
    assert until(lambda: bool(troubles(tmp_path)))
    assert "ZeroDivisionError" in troubles(tmp_path)[0].message
    assert "Stew" not in troubles(tmp_path)[0].message
    assert until(lambda: drafts(mailbox) == 1)


def test_a_folder_that_is_deleted_is_made_again(
    mailbox: Shaky, make_worker: Callable[..., Worker]
) -> None:
    """The requests folder is watched again soon after its owner deleted it."""
    mailbox.append(Role.REQUESTS, REQUEST % 1)
    make_worker()
    assert until(lambda: drafts(mailbox) == 1)
    mailbox.lose(Role.REQUESTS)
    assert until(lambda: made(mailbox))
    mailbox.append(Role.REQUESTS, REQUEST % 2)
    assert until(lambda: drafts(mailbox) == 2)


def test_a_nudge_ends_the_wait(mailbox: Shaky, make_worker: Callable[..., Worker]) -> None:
    """Who is told that the clock jumped looks at once."""
    worker = make_worker(poll=3600)
    assert until(lambda: mailbox.state(Role.REQUESTS).messages == 0)
    time.sleep(0.2)
    worker.nudge()
    mailbox.append(Role.REQUESTS, REQUEST % 1)
    assert until(lambda: drafts(mailbox) == 1)


def test_a_nudge_ends_the_wait_after_a_fault(
    mailbox: Shaky, make_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    """A machine that wakes up does not wait for the rest of a pause that began before it slept."""
    mailbox.append(Role.REQUESTS, REQUEST % 1)
    mailbox.lost = 1
    worker = make_worker(first=3600)
    assert until(lambda: bool(troubles(tmp_path)))
    worker.nudge()
    assert until(lambda: drafts(mailbox) == 1)


def test_a_line_that_breaks_whenever_it_waits_is_not_well(
    tmp_path: Path, make_worker: Callable[..., Worker], mailbox: Shaky
) -> None:
    """Good looks between broken waits neither shorten the pauses nor clear the trouble."""
    for _ in range(4):
        mailbox.fail("wait", UnreachableError("imap.example.org", 993, "goodbye"))
    make_worker()
    assert until(lambda: bool(troubles(tmp_path)) and troubles(tmp_path)[0].tries == 4)


def test_the_first_sync_comes_first(mailbox: Shaky, make_worker: Callable[..., Worker]) -> None:
    """An empty store is given the time to learn whom its owner knows."""
    mailbox.append(Role.REQUESTS, REQUEST % 1)
    synced = threading.Event()
    make_worker(synced=synced)
    assert not until(lambda: drafts(mailbox) == 1, seconds=1)
    synced.set()
    assert until(lambda: drafts(mailbox) == 1)


def test_stops_between_two_requests(
    mailbox: Shaky, writer: StubWriter, make_worker: Callable[..., Worker]
) -> None:
    """A long queue does not hold up the end; what is left is answered by the next worker."""
    writer.held = 0.2
    for number in range(50):
        mailbox.append(Role.REQUESTS, REQUEST % number)
    worker = make_worker()
    assert until(lambda: drafts(mailbox) > 1)
    worker.stop()
    worker.join(5)
    assert not worker.is_alive()
    assert drafts(mailbox) < 50
    writer.held = 0
    make_worker()
    assert until(lambda: drafts(mailbox) == 50, seconds=30)
