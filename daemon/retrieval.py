"""The owner's earlier mails that come nearest to a request.

Meaning (embeddings, sqlite-vec) and words (FTS5, bm25) each rank the mails; the ranks are joined
by reciprocal rank fusion (Cormack, Clarke and Büttcher 2009, k = 60). The vectors are searched by
the signs of their components, which is several times faster than by all of their bytes, and the
nearest are then scored exactly.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from daemon.progress import Progress
    from daemon.store import Store

_RANK_OFFSET = 60
_BATCH = 32
_OVERSAMPLING = 10  # signs alone rank coarsely: so many times more are scored exactly
_AT_LEAST = 64
_MOST = 4096  # the limit of sqlite-vec
_TERMS = 64  # of a long mail that is asked about
_EMBEDDER = "embedder"
_END_OF_TIME = 1 << 62


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
    """

    def __init__(self, store: Store, embedder: Embedder, *, threshold: float = 0.2) -> None:
        self._database = store.database
        self._store = store
        self._embedder = embedder
        self._threshold = threshold

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
        before: datetime | None = None,
        exclude: Collection[str] = (),
    ) -> list[Hit]:
        """Return at most ``k`` mails, the best first.

        Args:
            query: An instruction, a subject or the text of a mail that is answered.
            k: How many.
            before: Only mails that were sent before this moment, aware. Whoever asks about a mail
                passes its date, so that neither it nor what came after it is found.
            exclude: The keys of mails that shall not be found.
        """
        if k < 1 or not query.strip() or self._store.note(_EMBEDDER) != self._embedder.hash:
            return []
        vector = next(iter(self._embedder.embed([query]))).tobytes()
        until = int(before.timestamp()) if before else _END_OF_TIME
        wanted = min(max(_OVERSAMPLING * (k + len(exclude)), _AT_LEAST), _MOST)
        by_meaning = self._nearest(vector, wanted, until)
        by_words = self._matching(query, wanted, until)
        scores = self._scores(vector, {*by_meaning, *by_words})
        order = _fused(sorted(by_meaning, key=lambda i: -scores.get(i, -1)), by_words)
        near = [i for i in order if i in scores and scores[i] >= self._threshold]
        return self._hits(near, scores, exclude)[:k]

    def _embed(self, numbers: list[int]) -> None:
        rows = self._database.rows(
            "SELECT id, date, subject || char(10) || text FROM mails "
            "WHERE id IN (SELECT value FROM json_each(?)) ORDER BY length(text), id",
            (json.dumps(numbers),),
        )
        vectors = self._embedder.embed([text for _, _, text in rows])
        with self._database.transaction():
            for (number, date, _), vector in zip(rows, vectors, strict=True):
                self._database.execute(
                    "INSERT INTO embeddings (id, date, bits, vector) "
                    "VALUES (?1, ?2, vec_quantize_binary(vec_f32(?3)), ?3)",
                    (number, date, vector.tobytes()),
                )

    def _nearest(self, vector: bytes, wanted: int, until: int) -> list[int]:
        rows = self._database.rows(
            "SELECT id FROM embeddings WHERE bits MATCH vec_quantize_binary(vec_f32(?)) "
            "AND k = ? AND date < ?",
            (vector, wanted, until),
        )
        return [number for (number,) in rows]

    def _matching(self, query: str, wanted: int, until: int) -> list[int]:
        words = _quoted(query)
        if not words:
            return []
        rows = self._database.rows(
            "SELECT mails.id FROM words JOIN mails ON mails.id = words.rowid "
            "WHERE words MATCH ? AND mails.date < ? ORDER BY bm25(words), mails.id LIMIT ?",
            (words, until, wanted),
        )
        return [number for (number,) in rows]

    def _scores(self, vector: bytes, numbers: Collection[int]) -> dict[int, float]:
        rows = self._database.rows(
            "SELECT id, 1 - vec_distance_cosine(vector, ?) FROM embeddings "
            "WHERE id IN (SELECT value FROM json_each(?))",
            (vector, json.dumps(sorted(numbers))),
        )
        return {number: float(score) for number, score in rows if score is not None}

    def _hits(
        self, numbers: Iterable[int], scores: dict[int, float], exclude: Collection[str]
    ) -> list[Hit]:
        order = list(numbers)
        rows = self._database.rows(
            "SELECT id, key, message_id, subject, date, text FROM mails "
            "WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(order),),
        )
        hits = {
            number: Hit(key, mid, subject, datetime.fromtimestamp(date, UTC), text, scores[number])
            for number, key, mid, subject, date, text in rows
            if key not in exclude
        }
        return [hits[number] for number in order if number in hits]


def _fused(*rankings: Iterable[int]) -> list[int]:
    points: defaultdict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, number in enumerate(ranking, 1):
            points[number] += 1 / (_RANK_OFFSET + rank)
    return sorted(points, key=lambda number: (-points[number], number))


def _quoted(query: str) -> str:
    # Each word in quotes is a plain term: nothing in a mail is FTS5's query language.
    words = dict.fromkeys(word.casefold() for word in re.findall(r"\w+", query))
    return " OR ".join(f'"{word}"' for word in list(words)[:_TERMS])
