"""The mail store."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from connectors.base import Cursor, Role
from connectors.mail import Address
from daemon.errors import (
    StoreDamagedError,
    StoreError,
    StoreLockedError,
    StoreMissingError,
    StoreNewerError,
)
from daemon.runs import Runs
from daemon.store import Instruction, Place, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from connectors.mail import Mail


def place(uid: int, source: str = "server") -> Place:
    """Return where message ``uid`` of a source was read."""
    return Place(source, 1, uid)


def test_a_mail_comes_back_as_it_was_kept(store: Store, make_mail: Callable[..., Mail]) -> None:
    """Every field of a kept mail is there again, found by key and by Message-ID."""
    mail = make_mail(
        1,
        cc=(Address("Zoë", "zoe@example.org"),),
        references=("a@b", "c@d"),
        in_reply_to="c@d",
        answered="Are you there?",
        date=datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC),
    )
    assert store.keep(place(1), mail) == "new"
    kept = store.mail(mail.content_hash)
    assert kept is not None
    assert kept == store.find("m1@example.org")
    for field in ("to", "cc", "date", "subject", "text", "answered", "references"):
        assert getattr(kept, field) == getattr(mail, field)
    assert (kept.key, kept.sender) == (mail.content_hash, "jen@example.org")
    assert store.mail("no such key") is None
    assert store.find("no such id") is None


def test_mails_come_in_the_order_they_were_sent(
    store: Store, make_mail: Callable[..., Mail]
) -> None:
    """The newest so many mails are given, the oldest of them first."""
    for number in (3, 1, 2, 0):
        store.keep(place(number + 1), make_mail(number))
    assert [mail.subject[-1] for mail in store.mails()] == ["0", "1", "2", "3"]
    assert [mail.subject[-1] for mail in store.mails(newest=2)] == ["2", "3"]
    assert store.total() == 4


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "duplicate"),
        ({"message_id": "rewritten@outlook"}, "duplicate"),
        ({"message_id": ""}, "duplicate"),
        ({"content_hash": "f" * 64}, "duplicate"),
        ({"content_hash": "f" * 64, "message_id": ""}, "new"),
    ],
)
def test_the_same_mail_is_kept_once(
    store: Store, make_mail: Callable[..., Mail], changes: dict[str, str], verdict: str
) -> None:
    """A mail of the same content or the same Message-ID, read elsewhere, is a duplicate."""
    store.keep(place(1), make_mail(1))
    assert store.keep(place(1, "archive"), make_mail(1, **changes)) == verdict
    assert store.total() == 1 + (verdict == "new")
    assert store.left_out() == ({"duplicate": 1} if verdict == "duplicate" else {})


def test_mails_without_message_id_are_different_mails(
    store: Store, make_mail: Callable[..., Mail]
) -> None:
    """No Message-ID is no identity."""
    assert store.keep(place(1), make_mail(1, message_id="")) == "new"
    assert store.keep(place(2), make_mail(2, message_id="")) == "new"


def test_a_forgotten_folder_is_matched_again(store: Store, make_mail: Callable[..., Mail]) -> None:
    """After a folder is forgotten its mails are known, and only a second copy is a duplicate."""
    store.keep(place(1), make_mail(1))
    store.leave_out(place(2), "empty")
    store.note_folder("server", Role.SENT, Cursor(1, 2), 2)
    store.forget_folder("server")
    assert store.folder_note("server", Role.SENT) is None
    assert store.left_out() == {}
    assert store.keep(Place("server", 2, 1), make_mail(1)) == "known"
    assert store.keep(Place("server", 2, 2), make_mail(1)) == "duplicate"
    assert store.total() == 1


def test_omissions_are_counted_by_reason(store: Store) -> None:
    """The most frequent reason comes first, and a place that is read again counts once."""
    for uid, reason in enumerate(["empty", "not yours", "not yours"], 1):
        store.leave_out(place(uid), reason)
    store.leave_out(place(1), "empty")
    assert list(store.left_out().items()) == [("not yours", 2), ("empty", 1)]


def test_a_transaction_is_all_or_nothing(store: Store, make_mail: Callable[..., Mail]) -> None:
    """An exception inside of a transaction leaves nothing of it, the cursor included."""

    def interrupted() -> None:
        with store.transaction():
            store.keep(place(1), make_mail(1))
            store.note_folder("server", Role.SENT, Cursor(1, 1), 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert store.total() == 0
    assert store.folder_notes() == []


def test_mails_of_an_address_given_up_are_dropped(
    store: Store, make_mail: Callable[..., Mail]
) -> None:
    """Only mails of the given addresses stay, whatever their case."""
    store.keep(place(1), make_mail(1))
    store.keep(place(2), make_mail(2, sender=Address("", "Old@Example.org")))
    assert store.drop_others(["JEN@example.org"]) == 1
    assert [mail.sender for mail in store.mails()] == ["jen@example.org"]


def test_folder_notes_and_notes_are_kept(tmp_path: Path) -> None:
    """Cursors and notes are there again when the store is opened the next time."""
    clock = datetime(2024, 5, 1, tzinfo=UTC)
    with Store(tmp_path, clock=lambda: clock) as store:
        store.note_folder("server", Role.SENT, Cursor(7, 9), 3)
        store.set_note("owner", "x")
        store.set_note("owner", "y")
    with Store(tmp_path, read_only=True) as store:
        note = store.folder_note("server", Role.SENT)
        assert note is not None
        assert (note.cursor, note.messages, note.checked) == (Cursor(7, 9), 3, clock)
        assert store.note("owner") == "y"
        assert store.note("other") == ""


def test_instructions_belong_to_a_version_of_playback(store: Store) -> None:
    """An instruction is found under the version that made it, and no other."""
    made = Instruction("Ask Stew.", "model")
    store.save_instructions("1-model", {"k": made})
    assert store.instruction("k", "1-model") == made
    assert store.instruction("k", "2-model") is None
    assert store.instruction("other", "1-model") is None


def test_runs_tell_when_and_how_they_ended(store: Store) -> None:
    """A run has no end until it ended; the newest comes first; a fault is named by its kind."""
    times = [datetime(2024, 5, 1, tzinfo=UTC) + timedelta(minutes=n) for n in range(6)]
    clock = iter(times)
    runs = Runs(store.database, lambda: next(clock))
    with runs.recorded("sync") as outcome:
        outcome["new"] = 3
    with suppress(KeyboardInterrupt), runs.recorded("train"):
        raise KeyboardInterrupt
    with suppress(SystemExit), runs.recorded("train"):
        running = runs.newest(1)[0]
        assert (running.kind, running.ended, running.outcome) == ("train", None, None)
        raise SystemExit
    _, train, sync = runs.newest()
    assert (train.kind, train.outcome) == ("train", {"error": "KeyboardInterrupt"})
    assert (sync.started, sync.ended, sync.outcome) == (times[0], times[1], {"new": 3})
    assert [run.kind for run in runs.newest(kind="sync")] == ["sync"]


def test_people_and_words_are_looked_up(store: Store, make_mail: Callable[..., Mail]) -> None:
    """The store knows whom the owner wrote to, what she wrote, and what she answered."""
    stew, anna = Address("Stew", "stew@example.org"), Address("", "anna@example.org")
    store.keep(place(1), make_mail(1, cc=(anna,), text="See https://example.org/kiln."))
    store.keep(place(2), make_mail(2, in_reply_to="q@example.org"))
    assert store.correspondents() == [stew, anna]
    assert store.texts_with("https://example.org/kiln") == ["See https://example.org/kiln."]
    assert store.texts_with("https://example.org/other") == []
    assert store.spelled("Stew", 9) == 1
    assert store.spelled("stew", 9) == 0
    assert store.mails_saying("hello stew this is mail", 9)[0][0] == {"stew@example.org"}
    answer = store.answer_to("q@example.org")
    assert answer is not None
    assert answer.message_id == "m2@example.org"
    assert store.answer_to("") is None


def test_nobody_else_can_read_the_files(tmp_path: Path) -> None:
    """Folders are 0700 and files 0600, whatever the umask."""
    before = os.umask(0)
    try:
        with Store(tmp_path / "data" / "work") as store:
            store.set_note("a", "b")
            modes = {p: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "data").rglob("*")}
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert modes.pop(tmp_path / "data" / "work") == 0o700
    assert len(modes) >= 3
    assert set(modes.values()) == {0o600}


def test_a_second_writer_is_told_who_writes(store: Store) -> None:
    """A second writer fails with the first one's process number; readers are welcome."""
    with pytest.raises(StoreLockedError) as raised:
        Store(store.folder)
    assert raised.value.pid == os.getpid()
    with Store(store.folder, read_only=True) as reader:
        assert reader.total() == 0
    store.close()
    Store(store.folder).close()


