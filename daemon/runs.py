"""The last runs: when a sync, a training or an evaluation took place, and how it ended."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from daemon.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.database import Database


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        kind: ``sync``, ``train`` or ``evaluate``.
        started: When it began.
        ended: None while it runs, and where it was killed.
        outcome: What it came to, or ``{"error": …}`` with the kind of the fault; None until it
            ended.
    """

    kind: str
    started: datetime
    ended: datetime | None
    outcome: dict[str, Any] | None


class Runs:
    """The runs of one account.

    Args:
        database: The account's database.
        clock: Tells the time.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    @contextmanager
    def recorded(self, kind: str) -> Iterator[dict[str, Any]]:
        """Record a run of the block; what the block puts into the dictionary is its outcome."""
        row = self._database.row(
            "INSERT INTO runs (kind, started) VALUES (?, ?) RETURNING id", (kind, self._now())
        )
        number = row[0] if row else 0
        outcome: dict[str, Any] = {}
        try:
            yield outcome
        except BaseException as error:
            # The fault itself matters more than that it could not be recorded as well.
            with suppress(StoreError, OSError):
                self._end(number, {"error": type(error).__name__})
            raise
        self._end(number, outcome)

    def newest(self, count: int = 10, *, kind: str = "") -> list[Run]:
        """Return the newest runs, of one kind or of all, the newest first."""
        rows = self._database.rows(
            "SELECT kind, started, ended, outcome FROM runs WHERE ?1 IN ('', kind) "
            "ORDER BY id DESC LIMIT ?2",
            (kind, count),
        )
        return [
            Run(
                kind,
                datetime.fromtimestamp(started, UTC),
                None if ended is None else datetime.fromtimestamp(ended, UTC),
                None if outcome is None else json.loads(outcome),
            )
            for kind, started, ended, outcome in rows
        ]

    def latest(self) -> list[Run]:
        """Return the newest run of each kind, the newest first."""
        kinds = self._database.rows("SELECT kind FROM runs GROUP BY kind ORDER BY max(id) DESC")
        return [run for (kind,) in kinds for run in self.newest(1, kind=kind)]

    def drop(self, older_than: timedelta) -> None:
        """Drop what began so long ago."""
        self._database.execute(
            "DELETE FROM runs WHERE started < ?", (self._now() - int(older_than.total_seconds()),)
        )

    def _end(self, number: int, outcome: dict[str, Any]) -> None:
        self._database.execute(
            "UPDATE runs SET ended = ?, outcome = ? WHERE id = ?",
            (self._now(), json.dumps(outcome), number),
        )

    def _now(self) -> int:
        return int(self._clock().timestamp())
