"""What every place for mail promises; one class of tests, inherited for each back-end."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Protocol

import pytest

from connectors.base import (
    BEGINNING,
    LARGEST,
    Connector,
    Cursor,
    CursorInvalidError,
    FolderMissingError,
    ReadOnlyError,
    RefusedError,
    Role,
    UnreachableError,
)
from connectors.imap import ImapConnector, ImapSettings
from connectors.maildir import MaildirConnector
from connectors.mbox import MboxConnector
from connectors.memory import MemoryConnector
from connectors.raw import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from imapclient import IMAPClient

    Emptied = Callable[..., AbstractContextManager[IMAPClient]]

_NAMES = {Role.SENT: "Sent", Role.DRAFTS: "Drafts", Role.REQUESTS: "Panza requests"}


def mail(number: int, body: str = "Until Thursday.\n") -> bytes:
    """Return a small message with a Message-ID of its own."""
    return (
        f"From: Jen Doe <jen@example.org>\nTo: stew@example.org\nSubject: Mail {number}\n"
        f"Date: Mon, 06 Jan 2025 10:00:00 +0100\nMessage-ID: <{number}@example.org>\n\n{body}"
    ).encode()


class Server(Protocol):
    """An IMAP server and the one user it knows."""

    host: str
    port: int
    user: str
    password: str


class Place(ABC):
    """A back-end under test, and the hands to set it up."""

    @abstractmethod
    def open(self, *, read_only: bool = False) -> Connector:
        """Return a new connector to the same mail."""

    @abstractmethod
    def fill(self, messages: Sequence[bytes]) -> None:
        """Let these messages arrive in Sent."""

    @abstractmethod
    def renumber(self) -> None:
        """Give Sent another UIDVALIDITY."""

    @abstractmethod
    def lose(self, role: Role) -> None:
        """Take the role's folder away."""


@dataclass
class MemoryPlace(Place):
    """A memory, reached by a connector of its own."""

    connector: MemoryConnector = field(default_factory=lambda: MemoryConnector(roles=[Role.SENT]))

    def open(self, *, read_only: bool = False) -> Connector:
        """Return a new connector."""
        made = self.connector.another()
        made.read_only = read_only
        return made

    def fill(self, messages: Sequence[bytes]) -> None:
        """Append."""
        for raw in messages:
            self.connector.append(Role.SENT, raw)

    def renumber(self) -> None:
        """Use the hook."""
        self.connector.change_uidvalidity(Role.SENT)

    def lose(self, role: Role) -> None:
        """Use the hook."""
        self.connector.lose(role)


@dataclass
class MaildirPlace(Place):
    """A Maildir++ in a temporary folder, the UID lists beside it."""

    root: Path
    state: Path

    def open(self, *, read_only: bool = False) -> Connector:
        """Return a new connector."""
        return MaildirConnector(self.root, folders=_NAMES, state=self.state, read_only=read_only)

    def fill(self, messages: Sequence[bytes]) -> None:
        """Deliver into new/, as another program would."""
        new = self.root / ".Sent/new"
        start = len(list(new.iterdir()))
        for number, raw in enumerate(messages, start=start):
            (new / f"{1_700_000_000 + number}.{number}.host").write_bytes(raw)

    def renumber(self) -> None:
        """Lose the UID list."""
        for path in self.state.iterdir():
            path.unlink()

    def lose(self, role: Role) -> None:
        """Rename the folder."""
        (self.root / f".{_NAMES[role]}").rename(self.root / f".Elsewhere {time.time_ns()}")


@dataclass
class MboxPlace(Place):
    """An mbox file."""

    path: Path

    def open(self, *, read_only: bool = True) -> Connector:
        """Return a new connector, always read-only."""
        assert read_only
        return MboxConnector(self.path)

    def fill(self, messages: Sequence[bytes]) -> None:
        """Append to the file."""
        with self.path.open("ab") as file:
            for raw in messages:
                file.write(b"From jen@example.org Mon Jan  6 10:00:00 2025\n" + raw + b"\n")

    def renumber(self) -> None:
        """Put another message before the first."""
        rest = self.path.read_bytes()
        self.path.unlink()
        self.fill([mail(1000)])
        with self.path.open("ab") as file:
            file.write(rest)

    def lose(self, role: Role) -> None:
        """Do nothing: tests of that are for places that can be written."""


