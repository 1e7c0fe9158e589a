"""What Panza knows of one account: its mails, how far they were read, and the last runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from connectors.base import Cursor, Role
from connectors.mail import Address
from daemon.database import FILE, Database
from daemon.schema import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

    from connectors.mail import Mail
    from daemon.database import FolderLock

_TRAINED = "trained up to"
_MAIL_COLUMNS = (
    "key, message_id, sender, date, recipients, copies, subject, text, answered, in_reply_to, "
    "thread"
)


@dataclass(frozen=True, slots=True)
class StoredMail:
    """One mail that the owner sent; the fields are those of `connectors.mail.Mail`.

    Attributes:
        key: Its content hash, 64 hex digits.
        sender: The address it was sent from.
        date: In UTC, to the second.
    """

    key: str
    message_id: str
    sender: str
    date: datetime
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    subject: str
    text: str
    answered: str
    in_reply_to: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message was read: a source, and its UIDVALIDITY and UID there."""

    source: str
    uidvalidity: int
    uid: int


@dataclass(frozen=True, slots=True)
class FolderNote:
    """How far a folder was read.

    Attributes:
        source: The server or the archive.
        role: Which of its folders.
        cursor: The last message read.
        messages: How many it held when it was last looked at.
        checked: When that was.
    """

    source: str
    role: Role
    cursor: Cursor
    messages: int
    checked: datetime


@dataclass(frozen=True, slots=True)
class Instruction:
    """The instruction that could have produced a mail, and how it was made."""

    text: str
    source: str


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


