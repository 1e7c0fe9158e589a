"""The mail about a training: when it comes, what it holds, and that it comes once."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any

import pytest
from faultproxy import Fault, FaultProxy
from fuses import Crash, Fuse, FusedConnector, fused
from jens_mail import REQUESTS, imap
from stubmodel import StubModel

from connectors.base import Connector, RefusedError, Role, UnreachableError
from connectors.memory import MemoryConnector
from daemon.brief import Draft
from daemon.compose import is_note
from daemon.config import Account, Config, Requests, Training
from daemon.database import Database
from daemon.jobs import TrainingJob
from daemon.journal import Journal, Kind
from daemon.model_link import ModelLink
from daemon.report import render
from daemon.report_mail import Reports, mail
from daemon.requests import MAX_REPORT_TRIES, REPORT_PAUSE, Counts, process
from daemon.schema import MIGRATIONS
from daemon.store import Store
from daemon.trust import Owner
from trainer.adapters import Manifest, Registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from faultproxy import Server
    from imapclient import IMAPClient

    from daemon.brief import Brief

START = datetime(2026, 11, 22, 3, tzinfo=UTC)
DAY = timedelta(days=1)
LOST = UnreachableError("imap.example.org", 993, "the connection broke")
FULL = RefusedError("APPEND", "OVERQUOTA", "no room")
SAMPLES = [{"instruction": "Ask Stew", "own": "Grüße, Stew?", "drafts": {"candidate": "Stew?"}}]
REQUEST = (
    b"From: Jen Doe <jen@example.org>\r\nTo: jen+panza@example.org\r\n"
    b"Message-ID: <r1@example.org>\r\nDate: Sun, 22 Nov 2026 02:00:00 +0000\r\n\r\n"
    b"To: stew@example.com\r\nsay yes\r\n"
)


class StubWriter:
    """Writes the same words each time."""

    def write(self, brief: Brief) -> Draft:
        """Write."""
        del brief
        return Draft("Yes", "Hello,\n\nyes.\n\nJen")


@dataclass
class World:
    """Jen's account, its adapters, and a time that tests move."""

    folder: Path
    wanted: str = "each"
    time: datetime = START

    def __post_init__(self) -> None:
        self.mailbox: Any = MemoryConnector(now=self.clock)
        self.account = Account(
            name="jen", address="jen@example.org", full_name="Jen Doe", maildir=self.folder / "mail"
        )

    def clock(self) -> datetime:
        """Return the time."""
        return self.time

    @property
    def settings(self) -> Requests:
        """What panza.yaml says."""
        return Requests.model_validate({"report": self.wanted})

    def store(self) -> Store:
        """Open the store as a new process would."""
        return Store(self.folder / "jen", clock=self.clock)

    def train(self, verdict: str = "in use: it is the best", page: str | None = None) -> Manifest:
        """Do what `panza train` does, apart from all the work."""
        with self.store() as store:
            Reports(store, self.settings.report).begin()
        return self.add(verdict, page)

    def add(self, verdict: str = "in use: it is the best", page: str | None = None) -> Manifest:
        """Store an adapter with a report."""
        registry = Registry(self.folder / "jen" / "adapters")
        manifest = Manifest(
            id=registry.new_id(self.time, "rosa"),
            created=self.time.isoformat(),
            base="embedded",
            base_hash="ab" * 32,
            method="rosa",
            counts={"examples": 40, "held_out": 6, "left_out": {"one-liner": 3}},
            scores={"base": {"perplexity": 41.3}, "candidate": {"perplexity": 18.9}},
            intervals={"candidate": {"perplexity": [17.0, 20.0]}},
            verdict=verdict,
        )

        def report(one: Manifest) -> str:
            return render(one, SAMPLES) if page is None else page

        return registry.add(manifest, lambda file: file.write_bytes(b"weights") and None, report)

    def look(self, connector: Connector | None = None, store: Store | None = None) -> Counts:
        """Look at the requests folder once, as the daemon does."""
        if store is None:
            with self.store() as opened:
                return self.look(connector, opened)
        return process(
            self.account,
            connector or self.mailbox,
            store,
            StubWriter(),
            self.clock,
            settings=self.settings,
        )

    def mails(self) -> list[Any]:
        """Return the reports in the folder."""
        return [
            message_from_bytes(one.raw, policy=policy.default)
            for one in self.mailbox.fetch(Role.REQUESTS)
            if b"X-Panza: report" in one.raw
        ]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return an account whose owner wants a mail after each training."""
    return World(tmp_path)


def texts(message: Any) -> tuple[str, str]:  # noqa: ANN401 - the standard library's message
    """Return a message's plain text, and its page or ""."""
    html = message.get_body(["html"])
    plain = message.get_body(["plain"]).get_content()
    return plain, html.get_content() if html else ""


