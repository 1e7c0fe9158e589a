"""New sent mail in: what is kept, what is left out, and what an interruption costs."""

from __future__ import annotations

import mailbox
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from connectors.base import FolderMissingError, MailboxError, Role, UnreachableError
from connectors.memory import MemoryConnector
from daemon import accounts
from daemon.accounts import Source
from daemon.config import Account
from daemon.store import Store
from daemon.sync import SyncResult, sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectors.base import Cursor, Message

ACCOUNT = Account(
    name="a",
    address="jen@example.org",
    aliases=("Jen.Doe@Example.org",),
    archives=(Path("/nowhere"),),
)


def raw(
    number: int, sender: str = "Jen <jen@example.org>", *, text: str = "", head: str = ""
) -> bytes:
    """Return a sent mail; each number is another one."""
    body = text or f"Hello Stew, this is mail number {number} about the kiln.\n\nJen"
    return (
        f"From: {sender}\r\nTo: stew@example.org\r\nSubject: Number {number}\r\n"
        f"Date: Mon, 01 Jan 2024 {number // 60 % 24:02}:{number % 60:02}:00 +0000\r\n"
        f"Message-ID: <m{number}@example.org>\r\n{head}\r\n{body}\r\n"
    ).encode()


@pytest.fixture
def server() -> MemoryConnector:
    """Return an empty mailbox."""
    return MemoryConnector()


@pytest.fixture
def run(store: Store, server: MemoryConnector) -> Callable[..., SyncResult]:
    """Return a sync of the mailbox and of further sources."""

    def once(*archives: MemoryConnector, account: Account = ACCOUNT) -> SyncResult:
        sources = [Source("server", server)]
        sources += [Source(f"archive{n}", archive) for n, archive in enumerate(archives)]
        return sync(account, sources, store)

    return once


def put(server: MemoryConnector, *mails: bytes) -> None:
    """Put mails into Sent."""
    for mail in mails:
        server.append(Role.SENT, mail)


def test_new_mail_is_read_once(server: MemoryConnector, run: Callable[..., SyncResult]) -> None:
    """A second run reads nothing again; a third one reads only what came since."""
    put(server, *map(raw, range(250)))
    first, second = run(), run()
    assert (first.new, first.read, first.total, first.left_out) == (250, 250, 250, {})
    assert (second.new, second.read, second.total) == (0, 0, 250)
    put(server, raw(250))
    third = run()
    assert (third.new, third.read, third.total) == (1, 1, 251)


@pytest.mark.parametrize(
    ("mail", "reason"),
    [
        (raw(1, "stew@example.org"), "not yours"),
        (raw(1, "xjen@example.org"), "not yours"),
        (raw(1, "jen@example.org.evil.example"), "not yours"),
        (raw(1, '"jen@example.org" <eve@example.org>'), "not yours"),
        (raw(1, ""), "no sender"),
        (raw(1).replace(b"From: Jen <jen@example.org>\r\n", b""), "no sender"),
        (raw(1, head="Auto-Submitted: auto-replied\r\n"), "automatic"),
        (raw(1, text=" \r\n"), "empty"),
        (raw(1, text="> You wrote this.\r\n> And that."), "forward only"),
        (raw(1, head="X: " + "x" * 10_000_000 + "\r\n"), "unreadable"),
        (raw(1, "JEN@EXAMPLE.ORG"), ""),
        (raw(1, "Jen <jen.doe@example.org>"), ""),
        (raw(1, text="Yes, let us meet.\r\n\r\n> Shall we?"), ""),
    ],
)
def test_what_is_not_the_owners_words_is_counted_by_reason(
    server: MemoryConnector, run: Callable[..., SyncResult], mail: bytes, reason: str
) -> None:
    """Only what the owner herself wrote from one of her addresses is kept."""
    put(server, mail)
    result = run()
    assert result.left_out == ({reason: 1} if reason else {})
    assert result.new == (not reason)


def test_the_same_mail_in_two_places_is_kept_once(
    server: MemoryConnector, run: Callable[..., SyncResult]
) -> None:
    """A mail that an archive has as well counts as a duplicate, once for each further copy."""
    archive = MemoryConnector(read_only=False)
    put(server, raw(1), raw(2))
    put(archive, raw(2), raw(3), raw(3))
    result = run(archive)
    assert (result.new, result.total, result.left_out) == (3, 3, {"duplicate": 2})


def test_a_folder_that_is_numbered_anew_doubles_nothing(
    server: MemoryConnector, run: Callable[..., SyncResult]
) -> None:
    """After UIDVALIDITY changed all is read again and matched, even with Message-IDs rewritten."""
    put(server, *map(raw, range(5)), raw(9, "eve@example.org"))
    run()
    server.delete(Role.SENT, 1)
    server.delete(Role.SENT, 2)
    server.change_uidvalidity(Role.SENT)
    put(server, raw(1).replace(b"<m1@", b"<rewritten@"), raw(6))
    result = run()
    assert (result.new, result.read, result.total) == (1, 6, 6)
    assert result.left_out == {"not yours": 1}
    assert run().read == 0