class Store:
    """The mail store of one account.

    Args:
        folder: The account's folder, ``data/<account>``.
        read_only: Open for reading only; any number may, beside one writer.
        clock: Tells the time.
        lock: The folder's lock, where this process holds it already.

    Raises:
        daemon.errors.StoreError: See `daemon.database.Database`.
        OSError: The folder cannot be written, or the disk is full.
    """

    def __init__(
        self,
        folder: Path,
        *,
        read_only: bool = False,
        clock: Callable[[], datetime] = now,
        lock: FolderLock | None = None,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.read_only = read_only
        self.database = Database(folder, MIGRATIONS, read_only=read_only, lock=lock)

    @staticmethod
    def exists(folder: Path) -> bool:
        """Tell whether an account's folder holds a store."""
        return (folder / FILE).is_file()

    def transaction(self) -> AbstractContextManager[None]:
        """Do all that happens inside, or nothing of it; see `Database.transaction`."""
        return self.database.transaction()

    def close(self) -> None:
        """Close the database; closing twice is no error."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Mails

    def total(self) -> int:
        """Return how many mails of the owner there are."""
        return self._count("SELECT count(*) FROM mails")

    def mails(self, newest: int | None = None) -> list[StoredMail]:
        """Return the newest so many mails, or all, in the order they were sent."""
        rows = self.database.rows(
            f"SELECT {_MAIL_COLUMNS} FROM mails ORDER BY date DESC, key LIMIT ?",  # noqa: S608
            (-1 if newest is None else newest,),
        )
        return [_mail(row) for row in reversed(rows)]

    def mail(self, key: str) -> StoredMail | None:
        """Return the mail of this content hash."""
        row = self.database.row(f"SELECT {_MAIL_COLUMNS} FROM mails WHERE key = ?", (key,))  # noqa: S608
        return _mail(row) if row else None

    def find(self, message_id: str) -> StoredMail | None:
        """Return the mail of this Message-ID, without angle brackets."""
        row = self.database.row(
            f"SELECT {_MAIL_COLUMNS} FROM mails WHERE message_id = ? ORDER BY id",  # noqa: S608
            (message_id,),
        )
        return _mail(row) if row else None

    def texts_with(self, words: str) -> list[str]:
        """Return the texts of the mails in which these characters stand, the newest first."""
        rows = self.database.rows(
            "SELECT text FROM mails WHERE instr(text, ?) ORDER BY date DESC, key", (words,)
        )
        return [text for (text,) in rows]

    def spelled(self, word: str, most: int) -> int:
        """Count the mails, at most so many, in whose text a word stands, spelled like this."""
        return self._count(
            "SELECT count(*) FROM (SELECT 1 FROM words JOIN mails ON mails.id = words.rowid "
            "WHERE words MATCH ? AND instr(mails.text, ?) LIMIT ?)",
            ('text: "' + word.replace('"', " ") + '"', word, most),
        )

    def mails_saying(self, phrase: str, most: int) -> list[tuple[frozenset[str], str]]:
        """Return whom the newest mails with a phrase were to, in small letters, and their texts.

        Args:
            phrase: Words with blanks between them; endings and punctuation are not looked at.
            most: How many mails at most.
        """
        rows = self.database.rows(
            "SELECT mails.recipients, mails.copies, mails.text "
            "FROM words JOIN mails ON mails.id = words.rowid "
            "WHERE words MATCH ? ORDER BY mails.date DESC LIMIT ?",
            ('text: "' + phrase.replace('"', " ") + '"', most),
        )
        return _told(rows)

    def mails_with(self, words: str, most: int) -> list[tuple[frozenset[str], str]]:
        """Return whom the newest mails with these very characters were to, and their texts.

        All texts are read for it: `mails_saying` is faster.
        """
        rows = self.database.rows(
            "SELECT recipients, copies, text FROM mails WHERE instr(text, ?) "
            "ORDER BY date DESC LIMIT ?",
            (words, most),
        )
        return _told(rows)

    def answer_to(self, message_id: str) -> StoredMail | None:
        """Return the owner's first answer to the mail of this Message-ID."""
        row = self.database.row(
            f"SELECT {_MAIL_COLUMNS} FROM mails WHERE in_reply_to = ? ORDER BY date, key",  # noqa: S608
            (message_id,),
        )
        return _mail(row) if row and message_id else None

    def quoting(self, newest: int) -> list[tuple[str, str]]:
        """Tell of the newest so many answers where they quote, and the line above what they quote.

        Both are as in `connectors.mail.Mail`. Answers that were read before this was kept are left
        out.
        """
        return self.database.rows(
            "SELECT quoting, heading FROM mails WHERE in_reply_to <> '' AND quoting <> '' "
            "ORDER BY date DESC, key LIMIT ?",
            (newest,),
        )

    def texts_to(self, emails: Collection[str], before: datetime, most: int) -> list[str]:
        """Return the texts of the newest mails to any of some addresses, sent before a moment."""
        theirs = {one.casefold() for one in emails}
        found: dict[int, tuple[int, str]] = {}
        for email in theirs:
            rows = self.database.rows(
                "SELECT mails.id, mails.date, mails.text, mails.recipients, mails.copies "
                "FROM words JOIN mails ON mails.id = words.rowid "
                "WHERE words MATCH ? AND mails.date < ? ORDER BY mails.date DESC LIMIT ?",
                (f'{{recipients copies}}: "{email.replace(chr(34), " ")}"', _seconds(before), most),
            )
            for number, date, text, *fields in rows:  # words are near an address, not equal to it
                written = (one.email for field in fields for one in _addresses(field))
                if theirs & {one.casefold() for one in written}:
                    found[number] = date, text
        return [text for _, text in sorted(found.values(), reverse=True)[:most]]

    def texts_before(self, before: datetime, most: int) -> list[str]:
        """Return the texts of the newest mails that were sent before a moment."""
        rows = self.database.rows(
            "SELECT text FROM mails WHERE date < ? ORDER BY date DESC, key LIMIT ?",
            (_seconds(before), most),
        )
        return [text for (text,) in rows]

    def correspondents(self) -> list[Address]:
        """Return whom the owner wrote to, by each name she knows them by, the latest first."""
        rows = self.database.rows("SELECT recipients, copies FROM mails ORDER BY date DESC, key")
        return list(dict.fromkeys(one for row in rows for text in row for one in _addresses(text)))

    def keep(self, place: Place, mail: Mail) -> Literal["new", "known", "duplicate"]:
        """Keep a mail that the owner sent, once.

        It is the same mail as one that is there when it has its content or, because servers and
        clients do rewrite mail, its Message-ID.

        Returns:
            ``new``; or ``known`` where the store had it, but from no message that is there now
            (its folder was numbered anew); or ``duplicate`` where another message has it as well.
        """
        with self.transaction():
            known = self.database.row(
                "SELECT key FROM mails WHERE key = ?1 OR (message_id = ?2 AND ?2 <> '') "
                "ORDER BY key <> ?1",
                (mail.content_hash, mail.message_id),
            )
            key = known[0] if known else mail.content_hash
            taken = self.database.row("SELECT 1 FROM seen WHERE key = ? AND reason = ''", (key,))
            if taken:
                self._see(place, "duplicate", key)
                return "duplicate"
            self._see(place, "", key)
            if known:
                return "known"
            self._insert(mail)
            return "new"

    def leave_out(self, place: Place, reason: str) -> None:
        """Remember that a message was read and left out."""
        self._see(place, reason, "")

    def left_out(self) -> dict[str, int]:
        """Count the messages that were left out, by reason, the most frequent first."""
        return dict(
            self.database.rows(
                "SELECT reason, count(*) FROM seen WHERE reason <> '' "
                "GROUP BY reason ORDER BY 2 DESC, 1"
            )
        )

    def drop_others(self, addresses: Collection[str]) -> int:
        """Drop the mails that were sent from none of these addresses; return how many."""
        given = json.dumps(sorted(address.casefold() for address in addresses))
        return self.database.execute(
            "DELETE FROM mails WHERE sender NOT IN (SELECT value FROM json_each(?))", (given,)
        )

    # Folders

    def folder_note(self, source: str, role: Role) -> FolderNote | None:
        """Return how far a folder was read, or None where it never was."""
        return next((n for n in self.folder_notes() if (n.source, n.role) == (source, role)), None)

    def folder_notes(self) -> list[FolderNote]:
        """Return how far each folder was read."""
        rows = self.database.rows(
            "SELECT source, role, uidvalidity, uid, messages, checked FROM folders ORDER BY 1, 2"
        )
        return [
            FolderNote(source, Role(role), Cursor(validity, uid), messages, _time(checked))
            for source, role, validity, uid, messages, checked in rows
        ]

    def note_folder(self, source: str, role: Role, cursor: Cursor, messages: int) -> None:
        """Remember how far a folder is read now, and how many messages it holds."""
        self.database.execute(
            "INSERT OR REPLACE INTO folders VALUES (?, ?, ?, ?, ?, ?)",
            (source, role.value, cursor.uidvalidity, cursor.uid, messages, self._now()),
        )

    def forget_folder(self, source: str) -> None:
        """Forget how far a source was read, because it is to be read anew; its mails stay."""
        with self.transaction():
            self.database.execute("DELETE FROM seen WHERE source = ?", (source,))
            self.database.execute("DELETE FROM folders WHERE source = ?", (source,))

    # Training

    def untrained(self) -> int:
        """Count the mails that came since the last training; all where there was none."""
        return self._count(
            "SELECT count(*) FROM mails "
            "WHERE id > coalesce((SELECT CAST(value AS INTEGER) FROM notes WHERE name = ?), 0)",
            (_TRAINED,),
        )

    def note_trained(self) -> None:
        """Remember that a training has seen every mail there is now."""
        self.set_note(_TRAINED, str(self._count("SELECT coalesce(max(id), 0) FROM mails")))

    # Notes

    def note(self, name: str) -> str:
        """Return a note about the whole store, "" where there is none."""
        row = self.database.row("SELECT value FROM notes WHERE name = ?", (name,))
        return str(row[0]) if row else ""

    def set_note(self, name: str, value: str) -> None:
        """Write a note about the whole store."""
        self.database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    # Instructions

    def instruction(self, key: str, version: str) -> Instruction | None:
        """Return the instruction that a version of playback made for a mail, if it did."""
        row = self.database.row(
            "SELECT text, source FROM instructions WHERE key = ? AND version = ?", (key, version)
        )
        return Instruction(*row) if row else None

    def save_instructions(self, version: str, made: Mapping[str, Instruction]) -> None:
        """Keep what a version of playback made, by the mail's key: all or nothing of it."""
        with self.transaction():
            for key, one in made.items():
                self.database.execute(
                    "INSERT OR REPLACE INTO instructions VALUES (?, ?, ?, ?)",
                    (key, version, one.text, one.source),
                )

    def _count(self, sql: str, parameters: tuple[Any, ...] = ()) -> int:
        row = self.database.row(sql, parameters)
        return int(row[0]) if row else 0

    def _now(self) -> int:
        return _seconds(self.clock())

    def _see(self, place: Place, reason: str, key: str) -> None:
        self.database.execute(
            "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?)",
            (place.source, place.uidvalidity, place.uid, reason, key),
        )

    def _insert(self, mail: Mail) -> None:
        self.database.execute(
            f"INSERT INTO mails ({_MAIL_COLUMNS}, quoting, heading) "  # noqa: S608
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                mail.content_hash,
                mail.message_id,
                mail.sender.email.casefold() if mail.sender else "",
                _seconds(mail.date),
                _json(mail.to),
                _json(mail.cc),
                mail.subject,
                mail.text,
                mail.answered,
                mail.in_reply_to,
                json.dumps(mail.references),
                mail.quoting,
                mail.heading,
            ),
        )


def _json(addresses: Iterable[Address]) -> str:
    return json.dumps([[address.name, address.email] for address in addresses])


def _addresses(text: str) -> tuple[Address, ...]:
    return tuple(Address(name, email) for name, email in json.loads(text))


def _told(rows: Iterable[tuple[str, str, str]]) -> list[tuple[frozenset[str], str]]:
    return [
        (frozenset(one.email.casefold() for field in fields for one in _addresses(field)), text)
        for *fields, text in rows
    ]


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _mail(row: tuple[Any, ...]) -> StoredMail:
    key, message_id, sender, date, recipients, copies, *rest = row
    subject, text, answered, in_reply_to, thread = rest
    return StoredMail(
        key=key,
        message_id=message_id,
        sender=sender,
        date=_time(date),
        to=_addresses(recipients),
        cc=_addresses(copies),
        subject=subject,
        text=text,
        answered=answered,
        in_reply_to=in_reply_to,
        references=tuple(json.loads(thread)),
    )
