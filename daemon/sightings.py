"""How far the requests folder was read, and what in it does not count."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from connectors.base import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.database import Database

SCHEMA = """
-- Messages in the requests folder that do not count, and why. One that is not final may still be
-- proven to be the owner's.
CREATE TABLE refusals (
  uidvalidity INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  reason TEXT NOT NULL,
  final INTEGER NOT NULL,
  created INTEGER NOT NULL,
  PRIMARY KEY (uidvalidity, uid)
) STRICT, WITHOUT ROWID;

-- How far the requests folder was read, and its UIDNEXT when that reading began: one row.
CREATE TABLE requests_cursor (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  uidvalidity INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  backlog INTEGER NOT NULL
) STRICT;
"""


WITHHELD = "the server does not give it"
"""Why a message does not count that the folder lists and that cannot be had."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How far the requests folder was read.

    Attributes:
        cursor: The last message that was judged.
        backlog: What has a lower UID was there before the reading under this UIDVALIDITY began.
    """

    cursor: Cursor
    backlog: int


class Sightings:
    """What was seen in the requests folder of one account.

    Args:
        database: The account's database, whose migrations hold `SCHEMA`.
        clock: Tells the time.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def reading(self, uidvalidity: int, uidnext: int) -> Reading:
        """Return how far the folder was read; begin anew where its UIDVALIDITY is another one.

        Then all is read again, so what was refused under the old UIDVALIDITY is forgotten.
        """
        row = self._database.row(
            "SELECT uid, backlog FROM requests_cursor WHERE uidvalidity = ?", (uidvalidity,)
        )
        if row is None:
            row = (0, uidnext)
            with self._database.transaction():
                self._database.execute("DELETE FROM refusals")
                self._database.execute(
                    "INSERT OR REPLACE INTO requests_cursor VALUES (1, ?, ?, ?)",
                    (uidvalidity, *row),
                )
        return Reading(Cursor(uidvalidity, row[0]), row[1])

    def advance(self, cursor: Cursor) -> None:
        """Remember how far the folder was read; that never goes back."""
        self._database.execute(
            "UPDATE requests_cursor SET uid = max(uid, ?) WHERE uidvalidity = ?",
            (cursor.uid, cursor.uidvalidity),
        )

    def refuse(self, place: Cursor, reason: str, *, final: bool) -> None:
        """Remember that a message does not count; the time when it was first judged stays."""
        now = int(self._clock().timestamp())
        self._database.execute(
            "INSERT INTO refusals VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET "
            "reason = ?3, final = ?4, created = iif(reason = ?6, ?5, created)",
            (place.uidvalidity, place.uid, reason, final, now, WITHHELD),
        )

    def accept(self, place: Cursor) -> None:
        """Forget that a message did not count."""
        self._database.execute(
            "DELETE FROM refusals WHERE uidvalidity = ? AND uid = ?", (place.uidvalidity, place.uid)
        )

    def unproven(self, uidvalidity: int) -> dict[int, datetime]:
        """Return the UIDs of messages that may still count, and when each was first seen."""
        rows = self._database.rows(
            "SELECT uid, created FROM refusals WHERE uidvalidity = ? AND NOT final ORDER BY uid",
            (uidvalidity,),
        )
        return {uid: datetime.fromtimestamp(created, UTC) for uid, created in rows}

    def withheld(self, uidvalidity: int) -> set[int]:
        """Return the UIDs of messages that the folder listed and did not give."""
        rows = self._database.rows(
            "SELECT uid FROM refusals WHERE uidvalidity = ? AND NOT final AND reason = ?",
            (uidvalidity, WITHHELD),
        )
        return {uid for (uid,) in rows}

    def refusals(self) -> dict[str, int]:
        """Count what does not count, by reason, the most frequent first."""
        return dict(
            self._database.rows(
                "SELECT reason, count(*) FROM refusals GROUP BY reason ORDER BY 2 DESC, 1"
            )
        )