# What it holds


def test_a_training_by_hand_is_mailed_at_the_next_look(world: World) -> None:
    """One mail from Panza to her, marked as Panza's, as text and as the page in the folder."""
    manifest = world.train()
    assert world.look() == Counts()
    [message] = world.mails()
    assert str(message["From"]) == "Panza <jen@example.org>"
    assert str(message["To"]) == "Jen Doe <jen@example.org>"
    assert str(message["Subject"]) == "Panza: The new adapter is in use"
    assert str(message["Auto-Submitted"]) == "auto-generated"
    assert is_note(str(message["Message-ID"]).strip("<>"))
    assert message.get_content_type() == "multipart/alternative"
    plain, html = texts(message)
    path = world.folder / "jen" / "adapters" / manifest.id / "report.html"
    assert html.replace("\r\n", "\n").strip() == path.read_text(encoding="utf-8").strip()
    for told in (
        "The new adapter is in use.\r\n\r\nIt is the best.",
        "panza adapters rollback",
        "learned from 40 of your mails and was judged by 6 newer ones",
        "  The base model: 41.3\r\n  The new adapter: 18.9 (17.0 to 20.0)",
        "  3 one-liner",
        f"The whole report: {path}",
    ):
        assert told in plain, told
    assert "Stew" not in plain
    assert world.look() == Counts()
    assert len(world.mails()) == 1


