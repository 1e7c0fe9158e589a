"""The vectors and words of a store, in memory, to be searched many times.

A product of all vectors with one is exact, and up to some 100,000 mails faster than any index that
SQLite could keep of them. Which mails hold a word is asked of FTS5 once for each word and then
remembered: a common word costs it milliseconds, since it is in thousands of mails.
"""

from __future__ import annotations

import json
import math
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from numpy.typing import NDArray

    from daemon.store import Store

VERSION = "vectors"  # the note that the triggers in daemon.schema count up at each change
_DIMENSIONS = 384
_HALF_LIFE = 365 * 24 * 3600  # seconds
_WORDS = 64  # of a long mail that is asked about
_REMEMBERED = 4096  # words


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a store held at one moment; the arrays have one row for each mail.

    Attributes:
        version: Of the vectors, as the store numbers them.
        ids: The mails' ids, ascending.
        dates: When they were sent, in Unix time.
        matrix: Their vectors, float32, of length 1.
    """

    version: str
    ids: NDArray[np.int64]
    dates: NDArray[np.int64]
    matrix: NDArray[np.float32]
    _fresh: NDArray[np.float32] = field(repr=False)
    _rows: OrderedDict[str, NDArray[np.int64]] = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def of(cls, store: Store) -> Snapshot:
        """Read the vectors of a store."""
        version = store.note(VERSION)  # before the rows: what changes in between is read again
        rows = store.database.rows(
            "SELECT mails.id, mails.date, embeddings.vector FROM embeddings "
            "CROSS JOIN mails ON mails.id = embeddings.id ORDER BY embeddings.id"
        )
        vectors = np.frombuffer(b"".join(row[2] for row in rows), dtype=np.float32)
        dates = np.array([row[1] for row in rows], dtype=np.int64)
        ages = (dates.max(initial=0) - dates) / _HALF_LIFE
        return cls(
            version=version,
            ids=np.array([row[0] for row in rows], dtype=np.int64),
            dates=dates,
            matrix=vectors.reshape(-1, _DIMENSIONS),
            _fresh=np.exp2(-ages).astype(np.float32),
        )

    def meaning(self, vector: bytes) -> NDArray[np.float32]:
        """Return the cosine of each mail's vector with this one: float32, of length 1."""
        cosines: NDArray[np.float32] = self.matrix @ np.frombuffer(vector, dtype=np.float32)
        return cosines

    def closed(self, until: int | None, hidden: Collection[int]) -> NDArray[np.bool_]:
        """Tell which mails may not be found.

        Args:
            until: Unix time; the mails of this moment and later may not.
            hidden: The ids of others that may not.
        """
        late = np.zeros(len(self.ids), dtype=bool) if until is None else self.dates >= until
        return late | np.isin(self.ids, list(hidden)) if hidden else late

    def freshness(self, until: int | None) -> NDArray[np.float32]:
        """Return 1 for a mail of this moment, half of it for one of a year before, and so on."""
        if until is None or not len(self.ids) or until >= (newest := int(self.dates.max())):
            return self._fresh
        return self._fresh * np.float32(2 ** ((newest - until) / _HALF_LIFE))

    def words(self, query: str, store: Store) -> NDArray[np.float32]:
        """Return, for each mail, the weight of the query's words that it holds.

        A word that few mails hold weighs more (the inverse document frequency of BM25, Robertson
        and Zaragoza 2009). How often a mail holds it is not counted: mails are short.
        """
        weights = np.zeros(len(self.ids), dtype=np.float32)
        total = len(self.ids)
        for word in _words(query):
            rows = self._holding(word, store)
            if len(rows):
                weights[rows] += math.log(1 + (total - len(rows) + 0.5) / (len(rows) + 0.5))
        return weights

    def _holding(self, word: str, store: Store) -> NDArray[np.int64]:
        if word in self._rows:
            self._rows.move_to_end(word)
            return self._rows[word]
        # In quotes, nothing in a mail is FTS5's query language.
        found = store.database.row(
            "SELECT json_group_array(rowid) FROM words WHERE words MATCH ?", (f'"{word}"',)
        )
        ids = np.array(json.loads(found[0]) if found else [], dtype=np.int64)
        rows = np.searchsorted(self.ids, ids)
        rows, ids = rows[rows < len(self.ids)], ids[rows < len(self.ids)]
        known: NDArray[np.int64] = rows[self.ids[rows] == ids]  # others have no vector yet
        self._rows[word] = known
        if len(self._rows) > _REMEMBERED:
            self._rows.popitem(last=False)
        return known


class Snapshots:
    """The latest snapshot of each store, for as long as its vectors do not change."""

    def __init__(self) -> None:
        self._latest: dict[Path, Snapshot] = {}

    def of(self, store: Store) -> Snapshot:
        """Return what a store holds now."""
        known = self._latest.get(store.folder)
        if known is None or known.version != store.note(VERSION):
            known = self._latest[store.folder] = Snapshot.of(store)
        return known

    def forget(self) -> None:
        """Give the memory back."""
        self._latest.clear()


def _words(query: str) -> list[str]:
    found = dict.fromkeys(word.casefold() for word in re.findall(r"\w+", query))
    return list(found)[:_WORDS]
