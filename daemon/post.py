"""Results mailed back to the owner: at least once, where drafts are appended exactly once.

SMTP cannot do better. After a connection that broke nobody can tell whether the server took the
message, and there is no folder to look into, so it is sent again: byte for byte, under the same
Message-ID, by which many servers and clients drop the second copy. That is why these messages are
kept apart from the outbox, whose rules are others.

A mail server that is slow or down holds up no draft: mail goes at the end of a look, it is tried
again at longer and longer intervals, and after some days it is given up for a reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

from connectors.base import (
    ConnectorError,
    InsecureError,
    LoginRefusedError,
    RefusedError,
    UnreachableError,
)
from connectors.raw import message_id
from daemon.errors import DaemonError, SecretError

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.database import Database

SCHEMA = """
-- What is to be mailed to the owner about a request. Times are Unix time in seconds, 0 for never;
-- what was sent stays until its request is settled, so that it is not entered again.
CREATE TABLE mailings (
  message_id TEXT PRIMARY KEY,
  key TEXT NOT NULL REFERENCES requests (key) ON DELETE CASCADE,
  kind TEXT NOT NULL CHECK (kind IN ('reply', 'notice')),
  raw BLOB NOT NULL,
  attempts INTEGER NOT NULL,
  created INTEGER NOT NULL,
  tried INTEGER NOT NULL,
  sent INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

PAUSE = """
-- Since when the mail server has failed, how often, why, and when it is tried again: one row, none
-- while it works.
CREATE TABLE mail_pause (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  since INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  until INTEGER NOT NULL,
  reason TEXT NOT NULL
) STRICT;
"""

GIVEN_UP_AFTER = timedelta(days=3)
"""How long a message waits for a mail server that does not take it."""

_FIRST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(hours=1)
_PATIENCE = timedelta(minutes=5)  # after a login that was refused: hasty tries lock accounts
_OF_THE_SERVER = (UnreachableError, InsecureError, LoginRefusedError, SecretError)
_LASTING_FAULTS = (InsecureError, LoginRefusedError, SecretError)
# When a message is tried again, by the two pauses ?2 and ?3.
_NEXT = "tried + min(?2 << min(attempts - 1, 20), ?3)"
_LASTING = "5"  # the first digit of SMTP's lasting refusals

Deliver = Literal["drafts", "reply", "both"]


class Mailer(Protocol):
    """What mails to the owner and to nobody else."""

    def send(self, recipient: str, raw: bytes) -> None:
        """Send one message to one of the owner's addresses.

        Raises:
            ConnectorError: It was not taken, or nobody can tell.
            DaemonError: There is no password for it.
        """


class Kind(StrEnum):
    """What is mailed: a reply with the result, or a notice that there is none."""

    REPLY = "reply"
    NOTICE = "notice"


class Outcome(StrEnum):
    """What became of an attempt."""

    SENT = "sent"
    WAITS = "waits"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True)
class Mailing:
    """One message to the owner.

    Attributes:
        message_id: Its Message-ID.
        key: The request it is about.
        kind: A reply or a notice.
        raw: Its bytes.
    """

    message_id: str
    key: str
    kind: Kind
    raw: bytes


@dataclass(frozen=True, slots=True)
class _Pause:
    """The row of the table ``mail_pause``."""

    since: int
    failures: int
    until: int
    reason: str


