"""The owner's earlier mails that come nearest to a request.

Meaning (embeddings) and words (FTS5) each score the mails; `daemon.ranking` makes one order of both
and of whom the draft is for. The vectors are kept in the store and searched in memory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from trainer.confidential import secret_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from daemon.progress import Progress
    from daemon.snapshot import Snapshot, Snapshots
    from daemon.store import Store

_BATCH = 32
_CANDIDATES = 32  # at the least: among so many, whom a mail was to decides
_EMBEDDER = "embedder"


class Vector(Protocol):
    """Numbers, for example a row of a NumPy array or an `array.array`."""

    def tobytes(self) -> bytes:
        """Return them as they lie in memory."""


class Embedder(Protocol):
    """What turns texts into vectors, for example `trainer.embedding.Embedder`."""

    @property
    def hash(self) -> str:
        """Names the model: vectors of different hashes cannot be compared."""

    def embed(self, texts: Sequence[str]) -> Iterable[Vector]:
        """Return one vector for each text: 384 float32, of length 1."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One mail that was found.

    Attributes:
        key: Its content hash.
        message_id: Its Message-ID without angle brackets.
        subject: Its subject.
        date: When it was sent.
        text: The owner's own words.
        score: The cosine of its embedding with the query's, from -1 to 1.
    """

    key: str
    message_id: str
    subject: str
    date: datetime
    text: str
    score: float


def missing(store: Store) -> int:
    """Count the mails that have no embedding yet; needs no embedder."""
    row = store.database.row(
        "SELECT (SELECT count(*) FROM mails) - (SELECT count(*) FROM embeddings)"
    )
    return int(row[0]) if row else 0


class Retrieval:
    """The index over one store.

    Args:
        store: The mails; open for writing where `index` is to be called.
        embedder: What turns texts into vectors.
        threshold: No mail whose cosine with the query is lower is found.
        snapshots: Where vectors are kept in memory, to be used again by the next index of the
            store; by default they go with this one.
    """

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        *,
        threshold: float = 0.2,
        snapshots: Snapshots | None = None,
    ) -> None:
        self._database = store.database
        self._store = store
        self._embedder = embedder
        self._threshold = threshold
        self._snapshots = snapshots

    def index(self, progress: Progress | None = None) -> int:
        """Embed the mails that have no embedding yet; return how many there were.

        Each batch is kept when it is done: interrupted, the next call goes on behind it. A mail
        is embedded once, for mails of equal content are one mail.
        """
        if self._store.note(_EMBEDDER) != self._embedder.hash:
            with self._database.transaction():
                self._database.execute("DELETE FROM embeddings")
                self._store.set_note(_EMBEDDER, self._embedder.hash)
        rows = self._database.rows(
            "SELECT id FROM mails WHERE id NOT IN (SELECT id FROM embeddings) "
            "ORDER BY length(text), id"
        )
        numbers = [number for (number,) in rows]
        for start in range(0, len(numbers), _BATCH):
            self._embed(numbers[start : start + _BATCH])
            if progress:
                progress("embedding", min(start + _BATCH, len(numbers)), len(numbers))
        return len(numbers)

    def search(
        self,
        query: str,
        k: int,
        *,
        to: Collection[str] = (),
        before: datetime | None = None,
        exclude: Collection[str] = (),
        secrets: bool = False,
    ) -> list[Hit]:
        """Return at most ``k`` mails, the best first.

        Args:
            query: An instruction, a subject or the text of a mail that is answered.
            k: How many.
            to: The addresses that the draft is for: of mails that fit alike, those to the same
                people come first, then those to their domains.
            before: Only mails that were sent before this moment, aware. Whoever asks about a mail
                passes its date, so that neither it nor what came after it is found.
            exclude: The keys of mails that shall not be found.
            secrets: Mails that hold a secret are found as well: for their owner's eyes, never for
                a prompt, since a model may repeat what it is shown.
        """
        if k < 1 or not query.strip() or self._store.note(_EMBEDDER) != self._embedder.hash:
            return []
        from daemon import ranking

        snapshot = self._snapshot()
        cosines = snapshot.meaning(next(iter(self._embedder.embed([query]))).tobytes())
        until = int(before.timestamp()) if before else None
        scores = ranking.relevance(
            cosines,
            snapshot.words(query, self._store),
            snapshot.freshness(until),
            (cosines < self._threshold) | snapshot.closed(until, self._numbers(exclude)),
        )
        rows = ranking.best(scores, max(4 * k, _CANDIDATES))
        numbers = snapshot.ids[rows].tolist()
        gains = self._gains(numbers, to)
        points = {
            n: s + gains.get(n, 0) for n, s in zip(numbers, scores[rows].tolist(), strict=True)
        }
        order = sorted(numbers, key=lambda number: (-points[number], number))
        known = dict(zip(numbers, cosines[rows].tolist(), strict=True))
        found: list[Hit] = []
        for start in range(0, len(order), k):  # nearly always the first k are all
            hits = self._hits(order[start : start + k], known)
            found += (hit for hit in hits if secrets or not secret_in(f"{hit.subject}\n{hit.text}"))
            if len(found) >= k:
                break
        return found[:k]

    def recipients(self, key: str) -> tuple[str, ...]:
        """Return the addresses that the mail of a key was to; none where it is not in the store."""
        mail = self._store.mail(key)
        return tuple(one.email for one in (*mail.to, *mail.cc)) if mail else ()

    def _embed(self, numbers: list[int]) -> None:
        rows = self._database.rows(
            "SELECT id, subject || char(10) || text FROM mails "
            "WHERE id IN (SELECT value FROM json_each(?)) ORDER BY length(text), id",
            (json.dumps(numbers),),
        )
        vectors = self._embedder.embed([text for _, text in rows])
        with self._database.transaction():
            for (number, _), vector in zip(rows, vectors, strict=True):
                self._database.execute(
                    "INSERT INTO embeddings (id, vector) VALUES (?, ?)", (number, vector.tobytes())
                )

    def _snapshot(self) -> Snapshot:
        from daemon.snapshot import Snapshots

        self._snapshots = self._snapshots or Snapshots()
        return self._snapshots.of(self._store)

    def _gains(self, numbers: Iterable[int], to: Collection[str]) -> dict[int, float]:
        from daemon import ranking

        if not to:
            return {}
        rows = self._database.rows(
            "SELECT id, recipients, copies FROM mails WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(numbers)),),
        )
        return {
            number: ranking.kinship([email for text in texts for _, email in json.loads(text)], to)
            for number, *texts in rows
        }

    def _numbers(self, keys: Collection[str]) -> list[int]:
        if not keys:
            return []
        rows = self._database.rows(
            "SELECT id FROM mails WHERE key IN (SELECT value FROM json_each(?))",
            (json.dumps(list(keys)),),
        )
        return [number for (number,) in rows]

    def _hits(self, numbers: Sequence[int], cosines: Mapping[int, float]) -> list[Hit]:
        rows = self._database.rows(
            "SELECT id, key, message_id, subject, date, text FROM mails "
            "WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(numbers),),
        )
        hits = {
            number: Hit(key, mid, subject, datetime.fromtimestamp(date, UTC), text, cosines[number])
            for number, key, mid, subject, date, text in rows
        }
        return [hits[number] for number in numbers if number in hits]