@dataclass
class ImapPlace(Place):
    """An account on a server, and another program's connection to it."""

    server: Server
    client: IMAPClient
    connectors: list[Connector] = field(default_factory=list)

    def open(self, *, read_only: bool = False) -> Connector:
        """Return a new connector."""
        assert not read_only
        server = self.server
        self.connectors.append(
            ImapConnector(
                ImapSettings(
                    server.host,
                    server.user,
                    server.password,
                    port=server.port,
                    security="none",
                    timeout=20,
                )
            )
        )
        return self.connectors[-1]

    def fill(self, messages: Sequence[bytes]) -> None:
        """Append over the other connection."""
        for raw in messages:
            self.client.append("Sent", raw)

    def renumber(self) -> None:
        """Make the folder anew with the same messages."""
        self.client.select_folder("Sent", readonly=True)
        found = self.client.fetch(self.client.search(), ["BODY.PEEK[]"])
        self.lose(Role.SENT)
        self.client.create_folder("Sent")
        self.fill([data[b"BODY[]"] for data in found.values()])

    def lose(self, role: Role) -> None:
        """Delete the folder."""
        self.client.select_folder("INBOX")
        self.client.delete_folder(_NAMES[role])

    def close(self) -> None:
        """Close what was opened."""
        for connector in self.connectors:
            connector.close()


@contextmanager
def waiting(connector: Connector, timeout: float = 30.0) -> Iterator[list[object]]:
    """Let a connector wait for requests in a thread; give what `wait` returned or raised.

    The list is empty while it waits, and is filled when the block is left.
    """
    outcome: list[object] = []

    def wait() -> None:
        try:
            outcome.append(connector.wait(Role.REQUESTS, timeout))
        except (UnreachableError, FolderMissingError) as error:
            outcome.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)  # by now the wait has begun as a rule; it may also end before it begins
    try:
        yield outcome
    finally:
        thread.join(20)
        assert not thread.is_alive()


def cursor_behind(connector: Connector, uid: int) -> Cursor:
    """Return the cursor of somebody who has read Sent up to a UID."""
    return Cursor(connector.state(Role.SENT).uidvalidity, uid)