def test_an_emptied_sent_folder_empties_nothing(
    server: MemoryConnector, store: Store, run: Callable[..., SyncResult]
) -> None:
    """When Sent is suddenly empty the mails stay, and the result and the store say so."""
    put(server, raw(1), raw(2))
    run()
    server.delete(Role.SENT, 1)
    server.delete(Role.SENT, 2)
    server.change_uidvalidity(Role.SENT)
    result = run()
    assert (result.new, result.total) == (0, 2)
    assert result.notes == ("Sent is empty; the mails read from it before stay.",)
    assert [note.messages for note in store.folder_notes()] == [0]
    put(server, raw(2), raw(3))
    result = run()
    assert (result.new, result.total, result.left_out, result.notes) == (1, 3, {}, ())


def test_an_empty_mailbox_is_no_fault(run: Callable[..., SyncResult]) -> None:
    """Nothing to read is a result like any other."""
    result = run()
    assert (result.new, result.total, result.left_out, result.notes) == (0, 0, {}, ())


def test_another_alias_lets_everything_be_judged_anew(
    server: MemoryConnector, run: Callable[..., SyncResult]
) -> None:
    """An alias that is added brings in its mails; one that is taken away takes them along."""
    put(server, raw(1), raw(2, "old@example.org"))
    assert run().left_out == {"not yours": 1}
    more = ACCOUNT.model_copy(update={"aliases": ("old@example.org",)})
    assert (result := run(account=more)).new == 1
    assert (result.total, result.left_out) == (2, {})
    result = run()
    assert (result.new, result.total, result.left_out) == (0, 1, {"not yours": 1})


def test_a_source_that_is_given_up_keeps_its_mails(
    server: MemoryConnector, run: Callable[..., SyncResult]
) -> None:
    """Mails of an archive that left the configuration stay, and can be found elsewhere."""
    archive = MemoryConnector()
    put(archive, raw(1), raw(2, "eve@example.org"))
    run(archive)
    put(server, raw(1))
    result = run()
    assert (result.new, result.total, result.left_out) == (0, 1, {})


def test_a_lost_connection_costs_nothing(
    server: MemoryConnector, run: Callable[..., SyncResult]
) -> None:
    """What came before the connection broke is kept, and the next run goes on behind it."""
    put(server, *map(raw, range(350)))
    server.fail("fetch", UnreachableError("mail", 993, "gone"), skip=220)
    with pytest.raises(UnreachableError):
        run()
    result = run()
    assert (result.read, result.total) == (130, 350)


def test_mails_without_date_from_or_message_id(
    server: MemoryConnector, store: Store, run: Callable[..., SyncResult]
) -> None:
    """A missing Date or Message-ID costs nothing but itself."""
    put(
        server,
        b"From: jen@example.org\r\n\r\nNo date, no id, no subject, but words of mine.\r\n",
        b"From: jen@example.org\r\nSubject: \xff\xfe\xed\xa0\x80\r\nDate: rubbish\r\n"
        b'Content-Type: text/plain; charset="no-such"\r\n\r\nB\xf6se Bytes \xed\xa0\x80 hier.\r\n',
        b"",
        b"no header at all",
    )
    result = run()
    assert (result.new, result.left_out) == (2, {"no sender": 2})
    assert {mail.message_id for mail in store.mails()} == {""}


def test_archives_alone_are_an_account(tmp_path: Path, store: Store) -> None:
    """An account with nothing but an mbox and a Maildir is synced from them."""
    mbox = mailbox.mbox(tmp_path / "sent.mbox")
    mbox.add(raw(1))
    mbox.add(raw(2))
    mbox.close()
    maildir = mailbox.Maildir(tmp_path / "maildir")
    maildir.add(raw(2))
    maildir.add(raw(3))
    account = ACCOUNT.model_copy(
        update={"archives": (tmp_path / "sent.mbox", tmp_path / "maildir")}
    )
    for new, left_out in ((3, {"duplicate": 1}), (0, {"duplicate": 1})):
        with accounts.opened(account, store.folder) as sources:
            result = sync(account, sources, store)
        assert (result.new, result.total, result.left_out) == (new, 3, left_out)


def test_an_account_in_a_maildir(tmp_path: Path, store: Store) -> None:
    """An account without a server is synced from the Sent folder of its Maildir."""
    sent = mailbox.Maildir(tmp_path / "mail").add_folder("Sent")
    sent.add(raw(1))
    account = Account(name="a", address="jen@example.org", maildir=tmp_path / "mail")
    with accounts.opened(account, store.folder) as sources:
        assert sync(account, sources, store).new == 1
        assert sync(account, sources, store).read == 0


