"""Texts that are nearly the same, found by MinHash (Broder 1997) and locality-sensitive hashing.

`datasketch` is the usual library for this. It needs scipy, which nothing else here does, and the
part that is wanted is the size of this module.
"""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Signature = NDArray[np.uint32]

NEAR = 0.8  # the Jaccard similarity of their shingles from which on two texts are one
SHINGLE = 3  # words
MIN_WORDS = 8  # of fewer, one other word makes another text

_HASHES = 100
# Two texts at NEAR share one of 12 bands of 5 hashes with a probability of 0.99; at 0.3, of 0.03.
_BANDS, _ROWS = 12, 5
_CANDIDATES = 64  # texts that one is compared with at most: keeps it linear

_random = random.Random("MinHash")


def _odd(*shape: int) -> NDArray[np.uint64]:
    numbers = [_random.getrandbits(64) | 1 for _ in range(int(np.prod(shape)))]
    return np.array(numbers, dtype=np.uint64).reshape(shape)


# Multiply and shift (Dietzfelbinger et al. 1997): an odd factor, and the high half of the product.
_FACTORS, _SUMMANDS = _odd(_HASHES), _odd(_HASHES)
_PLACES = _odd(SHINGLE, 1)
_MIXERS = _odd(_BANDS, _ROWS)


def leaders(texts: Sequence[Sequence[str]]) -> list[int]:
    """Return for each text the index of the first one that is nearly the same, or its own.

    Takes time and memory in proportion to the number of texts. Texts of fewer than `MIN_WORDS`
    words have to be equal.

    Args:
        texts: The words of each.
    """
    index = _Index()
    words = ([word.casefold() for word in text] for text in texts)
    return [index.leader(number, text) for number, text in enumerate(words)]


class _Index:
    """The leading texts so far."""

    def __init__(self) -> None:
        self._equal: dict[tuple[str, ...], int] = {}
        self._bands: defaultdict[int, list[int]] = defaultdict(list)
        self._signatures: dict[int, Signature] = {}

    def leader(self, number: int, words: list[str]) -> int:
        """Return the text of which this is a copy; a new one is taken into the index."""
        if len(words) < MIN_WORDS:
            return self._equal.setdefault(tuple(words), number)
        signature = _signature(words)
        bands = [self._bands[key] for key in _band_keys(signature)]
        near = self._nearest(signature, bands)
        if near is not None:
            return near
        self._signatures[number] = signature
        for band in bands:
            band.append(number)
        return number

    def _nearest(self, signature: Signature, bands: Sequence[Sequence[int]]) -> int | None:
        """Return the nearest of the texts in the same bands, None if none is near enough."""
        # Where thousands are half alike, the latest are looked at.
        found = {one for band in bands for one in band[-_CANDIDATES:]}
        if not found:
            return None
        candidates = sorted(found)[-_CANDIDATES:]
        known = np.stack([self._signatures[one] for one in candidates])
        alike = np.count_nonzero(known == signature, axis=1)
        best = int(alike.argmax())
        return candidates[best] if alike[best] >= NEAR * _HASHES else None


def _signature(words: Sequence[str]) -> Signature:
    """Return the least of each hash over all runs of `SHINGLE` words."""
    hashes = np.array([zlib.crc32(word.encode()) for word in words], dtype=np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(hashes, SHINGLE)
    shingles = (runs @ _PLACES).ravel()
    shingles ^= shingles >> np.uint64(32)
    mixed = shingles[:, None] * _FACTORS + _SUMMANDS
    signature: Signature = (mixed >> np.uint64(32)).min(axis=0).astype(np.uint32)
    return signature


def _band_keys(signature: Signature) -> list[int]:
    rows = signature[: _BANDS * _ROWS].reshape(_BANDS, _ROWS).astype(np.uint64)
    return (rows * _MIXERS).sum(axis=1).tolist()  # type: ignore[no-any-return]
