"""What the Maildir connector promises beyond the contract."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from connectors.base import Cursor, FolderMissingError, MailboxError, Role, UnreachableError
from connectors.maildir import MaildirConnector

if TYPE_CHECKING:
    from pathlib import Path

_RAW = b"Subject: 1\n\none\n"


def made(path: Path) -> Path:
    """Make an empty Maildir."""
    for part in ("tmp", "new", "cur"):
        (path / part).mkdir(parents=True)
    return path


def tree(path: Path) -> dict[str, tuple[int, bytes]]:
    """Return all that lies below a path: names, times, contents."""
    return {
        str(each.relative_to(path)): (
            each.stat().st_mtime_ns,
            each.read_bytes() if each.is_file() else b"",
        )
        for each in sorted(path.rglob("*"))
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return an empty Maildir."""
    return made(tmp_path / "Maildir")


def opened(root: Path, sent: str = "", *, read_only: bool = False) -> MaildirConnector:
    """Return a connector; by default the root itself is Sent."""
    folders = {Role.SENT: sent, Role.DRAFTS: "Entwürfe/Panza"}
    return MaildirConnector(root, folders=folders, state=root.parent / "s", read_only=read_only)


@pytest.mark.parametrize("name", ["", "."])
def test_the_root_itself_can_be_the_folder(root: Path, name: str) -> None:
    """An archive is often a Maildir without folders."""
    (root / "new/1.a").write_bytes(_RAW)
    (root / "cur/2.b:2,RS").write_bytes(_RAW)
    first, second = opened(root, name).fetch(Role.SENT)
    assert (first.flags, second.flags) == (set(), {"\\Answered", "\\Seen"})


def test_an_archive_is_never_written_to(root: Path) -> None:
    """Reading leaves every name, time and byte in the Maildir as it was."""
    for number in range(3):
        (root / f"new/{number}.x").write_bytes(_RAW)
    before = tree(root)
    with opened(root, read_only=True) as archive:
        assert len(list(archive.fetch(Role.SENT))) == 3
        assert len(archive.message_ids(Role.SENT)) == 3
        assert archive.state(Role.SENT).messages == 3
    assert tree(root) == before


def test_nothing_but_messages_is_written(root: Path) -> None:
    """The UID list lies in Panza's own folder; the Maildir gets folders and messages only."""
    with opened(root) as connector:
        connector.append(Role.SENT, _RAW, flags=["\\Seen"])
        connector.append(Role.DRAFTS, _RAW, flags=["\\Draft"])
    names = {path.name for path in root.rglob("*") if path.is_file()}
    assert {name for name in names if ":2," not in name} == {"maildirfolder"}
    assert (root.parent / "s").stat().st_mode & 0o077 == 0


def test_folder_names_are_encoded(root: Path) -> None:
    """A new folder is named as Maildir++ wants it: a dot for each level, modified UTF-7."""
    opened(root).ensure(Role.DRAFTS)
    assert (root / ".Entw&APw-rfe.Panza/cur").is_dir()


@pytest.mark.parametrize("name", [".Gesendet", "Gesendet"])
def test_folders_with_and_without_the_dot_are_found(root: Path, name: str) -> None:
    """What mbsync and mutt call Sent/ is found as well as .Sent/."""
    (made(root / name) / "new/1.a").write_bytes(_RAW)
    assert opened(root, "Gesendet").state(Role.SENT).messages == 1


def test_a_name_cannot_lead_out_of_the_maildir(root: Path) -> None:
    """A folder beside the Maildir is not reached by its name."""
    made(root.parent / "other")
    with pytest.raises(FolderMissingError):
        opened(root, "../other").state(Role.SENT)


def test_a_missing_folder_names_those_there_are(root: Path) -> None:
    """The error carries the folders that could have been meant."""
    made(root / ".Gesendet")
    made(root / ".Entw&APw-rfe")
    with pytest.raises(FolderMissingError) as caught:
        opened(root, "Sent").state(Role.SENT)
    assert caught.value.candidates == ("Entwürfe", "Gesendet")
    assert caught.value.name == "Sent"


def test_uids_stay_when_flags_change(root: Path) -> None:
    """A message that another program moves to cur/ or flags keeps its UID."""
    (root / "new/1.a").write_bytes(_RAW)
    (root / "new/2.b").write_bytes(_RAW)
    connector = opened(root)
    before = [message.uid for message in connector.fetch(Role.SENT)]
    (root / "new/1.a").rename(root / "cur/1.a:2,FS")
    after = list(connector.fetch(Role.SENT))
    assert [message.uid for message in after] == before
    assert after[0].flags == {"\\Flagged", "\\Seen"}


def test_uids_ascend_by_arrival(root: Path) -> None:
    """Files seen for the first time are numbered by their time, not by the folder's order."""
    for name in ("1700000300.c", "1700000100.a", "1700000200.b"):
        (root / "new" / name).write_bytes(b"Subject: %s\n\n" % name.encode())
    named = root / "cur/imported.eml:2,S"
    named.write_bytes(b"Subject: oldest\n\n")
    os.utime(named, (1_600_000_000, 1_600_000_000))
    subjects = [message.raw.split()[1].decode() for message in opened(root).fetch(Role.SENT)]
    assert subjects == ["oldest", "1700000100.a", "1700000200.b", "1700000300.c"]


