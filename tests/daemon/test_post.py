"""Results mailed back to the owner: at least once, and never at the cost of a draft."""

from __future__ import annotations

import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

import pytest
from fuses import Crash, Fuse, FusedConnector, fused
from submission import PASSWORD, USER, SubmissionServer

from connectors.base import (
    InsecureError,
    LoginRefusedError,
    RefusedError,
    Role,
    UnreachableError,
)
from connectors.mail import Address
from connectors.memory import MemoryConnector
from connectors.raw import message_id
from connectors.smtp import SmtpConnector, SmtpSettings
from daemon.accounts import open_smtp
from daemon.brief import Draft
from daemon.config import Account, Requests, Secret, Smtp
from daemon.errors import SecretError
from daemon.journal import Journal
from daemon.post import GIVEN_UP_AFTER
from daemon.requests import Counts, process
from daemon.store import Place, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Literal

    from connectors.base import Connector
    from connectors.mail import Mail
    from daemon.brief import Brief
    from daemon.post import Mailer

    Deliver = Literal["drafts", "reply", "both"]

DOWN = UnreachableError("mail.example.org", 465, "connection refused")
TOO_BIG = RefusedError("DATA", "552", "Too big")
LATER = RefusedError("RCPT", "450", "Greylisted")


class Writer:
    """A writer that always writes the same."""

    body = "Hi Stew,\n\nall right.\n\nJen"

    def write(self, brief: Brief) -> Draft:
        """Return the same words each time."""
        return Draft(brief.subject or "Friday", self.body)


class Box:
    """A mailer that keeps what it is given, or fails as it is told.

    Attributes:
        mails: What was sent, and what was in Drafts at that moment.
        faults: Raised by the coming calls; None lets one pass.
        always: Raised by every call.
        tried: How often it was called.
    """

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self.faults: list[Exception | None] = []
        self.always: Exception | None = None
        self.tried: list[bytes] = []
        self.watch: Callable[[], None] = lambda: None

    def send(self, recipient: str, raw: bytes) -> None:
        """Keep a message to the owner."""
        assert recipient == "jen@example.org"
        self.tried.append(raw)
        self.watch()
        fault = self.always or (self.faults.pop(0) if self.faults else None)
        if fault:
            raise fault
        self.mails.append(raw)

    def read(self) -> list[Any]:
        """Return what was sent."""
        return [message_from_bytes(raw, policy=policy.default) for raw in self.mails]


@dataclass
class World:
    """Jen's account at a time that the test moves."""

    folder: Path
    known: list[Mail]
    deliver: Deliver = "both"
    time: datetime = datetime(2024, 3, 5, 12, tzinfo=UTC)
    box: Box = field(default_factory=Box)

    def __post_init__(self) -> None:
        self.mailbox = MemoryConnector(now=self.clock)
        self.account = Account(
            name="jen", address="jen@example.org", full_name="Jen Doe", maildir=self.folder / "mail"
        )
        self.numbers = 0

    def clock(self) -> datetime:
        """Return the time."""
        return self.time

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store as a new process would."""
        with Store(self.folder / "data", clock=self.clock) as store:
            for number, mail in enumerate(self.known):
                store.keep(Place("test", 1, number + 1), mail)
            yield store

    def look(self, mailer: Mailer | None = None, mailbox: Connector | None = None) -> Counts:
        """Look at the requests folder once."""
        with self.store() as store:
            return self.look_with(store, mailer, mailbox)

    def look_with(
        self, store: Store, mailer: Mailer | None = None, mailbox: Connector | None = None
    ) -> Counts:
        """Look at the requests folder once, with an open store."""
        return process(
            self.account,
            mailbox or self.mailbox,
            store,
            Writer(),
            self.clock,
            settings=Requests(deliver=self.deliver),
            mailer=mailer or self.box,
        )

    def ask(self, text: str = "Tell Stew yes", **fields: str) -> int:
        """File a request."""
        self.numbers += 1
        message = EmailMessage()
        message["From"] = "Jen Doe <jen@example.org>"
        message["To"] = "jen+panza@example.org"
        message["Message-ID"] = f"<r{self.numbers}@example.org>"
        message["Date"] = "Tue, 05 Mar 2024 11:00:00 +0000"
        for name, value in fields.items():
            message[name.replace("_", "-")] = value
        message.set_content(text)
        uid = self.mailbox.append(Role.REQUESTS, message.as_bytes(policy=policy.SMTP))
        assert uid
        return uid

    def flags(self, uid: int) -> frozenset[str]:
        """Return the flags of a message in the requests folder."""
        (found,) = [m.flags for m in self.mailbox.fetch(Role.REQUESTS) if m.uid == uid]
        return found

    def drafts(self) -> list[bytes]:
        """Return the messages in Drafts."""
        return [m.raw for m in self.mailbox.fetch(Role.DRAFTS)]

    def notes(self) -> list[Any]:
        """Return Panza's notes in the requests folder."""
        found = (m.raw for m in self.mailbox.fetch(Role.REQUESTS))
        messages = [message_from_bytes(raw, policy=policy.default) for raw in found]
        return [m for m in messages if m["X-Panza"]]

    def reasons(self) -> list[str]:
        """Return the reasons in the journal, the newest request first."""
        with self.store() as store:
            return [one.reason for one in Journal(store.database, self.clock).newest()]


