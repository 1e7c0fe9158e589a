"""Which mails hold which words, and how old they are: asked once, then remembered.

A common word is in thousands of mails, and to list them takes milliseconds; bm25 of all words of a
request took 34 ms at 10,000 mails.
"""

from __future__ import annotations

import json
import math
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from trainer.confidential import secret_in

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from daemon.retrieval import Hit
    from daemon.store import Store

VERSION = "mails"  # the note that the triggers in daemon.schema count up at each change
_MOST = 64  # words of a long mail that is asked about
_REMEMBERED = 4096  # words
_NEVER = (1 << 63) - 1  # later than any mail


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a store's mails, as long as none comes or goes.

    Attributes:
        version: The note that was read before.
        total: How many mails there are.
        dates: When each was sent, in Unix time, at the place of its id.
        newest: When the newest was sent.
    """

    version: str
    total: int
    dates: NDArray[np.int64]
    newest: int
    _holding: OrderedDict[str, NDArray[np.int64]] = field(default_factory=OrderedDict)
    _secret: dict[str, bool] = field(default_factory=dict)  # by key

    @classmethod
    def of(cls, store: Store, version: str) -> Known:
        """Read it; the version was read before, so that what changes in between is read again."""
        ((ids, sent),) = store.database.rows(
            "SELECT json_group_array(id), json_group_array(date) FROM mails"
        )
        numbers, moments = (np.array(json.loads(found), dtype=np.int64) for found in (ids, sent))
        dates = np.full(numbers.max(initial=0) + 1, _NEVER, dtype=np.int64)
        dates[numbers] = moments
        return cls(version, len(numbers), dates, int(moments.max(initial=0)))

    def weights(self, query: str, store: Store) -> NDArray[np.float32]:
        """Return the weight of the query's words that each mail holds, at the place of its id.

        A word that few mails hold weighs more (the inverse document frequency of BM25, Robertson
        and Zaragoza 2009). How often a mail holds it is not counted: mails are short.
        """
        weights = np.zeros(len(self.dates), dtype=np.float32)
        for word in _words(query):
            ids = self._with(word, store)
            if len(ids):
                weights[ids] += math.log(1 + (self.total - len(ids) + 0.5) / (len(ids) + 0.5))
        return weights

    def secret(self, hit: Hit) -> bool:
        """Tell whether a mail that was found holds a secret."""
        if hit.key not in self._secret:
            self._secret[hit.key] = bool(secret_in(f"{hit.subject}\n{hit.text}"))
        return self._secret[hit.key]

    def _with(self, word: str, store: Store) -> NDArray[np.int64]:
        if word in self._holding:
            self._holding.move_to_end(word)
            return self._holding[word]
        # In quotes, nothing in a mail is FTS5's query language.
        found = store.database.row(
            "SELECT json_group_array(rowid) FROM words WHERE words MATCH ?", (f'"{word}"',)
        )
        ids = np.array(json.loads(found[0]) if found else [], dtype=np.int64)
        known: NDArray[np.int64] = ids[ids < len(self.dates)]  # one that came just now waits
        self._holding[word] = known
        if len(self._holding) > _REMEMBERED:
            self._holding.popitem(last=False)
        return known


class Words:
    """What is known of each store that was searched."""

    def __init__(self) -> None:
        self._known: dict[Path, Known] = {}

    def known(self, store: Store) -> Known:
        """Return what is known of a store's mails as they are now."""
        version = store.note(VERSION)
        known = self._known.get(store.folder)
        if known is None or known.version != version:
            known = self._known[store.folder] = Known.of(store, version)
        return known

    def forget(self) -> None:
        """Give the memory back."""
        self._known.clear()


def best(weights: NDArray[np.float32], most: int) -> list[int]:
    """Return the places of the highest weights above 0, at most so many, in no order.

    Of those that weigh alike, the last ones are taken.
    """
    places = np.flatnonzero(weights)
    for share in (0.5, 0.25):  # of thousands only the heaviest few need be sorted
        heavy = np.flatnonzero(weights > share * weights.max(initial=0))
        if len(heavy) >= most:
            places = heavy
            break
    if len(places) > most:
        places = places[np.argsort(weights[places], kind="stable")[-most:]]
    found: list[int] = places.tolist()
    return found


def _words(query: str) -> list[str]:
    found = dict.fromkeys(word.casefold() for word in re.findall(r"\w+", query))
    return list(found)[:_MOST]