def test_a_damaged_uid_list_starts_afresh(root: Path) -> None:
    """A list that cannot be read costs a new UIDVALIDITY and no mail."""
    (root / "new/1.a").write_bytes(_RAW)
    connector = opened(root)
    before = connector.state(Role.SENT)
    for path in (root.parent / "s").glob("*.json"):
        path.write_bytes(path.read_bytes()[:10])
    after = connector.state(Role.SENT)
    assert after.uidvalidity != before.uidvalidity
    assert after.messages == 1


def test_a_message_that_vanishes_is_skipped(root: Path) -> None:
    """What another program takes away between listing and reading is passed over."""
    for number in range(3):
        (root / f"new/{number}.x").write_bytes(b"Subject: %d\n\n" % number)
    found = opened(root).fetch(Role.SENT)
    assert next(found).raw == b"Subject: 0\n\n"
    (root / "new/1.x").unlink()
    (root / "new/2.x").rename(root / "cur/2.x:2,S")
    (last,) = found
    assert last.raw == b"Subject: 2\n\n"
    assert last.flags == {"\\Seen"}


def test_line_ends_and_date_are_the_maildirs(root: Path) -> None:
    """A file holds LF, and its modification time is INTERNALDATE."""
    date = datetime(2024, 2, 29, 12, tzinfo=UTC)
    opened(root).append(Role.SENT, b"Subject: 1\r\n\r\none\r\n", date=date)
    (file,) = (root / "new").iterdir()
    assert file.read_bytes() == _RAW
    assert file.stat().st_mtime == date.timestamp()
    assert file.stat().st_mode & 0o077 == 0
    assert list((root / "tmp").iterdir()) == []


def test_other_letters_of_the_info_stay(root: Path) -> None:
    """Flags that Panza does not know, such as Dovecot's keyword letters, are not lost."""
    (root / "cur/1.a:2,Sb").write_bytes(_RAW)
    connector = opened(root)
    (message,) = connector.fetch(Role.SENT)
    connector.add_flags(Role.SENT, message.uid, ["\\Answered", "$Panza"])
    assert [path.name for path in (root / "cur").iterdir()] == ["1.a:2,RSb"]


def test_a_cursor_is_not_shared_between_maildirs(root: Path, tmp_path: Path) -> None:
    """Two Maildirs that keep their lists in one state folder do not mix them up."""
    other = made(tmp_path / "Other")
    (root / "new/1.a").write_bytes(_RAW)
    first = opened(root).state(Role.SENT)
    second = opened(other).state(Role.SENT)
    assert second.messages == 0
    cursor = Cursor(first.uidvalidity)
    assert len(list(opened(root).fetch(Role.SENT, cursor))) == 1


def test_a_path_that_is_no_maildir_is_refused(root: Path, tmp_path: Path) -> None:
    """A missing folder, and a folder without cur and new, are errors that say so."""
    with pytest.raises(MailboxError, match="no such Maildir") as caught:
        opened(tmp_path / "nowhere").state(Role.SENT)
    assert caught.value.path == str(tmp_path / "nowhere")
    (root / "cur").rmdir()
    (root / "new").rmdir()
    with pytest.raises(MailboxError, match="no folders cur and new"):
        opened(root).state(Role.SENT)


def test_a_state_folder_that_cannot_be_made_is_an_error(root: Path) -> None:
    """Where the UID list cannot be kept, the error names that path."""
    (root.parent / "s").write_bytes(b"a file")
    with pytest.raises(MailboxError) as caught:
        opened(root).state(Role.SENT)
    assert caught.value.path.startswith(str(root.parent / "s"))


def test_a_part_that_is_missing_is_made(root: Path) -> None:
    """A Maildir that lost its empty folders on its way here can still be written."""
    (root / "new/1.a").write_bytes(_RAW)
    (root / "tmp").rmdir()
    (root / "cur").rmdir()
    connector = opened(root)
    (message,) = connector.fetch(Role.SENT)
    connector.add_flags(Role.SENT, message.uid, ["\\Seen"])
    connector.append(Role.SENT, _RAW, flags=["\\Seen"])
    assert [message.flags for message in connector.fetch(Role.SENT)] == [{"\\Seen"}] * 2


def test_listing_can_be_broken_off_and_changing_goes_on(root: Path) -> None:
    """What reads the list of files ends between two of them; what stores a message does that."""
    connector = opened(root)
    assert connector.append(Role.SENT, _RAW) == 1
    for look in (connector.state, connector.message_ids):
        connector.abort()
        assert connector.append(Role.SENT, _RAW)
        with pytest.raises(UnreachableError):
            look(Role.SENT)
        assert look(Role.SENT)