class Post:
    """The mail to one account's owner.

    Args:
        database: The account's database, whose migrations hold `SCHEMA`.
        clock: Tells the time.
        address: The owner's address.
        mailer: Sends the mail; None where nothing is mailed.
        deliver: Where results go.

    Attributes:
        trouble: Why mail waits, as of the last attempt; "" for no reason.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        address: str,
        mailer: Mailer | None,
        deliver: Deliver,
    ) -> None:
        self._database = database
        self._clock = clock
        self._address = address
        self._mailer = mailer if deliver != "drafts" else None
        self.instead = deliver == "reply" and self._mailer is not None
        self.trouble = ""

    @property
    def active(self) -> bool:
        """Whether results are mailed at all."""
        return self._mailer is not None

    def put(self, key: str, kind: Kind, raw: bytes) -> None:
        """Enter a message to be mailed; one that is entered already stays as it is."""
        if self.active:
            self._database.execute(
                "INSERT OR IGNORE INTO mailings VALUES (?, ?, ?, ?, 0, ?, 0, 0)",
                (message_id(raw), key, kind.value, raw, self._now()),
            )

    def holds(self, key: str) -> bool:
        """Tell whether a draft waits for a reply that shall be mailed instead of it."""
        return self.instead and bool(
            self._database.row(
                "SELECT 1 FROM mailings WHERE key = ? AND kind = 'reply' AND NOT sent", (key,)
            )
        )

    def tidy(self) -> None:
        """Forget what was sent for settled requests, or all, where nothing is mailed any more."""
        self._database.execute(
            "DELETE FROM mailings WHERE NOT ? OR (sent AND key IN "
            "(SELECT key FROM requests WHERE settled))",
            (self.active,),
        )

    def waiting(self) -> int:
        """Count the messages that are still to be mailed."""
        row = self._database.row("SELECT count(*) FROM mailings WHERE NOT sent")
        return int(row[0]) if row else 0

    def due(self) -> list[Mailing]:
        """Return what is to be tried now, the longest untried first.

        After a fault of the server itself nothing is tried for a while, whatever waits. What waits
        since long is due all the same, to be given up, if the server has failed as long.
        """
        pause, old = self._pause(), self._now() - _seconds(GIVEN_UP_AFTER)
        if pause and self._now() < pause.until:
            condition, values = "created <= ? AND ? <= ?", (old, pause.since, old)
        else:
            condition = f"(attempts = 0 OR tried > ?1 OR {_NEXT} <= ?1)"
            values = (self._now(), _seconds(_FIRST_PAUSE), _seconds(_LONGEST_PAUSE))
        rows = self._database.rows(
            f"SELECT message_id, key, kind, raw FROM mailings WHERE NOT sent AND {condition} "  # noqa: S608
            "ORDER BY tried, created, message_id",
            values,
        )
        return [Mailing(name, key, Kind(kind), raw) for name, key, kind, raw in rows]

    def retry(self) -> datetime | None:
        """Tell when mail is tried next, None if none waits."""
        row = self._database.row(
            f"SELECT min(iif(attempts = 0, ?1, {_NEXT})) FROM mailings WHERE NOT sent",  # noqa: S608
            (self._now(), _seconds(_FIRST_PAUSE), _seconds(_LONGEST_PAUSE)),
        )
        if row is None or row[0] is None:
            return None
        pause = self._pause()
        return datetime.fromtimestamp(max(row[0], pause.until if pause else 0), UTC)

    def send(self, mailing: Mailing) -> Outcome:
        """Try to mail one message; `trouble` tells why it did not go.

        The caller enters in one transaction with `sent` or `drop` what follows from it.
        """
        if self._mailer is None:
            return Outcome.WAITS
        pause = self._pause()
        if pause and self._now() < pause.until:
            self.trouble = pause.reason
            lasts = pause.since <= self._now() - _seconds(GIVEN_UP_AFTER)
            return Outcome.GIVEN_UP if lasts and self._is_old(mailing) else Outcome.WAITS
        # Counted first, so that a message that kills the process does not hold up the others.
        self._database.execute(
            "UPDATE mailings SET attempts = attempts + 1, tried = ? WHERE message_id = ?",
            (self._now(), mailing.message_id),
        )
        try:
            self._mailer.send(self._address, mailing.raw)
        except (ConnectorError, DaemonError) as error:
            self.trouble = str(error)
            if isinstance(error, _OF_THE_SERVER):
                self._halt(error)
            else:
                self._database.execute("DELETE FROM mail_pause")
            refused = isinstance(error, RefusedError) and error.code.startswith(_LASTING)
            return Outcome.GIVEN_UP if refused or self._is_old(mailing) else Outcome.WAITS
        self.trouble = ""
        self._database.execute("DELETE FROM mail_pause")
        return Outcome.SENT

    def sent(self, mailing: Mailing) -> None:
        """Remember that a message was mailed."""
        self._database.execute(
            "UPDATE mailings SET sent = ? WHERE message_id = ?", (self._now(), mailing.message_id)
        )

    def drop(self, mailing: Mailing) -> None:
        """Forget a message that nobody takes."""
        self._database.execute("DELETE FROM mailings WHERE message_id = ?", (mailing.message_id,))

    def _halt(self, error: Exception) -> None:
        """Try nothing for a while, the longer the more often the server has failed."""
        pause = self._pause()
        failures = pause.failures if pause else 0
        seconds = min(_seconds(_FIRST_PAUSE) << min(failures, 20), _seconds(_LONGEST_PAUSE))
        if isinstance(error, _LASTING_FAULTS):
            seconds = max(seconds, _seconds(_PATIENCE))
        since = pause.since if pause else self._now()
        self._database.execute(
            "INSERT OR REPLACE INTO mail_pause VALUES (1, ?, ?, ?, ?)",
            (since, failures + 1, self._now() + seconds, str(error)),
        )

    def _pause(self) -> _Pause | None:
        row = self._database.row("SELECT since, failures, until, reason FROM mail_pause")
        pause = _Pause(*row) if row else None
        # A clock that was put back does not make a pause of hours out of one of minutes.
        longest = self._now() + _seconds(_LONGEST_PAUSE)
        return replace(pause, until=0) if pause and pause.until > longest else pause

    def _is_old(self, mailing: Mailing) -> bool:
        row = self._database.row(
            "SELECT 1 FROM mailings WHERE message_id = ? AND created <= ?",
            (mailing.message_id, self._now() - _seconds(GIVEN_UP_AFTER)),
        )
        return row is not None

    def _now(self) -> int:
        return int(self._clock().timestamp())


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())
