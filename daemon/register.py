"""To whom a draft goes, as the owner's own mail tells: the register to write in.

One line of the prompt, in training and in use alike, says whether she knows the recipient, in what
language she writes to such people, and how long. It is taken from what she sent before the draft
and from nothing else, so that no mail tells of itself or of what came after it.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING

from connectors import language

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from daemon.store import Store

_NEWEST = 20  # mails to somebody that are looked at
_ENOUGH = 3  # mails that make a habit
# Lengths as a person would name them: a number of her words to the word would be noise.
_LENGTHS = (5, 10, 20, 30, 40, 60, 80, 100, 150, 200, 300)
_NAMES = """cs Czech|da Danish|de German|en English|es Spanish|fi Finnish|fr French|hu Hungarian
|it Italian|ja Japanese|nb Norwegian|nl Dutch|no Norwegian|pl Polish|pt Portuguese|ro Romanian
|ru Russian|sv Swedish|tr Turkish|uk Ukrainian|zh Chinese"""
_LANGUAGES: dict[str, str] = dict(one.split() for one in _NAMES.split("|"))

_language = lru_cache(maxsize=4096)(language.identify)


def register(store: Store, to: Collection[str], before: datetime, *, thread: str = "") -> str:
    """Return the register of a draft, for example ``known, English, about 40 words``.

    Args:
        store: The owner's mails.
        to: The addresses that the draft is for; none where they are not known.
        before: Only mails that she sent before this moment count, aware.
        thread: The text that is answered: an answer is in its language.
    """
    theirs = store.texts_to(to, before, _NEWEST)
    like = theirs
    if len(like) < _ENOUGH:
        like = store.texts_before(before, _NEWEST)
    known = "known" if theirs else "stranger" if to else ""
    spoken = _language(thread) or _usual(theirs) or _usual(like)
    return ", ".join(filter(None, (known, _LANGUAGES.get(spoken, spoken), _length(like))))


def _usual(texts: list[str]) -> str:
    """Return the language of most of some texts, "" where none can be told."""
    found = Counter(filter(None, map(_language, texts)))
    return found.most_common(1)[0][0] if found else ""


def _length(texts: list[str]) -> str:
    if len(texts) < _ENOUGH:
        return ""
    count = median(len(text.split()) for text in texts)
    return f"about {min(_LENGTHS, key=lambda length: abs(length - count))} words"
