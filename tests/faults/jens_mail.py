"""Jen's mail on a real server, with Panza looking after it: what the tests of faults share.

    with emptied(server, *FOLDERS) as client:
        mail = JensMail(client, tmp_path, proxy)
        numbers = mail.ask(500)      # 500 requests in the folder
        mail.work()                  # look again and again, as the daemon does, without its waits
        mail.assert_one_draft_each(numbers)

Panza reaches the server by way of ``proxy``, Jen's own client always without.
"""

from __future__ import annotations

import hashlib
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from imapclient import IMAPClient

from connectors.base import ConnectorError, Role, UnreachableError
from connectors.imap import ImapConnector, ImapSettings
from connectors.maildir import MaildirConnector
from connectors.raw import message_id
from daemon import compose
from daemon.brief import Draft
from daemon.config import Account
from daemon.errors import TRY_LATER, advice
from daemon.requests import process
from daemon.scan import request_key
from daemon.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from faultproxy import Server

    from connectors.base import Connector
    from daemon.brief import Brief
    from daemon.requests import Counts

ADDRESS = "jen@example.org"
DRAFTS, SENT, REQUESTS = "Drafts", "Sent", "Panza requests"
FOLDERS = (DRAFTS, SENT, REQUESTS)
START = datetime(2024, 3, 5, 12, tzinfo=UTC)

# The fixture that leaves an account with these folders, empty, and gives a connection to it.
Emptied = Callable[..., AbstractContextManager[IMAPClient]]
# Folder, hash and flags of messages, counted.
Marks = Counter[tuple[str, str, frozenset[str]]]

_LOOKS = 5000  # more than any test needs


class StubWriter:
    """Writes the same few words about each request, at once."""

    def write(self, brief: Brief) -> Draft:
        """Return words that tell which request they are for."""
        return Draft(f"About {brief.instruction}", f"Hello,\n\n{brief.instruction}\n\nJen")


@dataclass(frozen=True)
class Login:
    """An IMAP server and one of its users."""

    host: str
    port: int
    user: str
    password: str


@dataclass(frozen=True)
class Kept:
    """A message as the server keeps it."""

    uid: int
    raw: bytes
    flags: frozenset[str]

    @property
    def name(self) -> str:
        """Its Message-ID."""
        return message_id(self.raw)

    @property
    def deleted(self) -> bool:
        """Whether it only waits for an EXPUNGE."""
        return "\\Deleted" in self.flags


def request(number: int) -> bytes:
    """Return one of Jen's requests, as her mail client files it."""
    return (
        f"From: Jen Doe <{ADDRESS}>\r\nTo: Stew <stew{number}@example.com>\r\n"
        f"Subject: request {number}\r\nMessage-ID: <request.{number}@example.org>\r\n"
        "Date: Tue, 05 Mar 2024 11:00:00 +0000\r\n\r\n"
        f"tell him that number {number} is ready\r\n"
    ).encode()


def stranger(number: int, place: str) -> bytes:
    """Return somebody's mail that is none of Panza's business, not even in its folder."""
    return (
        "From: News <news@example.com>\r\nTo: jen+panza@example.org\r\n"
        f"Subject: issue {number}\r\nMessage-ID: <{place}.{number}@example.com>\r\n\r\n"
        f"{'all sorts of news. ' * (number % 7 * 20)}\r\n"
    ).encode()


def draft_name(number: int) -> str:
    """Return the Message-ID of the draft for a request."""
    return compose.message_id(request_key(request(number)), ADDRESS)


@contextmanager
def jens_client(server: Server) -> Iterator[IMAPClient]:
    """Give a connection of Jen's own client, on which her folders are made where missing."""
    client = IMAPClient(server.host, port=server.port, ssl=False, timeout=20)
    client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.plain_login(server.user, server.password)
    for name in FOLDERS:
        if not client.folder_exists(name):
            client.create_folder(name)
    try:
        yield client
    finally:
        client.logout()


def imap(server: Server, timeout: float) -> Connector:
    """Return Panza's connector to a server."""
    return ImapConnector(
        ImapSettings(
            server.host,
            server.user,
            server.password,
            port=server.port,
            security="none",
            timeout=timeout,
        )
    )


