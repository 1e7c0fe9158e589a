"""What the mbox connector promises beyond the contract."""

from __future__ import annotations

import gzip
import tracemalloc
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from connectors.base import (
    Cursor,
    CursorInvalidError,
    FolderMissingError,
    MailboxError,
    Message,
    Role,
    UnreachableError,
)
from connectors.mbox import MboxConnector

if TYPE_CHECKING:
    from pathlib import Path

_FROM = b"From jen@example.org Mon Jan  6 10:00:00 2025\n"


def read(path: Path, cursor: Cursor | None = None) -> list[Message]:
    """Return all messages of a file."""
    return list(MboxConnector(path).fetch(Role.SENT, cursor))


def texts(path: Path) -> list[bytes]:
    """Return the bytes of all messages of a file."""
    return [message.raw for message in read(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a test writes its mbox."""
    return tmp_path / "Sent.mbox"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_messages_are_cut_at_separators(path: Path, end: bytes) -> None:
    """The empty line before a separator belongs to the file, those before it to the message."""
    lines = [_FROM.strip(), b"Subject: 1", b"", b"one", b"", b"", _FROM.strip(), b"Subject: 2", b""]
    path.write_bytes(end.join([*lines, b"two", b"", b""]))
    assert texts(path) == [
        end.join([b"Subject: 1", b"", b"one", b"", b""]),
        end.join([b"Subject: 2", b"", b"two", b""]),
    ]


def test_quoted_from_lines_are_unquoted(path: Path) -> None:
    """One > is taken off a quoted From line, as mboxo and mboxrd put it there."""
    path.write_bytes(_FROM + b"Subject: 1\n\n>From here on\n>>From there\n> From nowhere\n")
    assert texts(path) == [b"Subject: 1\n\nFrom here on\n>From there\n> From nowhere\n"]


@pytest.mark.parametrize(
    "line",
    [
        b"From the beginning it was clear\nthat nobody came.\n",
        b"From Monday on I am away.\nWrite to Ann at 10:30.\n",
        b"From:\n",
        b"From now\n",
    ],
)
def test_a_sentence_that_begins_with_from_is_no_separator(path: Path, line: bytes) -> None:
    """A careless program's unquoted sentence after an empty line does not cut a mail in two."""
    path.write_bytes(_FROM + b"Subject: 1\n\nHello\n\n" + line)
    assert texts(path) == [b"Subject: 1\n\nHello\n\n" + line]


@pytest.mark.parametrize(
    ("line", "received"),
    [
        (b"From jen@example.org Thu Nov 14 10:22:33 2024", (2024, 11, 14, 10, 22, 33)),
        (b"From 17@xxx Thu Nov 14 10:22:33 +0200 2024", (2024, 11, 14, 8, 22, 33)),
        (b"From - Thu, 14 Nov 2024 10:22:33 -0100", (2024, 11, 14, 11, 22, 33)),
        (b"From ???@??? Thu Nov 14 10:22:33 2024", (2024, 11, 14, 10, 22, 33)),
        (b"From MAILER-DAEMON Thu Nov 99 10:22:33 2024", None),
        (b"From jen@example.org", None),
        (b"From -", None),
        (b"From ", None),
    ],
)
def test_separators_in_the_wild(path: Path, line: bytes, received: tuple[int, ...] | None) -> None:
    """Takeout's, Thunderbird's, Eudora's and bare separators are known, and their dates."""
    one = line + b"\nSubject: 1\n\none\n\n"
    path.write_bytes(one + one)
    found = read(path)
    assert [message.raw for message in found] == [b"Subject: 1\n\none\n"] * 2
    expected = datetime(*received, tzinfo=UTC) if received else None
    assert [message.received for message in found] == [expected] * 2


def test_separators_are_found_wherever_a_piece_ends(path: Path) -> None:
    """Reading in pieces loses and repeats no message, whatever stands at a piece's border."""
    count = 40_000
    path.write_bytes(b"".join(_FROM + b"Subject: %d\n\nx\n\n" % n for n in range(count)))
    assert path.stat().st_size > 2 * 2**20
    found = [int(raw.split()[1]) for raw in texts(path)]
    assert found == list(range(count))
    assert MboxConnector(path).state(Role.SENT).messages == count


def test_a_truncated_last_message_comes_as_far_as_it_goes(path: Path) -> None:
    """A file that ends in the middle of a message, or of its header, is read to its end."""
    whole = _FROM + b"Subject: 1\n\none\n\n" + _FROM + b"Subject: 2\n\ntwo, and then"
    path.write_bytes(whole)
    assert texts(path) == [b"Subject: 1\n\none\n", b"Subject: 2\n\ntwo, and then"]
    path.write_bytes(whole[: whole.rindex(b"ject: 2")])
    assert texts(path) == [b"Subject: 1\n\none\n", b"Sub"]
    path.write_bytes(whole[: whole.rindex(b"Subject: 2")])
    assert texts(path) == [b"Subject: 1\n\none\n", b""]


def test_a_file_that_grew_is_read_on(path: Path) -> None:
    """UIDVALIDITY stays when messages are added, and only those come."""
    path.write_bytes(_FROM + b"Subject: 1\n\none\n\n")
    before = MboxConnector(path).state(Role.SENT)
    (first,) = read(path)
    with path.open("ab") as file:
        file.write(_FROM + b"Subject: 2\n\ntwo\n\n")
    (second,) = read(path, Cursor(before.uidvalidity, first.uid))
    assert second.raw == b"Subject: 2\n\ntwo\n"
    assert second.uid >= before.uidnext


def test_a_file_that_was_compacted_is_noticed(path: Path) -> None:
    """When the cursor's message is not where it was any more, the cursor is invalid."""
    messages = [_FROM + b"Subject: %d\n\nbody %d\n\n" % (n, n) for n in (1, 20, 300)]
    path.write_bytes(b"".join(messages))
    cursor = Cursor(MboxConnector(path).state(Role.SENT).uidvalidity, read(path)[-1].uid)
    path.write_bytes(messages[0] + messages[2])
    with pytest.raises(CursorInvalidError):
        read(path, cursor)


def test_the_file_is_not_read_whole(path: Path) -> None:
    """Looking through 60 MB takes a small part of that in memory."""
    body = (b"x" * 70 + b"\n") * 30_000
    with path.open("wb") as file:
        for number in range(28):
            file.write(_FROM + b"Subject: %d\n\n" % number + body + b"\n")
    tracemalloc.start()
    try:
        assert sum(1 for _ in MboxConnector(path).fetch(Role.SENT)) == 28
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_a_file_that_is_no_mbox_is_refused(path: Path) -> None:
    """The error names the file, the line and the way out, and quotes nothing of the content."""
    path.write_bytes(b"Dear Stew,\nmy secret\n")
    with pytest.raises(MailboxError, match=r"line 1 is no 'From ' line.*export") as caught:
        MboxConnector(path).state(Role.SENT)
    assert caught.value.path == str(path)
    assert "secret" not in str(caught.value)
    assert "Stew" not in str(caught.value)


def test_a_compressed_file_is_refused_with_advice(path: Path) -> None:
    """A packed mbox is recognised: the advice is to unpack it."""
    path.write_bytes(gzip.compress(_FROM + b"Subject: 1\n\none\n"))
    with pytest.raises(MailboxError, match="unpack"):
        read(path)


def test_a_missing_file_and_a_folder_are_refused(path: Path, tmp_path: Path) -> None:
    """A path that leads nowhere, or to a folder, is an error that says so."""
    with pytest.raises(MailboxError, match="no such file"):
        read(path)
    with pytest.raises(MailboxError, match="is a folder"):
        read(tmp_path)


def test_an_mbox_is_sent_mail_and_nothing_else(path: Path) -> None:
    """Asked for Drafts, an mbox says that it has none."""
    path.touch()
    with pytest.raises(FolderMissingError):
        MboxConnector(path).state(Role.DRAFTS)


def test_looking_through_a_file_can_be_broken_off(path: Path) -> None:
    """What looks through all of the file ends between two pieces; then all is as before."""
    path.write_bytes(_FROM + b"Subject: 1\n\n" + b"clay\n" * 2**20)
    connector = MboxConnector(path)
    for look in (connector.state, connector.message_ids):
        connector.abort()
        with pytest.raises(UnreachableError):
            look(Role.SENT)
        assert look(Role.SENT)
