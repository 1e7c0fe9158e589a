"""Texts that say over again what they said: a small model may go round until its last token.

A sentence is what a line or a full stop ends. Two are the same whatever their case and blanks; of
what language they are does not matter.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# A full stop ends one before a blank; those of Chinese and Japanese need none.
_SENTENCE = re.compile(r"\S.*?(?:[.!?…](?=\s)|[。！？]|(?=\n)|\Z)")  # noqa: RUF001
_MOST = 60  # letters and digits, about twelve words, that may be said again in a row


class _Tail(NamedTuple):
    start: int  # where the sentences begin that stood before, in a row up to the end
    letters: int  # how many letters and digits the whole ones of them have


def repeats(text: str) -> bool:
    """Tell whether a text that is being written only repeats itself by now."""
    return _tail(text).letters > _MOST


def unrepeated(text: str) -> str:
    """Return a text without the sentences at its end that repeat it, if they are many."""
    tail = _tail(text)
    return text[: tail.start].rstrip() if tail.letters > _MOST else text


def settled(text: str) -> int:
    """Return how far a text that is being written will stay as it is, whatever comes next."""
    return _tail(text).start


def _tail(text: str) -> _Tail:
    said: set[str] = set()
    start, letters = len(text), 0
    for match in _SENTENCE.finditer(text):
        sentence = " ".join(match[0].casefold().split())
        last = match.end() == len(text)  # it may go on
        if sentence in said or (last and any(one.startswith(sentence) for one in said)):
            start = min(start, match.start())
            letters += 0 if last else sum(map(str.isalnum, sentence))
        else:
            said.add(sentence)
            start, letters = len(text), 0
    return _Tail(start, letters)
