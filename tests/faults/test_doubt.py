"""What a folder's UIDs tell of an APPEND whose answer got lost, and what they leave in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from jens_mail import ADDRESS, START, StubWriter, draft_name, request

from connectors.base import RefusedError, Role, UnreachableError
from connectors.memory import MemoryConnector
from connectors.raw import message_id
from daemon.config import Account
from daemon.journal import Journal, State
from daemon.requests import process
from daemon.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from connectors.base import Message
    from daemon.requests import Counts

LOST = UnreachableError("imap.example.org", 993, "the connection broke")
OTHER = b"Subject: an autosave of hers\r\n\r\nwords\r\n"


class Mailbox(MemoryConnector):
    """Jen's mail in memory, with Panza looking after it.

    Args:
        folder: Where Panza keeps its store.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(now=lambda: START)
        self.folder = folder
        self.account = Account(
            name="jen", address=ADDRESS, full_name="Jen Doe", maildir=folder / "no-mail"
        )

    def look(self) -> Counts:
        """Look at the requests folder once, as a new process would."""
        with Store(self.folder / "data", clock=lambda: START) as store:
            return process(self.account, self, store, StubWriter(), lambda: START)

    def look_and_lose_the_answer(self, *, arrived: bool) -> None:
        """Look, and lose the connection in the APPEND of a draft."""
        self.fail("append", LOST, done=arrived)
        with pytest.raises(UnreachableError):
            self.look()

    def ours(self) -> list[Message]:
        """Return the drafts that Panza has made."""
        return [one for one in self.fetch(Role.DRAFTS) if b"X-Panza: draft" in one.raw]

    def request_state(self) -> State:
        """Return how far the request has come."""
        with Store(self.folder / "data", clock=lambda: START) as store:
            (found,) = Journal(store.database, lambda: START).newest()
        return found.state

    def notes(self) -> list[bytes]:
        """Return Panza's notes."""
        return [one.raw for one in self.fetch(Role.REQUESTS) if b"X-Panza: note" in one.raw]

    def take_draft(self) -> bytes:
        """Take the draft out of Drafts as its owner would, and return it."""
        (draft,) = self.ours()
        self.delete(Role.DRAFTS, draft.uid)
        return draft.raw

    def file_again(self) -> None:
        """Move the request out of the folder and back in."""
        (filed,) = [
            one for one in self.fetch(Role.REQUESTS) if message_id(one.raw).startswith("request")
        ]
        self.delete(Role.REQUESTS, filed.uid)
        self.append(Role.REQUESTS, request(1))


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    """Return a mailbox with older drafts of hers and one request."""
    made = Mailbox(tmp_path)
    for _ in range(3):
        made.append(Role.DRAFTS, OTHER, flags=["\\Draft"])
    made.delete(Role.DRAFTS, 2)
    made.append(Role.REQUESTS, request(1))
    return made


def test_no_uid_given_since_means_that_it_did_not_arrive(mailbox: Mailbox) -> None:
    """UIDNEXT is what it was: the draft is appended again."""
    mailbox.look_and_lose_the_answer(arrived=False)
    mailbox.delete(Role.DRAFTS, 3)  # an older one; that says nothing
    assert mailbox.look().drafted == 1
    assert len(mailbox.ours()) == 1


def test_uids_of_messages_that_are_there_mean_the_same(mailbox: Mailbox) -> None:
    """Other programs have stored drafts, all of them still there: ours did not arrive."""
    mailbox.look_and_lose_the_answer(arrived=False)
    for _ in range(2):
        mailbox.append(Role.DRAFTS, OTHER)
    assert mailbox.look().drafted == 1
    assert len(mailbox.ours()) == 1


@pytest.mark.parametrize("arrived", [True, False])
def test_a_uid_that_is_gone_leaves_it_in_doubt(mailbox: Mailbox, *, arrived: bool) -> None:
    """The owner's hand or another program's autosave: she is told, and nothing is made again."""
    mailbox.look_and_lose_the_answer(arrived=arrived)
    if arrived:
        mailbox.take_draft()
    else:
        uid = mailbox.append(Role.DRAFTS, OTHER)
        assert uid
        mailbox.delete(Role.DRAFTS, uid)
    assert mailbox.look().parked == 1
    for _ in range(3):
        mailbox.look()
    assert mailbox.ours() == []
    assert mailbox.request_state() is State.PARKED
    (note,) = mailbox.notes()
    assert b"has your draft reached you" in note
    (filed,) = [one for one in mailbox.fetch(Role.REQUESTS) if b"X-Panza" not in one.raw]
    assert filed.flags == {"\\Flagged"}
    # She has not seen it: filed again, the request gets the draft that was written.
    mailbox.file_again()
    assert mailbox.look().drafted == 1
    assert [message_id(one.raw) for one in mailbox.ours()] == [draft_name(1)]