@pytest.fixture
def world(tmp_path: Path, make_mail: Callable[..., Mail]) -> World:
    """Return an account whose owner has written to Stew."""
    return World(tmp_path, [make_mail(1, to=(Address("Stew Pidd", "stew@example.com"),))])


def _text(message: Any) -> str:  # noqa: ANN401 - the standard library's message
    return str(message.get_content()).replace("\r\n", "\n")


# What is mailed


@pytest.mark.parametrize("deliver", ["both", "reply"])
def test_the_result_is_mailed_back_as_a_reply(world: World, deliver: Deliver) -> None:
    """From and to the owner, in the request's thread; recipients and subject on top of the text."""
    world.deliver = deliver
    uid = world.ask()
    assert world.look() == Counts(new=1, drafted=1, mailed=1)
    (mail,) = world.box.read()
    assert str(mail["From"]) == "Panza <jen@example.org>"
    assert str(mail["To"]) == "Jen Doe <jen@example.org>"
    assert str(mail["Subject"]) == "Friday"
    assert str(mail["In-Reply-To"]) == "<r1@example.org>"
    assert str(mail["References"]) == "<r1@example.org>"
    assert mail["X-Panza"] == "reply"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert _text(mail) == (
        "To: Stew Pidd <stew@example.com>\nSubject: Friday\n\nHi Stew,\n\nall right.\n\nJen\n"
    )
    assert world.flags(uid) == {"\\Answered"}
    assert len(world.drafts()) == {"both": 1, "reply": 0}[deliver]
    assert world.look() == Counts()


def test_without_a_mailer_or_a_wish_nothing_is_mailed(world: World) -> None:
    """deliver: drafts needs no mail, and callers without a mailer get drafts."""
    world.deliver = "drafts"
    world.ask()
    assert world.look() == Counts(new=1, drafted=1)
    world.deliver = "reply"
    world.ask()
    with world.store() as store:
        settings = Requests(deliver="reply")
        process(world.account, world.mailbox, store, Writer(), world.clock, settings=settings)
    assert world.box.tried == []
    assert len(world.drafts()) == 2


@pytest.mark.parametrize("deliver", ["both", "reply"])
def test_the_reply_tells_what_the_draft_lacks(world: World, deliver: Deliver) -> None:
    """An unknown recipient leaves To empty, and the mail itself says why."""
    world.deliver = deliver
    world.ask("Tell Gregor yes")
    world.look()
    text = _text(world.box.read()[0])
    assert text.startswith("To:\nSubject: Friday\nNote: ")
    assert 'nobody called "Gregor"' in text
    assert len(world.notes()) == {"both": 1, "reply": 0}[deliver]


def test_a_failure_is_told_by_mail_as_well(world: World) -> None:
    """The note stands beside the request and goes by mail, as two messages, once each."""
    world.ask("")
    assert world.look() == Counts(new=1, parked=1, mailed=1)
    (note,), (mail,) = world.notes(), world.box.read()
    assert _text(mail) == _text(note)
    assert "It has no text" in _text(mail)
    assert mail["X-Panza"] == note["X-Panza"] == "note"
    assert mail["Message-ID"] != note["Message-ID"]
    assert world.look() == Counts()
    assert len(world.box.mails) == 1


def test_a_reply_holds_the_quoted_mail(world: World) -> None:
    """The text is the draft's, with the mail that it answers."""
    text = "Say no.\n\nOn 2024-03-04 at 10:00, Stew Pidd <stew@example.com> wrote:\n> Thursday?\n"
    world.ask(text, Subject="Re: Thursday", In_Reply_To="<a@example.com>")
    world.look()
    (mail,) = world.box.read()
    assert str(mail["Subject"]) == "Re: Thursday"
    assert _text(mail).endswith("stew@example.com> wrote:\n> Thursday?\n")


