"""The owner's earlier mails that come nearest to a request.

Meaning (embeddings, sqlite-vec) and words (FTS5) each name candidates; `daemon.ranking` makes one
order of both and of whom the draft is for. The vectors are searched by a few bits of each
component, which is faster than by all of their bytes; the candidates' cosines are then exact.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from daemon.schema import levels

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from daemon.progress import Progress
    from daemon.store import Store
    from daemon.words import Known, Words

_BATCH = 32
_OVERSAMPLING = 4  # bits rank coarsely: so many times more are scored exactly
_AT_LEAST = 40
_MOST = 4096  # the limit of sqlite-vec
_MAPPED = 1 << 30  # bytes of the database
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


def candidates_for(k: int) -> int:
    """Return how many mails each of meaning and words names where ``k`` are wanted."""
    return min(max(_OVERSAMPLING * k, _AT_LEAST), _MOST)


def missing(store: Store) -> int:
    """Count the mails that have no embedding yet; needs no embedder."""
    row = store.database.row("SELECT (SELECT count(*) FROM mails) - (SELECT count(*) FROM vectors)")
    return int(row[0]) if row else 0


class Retrieval:
    """The index over one store.

    Args:
        store: The mails; open for writing where `index` is to be called.
        embedder: What turns texts into vectors.
        threshold: No mail whose cosine with the query is lower is found.
        words: Where it is remembered which mails hold which words, for the next index of the store;
            by default it goes with this one.
    """

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        *,
        threshold: float = 0.2,
        words: Words | None = None,
    ) -> None:
        self._database = store.database
        self._store = store
        self._embedder = embedder
        self._threshold = threshold
        self._words = words
        self._mapped = False

    def index(self, progress: Progress | None = None) -> int:
        """Embed the mails that have no embedding yet; return how many there were.

        Each batch is kept when it is done: interrupted, the next call goes on behind it. A mail
        is embedded once, for mails of equal content are one mail.
        """
        if self._store.note(_EMBEDDER) != self._embedder.hash:
            with self._database.transaction():
                self._database.execute("DELETE FROM vectors")
                self._database.execute("DELETE FROM embeddings")
                self._store.set_note(_EMBEDDER, self._embedder.hash)
        rows = self._database.rows(
            "SELECT id FROM mails WHERE id NOT IN (SELECT id FROM vectors) "
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
        import numpy as np

        from daemon.words import Words, best

        vector = next(iter(self._embedder.embed([query]))).tobytes()
        until = int(before.timestamp()) if before else None
        self._words = self._words or Words()
        known = self._words.known(self._store)
        words = self._weights(query, known, until, exclude)
        wanted = candidates_for(k)
        near = self._near(vector, wanted, until, exclude, best(words, wanted))
        # A mail that came after the words were weighed waits for the next search.
        near = near.of((near.cosines >= self._threshold) & (near.numbers < len(words)))
        points = self._points(near, words, known, until, to)
        ranked = near.of(np.lexsort((near.numbers, -points)))
        found: list[Hit] = []
        for start in range(0, len(ranked.numbers), k):  # nearly always the first k are all
            hits = self._hits(ranked.of(slice(start, start + k)))
            found += (hit for hit in hits if secrets or not known.secret(hit))
            if len(found) >= k:
                break
        return found[:k]

    def recipients(self, key: str) -> tuple[str, ...]:
        """Return the addresses that the mail of a key was to; none where it is not in the store."""
        mail = self._store.mail(key)
        return tuple(one.email for one in (*mail.to, *mail.cc)) if mail else ()

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
                    "INSERT INTO vectors (id, vector) VALUES (?, ?)", (number, vector.tobytes())
                )
                self._database.execute(
                    f"INSERT INTO embeddings (id, date, bits) VALUES (?1, ?2, {levels('?3')})",  # noqa: S608
                    (number, date, vector.tobytes()),
                )

    def _near(
        self,
        vector: bytes,
        wanted: int,
        until: int | None,
        exclude: Collection[str],
        others: Collection[int] = (),
    ) -> _Near:
        """Return the mails whose vectors have the most bits in common with this one, and others."""
        import numpy as np

        self._map()
        limits = ""
        if until is not None:
            limits += " AND date < :until"
        if exclude:
            limits += (
                " AND id IN (SELECT id FROM mails "
                "WHERE key NOT IN (SELECT value FROM json_each(:exclude)))"
            )
        rows = self._database.rows(
            "SELECT id, vector FROM vectors WHERE id IN ("  # noqa: S608
            f"SELECT id FROM embeddings WHERE bits MATCH {levels(':vector')} AND k = :k{limits} "
            "UNION ALL SELECT value FROM json_each(:others))",
            {
                "vector": vector,
                "k": wanted,
                "until": until,
                "exclude": json.dumps(list(exclude)),
                "others": json.dumps(list(others)),
            },
        )
        vectors = np.frombuffer(b"".join(found for _, found in rows), dtype=np.float32)
        query = np.frombuffer(vector, dtype=np.float32)
        return _Near(
            np.array([number for number, _ in rows], dtype=np.int64),
            vectors.reshape(-1, len(query)) @ query,
        )

    def _map(self) -> None:
        """Let SQLite map the file: a search reads all bits, and its own cache holds fewer.

        A mapped file whose disk fails ends the process. So only what searches maps it, which is the
        model process, never what has mail in hand.
        """
        if not self._mapped:
            self._database.execute(f"PRAGMA mmap_size = {_MAPPED}")
            self._mapped = True

    def _weights(
        self, query: str, known: Known, until: int | None, exclude: Collection[str]
    ) -> NDArray[np.float32]:
        """Return the weight of each mail's words by its id, 0 for what may not be found."""
        weights = known.weights(query, self._store)
        if until is not None:
            weights[known.dates >= until] = 0
        if exclude:
            rows = self._database.rows(
                "SELECT id FROM mails WHERE key IN (SELECT value FROM json_each(?))",
                (json.dumps(list(exclude)),),
            )
            weights[[number for (number,) in rows if number < len(weights)]] = 0
        return weights

    def _points(
        self,
        near: _Near,
        words: NDArray[np.float32],
        known: Known,
        until: int | None,
        to: Collection[str],
    ) -> NDArray[np.float64]:
        """Return how well each of these mails serves."""
        from daemon import ranking

        moment = known.newest if until is None else min(until, known.newest)
        points = ranking.relevance(
            near.cosines,
            words[near.numbers],
            ranking.freshness(known.dates[near.numbers], moment),
        )
        if not to:
            return points
        rows = self._database.rows(
            "SELECT id, recipients, copies FROM mails WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(near.numbers.tolist()),),
        )
        gains = {number: ranking.kinship(_emails(*fields), to) for number, *fields in rows}
        return points + [gains.get(number, 0.0) for number in near.numbers.tolist()]

    def _hits(self, ranked: _Near) -> list[Hit]:
        numbers = ranked.numbers.tolist()
        rows = self._database.rows(
            "SELECT id, key, message_id, subject, date, text FROM mails "
            "WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(numbers),),
        )
        cosines = dict(zip(numbers, ranked.cosines.tolist(), strict=True))
        hits = {
            number: Hit(key, mid, subject, datetime.fromtimestamp(date, UTC), text, cosines[number])
            for number, key, mid, subject, date, text in rows
        }
        return [hits[number] for number in numbers if number in hits]


@dataclass(frozen=True, slots=True)
class _Near:
    """Mails by their ids, and the cosines of their vectors with the query's."""

    numbers: NDArray[np.int64]
    cosines: NDArray[np.float32]

    def of(self, which: NDArray[np.bool_] | NDArray[np.int64] | slice) -> _Near:
        """Return those, or these in that order."""
        return _Near(self.numbers[which], self.cosines[which])


def _emails(*fields: str) -> list[str]:
    return [email for field in fields for _, email in json.loads(field)]