def test_a_draft_in_doubt_that_comes_late_is_found(mailbox: Mailbox) -> None:
    """Filed again after the draft has arrived at last, the request has one draft."""
    mailbox.append(Role.REQUESTS, request(2))
    mailbox.look_and_lose_the_answer(arrived=True)
    raw = mailbox.take_draft()
    mailbox.look()
    mailbox.append(Role.DRAFTS, raw, flags=["\\Draft", "\\Seen"])
    parked = 1 if message_id(raw) == draft_name(1) else 2
    (filed,) = [
        one
        for one in mailbox.fetch(Role.REQUESTS)
        if message_id(one.raw) == f"request.{parked}@example.org"
    ]
    mailbox.delete(Role.REQUESTS, filed.uid)
    mailbox.append(Role.REQUESTS, filed.raw)
    assert mailbox.look().drafted == 1
    assert sorted(message_id(one.raw) for one in mailbox.ours()) == sorted(map(draft_name, (1, 2)))


def test_a_draft_that_lies_in_sent_has_arrived(mailbox: Mailbox) -> None:
    """Sent at once, under its own Message-ID: the request is done."""
    mailbox.look_and_lose_the_answer(arrived=True)
    mailbox.append(Role.SENT, mailbox.take_draft())
    assert mailbox.look().drafted == 1
    assert mailbox.ours() == mailbox.notes() == []
    assert mailbox.request_state() is State.DONE


def test_an_edited_draft_under_its_own_name_has_arrived(mailbox: Mailbox) -> None:
    """Edited at once, with another UID and other bytes: the request is done."""
    mailbox.look_and_lose_the_answer(arrived=True)
    edited = mailbox.take_draft().replace(b"Hello", b"Dear all")
    mailbox.append(Role.DRAFTS, edited, flags=["\\Draft"])
    assert mailbox.look().drafted == 1
    assert [one.raw for one in mailbox.ours()] == [edited]


def test_under_another_uidvalidity_only_the_name_counts(mailbox: Mailbox) -> None:
    """The window that is left: renumbered and taken away at once, the draft is made again."""
    mailbox.look_and_lose_the_answer(arrived=True)
    mailbox.take_draft()
    mailbox.change_uidvalidity(Role.DRAFTS)
    assert mailbox.look().drafted == 1
    assert len(mailbox.ours()) == 1


def test_a_clear_no_leaves_nothing_in_doubt(mailbox: Mailbox) -> None:
    """After a refusal other programs' UIDs mean nothing: the draft is appended again."""
    mailbox.fail("append", RefusedError("APPEND", "", "later"))
    assert mailbox.look().waiting == 1
    uid = mailbox.append(Role.DRAFTS, OTHER)
    assert uid
    mailbox.delete(Role.DRAFTS, uid)
    assert mailbox.look().drafted == 1
    assert len(mailbox.ours()) == 1


def test_a_note_is_rather_written_twice_than_never(mailbox: Mailbox) -> None:
    """A note that may have been read and thrown away is appended again."""
    mailbox.fail("append", RefusedError("APPEND", "OVERQUOTA", "full"))
    mailbox.fail("append", LOST, done=True)
    with pytest.raises(UnreachableError):
        mailbox.look()
    (note,) = [one for one in mailbox.fetch(Role.REQUESTS) if b"X-Panza" in one.raw]
    mailbox.delete(Role.REQUESTS, note.uid)
    assert mailbox.look().parked == 1
    assert len(mailbox.notes()) == 1


def test_keywords_that_servers_set_are_no_mark_of_hers(mailbox: Mailbox) -> None:
    """A late copy that the server has marked by itself is swept all the same."""
    mailbox.look_and_lose_the_answer(arrived=False)
    mailbox.look()
    (draft,) = mailbox.ours()
    for keyword in ("$HasNoAttachment", "$Label1"):
        mailbox.append(Role.DRAFTS, draft.raw, flags=[*draft.flags, keyword])
    assert mailbox.look().swept == 1
    assert len(mailbox.ours()) == 2