def test_a_killed_sync_goes_on(tmp_path: Path) -> None:
    """After kill -9 amid a sync the next one reads only what was not yet kept."""
    mbox = mailbox.mbox(tmp_path / "sent.mbox")
    for number in range(1200):
        mbox.add(raw(number))
    mbox.close()
    code = (
        "import sys; from pathlib import Path\n"
        "from daemon import accounts, config, store, sync\n"
        "folder = Path(sys.argv[1])\n"
        "account = config.Account(name='a', address='jen@example.org',"
        " archives=(folder / 'sent.mbox',))\n"
        "with store.Store(folder) as s, accounts.opened(account, folder) as sources:\n"
        "    sync.sync(account, sources, s, lambda *a: print(*a, flush=True))\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    account = Account(name="a", address="jen@example.org", archives=(tmp_path / "sent.mbox",))
    with Store(tmp_path) as store, accounts.opened(account, tmp_path) as sources:
        before = store.total()
        result = sync(account, sources, store)
    assert before >= 100
    assert (result.total, result.read, result.left_out) == (1200, 1200 - before, {})


@pytest.mark.parametrize("content", [None, b"GIF89a" + b"\0" * 5000])
def test_an_archive_that_is_none_is_named(
    tmp_path: Path, store: Store, content: bytes | None
) -> None:
    """A missing archive, or a file that is no mbox, is a clear error with its path."""
    path = tmp_path / "sent.mbox"
    if content is not None:
        path.write_bytes(content)
    account = ACCOUNT.model_copy(update={"archives": (path,)})
    with accounts.opened(account, store.folder) as sources, pytest.raises(MailboxError) as raised:
        sync(account, sources, store)
    assert str(path) in str(raised.value)


def test_no_sent_folder_is_an_error(store: Store) -> None:
    """Without a Sent folder nothing is guessed."""
    source = Source("server", MemoryConnector(roles=[Role.DRAFTS]))
    with pytest.raises(FolderMissingError):
        sync(ACCOUNT, [source], store)


class Interrupted(MemoryConnector):
    """A mailbox whose reader is interrupted after so many messages."""

    left: int | None = None

    def fetch(
        self, role: Role, cursor: Cursor | None = None, *, last: int | None = None
    ) -> Iterator[Message]:
        """Yield messages until the interruption."""
        for message in super().fetch(role, cursor, last=last):
            if self.left == 0:
                self.left = None
                raise KeyboardInterrupt
            if self.left is not None:
                self.left -= 1
            yield message


class SyncMachine(RuleBasedStateMachine):
    """Mail arrives, is deleted, is numbered anew; syncs are interrupted and taken up again."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.store = Store(Path(self.folder.name))
        self.server, self.archive = Interrupted(), Interrupted()
        self.ever: set[int] = set()
        self.synced: set[int] = set()
        self.strangers = 0

    def teardown(self) -> None:
        """Close the store."""
        self.store.close()
        self.folder.cleanup()

    @rule(numbers=st.lists(st.integers(0, 400), max_size=150), to_archive=st.booleans())
    def arrive(self, numbers: list[int], *, to_archive: bool) -> None:
        """Mails of the owner arrive, perhaps ones that are there already."""
        put(self.archive if to_archive else self.server, *map(raw, numbers))
        self.ever |= set(numbers)

    @rule(number=st.integers(0, 9))
    def arrive_from_a_stranger(self, number: int) -> None:
        """A mail that is not the owner's arrives."""
        put(self.server, raw(number, "eve@example.org"))

    @rule()
    def renumber(self) -> None:
        """The server numbers its folder anew."""
        self.server.change_uidvalidity(Role.SENT)

    @rule(choice=st.randoms(use_true_random=False))
    def delete(self, choice: object) -> None:
        """The owner deletes a mail that was synced."""
        uids = list(self.server.message_ids(Role.SENT))
        if uids and self.ever <= self.synced:
            self.server.delete(Role.SENT, choice.choice(uids))  # type: ignore[attr-defined]

    @rule()
    def restart(self) -> None:
        """The process ends and another one begins."""
        self.store.close()
        self.store = Store(Path(self.folder.name))

    @rule(after=st.integers(0, 300), in_archive=st.booleans())
    def sync_interrupted(self, after: int, *, in_archive: bool) -> None:
        """A sync is interrupted somewhere, or gets through before that."""
        interrupted = self.archive if in_archive else self.server
        interrupted.left = after
        with suppress(KeyboardInterrupt):
            self.sync()
        interrupted.left = None

    @rule()
    def sync_to_the_end(self) -> None:
        """A whole sync leaves every mail of the owner in the store, and the next reads nothing."""
        self.sync()
        self.synced = set(self.ever)
        assert {int(mail.subject.split()[1]) for mail in self.store.mails()} == self.ever
        assert self.sync().read == 0

    @precondition(lambda self: self.synced)
    @invariant()
    def nothing_is_lost(self) -> None:
        """What was synced once stays."""
        assert self.store.total() >= len(self.synced)

    @invariant()
    def nothing_is_doubled(self) -> None:
        """No mail is there twice."""
        subjects = [mail.subject for mail in self.store.mails()]
        assert len(subjects) == len(set(subjects))

    def sync(self) -> SyncResult:
        """Sync both sources."""
        sources = [Source("server", self.server), Source("archive", self.archive)]
        return sync(ACCOUNT, sources, self.store)


TestSyncMachine = SyncMachine.TestCase
TestSyncMachine.settings = settings(
    max_examples=15,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