def test_nothing_that_panza_mails_becomes_a_request(world: World) -> None:
    """Filed into the folder by a server's filter, with the marks of transport or without."""
    world.ask()
    world.ask("")
    world.look()
    world.mailbox.append(Role.SENT, world.box.mails[0])
    for raw in world.box.mails:
        for top in (b"", b"Received: from a by b\r\n"):
            world.mailbox.append(Role.REQUESTS, top + raw)
    assert world.look() == Counts()
    assert len(world.box.mails) == 2


def test_an_answer_to_a_mailed_reply_is_a_new_request(world: World) -> None:
    """She answers Panza's mail with better words: these start no thread with that mail."""
    world.deliver = "reply"
    world.ask("Tell Gregor yes")
    world.look()
    about = str(world.box.read()[0]["Message-ID"])
    world.ask("To: Stew\nyes", In_Reply_To=about, Subject="Re: Friday")
    world.look()
    text = _text(world.box.read()[1])
    assert text.startswith("To: Stew Pidd <stew@example.com>\nSubject: Friday\n")


# A mail server that does not answer


def test_a_server_that_is_down_holds_up_no_draft(world: World) -> None:
    """All drafts are in Drafts before the first mail is tried, and one failure ends the mail."""
    for _ in range(3):
        world.ask()
    seen: list[int] = []
    world.box.always = DOWN
    world.box.watch = lambda: seen.append(len(world.drafts()))
    counts = world.look()
    assert (counts.drafted, counts.mailed, counts.unmailed) == (3, 0, 3)
    assert "connection refused" in counts.trouble
    assert seen == [3]
    assert counts.retry == world.time + timedelta(minutes=1)
    world.box.always = None
    assert world.look() == Counts(unmailed=3, retry=counts.retry)
    assert len(world.box.tried) == 1
    world.time += timedelta(minutes=1)
    assert world.look() == Counts(mailed=3)
    assert len(world.box.mails) == 3