def maildir(folder: Path) -> Connector:
    """Return Panza's connector to a Maildir in a folder, with its UIDs beside it."""
    root = folder / "mail"
    for name in ("cur", "new", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    names = {Role.DRAFTS: DRAFTS, Role.SENT: SENT, Role.REQUESTS: REQUESTS}
    return MaildirConnector(root, folders=names, state=folder / "uids")


class JensMail:
    """One account on a server, seen by its owner's client and by Panza.

    Args:
        client: Her own client's connection, straight to the server; None for Panza's side alone.
        folder: Where Panza keeps its store.
        server: What Panza connects to: the server, or a proxy before it; None for a Maildir.
        timeout: Seconds that Panza waits for an answer.

    Attributes:
        time: What Panza takes for the time.
        errors: What ended looks, counted by the name of its type.
        looks: How many there were.
        swept: How many copies were removed.
    """

    def __init__(
        self, client: IMAPClient | None, folder: Path, server: Server | None, *, timeout: float = 10
    ) -> None:
        self.client: Any = client
        self.folder = folder
        self.time = START
        self.errors: Counter[str] = Counter()
        self.looks = self.swept = 0
        self.account = Account(
            name="jen", address=ADDRESS, full_name="Jen Doe", maildir=folder / "no-mail"
        )
        self.connector = maildir(folder) if server is None else imap(server, timeout)

    # Jen's side

    def ask(self, count: int, first: int = 1) -> range:
        """File requests and return their numbers."""
        numbers = range(first, first + count)
        for number in numbers:
            self.client.append(REQUESTS, request(number))
        return numbers

    def kept(self, name: str) -> list[Kept]:
        """Return the messages in a folder."""
        self.client.select_folder(name, readonly=True)
        uids = self.client.search()
        found = self.client.fetch(uids, ["BODY.PEEK[]", "FLAGS"]) if uids else {}
        self.client.unselect_folder()
        return [
            Kept(uid, data[b"BODY[]"], _flags(data[b"FLAGS"]))
            for uid, data in sorted(found.items())
        ]

    def empty(self, name: str) -> None:
        """Take everything out of a folder."""
        self.client.select_folder(name)
        self.client.add_flags(self.client.search() or [1], ["\\Deleted"], silent=True)
        self.client.close_folder()

    def marks(self) -> Marks:
        """Return a mark of each message that is not deleted: folder, hash and flags."""
        marks: Marks = Counter()
        for name in ("INBOX", *FOLDERS):
            for one in self.kept(name):
                if not one.deleted:
                    marks[name, hashlib.sha256(one.raw).hexdigest(), one.flags] += 1
        return marks

    def strangers(self) -> Marks:
        """Return the marks of those that are neither Panza's nor requests."""
        marks: Marks = Counter()
        for name in ("INBOX", *FOLDERS):
            for one in self.kept(name):
                if b"X-Panza:" not in one.raw and not one.name.startswith("request."):
                    marks[name, hashlib.sha256(one.raw).hexdigest(), one.flags] += 1
        return marks

    def surround(self, count: int = 12) -> None:
        """Put other people's mail into every folder."""
        for name in ("INBOX", *FOLDERS):
            for number in range(count):
                flags = [b"\\Seen", b"\\Flagged", b"\\Draft"][: number % 4]
                self.client.append(name, stranger(number, name.replace(" ", "")), flags)

    # Panza's side

    def clock(self) -> datetime:
        """Return the time."""
        return self.time

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store as a new process would."""
        with Store(self.folder / "data", clock=self.clock) as store:
            yield store

    def look(self, connector: Connector | None = None, store: Store | None = None) -> Counts:
        """Look at the requests folder once."""
        if store is None:
            with self.store() as opened:
                return self.look(connector, opened)
        self.looks += 1
        connector = connector or self.connector
        counts = process(self.account, connector, store, StubWriter(), self.clock)
        self.swept += counts.swept
        return counts

    def work(self, until: Callable[[Counts], bool] = lambda counts: not counts.waiting) -> Counts:
        """Look again and again, as the daemon does, until nothing waits.

        A look that fails for a reason outside of the requests is made again at once; any other
        error is the test's.
        """
        with self.store() as store:
            for _ in range(_LOOKS):
                try:
                    counts = self.look(store=store)
                except ConnectorError as error:
                    if not _passing(error):
                        raise
                    self.errors[type(error).__name__] += 1
                    continue
                if until(counts):
                    return counts
        raise AssertionError("there is no end")

    def outbox(self) -> list[str]:
        """Return the states of what is in the outbox."""
        with self.store() as store:
            return [state for (state,) in store.database.rows("SELECT state FROM outbox")]

    def states(self) -> Counter[str]:
        """Count the requests by state."""
        with self.store() as store:
            return Counter(state for (state,) in store.database.rows("SELECT state FROM requests"))

    # What has to hold

    def assert_one_draft_each(self, numbers: Iterable[int]) -> None:
        r"""Hold that Drafts has one draft for each request, whole, and the request \Answered."""
        found = [one for one in self.kept(DRAFTS) if not one.deleted]
        drafts = Counter(one.name for one in found)
        wanted = {draft_name(number): number for number in numbers}
        ours = {name: count for name, count in drafts.items() if name.startswith("panza.")}
        assert ours == dict.fromkeys(wanted, 1)
        for one in found:
            if one.name in wanted:
                assert f"tell him that number {wanted[one.name]} is ready".encode() in one.raw
                assert one.raw.endswith(b"Jen\r\n")
                assert one.flags == {"\\Draft", "\\Seen"}
        answered = {one.name for one in self.kept(REQUESTS) if "\\Answered" in one.flags}
        assert answered == {f"request.{number}@example.org" for number in wanted.values()}

    def assert_nothing_is_left(self) -> None:
        """Hold that the outbox is empty once no copy can come any more."""
        self.time += timedelta(days=2)
        self.look()
        assert self.outbox() == []


def _flags(flags: Iterable[bytes]) -> frozenset[str]:
    return frozenset(flag.decode() for flag in flags) - {"\\Recent"}


def _passing(error: ConnectorError) -> bool:
    return isinstance(error, UnreachableError) or advice(error).exit_code == TRY_LATER
