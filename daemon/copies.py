"""What stands in a draft a second time: words of mail to others, and its own closing.

A model that has learned her mail can repeat it, and what she told one person is not for another. A
run of tokens counts that is long enough not to be chance. What she writes to everybody, an address
or the way to her door, is no secret: a run that stands in mails to several people is left alone.

It is looked for by what is read of a text: its letters and digits. Case, line breaks and
punctuation may differ, and a run may begin and end within a word: a link, a long number or a
language without spaces is as much a copy as a sentence is.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.corpus import letter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from daemon.store import Store

    Spans = Callable[[str], Sequence[tuple[int, int]]]

RUN = 30
"""So many tokens of the model's of a mail to others, and it is a copy."""

_BLOCK = RUN // 2  # any run of RUN tokens holds one whole block of those that the draft is cut into
_COMMON = 3  # people to whom the owner wrote the same
_MAILS = 200  # looked at for each block
_FEW = 3  # words; fewer are in too many mails
_GAP = re.compile(r"[\W_]+")
_WHOLE_WORDS = re.compile(r"\s.*\s", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Read:
    """A text as it is read, in small letters, with one blank for all that is between words.

    Attributes:
        text: The letters, the digits and the blanks.
        places: Where each of them stands in the text itself, and how long that is.
    """

    text: str
    places: list[int]

    @classmethod
    def of(cls, text: str) -> _Read:
        found, places = [" "], [0]
        for place, one in enumerate(text):
            for char in one.casefold():
                if char.isalnum() or found[-1] != " ":
                    found.append(char if char.isalnum() else " ")
                    places.append(place)
        return cls("".join(found), [*places, len(text)])

    def between(self, start: int, stop: int) -> tuple[int, int]:
        """Return which of it stands between two places of the text."""
        return bisect_left(self.places, start), bisect_left(self.places, stop, hi=len(self.text))


def copied(
    text: str, store: Store, to: Collection[str], given: Iterable[str], spans: Spans
) -> list[str]:
    """Return the passages of a draft that stand in mails to others, in the order of the draft.

    No `RUN` tokens in a row that the owner wrote to other people only are outside of them.

    Args:
        text: The draft.
        store: The owner's mails.
        to: The addresses that the draft is for: what she wrote to them before, she may repeat.
        given: Texts that may be repeated: the instruction, the profile.
        spans: Returns where each token of a text begins and ends: see `trainer.prompt.spans`.
    """
    tokens = spans(text)
    read = _Read.of(text)
    runs = _runs(text, read, tokens, store)
    allowed = [_plain(one) for one in given]
    known = {one.casefold() for one in to}
    found: list[tuple[int, int]] = []
    for first in range(len(tokens) - RUN + 1):
        whom = [people for (start, stop), people in runs if start <= first <= stop - RUN]
        everybody = frozenset().union(*whom)
        if not whom or known & everybody or len(everybody) >= _COMMON:
            continue
        start, stop = tokens[first][0], tokens[first + RUN - 1][1]
        said = read.text[slice(*read.between(start, stop))]
        if not said.strip() or any(said in one for one in allowed):
            continue
        start, stop = _words(text, start, stop)
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return [text[start:stop] for start, stop in found]


def without(text: str, passages: Iterable[str], mark: str) -> str:
    """Return a text with a mark in the place of each passage."""
    for passage in sorted(passages, key=len, reverse=True):  # one may stand within another
        text = text.replace(passage, mark)
    return text


def closed_once(text: str) -> str:
    """Return a text that ends with its closing once, where a model has repeated it."""
    text = text.rstrip()
    closing = letter(text).closing
    while closing and (above := text[: -len(closing)].rstrip()).casefold().endswith(
        closing.casefold()
    ):
        text = above
    return text


def _runs(
    text: str, read: _Read, tokens: Sequence[tuple[int, int]], store: Store
) -> list[tuple[tuple[int, int], frozenset[str]]]:
    """Return which tokens of a draft stand in which mails, and to whom each of these was."""
    starts, stops = [one for one, _ in tokens], [one for _, one in tokens]
    found = set()
    for first in range(0, len(tokens) - _BLOCK + 1, _BLOCK):
        start, stop = starts[first], stops[first + _BLOCK - 1]
        # Words are looked up fastest, but a block has few whole ones where they are long.
        inner = _WHOLE_WORDS.search(text, start, stop)
        if inner and len(_GAP.sub(" ", inner[0]).split()) >= _FEW:
            mails, (start, stop) = store.mails_saying(inner[0], _MAILS), inner.span()
        else:
            mails = store.mails_with(text[start:stop], _MAILS)
        part = read.between(start, stop)
        for people, mail in mails:
            for begin, end in _around(read.text, *part, _plain(mail)):
                span = read.places[begin], read.places[end]
                found.add(((bisect_left(starts, span[0]), bisect_right(stops, span[1])), people))
    return list(found)


def _around(one: str, start: int, stop: int, other: str) -> Iterator[tuple[int, int]]:
    """Yield what of a text stands in another, around each place where a part of it does."""
    part = one[start:stop]
    at = other.find(part) if part.strip() else -1
    while at >= 0:
        before = _alike(one[:start][::-1], other[:at][::-1])
        yield start - before, stop + _alike(one[stop:], other[at + len(part) :])
        at = other.find(part, at + 1)


def _alike(one: str, other: str) -> int:
    """Return with how many equal characters two texts begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _plain(text: str) -> str:
    """Return a text as it is read."""
    return f" {_GAP.sub(' ', text.casefold()).strip()} "


def _words(text: str, start: int, stop: int) -> tuple[int, int]:
    """Return where the words begin and end that stand, if only in part, between two places."""
    while not text[start].isalnum():
        start += 1
    while not text[stop - 1].isalnum():
        stop -= 1
    while start and text[start - 1].isalnum():
        start -= 1
    while stop < len(text) and text[stop].isalnum():
        stop += 1
    return start, stop