class ReadingContract:
    """What holds wherever mail can be read."""

    read_only = False

    @pytest.fixture
    def connector(self, place: Place) -> Connector:
        """Open the place."""
        return place.open(read_only=self.read_only)

    def test_an_empty_folder_yields_nothing(self, connector: Connector) -> None:
        """A folder without messages is no error: it yields none and counts none."""
        state = connector.state(Role.SENT)
        assert state.messages == 0
        assert state.uidnext >= 1
        assert list(connector.fetch(Role.SENT)) == []
        assert connector.message_ids(Role.SENT) == {}

    def test_messages_come_whole_and_in_order(self, place: Place, connector: Connector) -> None:
        """Each message comes with all its bytes, in the order of arrival, under ascending UIDs."""
        sent = [mail(number) for number in range(1, 6)]
        place.fill(sent)
        found = list(connector.fetch(Role.SENT))
        assert [canonical(message.raw) for message in found] == [canonical(raw) for raw in sent]
        uids = [message.uid for message in found]
        assert uids == sorted(set(uids))
        assert all(message.complete for message in found)

    def test_reading_changes_nothing(self, place: Place, connector: Connector) -> None:
        """Reading twice gives the same, and marks nothing as seen."""
        place.fill([mail(1), mail(2)])
        first = list(connector.fetch(Role.SENT))
        assert list(connector.fetch(Role.SENT)) == first
        assert list(place.open(read_only=self.read_only).fetch(Role.SENT)) == first
        assert all("\\Seen" not in message.flags for message in first)

    def test_only_what_is_behind_the_cursor(self, place: Place, connector: Connector) -> None:
        """From a cursor only newer messages come, and none when nothing arrived since."""
        place.fill([mail(1), mail(2)])
        last = [message.uid for message in connector.fetch(Role.SENT)][-1]
        cursor = cursor_behind(connector, last)
        assert list(connector.fetch(Role.SENT, cursor)) == []
        place.fill([mail(3), mail(4)])
        found = list(connector.fetch(Role.SENT, cursor))
        assert [canonical(m.raw) for m in found] == [canonical(mail(3)), canonical(mail(4))]

    def test_a_cursor_survives_the_connector(self, place: Place, connector: Connector) -> None:
        """UIDVALIDITY and UIDs are the same for the next process."""
        place.fill([mail(1), mail(2), mail(3)])
        uids = [message.uid for message in connector.fetch(Role.SENT)]
        cursor = cursor_behind(connector, uids[1])
        connector.close()
        again = place.open(read_only=self.read_only)
        assert [message.uid for message in again.fetch(Role.SENT, cursor)] == uids[2:]

    def test_a_renumbered_folder_invalidates_the_cursor(
        self, place: Place, connector: Connector
    ) -> None:
        """Another UIDVALIDITY is told, not papered over; afterwards all can be read anew."""
        place.fill([mail(1), mail(2)])
        uids = [message.uid for message in connector.fetch(Role.SENT)]
        cursor = cursor_behind(connector, uids[0])
        place.renumber()
        with pytest.raises(CursorInvalidError) as caught:
            list(connector.fetch(Role.SENT, cursor))
        assert caught.value.expected == cursor.uidvalidity
        assert caught.value.found == connector.state(Role.SENT).uidvalidity
        assert canonical(mail(2)) in [canonical(m.raw) for m in connector.fetch(Role.SENT)]

    def test_message_ids_come_bare(self, place: Place, connector: Connector) -> None:
        """Message-IDs come by UID without angle brackets, "" for a mail that has none."""
        place.fill([mail(1), b"Subject: no id\n\nMessage-ID: <body@example.org>\n", mail(3)])
        found = connector.message_ids(Role.SENT)
        assert list(found.values()) == ["1@example.org", "", "3@example.org"]
        assert list(found) == [message.uid for message in connector.fetch(Role.SENT)]
        last = max(found)
        assert connector.message_ids(Role.SENT, last) == {last: "3@example.org"}
        assert connector.message_ids(Role.SENT, connector.state(Role.SENT).uidnext) == {}

    def test_state_counts_and_foresees(self, place: Place, connector: Connector) -> None:
        """State counts the messages, and UIDNEXT is above every UID and at most the next one."""
        place.fill([mail(1), mail(2)])
        before = connector.state(Role.SENT)
        assert before.messages == 2
        assert max(connector.message_ids(Role.SENT)) < before.uidnext
        place.fill([mail(3)])
        assert connector.state(Role.SENT).messages == 3
        assert max(connector.message_ids(Role.SENT)) >= before.uidnext

    def test_a_huge_message_comes_as_its_beginning(
        self, place: Place, connector: Connector
    ) -> None:
        """Of a mail with an attachment of 30 MB header and text come, and the next mail whole."""
        line = b"QUJD" * 19 + b"\n"
        text = b"The photographs are attached.\n\n--x\n"
        place.fill([mail(1) + text + line * (LARGEST // len(line) * 6 // 5), mail(2)])
        huge, small = connector.fetch(Role.SENT)
        assert not huge.complete
        assert len(huge.raw) <= BEGINNING
        assert canonical(huge.raw).startswith(canonical(mail(1) + text))
        assert small.complete
        assert canonical(small.raw) == canonical(mail(2))
        assert list(connector.message_ids(Role.SENT).values()) == ["1@example.org", "2@example.org"]

    def test_other_calls_may_come_between_two_messages(
        self, place: Place, connector: Connector
    ) -> None:
        """Looking elsewhere while a fetch is under way does not disturb it."""
        place.fill([mail(number) for number in range(1, 4)])
        found = []
        for message in connector.fetch(Role.SENT):
            assert len(connector.message_ids(Role.SENT)) == 3
            found.append(canonical(message.raw))
        assert found == [canonical(mail(number)) for number in range(1, 4)]

    def test_closing_twice_is_no_error(self, place: Place, connector: Connector) -> None:
        """A connector can be closed again and again, and used after it."""
        place.fill([mail(1)])
        connector.close()
        connector.close()
        assert connector.state(Role.SENT).messages == 1

    def test_reading_can_be_broken_off(self, place: Place, connector: Connector) -> None:
        """`abort` from another thread ends a `fetch` between two messages; the next one is whole.

        What it had read ahead may still come.
        """
        place.fill([mail(number, "Clay.\n" * 20_000) for number in range(100)])
        messages = connector.fetch(Role.SENT)
        found = [next(messages).uid]
        thread = threading.Thread(target=connector.abort)
        thread.start()
        thread.join()
        with pytest.raises(UnreachableError):
            found.extend(message.uid for message in messages)
        assert len(found) < 100
        assert len(list(connector.fetch(Role.SENT))) == 100


class ReadOnlyContract(ReadingContract):
    """What holds in addition where Panza only reads."""

    read_only = True

    def test_every_change_is_refused(self, place: Place, connector: Connector) -> None:
        """Append, flags, removal and a new folder are refused, and the mail stays as it was."""
        place.fill([mail(1)])
        before = list(connector.fetch(Role.SENT))
        uid = before[0].uid
        for change in (
            lambda: connector.append(Role.SENT, mail(2)),
            lambda: connector.add_flags(Role.SENT, uid, ["\\Seen"]),
            lambda: connector.remove(Role.SENT, uid),
            lambda: connector.ensure(Role.REQUESTS),
        ):
            with pytest.raises(ReadOnlyError):
                change()
        assert list(connector.fetch(Role.SENT)) == before


class ConnectorContract(ReadingContract):
    """What holds in addition where Panza may write."""

    def test_an_appended_message_is_there(self, connector: Connector) -> None:
        """What is appended can be fetched with its bytes, flags and date, under the UID told."""
        date = datetime(2024, 2, 29, 23, 59, 58, tzinfo=timezone(timedelta(hours=-5)))
        flags = ["\\Draft", "\\Seen"]
        uid = connector.append(Role.DRAFTS, mail(7), flags=flags, date=date)
        (message,) = connector.fetch(Role.DRAFTS)
        assert uid in {None, message.uid}
        assert canonical(message.raw) == canonical(mail(7))
        assert message.flags == set(flags)
        assert message.received == date

    def test_a_message_without_date_is_dated_now(self, connector: Connector) -> None:
        """Without a date the time of arrival is that of the append, aware."""
        connector.append(Role.DRAFTS, mail(7))
        (message,) = connector.fetch(Role.DRAFTS)
        assert message.received is not None
        assert abs(datetime.now(UTC) - message.received) < timedelta(minutes=5)

    def test_uids_ascend_over_appends(self, connector: Connector) -> None:
        """Messages come back in the order in which they were appended."""
        uids = [connector.append(Role.DRAFTS, mail(number)) for number in range(5)]
        found = connector.message_ids(Role.DRAFTS)
        assert list(found.values()) == [f"{number}@example.org" for number in range(5)]
        assert uids in (list(found), [None] * 5)

    def test_a_uid_is_never_given_twice(self, connector: Connector) -> None:
        """After the newest message is removed, the next one gets a higher UID."""
        connector.append(Role.DRAFTS, mail(1))
        connector.append(Role.DRAFTS, mail(2))
        removed = max(connector.message_ids(Role.DRAFTS))
        connector.remove(Role.DRAFTS, removed)
        connector.append(Role.DRAFTS, mail(3))
        assert max(connector.message_ids(Role.DRAFTS)) > removed

    def test_odd_line_ends_are_made_regular(self, connector: Connector) -> None:
        """Bare LF and bare CR do not reach the folder as such; no text is lost."""
        connector.append(Role.DRAFTS, b"Subject: odd\n\r\none\rtwo\nthree\r\n")
        (message,) = connector.fetch(Role.DRAFTS)
        assert canonical(message.raw) == b"Subject: odd\r\n\r\none\r\ntwo\r\nthree\r\n"

    def test_flags_are_added_and_stay(self, place: Place, connector: Connector) -> None:
        r"""Adding \Answered keeps what was there; adding it again changes nothing."""
        connector.append(Role.REQUESTS, mail(1), flags=["\\Seen"])
        connector.append(Role.REQUESTS, mail(2))
        uid = min(connector.message_ids(Role.REQUESTS))
        for _ in range(2):
            connector.add_flags(Role.REQUESTS, uid, ["\\Answered", "\\Flagged"])
            first, second = place.open().fetch(Role.REQUESTS)
            assert first.flags == {"\\Seen", "\\Answered", "\\Flagged"}
            assert second.flags == set()
            assert first.uid == uid

    def test_flags_are_taken_off(self, place: Place, connector: Connector) -> None:
        r"""Taking \Flagged off keeps what else is there; where it is not, nothing changes."""
        connector.append(Role.REQUESTS, mail(1), flags=["\\Seen", "\\Flagged"])
        connector.append(Role.REQUESTS, mail(2), flags=["\\Flagged"])
        uid = min(connector.message_ids(Role.REQUESTS))
        for _ in range(2):
            connector.remove_flags(Role.REQUESTS, uid, ["\\Flagged"])
            first, second = place.open().fetch(Role.REQUESTS)
            assert (first.flags, second.flags) == ({"\\Seen"}, {"\\Flagged"})
        connector.remove_flags(Role.REQUESTS, 4_000_000, ["\\Flagged"])

    def test_flags_for_a_message_that_is_gone(self, connector: Connector) -> None:
        """Flags for a message that somebody removed are no error."""
        connector.append(Role.REQUESTS, mail(1))
        connector.add_flags(Role.REQUESTS, 4_000_000, ["\\Answered"])
        (message,) = connector.fetch(Role.REQUESTS)
        assert message.flags == set()

    def test_one_message_is_removed_and_no_other(self, connector: Connector) -> None:
        r"""Removal takes the one message, not others marked \Deleted; twice is no error."""
        for number in range(3):
            connector.append(Role.DRAFTS, mail(number))
        uids = list(connector.message_ids(Role.DRAFTS))
        connector.add_flags(Role.DRAFTS, uids[0], ["\\Deleted"])
        for _ in range(2):
            connector.remove(Role.DRAFTS, uids[1])
        assert list(connector.message_ids(Role.DRAFTS)) == [uids[0], uids[2]]

    def test_a_stale_uidvalidity_changes_nothing(self, place: Place, connector: Connector) -> None:
        """UIDs from before a renumbering are not applied to the messages that bear them now."""
        place.fill([mail(1), mail(2)])
        uids = [message.uid for message in connector.fetch(Role.SENT)]
        stale = connector.state(Role.SENT).uidvalidity
        place.renumber()
        with pytest.raises(CursorInvalidError):
            connector.add_flags(Role.SENT, uids[0], ["\\Flagged"], uidvalidity=stale)
        with pytest.raises(CursorInvalidError):
            connector.remove(Role.SENT, uids[0], uidvalidity=stale)
        assert [message.flags for message in connector.fetch(Role.SENT)] == [set(), set()]
        fresh = connector.state(Role.SENT).uidvalidity
        uid = min(connector.message_ids(Role.SENT))
        connector.remove(Role.SENT, uid, uidvalidity=fresh)
        assert connector.state(Role.SENT).messages == 1

    def test_missing_folders_are_made(self, place: Place, connector: Connector) -> None:
        """Drafts and the requests folder are made when wanted, once, for every later connector."""
        for role in (Role.DRAFTS, Role.REQUESTS):
            with pytest.raises(FolderMissingError) as caught:
                connector.state(role)
            assert caught.value.role is role
            name = connector.ensure(role)
            assert connector.ensure(role) == name
            assert place.open().state(role).messages == 0
            assert place.open().state(role).name == name

    def test_a_folder_that_was_removed_is_made_again(
        self, place: Place, connector: Connector
    ) -> None:
        """A connector that knew the folder may be refused once, clearly; then it is made."""
        connector.append(Role.DRAFTS, mail(1))
        place.lose(Role.DRAFTS)
        try:
            connector.append(Role.DRAFTS, mail(2))
        except RefusedError as error:
            assert error.code == "TRYCREATE"  # noqa: PT017 - or none at all
            connector.append(Role.DRAFTS, mail(2))
        assert list(connector.message_ids(Role.DRAFTS).values()) == ["2@example.org"]

    def test_sent_is_never_made(self, place: Place, connector: Connector) -> None:
        """Without a Sent folder reading and writing say so; none appears by itself."""
        place.lose(Role.SENT)
        connector.close()
        connector = place.open()
        for attempt in (
            lambda: connector.state(Role.SENT),
            lambda: list(connector.fetch(Role.SENT)),
            lambda: connector.message_ids(Role.SENT),
            lambda: connector.ensure(Role.SENT),
            lambda: connector.append(Role.SENT, mail(1)),
        ):
            with pytest.raises(FolderMissingError) as caught:
                attempt()
            assert caught.value.role is Role.SENT

    def test_reading_one_folder_while_writing_another(
        self, place: Place, connector: Connector
    ) -> None:
        """Drafts can be appended, and requests flagged, while the requests are being read."""
        place.fill([mail(number) for number in range(1, 4)])
        for message in connector.fetch(Role.SENT):
            connector.append(Role.DRAFTS, message.raw)
            connector.add_flags(Role.SENT, message.uid, ["\\Answered"])
        assert connector.state(Role.DRAFTS).messages == 3
        assert all(m.flags == {"\\Answered"} for m in connector.fetch(Role.SENT))

    def test_waiting_without_news_takes_its_time(self, connector: Connector) -> None:
        """Nothing comes: the wait is over when its time is, and the connector goes on."""
        connector.ensure(Role.REQUESTS)
        connector.state(Role.REQUESTS)
        started = time.monotonic()
        assert connector.wait(Role.REQUESTS, 0.4) is False
        assert 0.35 < time.monotonic() - started < 5
        connector.append(Role.REQUESTS, mail(1))
        assert connector.state(Role.REQUESTS).messages == 1

    def test_a_wait_ends_when_mail_arrives(self, place: Place, connector: Connector) -> None:
        """What another program files in the folder ends the wait, well before its time."""
        connector.ensure(Role.REQUESTS)
        connector.state(Role.REQUESTS)
        with waiting(connector) as outcome:
            assert outcome == []
            place.open().append(Role.REQUESTS, mail(1))
        assert outcome == [True]
        assert connector.state(Role.REQUESTS).messages == 1

    def test_what_came_before_the_wait_is_not_missed(
        self, place: Place, connector: Connector
    ) -> None:
        """Mail that arrives between `state` and `wait` ends the wait at once, once."""
        connector.ensure(Role.REQUESTS)
        connector.state(Role.REQUESTS)
        place.open().append(Role.REQUESTS, mail(1))
        assert connector.wait(Role.REQUESTS, 20) is True
        connector.state(Role.REQUESTS)
        assert connector.wait(Role.REQUESTS, 0.2) is False

    def test_a_wait_can_be_ended(self, connector: Connector) -> None:
        """`wake` ends the wait that is going on, else the next one, and no more than that."""
        connector.ensure(Role.REQUESTS)
        connector.state(Role.REQUESTS)
        with waiting(connector) as outcome:
            connector.wake()
        assert outcome == [False]
        connector.wake()
        assert connector.wait(Role.REQUESTS, 20) is False
        started = time.monotonic()
        assert connector.wait(Role.REQUESTS, 0.4) is False
        assert time.monotonic() - started > 0.35

    def test_a_wait_can_be_broken_off(self, connector: Connector) -> None:
        """`abort` ends it promptly, as an error or not, and the connector stays usable."""
        connector.ensure(Role.REQUESTS)
        with waiting(connector) as outcome:
            connector.abort()
        assert outcome
        assert outcome[0] is False or isinstance(outcome[0], UnreachableError)
        connector.append(Role.REQUESTS, mail(1))
        assert connector.state(Role.REQUESTS).messages == 1

    def test_a_folder_that_goes_while_it_is_watched(
        self, place: Place, connector: Connector
    ) -> None:
        """The wait ends as it may; then the folder is missing, can be made anew, and watched."""
        connector.append(Role.REQUESTS, mail(1))
        connector.state(Role.REQUESTS)
        with waiting(connector) as outcome:
            place.lose(Role.REQUESTS)
            time.sleep(0.2)
            connector.wake()  # not every server tells those who idle
        assert outcome
        with pytest.raises(FolderMissingError):
            connector.wait(Role.REQUESTS, 20)
        connector.ensure(Role.REQUESTS)
        assert connector.state(Role.REQUESTS).messages == 0
        assert connector.wait(Role.REQUESTS, 0.2) is False

    def test_waiting_for_a_folder_that_is_missing(self, connector: Connector) -> None:
        """There is nothing to wait for."""
        with pytest.raises(FolderMissingError):
            connector.wait(Role.REQUESTS, 20)


class ServerContract(ConnectorContract):
    """What holds in addition where somebody else does the numbering."""

    def test_a_folder_numbered_anew_while_it_is_watched(
        self, place: Place, connector: Connector
    ) -> None:
        """Another UIDVALIDITY is a change, even with the same messages."""
        place.fill([mail(1)])
        before = connector.state(Role.SENT)
        place.renumber()
        assert connector.wait(Role.SENT, 20) is True
        assert connector.state(Role.SENT).uidvalidity != before.uidvalidity


class ImapContract(ServerContract):
    """What holds in addition where messages go over a line."""

    def test_nul_does_not_reach_the_folder(self, connector: Connector) -> None:
        """No server takes it, so it is left out, and the rest of the message is not."""
        connector.append(Role.DRAFTS, b"Subject: odd\r\n\r\none\0two\r\n")
        (message,) = connector.fetch(Role.DRAFTS)
        assert canonical(message.raw) == b"Subject: odd\r\n\r\nonetwo\r\n"


class TestMemory(ServerContract):
    """The memory connector."""

    @pytest.fixture
    def place(self) -> Place:
        """Return an empty place."""
        return MemoryPlace()


@pytest.fixture
def maildir(tmp_path: Path) -> MaildirPlace:
    """Return a Maildir with an empty Sent folder."""
    for part in ("tmp", "new", "cur"):
        (tmp_path / "Maildir" / part).mkdir(parents=True)
        (tmp_path / "Maildir/.Sent" / part).mkdir(parents=True)
    return MaildirPlace(tmp_path / "Maildir", tmp_path / "state")


class TestMaildir(ConnectorContract):
    """The Maildir connector."""

    @pytest.fixture
    def place(self, maildir: MaildirPlace) -> Place:
        """Return an empty place."""
        return maildir


class TestMaildirArchive(ReadOnlyContract):
    """The Maildir connector on an archive."""

    @pytest.fixture
    def place(self, maildir: MaildirPlace) -> Place:
        """Return an empty place."""
        return maildir


class TestMbox(ReadOnlyContract):
    """The mbox connector."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        """Return an empty place."""
        (tmp_path / "Sent.mbox").touch()
        return MboxPlace(tmp_path / "Sent.mbox")


class TestEmbeddedImap(ImapContract):
    """The IMAP connector against the embedded server."""

    @pytest.fixture
    def place(self, demo_server: Server, emptied: Emptied) -> Iterator[Place]:
        """Return an empty place."""
        with (
            emptied(demo_server, "Sent") as client,
            closing(ImapPlace(demo_server, client)) as place,
        ):
            yield place


class TestDovecot(ImapContract):
    """The IMAP connector against Dovecot."""

    @pytest.fixture
    def place(self, dovecot: Server, emptied: Emptied) -> Iterator[Place]:
        """Return an empty place."""
        with emptied(dovecot, "Sent") as client, closing(ImapPlace(dovecot, client)) as place:
            yield place


class TestCyrus(ImapContract):
    """The IMAP connector against Cyrus."""

    @pytest.fixture
    def place(self, cyrus: Server, emptied: Emptied) -> Iterator[Place]:
        """Return an empty place."""
        with emptied(cyrus, "Sent") as client, closing(ImapPlace(cyrus, client)) as place:
            yield place
