"""The journal of requests: it, and not a mailbox's flags, decides what was done and what is due.

A request goes ``new → generated → appending → appended → marked → done``, or is ``parked`` with a
reason. Each function below is one transaction. What is in the outbox was composed once and is
appended byte for byte, however often that takes; see `daemon.delivery`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from connectors.base import Cursor
from connectors.raw import message_id
from daemon import sightings
from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.database import Database

_REQUESTS = """
-- What the owner asked for; uidvalidity and uid are where the request was last seen. Times are
-- Unix time in seconds. settled: the request bears its flag, and the note beside it, if any, is
-- there; nothing is left to do.
CREATE TABLE requests (
  key TEXT PRIMARY KEY,
  message_id TEXT NOT NULL,
  uidvalidity INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  asked TEXT NOT NULL,
  state TEXT NOT NULL
    CHECK (state IN ('new', 'generated', 'appending', 'appended', 'marked', 'done', 'parked')),
  reason TEXT NOT NULL,
  settled INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  created INTEGER NOT NULL,
  changed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_unsettled ON requests (created) WHERE NOT settled;

-- What is to be appended: a request's draft, or a note about it. uidvalidity and uidnext are those
-- of the folder before the last APPEND; attempts counts the APPENDs.
CREATE TABLE outbox (
  message_id TEXT PRIMARY KEY,
  key TEXT NOT NULL REFERENCES requests (key),
  kind TEXT NOT NULL CHECK (kind IN ('draft', 'note')),
  raw BLOB NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('generated', 'appending', 'appended')),
  uidvalidity INTEGER NOT NULL,
  uidnext INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  changed INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_key ON outbox (key);
"""

_REQUEST_COLUMNS = (
    "key, message_id, uidvalidity, uid, asked, state, reason, settled, attempts, created, changed, "
    "trouble, digest"
)
_PARCEL_COLUMNS = "message_id, key, kind, raw, state, uidvalidity, uidnext, attempts"

SCHEMA = _REQUESTS + sightings.SCHEMA

TROUBLE = """
-- What kept a request from going on when it was last tried, '' for nothing.
ALTER TABLE requests ADD COLUMN trouble TEXT NOT NULL DEFAULT '';
"""

DIGEST = """
-- What a request says, as a digest, '' for those that were entered before this was kept: of one
-- Message-ID there may be several requests.
ALTER TABLE requests ADD COLUMN digest TEXT NOT NULL DEFAULT '';
"""

REPORT = """
-- As before, and the report of a training, which belongs to no request: its key is NULL. What was
-- refused is due again at a Unix time.
CREATE TABLE parcels (
  message_id TEXT PRIMARY KEY,
  key TEXT REFERENCES requests (key),
  kind TEXT NOT NULL CHECK (kind IN ('draft', 'note', 'report')),
  raw BLOB NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('generated', 'appending', 'appended')),
  uidvalidity INTEGER NOT NULL,
  uidnext INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  changed INTEGER NOT NULL,
  due INTEGER NOT NULL DEFAULT 0,
  CHECK ((key IS NULL) = (kind = 'report'))
) STRICT;
INSERT INTO parcels SELECT *, 0 FROM outbox;
DROP TABLE outbox;
ALTER TABLE parcels RENAME TO outbox;
CREATE INDEX outbox_key ON outbox (key);
"""


class State(StrEnum):
    """How far a request, or what is in the outbox, has come."""

    NEW = "new"
    GENERATED = "generated"
    APPENDING = "appending"
    APPENDED = "appended"
    MARKED = "marked"
    DONE = "done"
    PARKED = "parked"


class Kind(StrEnum):
    """What is in the outbox."""

    DRAFT = "draft"
    NOTE = "note"
    REPORT = "report"


class TransitionError(DaemonError):
    """A request is not in the state that a step begins from."""

    def __init__(self, name: str, state: State) -> None:
        super().__init__(f"the journal's entry {name} cannot become {state.value} now")
        self.name, self.state = name, state


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        key: Names it: 64 hex digits.
        message_id: Its Message-ID, "" if it has none.
        place: UIDVALIDITY and UID where it was last seen.
        asked: What was asked, as JSON; "" once the draft's bytes are stored, or if it was never
            understood.
        state: How far it has come.
        reason: Why it is parked, or what its owner should know about its draft; "" for nothing.
        settled: Nothing is left to do.
        attempts: How often its present step was tried: the writer asked, or a refusal met.
        created: When it was first seen.
        changed: When its state changed last.
        trouble: What kept it from going on when it was last tried, "" for nothing.
        digest: A digest of what it says, "" if that is not known.
    """

    key: str
    message_id: str
    place: Cursor
    asked: str
    state: State
    reason: str
    settled: bool
    attempts: int
    created: datetime
    changed: datetime
    trouble: str
    digest: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message in the outbox.

    Attributes:
        message_id: Its Message-ID.
        key: The request it belongs to, "" for a report.
        kind: A draft, a note or a training's report.
        raw: Its bytes.
        state: ``generated``, ``appending`` or ``appended``.
        uidvalidity: The folder's UIDVALIDITY before the last APPEND; 0 before the first.
        uidnext: The folder's UIDNEXT then.
        attempts: How many APPENDs were begun.
    """

    message_id: str
    key: str
    kind: Kind
    raw: bytes
    state: State
    uidvalidity: int
    uidnext: int
    attempts: int


class Journal:
    """The requests and the outbox of one account.

    Args:
        database: The account's database, whose migrations hold `SCHEMA`.
        clock: Tells the time.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    # Requests

    def find(self, key: str) -> Request | None:
        """Return the request of this key."""
        return next(iter(self._requests("WHERE key = ?", key)), None)

    def unsettled(self) -> list[str]:
        """Return the keys of the requests that something is left to do for, the oldest first."""
        rows = self._database.rows(
            "SELECT key FROM requests WHERE NOT settled ORDER BY created, key"
        )
        return [key for (key,) in rows]

    def newest(self, count: int = 10, *, state: State | None = None) -> list[Request]:
        """Return the newest requests, of one state or of all, the newest first."""
        return self._requests(
            "WHERE ?1 IN ('', state) ORDER BY created DESC, key LIMIT ?2", state or "", count
        )

    def counts(self) -> dict[State, int]:
        """Count the requests by state."""
        rows = self._database.rows("SELECT state, count(*) FROM requests GROUP BY state")
        return {State(state): number for state, number in rows}

    def open(self, key: str, name: str, place: Cursor, asked: str, digest: str = "") -> None:
        """Enter a new request; ``name`` is its Message-ID, ``digest`` that of what it says."""
        self._database.execute(
            "INSERT INTO requests VALUES (?, ?, ?, ?, ?, 'new', '', 0, 0, ?6, ?6, '', ?7)",
            (key, name, place.uidvalidity, place.uid, asked, self._now(), digest),
        )

    def relocate(self, key: str, place: Cursor) -> None:
        """Remember where a request is now."""
        self._database.execute(
            "UPDATE requests SET uidvalidity = ?, uid = ? WHERE key = ?",
            (place.uidvalidity, place.uid, key),
        )

    def reopen(self, key: str, asked: str) -> None:
        """Take up a parked request again, with the draft that was written for it, if any."""
        self._move(
            key,
            State.PARKED,
            "CASE WHEN EXISTS (SELECT 1 FROM outbox WHERE outbox.key = requests.key"
            " AND kind = 'draft') THEN 'generated' ELSE 'new' END",
            "reason = '', settled = 0, asked = ?",
            asked,
        )

    def count_attempt(self, key: str) -> int:
        """Count a try of the present step, before it happens; return how often that makes."""
        row = self._database.row(
            "UPDATE requests SET attempts = attempts + 1 WHERE key = ? RETURNING attempts", (key,)
        )
        return int(row[0]) if row else 0

    def discount_attempt(self, key: str) -> None:
        """Take back an attempt that failed for a reason that lies outside the request."""
        self._database.execute("UPDATE requests SET attempts = attempts - 1 WHERE key = ?", (key,))

    def postpone(self, key: str, trouble: str) -> None:
        """Remember what kept a request from going on this time."""
        self._database.execute("UPDATE requests SET trouble = ? WHERE key = ?", (trouble, key))

    def generated(self, key: str, draft: bytes, reason: str = "", note: bytes = b"") -> None:
        """Store the draft's bytes, and those of a note with the reason she should know of."""
        with self._database.transaction():
            self._move(key, State.NEW, "'generated'", "asked = '', reason = ?", reason)
            self._put(key, Kind.DRAFT, draft)
            if note:
                self._put(key, Kind.NOTE, note)

    def mailed(self, key: str) -> None:
        """Remember that the draft was mailed instead of going into Drafts: it is never appended."""
        with self._database.transaction():
            self._move(key, State.GENERATED, "'appended'")
            self._database.execute("DELETE FROM outbox WHERE key = ? AND kind = 'draft'", (key,))

    def explain(self, key: str, reason: str, note: bytes = b"") -> None:
        """Add to what its owner should know about a request, and a note that says so."""
        with self._database.transaction():
            self._database.execute(
                "UPDATE requests SET reason = trim(reason || ' ' || ?) WHERE key = ?", (reason, key)
            )
            if note:
                self._put(key, Kind.NOTE, note)

    def marked(self, key: str) -> None:
        """Remember that the request bears its flag."""
        self._move(key, State.APPENDED, "'marked'")

    def done(self, key: str) -> None:
        """Close a request whose draft is in Drafts, and empty the outbox of it."""
        with self._database.transaction():
            self._move(key, State.MARKED, "'done'", "settled = 1, asked = ''")
            self._tidy(key)

    def park(self, key: str, reason: str, note: bytes) -> None:
        """Give up on a request for a reason; its flag and the note are still to come."""
        with self._database.transaction():
            changed = self._database.execute(
                "UPDATE requests SET state = 'parked', reason = ?, changed = ?, attempts = 0, "
                "trouble = '' WHERE key = ? AND state IN ('new', 'generated')",
                (reason, self._now(), key),
            )
            if not changed:
                raise TransitionError(key, State.PARKED)
            self._put(key, Kind.NOTE, note)

    def settled(self, key: str) -> None:
        """Close a parked request; its draft, if it has one, is kept."""
        with self._database.transaction():
            self._move(key, State.PARKED, "'parked'", "settled = 1")
            self._tidy(key)

    # The outbox

    def parcels(self, key: str, kind: Kind) -> list[Parcel]:
        """Return what the outbox holds for a request."""
        return self._parcels("WHERE key = ? AND kind = ? ORDER BY message_id", key, kind.value)

    def unanswered(self) -> list[Parcel]:
        """Return what an APPEND was begun for that had no clear answer."""
        return self._parcels("WHERE state = 'appending' ORDER BY message_id")

    def repeated(self) -> list[Parcel]:
        """Return what was appended in more than one attempt, so that there may be copies."""
        return self._parcels("WHERE attempts > 1 AND state = 'appended' ORDER BY message_id")

    def appending(self, parcel: Parcel, uidvalidity: int, uidnext: int) -> None:
        """Remember, before the APPEND, where the message will be found if the answer is lost."""
        self._move_parcel(
            parcel,
            (State.GENERATED, State.APPENDING),
            State.APPENDING,
            "uidvalidity = ?, uidnext = ?, attempts = attempts + 1",
            uidvalidity,
            uidnext,
        )

    def appended(self, parcel: Parcel) -> None:
        """Remember that the message is in its folder: it is never appended again."""
        self._move_parcel(parcel, (State.GENERATED, State.APPENDING), State.APPENDED)

    def not_appended(self, parcel: Parcel) -> None:
        """Remember that the message is not in its folder."""
        self._move_parcel(parcel, (State.APPENDING,), State.GENERATED)

    def forget_repeated(self, older_than: timedelta) -> None:
        """Drop what was appended so long ago that no late copy can come any more."""
        self._database.execute(
            "DELETE FROM outbox WHERE state = 'appended' AND changed < ? "
            "AND (key IS NULL OR key IN (SELECT key FROM requests WHERE settled))",
            (self._now() - int(older_than.total_seconds()),),
        )

    # Reports

    def put_report(self, raw: bytes) -> None:
        """Enter a training's report to be appended."""
        self._put(None, Kind.REPORT, raw)

    def reports(self, *, waiting: bool = False) -> list[Parcel]:
        """Return the reports that are to be appended now; those that still wait as well."""
        return self._parcels(
            "WHERE kind = 'report' AND state <> 'appended' AND (? OR due <= ?) ORDER BY rowid",
            waiting,
            self._now(),
        )

    def delay(self, parcel: Parcel, by: timedelta) -> None:
        """Put off what was refused."""
        self._database.execute(
            "UPDATE outbox SET due = ? WHERE message_id = ?",
            (self._now() + int(by.total_seconds()), parcel.message_id),
        )

    def drop_report(self, parcel: Parcel) -> None:
        """Give up on a report, or forget one that arrived at the first attempt."""
        self._database.execute(
            "DELETE FROM outbox WHERE message_id = ? AND kind = 'report' "
            "AND (state = 'generated' OR state = 'appended' AND attempts <= 1)",
            (parcel.message_id,),
        )

    def _put(self, key: str | None, kind: Kind, raw: bytes) -> None:
        self._database.execute(
            "INSERT OR IGNORE INTO outbox VALUES (?, ?, ?, ?, 'generated', 0, 0, 0, ?, 0)",
            (message_id(raw), key, kind.value, raw, self._now()),
        )

    def _tidy(self, key: str) -> None:
        """Drop what arrived at the first attempt, which has no copies, and notes nobody took."""
        self._database.execute(
            "DELETE FROM outbox WHERE key = ? AND (state = 'appended' AND attempts <= 1 "
            "OR state = 'generated' AND kind = 'note')",
            (key,),
        )

    def _move(
        self, key: str, before: State, after: str, assignments: str = "", *values: object
    ) -> None:
        comma = ", " if assignments else ""
        changed = self._database.execute(
            f"UPDATE requests SET state = {after}, changed = ?, attempts = 0, trouble = ''"  # noqa: S608
            f"{comma}{assignments} WHERE key = ? AND state = ?",
            (self._now(), *values, key, before.value),
        )
        if not changed:
            raise TransitionError(key, before)

    def _move_parcel(
        self,
        parcel: Parcel,
        before: tuple[State, ...],
        after: State,
        assignments: str = "",
        *values: object,
    ) -> None:
        comma = ", " if assignments else ""
        states = ", ".join(f"'{state.value}'" for state in before)
        with self._database.transaction():
            changed = self._database.execute(
                f"UPDATE outbox SET state = ?, changed = ?{comma}{assignments} "  # noqa: S608
                f"WHERE message_id = ? AND state IN ({states})",
                (after.value, self._now(), *values, parcel.message_id),
            )
            if not changed:
                raise TransitionError(parcel.message_id, after)
            if parcel.kind is Kind.DRAFT:  # the request goes with its draft
                arrived = ", attempts = 0, trouble = ''" if after is State.APPENDED else ""
                self._database.execute(
                    f"UPDATE requests SET state = ?, changed = ?{arrived} WHERE key = ?",  # noqa: S608
                    (after.value, self._now(), parcel.key),
                )

    def _requests(self, condition: str, *values: object) -> list[Request]:
        rows = self._database.rows(
            f"SELECT {_REQUEST_COLUMNS} FROM requests {condition}",  # noqa: S608
            values,
        )
        return [_request(row) for row in rows]

    def _parcels(self, condition: str, *values: object) -> list[Parcel]:
        rows = self._database.rows(
            f"SELECT {_PARCEL_COLUMNS} FROM outbox {condition}",  # noqa: S608
            values,
        )
        return [
            Parcel(name, key or "", Kind(kind), raw, State(state), *numbers)
            for name, key, kind, raw, state, *numbers in rows
        ]

    def _now(self) -> int:
        return int(self._clock().timestamp())


def _request(row: tuple[Any, ...]) -> Request:
    key, name, uidvalidity, uid, asked, state, reason, settled, attempts, *rest = row
    created, changed, trouble, digest = rest
    return Request(
        key=key,
        message_id=name,
        place=Cursor(uidvalidity, uid),
        asked=asked,
        state=State(state),
        reason=reason,
        settled=bool(settled),
        attempts=attempts,
        created=_time(created),
        changed=_time(changed),
        trouble=trouble,
        digest=digest,
    )


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
