"""The work of the schedule: when it is due, what it keeps, and what becomes of its faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from stubmodel import StubModel

from connectors.base import Role, UnreachableError
from connectors.memory import MemoryConnector
from daemon import protocol
from daemon.accounts import Source
from daemon.backoff import Backoff
from daemon.config import Account, Config, Training
from daemon.jobs import ADAPTERS_KEPT, RUNS_KEPT, SyncJob, TidyJob, TrainingJob
from daemon.model_link import ModelLink
from daemon.runs import Runs
from daemon.store import Place, Store
from daemon.troubles import Trouble, Troubles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from connectors.mail import Mail

SENT = (
    b"From: jen@example.org\r\nTo: stew@example.org\r\nSubject: Kiln\r\n"
    b"Message-ID: <s%d@example.org>\r\nDate: Mon, 06 Jan 2025 10:00:00 +0100\r\n\r\n"
    b"Hello Stew, the kiln number %d is hot.\r\n"
)


@dataclass
class World:
    """An account, its store at a time that tests move, and a stand-in for the model process."""

    folder: Path
    model: StubModel
    time: datetime = datetime(2025, 3, 2, 12, tzinfo=UTC)
    mailbox: MemoryConnector = field(default_factory=MemoryConnector)

    def __post_init__(self) -> None:
        self.account = Account(name="jen", address="jen@example.org", maildir=self.folder / "mail")
        self.config = Config(
            data=self.folder, accounts=(self.account,), training=Training(min_new_mails=2)
        )
        self.link = ModelLink(self.model.path)

    def open(self) -> Store:
        """Open the store, as each thread does for itself."""
        return Store(self.folder / "jen", clock=lambda: self.time)

    def keep(self, *mails: Mail) -> None:
        """Put mails into the store."""
        with self.open() as store:
            for mail in mails:
                store.keep(Place("test", 1, store.total() + 1), mail)

    def troubles(self) -> list[Trouble]:
        """Return what the status shows."""
        with self.open() as store:
            return Troubles(store.database, store.clock).all()

    def training(self) -> TrainingJob:
        """Return the job that trains."""
        return TrainingJob(self.config, self.account, self.open, self.link)

    def trainings(self) -> int:
        """Return how many trainings the model process was asked for."""
        return sum(isinstance(one, protocol.Train) for one in self.model.asked)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Return a world."""
    with StubModel(tmp_path) as model:
        yield World(tmp_path, model)


def test_a_sync_reads_and_embeds(world: World) -> None:
    """New mail is read, embedded by the model process, and the run is recorded."""
    world.mailbox.append(Role.SENT, SENT % (1, 1))
    job = SyncJob(world.account, world.open, [Source("memory", world.mailbox)], world.link)
    assert job.attempt() is None
    with world.open() as store:
        assert store.total() == 1
        [run] = Runs(store.database, store.clock).latest()
    assert run.outcome is not None
    assert (run.kind, run.outcome["new"], run.outcome["embedded"]) == ("sync", 1, 1)


class Unreachable(MemoryConnector):
    """A mailbox that cannot be reached."""

    def state(self, role: Role) -> object:  # type: ignore[override]
        """Fail."""
        raise UnreachableError("imap.example.org", 993, f"no answer for {role}")


def test_a_sync_that_fails_is_tried_again_sooner(world: World) -> None:
    """A server that is gone is a trouble, with a wait that grows; it is over with a success."""
    broken = SyncJob(world.account, world.open, [Source("memory", Unreachable())], world.link)
    first, second = broken.attempt(), broken.attempt()
    assert first is not None
    assert second is not None
    assert 15 <= first <= 30 <= second <= 60
    [trouble] = world.troubles()
    assert (trouble.job, trouble.tries) == ("sync", 2)
    world.mailbox.append(Role.SENT, SENT % (1, 1))
    sound = SyncJob(world.account, world.open, [Source("memory", world.mailbox)], world.link)
    assert sound.attempt() is None
    assert world.troubles() == []


def test_a_training_waits_for_enough_new_mail(world: World, make_mail: Callable[..., Mail]) -> None:
    """Below the number of panza.yaml nothing is trained; after a training the count begins anew."""
    job = world.training()
    world.keep(make_mail(1))
    assert job.attempt() is None
    assert world.trainings() == 0
    world.keep(make_mail(2))
    assert job.attempt() is None
    assert world.trainings() == 1
    world.keep(make_mail(3))
    assert job.attempt() is None
    assert world.trainings() == 1


def test_a_missed_time_is_known_by_the_next_daemon(world: World) -> None:
    """What was considered is remembered; without a memory, or with one of the future, it is now."""
    began = world.time
    assert world.training().considered() == began
    world.time += timedelta(days=3)
    assert world.training().considered() == began
    world.training().attempt()
    assert world.training().considered() == began + timedelta(days=3)
    world.time = began  # the clock was set back
    assert world.training().considered() == began


def test_a_training_that_died_is_tried_again_then_told(
    world: World, make_mail: Callable[..., Mail]
) -> None:
    """A dead process is worth some tries with growing waits, and then it is only told."""
    world.keep(make_mail(1), make_mail(2))
    job = TrainingJob(world.config, world.account, world.open, ModelLink(world.folder / "none"))
    waits = [job.attempt() for _ in range(4)]
    assert [wait is not None for wait in waits] == [True, True, True, False]
    [trouble] = world.troubles()
    assert trouble.tries == 4
    assert trouble.retry is None
    with world.open() as store:
        assert store.untrained() == 2


def test_a_training_that_cannot_be_done_is_told_at_once(
    world: World, make_mail: Callable[..., Mail]
) -> None:
    """A fault that another try would meet again waits for the next regular time."""
    world.keep(make_mail(1), make_mail(2))
    world.model.fault = {"message": "Too few.", "next_step": "Add some.", "exit_code": 1}
    assert world.training().attempt() is None
    [trouble] = world.troubles()
    assert (trouble.message, trouble.next_step, trouble.retry) == ("Too few.", "Add some.", None)


def test_old_runs_and_adapters_go(world: World) -> None:
    """Tidying up drops runs of long ago and keeps the newer ones."""
    with world.open() as store, Runs(store.database, store.clock).recorded("sync"):
        pass
    world.time += RUNS_KEPT + timedelta(days=1)
    with world.open() as store, Runs(store.database, store.clock).recorded("train"):
        pass
    assert TidyJob(world.account, world.open).attempt() is None
    with world.open() as store:
        assert [run.kind for run in Runs(store.database, store.clock).newest()] == ["train"]
    assert ADAPTERS_KEPT > 1


def test_a_store_that_cannot_be_opened_is_tried_again(world: World) -> None:
    """Another process that writes just now makes the job wait, and nothing worse."""
    with world.open():
        assert TidyJob(world.account, world.open).attempt() is not None


def test_waits_grow_up_to_a_bound() -> None:
    """Waits double, are shortened by at most half, and begin anew after a success."""
    backoff = Backoff(10, 100)
    for longest in (10, 20, 40, 80, 100, 100):
        assert longest / 2 <= backoff.next() <= longest
    backoff.reset()
    assert backoff.next() <= 10
    assert 60 <= backoff.next(at_least=60) <= 100
