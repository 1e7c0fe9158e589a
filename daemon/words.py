"""Which mails hold which words: asked of FTS5 once for each word, then remembered.

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

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from daemon.store import Store

VERSION = "mails"  # the note that the triggers in daemon.schema count up at each change
_MOST = 64  # words of a long mail that is asked about
_REMEMBERED = 4096  # words


@dataclass(frozen=True, slots=True)
class _Lists:
    """What is known of a store's words, as long as no mail comes or goes."""

    version: str
    total: int
    size: int  # above every id
    holding: OrderedDict[str, NDArray[np.int64]] = field(default_factory=OrderedDict)

    @classmethod
    def of(cls, store: Store) -> _Lists:
        version = store.note(VERSION)  # first: what changes in between is read again
        ((total, last),) = store.database.rows("SELECT count(*), max(id) FROM mails")
        return cls(version, total, (last or 0) + 1)


class Words:
    """The words of each store that was searched."""

    def __init__(self) -> None:
        self._known: dict[Path, _Lists] = {}

    def weights(self, query: str, store: Store) -> NDArray[np.float32]:
        """Return the weight of the query's words that each mail holds, at the place of its id.

        A word that few mails hold weighs more (the inverse document frequency of BM25, Robertson
        and Zaragoza 2009). How often a mail holds it is not counted: mails are short.
        """
        lists = self._lists(store)
        weights = np.zeros(lists.size, dtype=np.float32)
        for word in _words(query):
            ids = _holding(word, lists, store)
            if len(ids):
                weights[ids] += math.log(1 + (lists.total - len(ids) + 0.5) / (len(ids) + 0.5))
        return weights

    def forget(self) -> None:
        """Give the memory back."""
        self._known.clear()

    def _lists(self, store: Store) -> _Lists:
        known = self._known.get(store.folder)
        if known is None or known.version != store.note(VERSION):
            known = self._known[store.folder] = _Lists.of(store)
        return known


def best(weights: NDArray[np.float32], most: int) -> list[int]:
    """Return the places of the highest weights above 0, at most so many, in no order."""
    places = np.flatnonzero(weights)
    if len(places) > most:
        places = places[np.argpartition(weights[places], -most)[-most:]]
    found: list[int] = places.tolist()
    return found


def _holding(word: str, lists: _Lists, store: Store) -> NDArray[np.int64]:
    if word in lists.holding:
        lists.holding.move_to_end(word)
        return lists.holding[word]
    # In quotes, nothing in a mail is FTS5's query language.
    found = store.database.row(
        "SELECT json_group_array(rowid) FROM words WHERE words MATCH ?", (f'"{word}"',)
    )
    ids = np.array(json.loads(found[0]) if found else [], dtype=np.int64)
    known: NDArray[np.int64] = ids[ids < lists.size]  # one that came just now waits
    lists.holding[word] = known
    if len(lists.holding) > _REMEMBERED:
        lists.holding.popitem(last=False)
    return known


def _words(query: str) -> list[str]:
    found = dict.fromkeys(word.casefold() for word in re.findall(r"\w+", query))
    return list(found)[:_MOST]