@pytest.mark.parametrize(
    ("fault", "minutes"),
    [
        (LoginRefusedError("mail.example.org", "jen", "535 no"), [0, 5, 10, 15, 23, 39, 71, 131]),
        (InsecureError("mail.example.org", 465, "no TLS"), [0, 5, 10, 15, 23, 39, 71, 131]),
        (SecretError("env X", "the variable is not set"), [0, 5, 10, 15, 23, 39, 71, 131]),
        (DOWN, [0, 1, 3, 7, 15, 31, 63, 123]),
    ],
    ids=["login", "tls", "secret", "down"],
)
def test_a_fault_of_the_server_is_met_once_and_not_once_for_each_mail(
    world: World, fault: Exception, minutes: list[int]
) -> None:
    """A wrong password is not tried again and again, however many mails wait; the pause grows."""
    for _ in range(8):
        world.ask()
    world.box.always = fault
    begun, tries, told = world.time, [], []
    world.box.watch = lambda: tries.append((world.time - begun) // timedelta(minutes=1))
    with world.store() as store:
        for minute in range(180):
            world.time = begun + timedelta(minutes=minute)
            told.append(world.look_with(store).retry)
    assert tries == minutes
    assert told[0] == begun + timedelta(minutes=minutes[1])
    world.box.always = None
    world.time += timedelta(hours=1)
    assert world.look() == Counts(mailed=8)
    world.box.always = fault
    world.ask()
    again = world.time + timedelta(minutes=minutes[1])
    assert world.look().retry == again


def test_a_server_that_fails_for_days_keeps_no_draft_from_its_owner(world: World) -> None:
    """All that waits since long is given up, though the server was not asked for each."""
    world.deliver = "reply"
    for _ in range(20):
        world.ask()
    world.box.always = DOWN
    world.look()
    world.time += GIVEN_UP_AFTER
    world.look()
    assert world.look().unmailed == 0
    assert len(world.drafts()) == 20
    assert len(world.box.tried) == 2


def test_a_machine_that_slept_for_days_gives_up_nothing_untried(world: World) -> None:
    """The first fault in a long time gives up the one message that met it."""
    for _ in range(3):
        world.ask()
    with world.store() as store:  # stopped before it could mail
        settings, answers = Requests(deliver="both"), [True, True, True]
        process(
            world.account,
            world.mailbox,
            store,
            Writer(),
            world.clock,
            settings=settings,
            mailer=world.box,
            proceed=lambda: answers.pop() if answers else False,
        )
    world.time += GIVEN_UP_AFTER + timedelta(hours=1)
    world.box.always = DOWN
    assert world.look().unmailed == 2


def test_mail_waits_longer_each_time_and_stays_the_same(world: World) -> None:
    """Later looks try again at growing intervals, byte for byte, under the same Message-ID."""
    world.ask()
    world.box.always = LATER
    tries = []
    begun = world.time
    world.box.watch = lambda: tries.append((world.time - begun) // timedelta(minutes=1))
    with world.store() as store:
        for minute in range(190):
            world.time = begun + timedelta(minutes=minute)
            world.look_with(store)
    assert tries == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    assert len(set(world.box.tried)) == 1
    world.box.always = None
    world.time += timedelta(hours=2)
    assert world.look() == Counts(mailed=1)


@pytest.mark.parametrize(
    "fault", [DOWN, LATER, SecretError("env X", "the variable is not set")], ids=str
)
def test_a_reply_is_given_up_after_some_days(world: World, fault: Exception) -> None:
    """The draft that it was to replace goes into Drafts after all, and a note says so."""
    world.deliver = "reply"
    uid = world.ask()
    world.box.always = fault
    counts = world.look()
    assert (counts.drafted, counts.waiting, counts.unmailed) == (0, 1, 1)
    assert world.flags(uid) == frozenset()
    world.time += GIVEN_UP_AFTER - timedelta(minutes=10)
    assert world.look().waiting == 1
    world.time += timedelta(hours=2)
    counts = world.look()
    assert (counts.drafted, counts.waiting, counts.unmailed) == (1, 0, 0)
    assert len(world.drafts()) == 1
    assert world.flags(uid) == {"\\Answered"}
    (note,) = world.notes()
    assert "could not be mailed to you" in _text(note)
    assert str(fault) in _text(note).replace("\n", " ")
    assert "could not be mailed" in world.reasons()[0]
    world.box.always = None
    assert world.look() == Counts()


def test_what_was_to_be_mailed_beside_a_draft_is_given_up_with_a_reason(world: World) -> None:
    """The request is done long before; the journal says what became of the mail."""
    world.ask()
    world.box.always = DOWN
    assert world.look().drafted == 1
    world.time += GIVEN_UP_AFTER + timedelta(hours=2)
    assert world.look().unmailed == 0
    assert "could not be mailed" in world.reasons()[0]
    assert world.notes() == []


def test_a_lasting_refusal_is_not_tried_again(world: World) -> None:
    """A message that the server will never take is given up at once."""
    world.deliver = "reply"
    world.ask()
    world.box.faults = [TOO_BIG]
    counts = world.look()
    assert (counts.drafted, counts.unmailed) == (1, 0)
    assert len(world.drafts()) == 1
    assert "Too big" in _text(world.notes()[0])


def test_a_notice_of_a_request_that_was_taken_up_again_is_not_sent(world: World) -> None:
    """What is no longer true is not mailed."""
    uid = world.ask()
    world.mailbox.fail("append", RefusedError("APPEND", "OVERQUOTA", "full"))
    world.box.always = DOWN
    assert world.look().parked == 1
    (request,) = [m.raw for m in world.mailbox.fetch(Role.REQUESTS) if m.uid == uid]
    world.mailbox.delete(Role.REQUESTS, uid)
    world.mailbox.append(Role.REQUESTS, request)
    world.box.always = None
    world.time += timedelta(hours=1)
    assert world.look().drafted == 1
    assert [mail["X-Panza"] for mail in world.box.read()] == ["reply"]


def test_the_same_failure_is_told_again_when_it_happens_again(world: World) -> None:
    """Filed once more and failed once more: a second notice."""
    uid = world.ask("")
    world.look()
    (request,) = [m.raw for m in world.mailbox.fetch(Role.REQUESTS) if m.uid == uid]
    world.mailbox.delete(Role.REQUESTS, uid)
    world.mailbox.append(Role.REQUESTS, request)
    assert world.look() == Counts(parked=1, mailed=1)
    assert len(world.box.mails) == 2


def test_a_changed_wish_leaves_nothing_behind(world: World) -> None:
    """What waited to be mailed when the owner changed to drafts goes into Drafts."""
    world.deliver = "reply"
    uid = world.ask()
    world.box.always = DOWN
    world.look()
    world.deliver = "drafts"
    assert world.look() == Counts(drafted=1)
    assert len(world.drafts()) == 1
    assert world.flags(uid) == {"\\Answered"}


def test_mailing_stops_when_it_is_time_to_stop(world: World) -> None:
    """No mail is begun when the caller wants the look to end."""
    world.ask()
    answers = [True, False]
    with world.store() as store:
        counts = process(
            world.account,
            world.mailbox,
            store,
            Writer(),
            world.clock,
            settings=Requests(deliver="both"),
            mailer=world.box,
            proceed=lambda: answers.pop(0) if answers else False,
        )
    assert (counts.drafted, counts.mailed, counts.unmailed) == (1, 0, 1)
    assert world.box.tried == []


# Crashes


class FusedBox:
    """A mailer whose caller may die before and after each mail."""

    def __init__(self, box: Box, fuse: Fuse) -> None:
        self.box, self.fuse = box, fuse

    def send(self, recipient: str, raw: bytes) -> None:
        """Pass on."""
        self.fuse.burn()
        self.box.send(recipient, raw)
        self.fuse.burn()


@pytest.mark.parametrize("deliver", ["both", "reply"])
def test_a_crash_at_any_moment_loses_no_mail(
    tmp_path: Path, make_mail: Callable[..., Mail], deliver: Deliver
) -> None:
    """Killed anywhere and run again: each mail at least once under one name, each draft once."""
    known = [make_mail(1, to=(Address("Stew Pidd", "stew@example.com"),))]

    def run(name: str, moment: int | None) -> tuple[World, Fuse, int, int]:
        world = World(tmp_path / name, known, deliver)
        good, bad = world.ask(), world.ask("")
        fuse = Fuse(moment)
        with world.store() as store, suppress(Crash), fused(store, fuse):
            world.look_with(store, FusedBox(world.box, fuse), FusedConnector(world.mailbox, fuse))
        return world, fuse, good, bad

    moments = run("all", None)[1].passed
    assert moments > 50
    for moment in range(deliver == "both", moments, 3):
        world, _, good, bad = run(str(moment), moment)
        world.time += timedelta(minutes=2)
        world.look()
        assert len(world.drafts()) == {"both": 1, "reply": 0}[deliver], moment
        assert world.flags(good) == {"\\Answered"}, moment
        assert world.flags(bad) == {"\\Flagged"}, moment
        assert len({message_id(raw) for raw in world.box.mails}) == 2, moment
        assert len(world.box.mails) <= 3, moment
        assert len(set(world.box.mails)) == 2, moment
        world.time += timedelta(days=2)
        world.look()
        sent = len(world.box.mails)
        assert world.look() == Counts(), moment
        assert len(world.box.mails) == sent, moment


# By a real server


def test_it_goes_by_smtp(world: World, certificate: tuple[Path, Path]) -> None:
    """The account's own server takes the result, to the owner's address alone."""
    port = _free_port()
    with SubmissionServer(port, certificate) as server:
        settings = SmtpSettings(
            "localhost", USER, PASSWORD, port, security="starttls", ca_file=certificate[0]
        )
        world.ask("To: Stew, all@example.com\nCc: eve@example.com\nwe are open")
        counts = world.look(SmtpConnector(settings, ["jen@example.org"]))
    assert counts.mailed == 1
    (message,) = server.script.accepted
    assert (message.sender, message.recipients) == ("jen@example.org", ("jen@example.org",))
    assert b"all@example.com" in message.raw


def test_an_accounts_smtp_server_is_reached_as_it_is_configured(
    certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Host, port, login and security come from panza.yaml; every address of hers may be mailed."""
    port = _free_port()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setenv("PANZA_TEST_SMTP", PASSWORD)
    smtp = Smtp(
        host="localhost",
        port=port,
        security="starttls",
        user=USER,
        password=Secret(env="PANZA_TEST_SMTP"),
    )
    account = Account(
        name="jen",
        address="jen@example.org",
        aliases=("jen.doe@example.org",),
        maildir=tmp_path,
        smtp=smtp,
    )
    mailer = open_smtp(account)
    assert mailer
    with SubmissionServer(port, certificate) as server:
        mailer.send("jen.doe@example.org", b"Subject: x\r\n\r\ny\r\n")
        assert server.script.logins == [(USER, PASSWORD, "PLAIN")]
    (message,) = server.script.accepted
    assert (message.sender, message.recipients) == ("jen@example.org", ("jen.doe@example.org",))
    monkeypatch.delenv("PANZA_TEST_SMTP")
    with SubmissionServer(port, certificate), pytest.raises(SecretError):
        mailer.send("jen@example.org", b"x")
    assert open_smtp(account.model_copy(update={"smtp": None})) is None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