def test_the_same_training_gives_the_same_bytes() -> None:
    """Nothing in the mail is drawn by chance, and its Message-ID comes from the adapter's id."""
    owner = Owner("Jen Doe", ("jen@example.org",), folder="Panza requests")
    manifest = Manifest("20261122-030000-rosa", "", "embedded", "", "rosa", verdict="in use: yes")

    def made(one: Manifest, date: datetime = START) -> bytes:
        return mail(owner, [one], html=render(one, SAMPLES), path=None, date=date)

    assert made(manifest) == made(manifest)
    assert made(manifest).isascii()
    _, _, body = made(manifest).partition(b"\r\n\r\n")
    assert max(map(len, body.split(b"\r\n"))) <= 76
    mails = (made(manifest), made(manifest, START + DAY), made(replace(manifest, id="other")))
    names = [message_from_bytes(one)["Message-ID"] for one in mails]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    "page",
    [
        '<img src="http://x.example/?told">',
        "<!doctype html>\n<html><body><p onclick=x>x</p></body></html>\n",
        "x" * (3 << 20),
    ],
)
def test_a_page_that_could_load_something_is_not_handed_on(
    world: World, page: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The model process reads what strangers write; what it makes of that is not trusted."""
    world.train(page=page)
    world.look()
    [message] = world.mails()
    plain, html = texts(message)
    assert not html
    assert "The new adapter is in use." in plain
    assert "The whole report" not in plain
    assert "x.example" not in caplog.text


def test_a_report_that_was_changed_since_is_not_handed_on(world: World) -> None:
    """The manifest has its hash; the mail then is the text alone."""
    manifest = world.train()
    path = world.folder / "jen" / "adapters" / manifest.id / "report.html"
    path.write_text(path.read_text(encoding="utf-8").replace("Stew", "Anna"), encoding="utf-8")
    world.look()
    assert [texts(one)[1] for one in world.mails()] == [""]


def test_an_adapter_whose_manifest_is_damaged_holds_nothing_up(world: World) -> None:
    """The others are reported, and it is not tried again."""
    bad = world.train()
    (world.folder / "jen" / "adapters" / bad.id / "manifest.json").write_text("{}")
    world.time += DAY
    good = world.train()
    for _ in range(2):
        world.look()
        [message] = world.mails()
        assert good.id in texts(message)[0]


# When it comes


def test_nothing_comes_unless_it_is_wanted(world: World) -> None:
    """It is off by default; what was trained before she wanted it is not reported later."""
    assert Requests().report == "off"
    world.wanted = "off"
    world.train()
    world.look()
    world.wanted = "each"
    world.look()
    assert world.mails() == []
    world.train("kept aside: it is worse")
    world.look()
    assert [str(one["Subject"]) for one in world.mails()] == [
        "Panza: The new adapter was kept aside"
    ]


def test_each_training_has_its_mail(world: World) -> None:
    """Also where several were done while the daemon was off, in their order."""
    made = [world.train().id for _ in range(3)]
    world.look()
    plain = [texts(one)[0] for one in world.mails()]
    assert len(plain) == 3
    assert all(f"/{one}/" in text for one, text in zip(made, plain, strict=True))


def test_a_week_has_one_mail_about_all_its_trainings(world: World) -> None:
    """The newest one's report and a line for each other; none while nothing was trained."""
    world.wanted = "weekly"
    world.look()
    world.time += 30 * DAY
    world.look()
    assert world.mails() == []
    first = world.train("kept aside: too few mails")
    second = world.train()
    world.look()
    [message] = world.mails()
    for text in texts(message):
        assert "Trained since the last report as well" in text
        assert f"22 December 2026: {first.id} kept aside: too few mails" in text
    assert second.id in texts(message)[1]
    world.time += 6 * DAY
    third = world.train()
    world.look()
    assert len(world.mails()) == 1
    world.time += DAY
    world.look()
    world.time += 8 * DAY
    world.look()
    [_, message] = world.mails()
    assert third.id in texts(message)[0]
    assert first.id not in texts(message)[0]


def test_a_clock_that_was_put_back_makes_no_weeks_of_silence(world: World) -> None:
    """A mail that seems to have been sent in the future counts as long ago."""
    world.wanted = "weekly"
    world.train()
    world.look()
    world.time -= 100 * DAY
    world.train()
    world.look()
    assert len(world.mails()) == 2


def test_what_the_daemon_trains_is_mailed_too(world: World) -> None:
    """A training of the schedule, even one that ends before the first look, is reported."""
    with StubModel(world.folder) as model:
        config = Config(
            data=world.folder,
            accounts=(world.account,),
            training=Training(min_new_mails=0),
            requests=world.settings,
        )
        job = TrainingJob(config, world.account, world.store, ModelLink(model.path))
        assert job.attempt() is None
    world.add()  # what the real model process would have done meanwhile
    world.look()
    assert len(world.mails()) == 1


def test_who_wants_none_any_more_gets_none(world: World) -> None:
    """What waits in the outbox when it is turned off is dropped."""
    world.train()
    world.mailbox.fail("append", FULL)
    world.look()
    world.wanted = "off"
    world.look()
    world.time += DAY
    world.wanted = "each"
    world.look()
    assert world.mails() == []


# That it comes once


@pytest.mark.parametrize("arrived", [False, True])
def test_an_answer_that_got_lost_makes_no_second_mail(world: World, arrived: bool) -> None:  # noqa: FBT001
    """The folder tells whether it arrived, as for drafts and notes."""
    world.train()
    world.mailbox.fail("append", LOST, done=arrived)
    with pytest.raises(UnreachableError):
        world.look()
    for _ in range(2):
        world.look()
        assert len(world.mails()) == 1


def test_killed_at_any_moment_it_comes_once(tmp_path: Path) -> None:
    """Before and after each statement, commit and call of the look that tells of a training."""
    first = World(tmp_path / "first")
    first.look()
    first.train()
    moment, died = 0, True
    while died:
        world = World(tmp_path / str(moment))
        shutil.copytree(first.folder, world.folder)
        fuse = Fuse(moment)
        with world.store() as store, fused(store, fuse) as dying, suppress(Crash):
            world.look(FusedConnector(world.mailbox, fuse), dying)
        died = fuse.passed > moment
        with world.store() as store:
            world.look(store=store)
            world.look(store=store)
            assert len(world.mails()) == 1, moment
            world.time += 2 * DAY
            world.look(store=store)
            assert store.database.rows("SELECT * FROM outbox") == [], moment
        moment += 1
    assert moment > 20


def test_a_full_mailbox_gets_it_later(world: World) -> None:
    """It holds up no request, is tried once an hour, and given up in the end."""
    world.train()
    world.mailbox.append(Role.REQUESTS, REQUEST)
    world.mailbox.fail("append", FULL, skip=1)
    assert world.look().drafted == 1
    assert world.look() == Counts()
    assert world.mails() == []
    world.time += REPORT_PAUSE
    world.look()
    assert len(world.mails()) == 1

    world.train()
    with world.store() as store:
        for _ in range(MAX_REPORT_TRIES):
            world.mailbox.fail("append", FULL)
            world.look(store=store)
            world.time += REPORT_PAUSE
        world.look(store=store)
    assert len(world.mails()) == 1


def test_a_report_starts_nothing(world: World) -> None:
    """Wherever it is put, it is neither a request nor refused, and its owner need not care."""
    world.train()
    world.look()
    [sent] = [one.raw for one in world.mailbox.fetch(Role.REQUESTS)]
    stripped = sent.replace(b"X-Panza: report\r\n", b"")
    for raw in (sent, stripped, b"Received: from mx.example.org\r\n" + sent):
        world.mailbox.append(Role.REQUESTS, raw, flags=["\\Seen"])
    assert world.look() == Counts()
    assert list(world.mailbox.fetch(Role.DRAFTS)) == []


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.DROP])
def test_on_a_server_whose_answer_gets_lost(
    world: World,
    demo_server: Server,
    emptied: Callable[..., AbstractContextManager[IMAPClient]],
    fault: Fault,
) -> None:
    """One mail in the folder, unread, with its page whole, and nothing in INBOX."""
    with (
        emptied(demo_server, "Drafts", "Sent", REQUESTS) as client,
        FaultProxy(demo_server) as proxy,
    ):
        world.train()
        proxy.on("APPEND", fault)
        with imap(proxy, 10) as connector:
            with pytest.raises(UnreachableError):
                world.look(connector)
            for _ in range(2):
                assert world.look(connector) == Counts()
        assert client.select_folder("INBOX", readonly=True)[b"EXISTS"] == 0
        assert client.select_folder(REQUESTS, readonly=True)[b"EXISTS"] == 1
        [found] = client.fetch(client.search(), ["BODY.PEEK[]", "FLAGS"]).values()
    assert b"\\Seen" not in found[b"FLAGS"]
    _, html = texts(message_from_bytes(found[b"BODY[]"], policy=policy.default))
    assert "Grüße, Stew?" in html


def test_an_outbox_of_before_reports_is_taken_over(tmp_path: Path) -> None:
    """Drafts and notes that waited when Panza was updated still wait."""
    before = MIGRATIONS[: MIGRATIONS.index(_report_migration())]
    with Database(tmp_path, before) as database:
        database.execute(
            "INSERT INTO requests VALUES ('k', 'r', 1, 1, '', 'generated', '', 0, 0, 0, 0, '', '')"
        )
        database.execute(
            "INSERT INTO outbox VALUES ('d', 'k', 'draft', x'61', 'generated', 1, 2, 3, 4)"
        )
    with Store(tmp_path) as store:
        journal = Journal(store.database, store.clock)
        [parcel] = journal.parcels("k", Kind.DRAFT)
        assert (parcel.message_id, parcel.raw, parcel.attempts) == ("d", b"a", 3)
        assert (parcel.uidvalidity, parcel.uidnext) == (1, 2)
        assert journal.reports() == []


def _report_migration() -> str:
    [found] = [one for one in MIGRATIONS if "'report'" in one]
    return found
