"""What is wrong now: the faults of a running daemon, kept until the same work succeeds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.database import Database
    from daemon.errors import Advice

SCHEMA = """
-- What is wrong now, by the work that it keeps from being done; times are Unix time in seconds,
-- retry is NULL where nothing is tried again by itself.
CREATE TABLE troubles (
  job TEXT PRIMARY KEY,
  since INTEGER NOT NULL,
  message TEXT NOT NULL,
  next_step TEXT NOT NULL,
  tries INTEGER NOT NULL,
  retry INTEGER
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong.

    Attributes:
        job: What it keeps from being done: ``requests``, ``mail``, ``sync``, ``train`` or ``tidy``.
        since: When it was first met.
        message: What it is.
        next_step: What the owner can do about it, "" for nothing.
        tries: How often it was met since.
        retry: When it is tried again, None if it is not.
    """

    job: str
    since: datetime
    message: str
    next_step: str
    tries: int
    retry: datetime | None


class Troubles:
    """The troubles of one account.

    Args:
        database: The account's database, whose migrations hold `SCHEMA`.
        clock: Tells the time, aware.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def met(self, job: str, told: Advice, retry: datetime | None) -> None:
        """Remember a fault; one that is met again keeps the time of its first meeting."""
        self._database.execute(
            "INSERT INTO troubles VALUES (?1, ?2, ?3, ?4, 1, ?5) ON CONFLICT (job) DO UPDATE SET "
            "since = iif(message = ?3, since, ?2), message = ?3, next_step = ?4, "
            "tries = tries + 1, retry = ?5",
            (
                job,
                int(self._clock().timestamp()),
                told.message,
                told.next_step,
                int(retry.timestamp()) if retry else None,
            ),
        )

    def over(self, job: str) -> None:
        """Forget the fault of a job that succeeded."""
        self._database.execute("DELETE FROM troubles WHERE job = ?", (job,))

    def all(self) -> list[Trouble]:
        """Return what is wrong now, the oldest first."""
        rows = self._database.rows(
            "SELECT job, since, message, next_step, tries, retry FROM troubles ORDER BY since, job"
        )
        return [
            Trouble(job, _time(since), message, step, tries, _time(retry) if retry else None)
            for job, since, message, step, tries, retry in rows
        ]


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
