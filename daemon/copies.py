"""What stands in a draft a second time: words of mail to others, and its own closing.

A model that has learned her mail can repeat it, and what she told one person is not for another. A
run of words counts that is long enough not to be chance. What she writes to everybody, an address
or the way to her door, is no secret: a run that stands in mails to several people is left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.corpus import letter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from daemon.store import Store

RUN = 22  # words, which are about 30 tokens
_BLOCK = RUN // 2  # any run of RUN words holds one whole block of those that the draft is cut into
_COMMON = 3  # people to whom the owner wrote the same
_MAILS = 20  # looked at for each block
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text, in small letters, and where it stands."""

    text: str
    start: int
    stop: int


def copied(text: str, store: Store, to: Collection[str], given: Iterable[str]) -> list[str]:
    """Return the passages of a draft that stand in mails to others, in the order of the draft.

    Args:
        text: The draft.
        store: The owner's mails.
        to: The addresses that the draft is for: what she wrote to them before, she may repeat.
        given: Texts that may be repeated: the instruction, the profile.
    """
    words = _words(text)
    allowed = [_joined(_words(one)) for one in given]
    spans: list[tuple[int, int]] = []
    for start, stop in _runs(words, store, {one.casefold() for one in to}):
        if any(_joined(words[start:stop]) in one for one in allowed):
            continue
        if spans and start <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(stop, spans[-1][1])
        else:
            spans.append((start, stop))
    return [text[words[start].start : words[stop - 1].stop] for start, stop in spans]


def closed_once(text: str) -> str:
    """Return a text that ends with its closing once, where a model has repeated it."""
    text = text.rstrip()
    closing = letter(text).closing
    while closing and (above := text[: -len(closing)].rstrip()).casefold().endswith(
        closing.casefold()
    ):
        text = above
    return text


def _runs(words: list[Word], store: Store, to: set[str]) -> Iterator[tuple[int, int]]:
    """Yield where runs of words stand that are in mails to other people only, by their start."""
    for first in range(0, len(words) - _BLOCK + 1, _BLOCK):
        phrase = " ".join(word.text for word in words[first : first + _BLOCK])
        found: dict[tuple[int, int], list[frozenset[str]]] = {}
        for recipients, mail in store.mails_saying(phrase, _MAILS):
            if run := _around(words, first, [word.text for word in _words(mail)]):
                found.setdefault(run, []).append(recipients)
        for run in sorted(found):
            # Whoever was sent a longer run was sent this one as well.
            people = [
                one for other, to_whom in found.items() if _holds(other, run) for one in to_whom
            ]
            known = any(one & to for one in people)
            if not known and len(set(people)) < _COMMON:
                yield run


def _around(words: list[Word], first: int, other: list[str]) -> tuple[int, int] | None:
    """Return the longest run around a block that stands in another text, None for a short one."""
    block = [word.text for word in words[first : first + _BLOCK]]
    best = (0, 0)
    for place in range(len(other) - _BLOCK + 1):
        if other[place : place + _BLOCK] != block:
            continue
        start, stop = 0, _BLOCK
        while first - start > 0 and place - start > 0:
            if words[first - start - 1].text != other[place - start - 1]:
                break
            start += 1
        while first + stop < len(words) and place + stop < len(other):
            if words[first + stop].text != other[place + stop]:
                break
            stop += 1
        best = max(best, (first - start, first + stop), key=lambda run: run[1] - run[0])
    return best if best[1] - best[0] >= RUN else None


def _holds(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _words(text: str) -> list[Word]:
    return [Word(m[0].casefold(), m.start(), m.end()) for m in _WORD.finditer(text)]


def _joined(words: Iterable[Word]) -> str:
    return f" {' '.join(word.text for word in words)} "