def test_a_killed_writer_leaves_no_lock(tmp_path: Path, make_mail: Callable[..., Mail]) -> None:
    """After kill -9 amid a transaction the store opens, and holds what was committed before."""
    code = (
        "import os, signal, sys; from pathlib import Path; from daemon.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "store.set_note('committed', 'yes')\n"
        "with store.transaction():\n"
        "    store.set_note('half', 'way')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)  # noqa: S603
    assert done.returncode == -9
    with Store(tmp_path) as store:
        assert (store.note("committed"), store.note("half")) == ("yes", "")
        assert store.keep(place(1), make_mail(1)) == "new"


def test_a_reader_changes_nothing(store: Store) -> None:
    """A store opened for reading refuses to write."""
    with Store(store.folder, read_only=True) as reader, pytest.raises(StoreError):
        reader.set_note("a", "b")


def test_reading_needs_a_store(tmp_path: Path) -> None:
    """Reading where nothing is says so, and makes nothing."""
    with pytest.raises(StoreMissingError):
        Store(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("damage", [b"this is no database at all" * 100, b"SQLite format 3\0" * 99])
def test_a_file_that_is_no_database_is_named(tmp_path: Path, damage: bytes) -> None:
    """What is no database is reported as damaged, and is not overwritten."""
    (tmp_path / "panza.db").write_bytes(damage)
    for read_only in (False, True):
        with pytest.raises(StoreDamagedError) as raised:
            Store(tmp_path, read_only=read_only)
        assert raised.value.path == tmp_path / "panza.db"
    assert (tmp_path / "panza.db").read_bytes() == damage


def test_a_damaged_page_is_found(tmp_path: Path, make_mail: Callable[..., Mail]) -> None:
    """A database whose pages were overwritten is reported by the check and by reading."""
    with Store(tmp_path) as store:
        with store.transaction():
            for number in range(300):
                store.keep(place(number + 1), make_mail(number))
        assert store.database.check() == ""
    file = tmp_path / "panza.db"
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.seek(size // 2)
        stream.write(b"\xff" * (size // 2))
    with Store(tmp_path, read_only=True) as store:
        assert store.database.check()
        with pytest.raises(StoreDamagedError):
            store.mails()


def test_a_foreign_database_is_refused(store: Store) -> None:
    """A database of another program is not touched."""
    store.database.execute("PRAGMA application_id = 7")
    store.close()
    with pytest.raises(StoreDamagedError):
        Store(store.folder)


def test_a_later_version_is_refused(store: Store) -> None:
    """A database of a later Panza is not touched, and both versions are told."""
    store.database.execute("PRAGMA user_version = 999")
    store.close()
    with pytest.raises(StoreNewerError) as raised:
        Store(store.folder)
    assert raised.value.found == 999


def test_a_full_disk_loses_nothing(store: Store, make_mail: Callable[..., Mail]) -> None:
    """A full disk is an OSError; what was committed stays, and there is a way on."""
    store.keep(place(1), make_mail(1))
    pages = store.database.row("PRAGMA page_count")
    assert pages is not None
    store.database.execute(f"PRAGMA max_page_count = {pages[0]}")
    with pytest.raises(OSError, match="No space left"):
        store.keep(place(2), make_mail(2, text="kiln " * 10_000))
    assert [mail.message_id for mail in store.mails()] == ["m1@example.org"]
    store.database.execute("PRAGMA max_page_count = 100000")
    assert store.keep(place(2), make_mail(2)) == "new"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_named(tmp_path: Path) -> None:
    """Without permission the folder is named, and the advice says what to do."""
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=str(tmp_path)):
        Store(tmp_path / "account")
    tmp_path.chmod(0o700)


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    """A file that stands where the data folder should be is an OSError that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Store(tmp_path / "file" / "account")
