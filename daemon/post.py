"""Results mailed back to the owner: at least once, where drafts are appended exactly once.

SMTP cannot do better. After a connection that broke nobody can tell whether the server took the
message, and there is no folder to look into, so it is sent again: byte for byte, under the same
Message-ID, by which many servers and clients drop the second copy. That is why these messages are
kept apart from the outbox, whose rules are others.

A mail server that is slow or down holds up no draft: mail goes at the end of a look, it is tried
again at longer and longer intervals, and after some days it is given up for a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

from connectors.base import ConnectorError, RefusedError
from connectors.raw import message_id
from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

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

GIVEN_UP_AFTER = timedelta(days=3)
"""How long a message waits for a mail server that does not take it."""

_FIRST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(hours=1)
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
        """Return what is to be tried now, the longest untried first."""
        rows = self._database.rows(
            "SELECT message_id, key, kind, raw FROM mailings WHERE NOT sent AND (attempts = 0 "
            "OR tried > ?1 OR tried + min(?2 << min(attempts - 1, 20), ?3) <= ?1) "
            "ORDER BY tried, created, message_id",
            (self._now(), _seconds(_FIRST_PAUSE), _seconds(_LONGEST_PAUSE)),
        )
        return [Mailing(name, key, Kind(kind), raw) for name, key, kind, raw in rows]

    def send(self, mailing: Mailing) -> Outcome:
        """Try to mail one message; `trouble` tells why it did not go.

        The caller enters in one transaction with `sent` or `drop` what follows from it.
        """
        if self._mailer is None:
            return Outcome.WAITS
        # Counted first, so that a message that kills the process does not hold up the others.
        self._database.execute(
            "UPDATE mailings SET attempts = attempts + 1, tried = ? WHERE message_id = ?",
            (self._now(), mailing.message_id),
        )
        try:
            self._mailer.send(self._address, mailing.raw)
        except (ConnectorError, DaemonError) as error:
            self.trouble = str(error)
            refused = isinstance(error, RefusedError) and error.code.startswith(_LASTING)
            return Outcome.GIVEN_UP if refused or self._is_old(mailing) else Outcome.WAITS
        self.trouble = ""
        return Outcome.SENT

    def sent(self, mailing: Mailing) -> None:
        """Remember that a message was mailed."""
        self._database.execute(
            "UPDATE mailings SET sent = ? WHERE message_id = ?", (self._now(), mailing.message_id)
        )

    def drop(self, mailing: Mailing) -> None:
        """Forget a message that nobody takes."""
        self._database.execute("DELETE FROM mailings WHERE message_id = ?", (mailing.message_id,))

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
