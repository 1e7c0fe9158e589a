"""Whether drafts sound like the owner: how they open and close, their length, their small words.

All of it is taken from the shape of a text and from her own earlier mails, never from a list of one
language's words, but for the words of greeting that `trainer.corpus` knows of many languages.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer.bootstrap import Score, divided, mean, ratio
from trainer.corpus import GREETER, letter, words
from trainer.extractive import sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trainer.bootstrap import Numbers
    from trainer.corpus import SentMail

_FREQUENT = 100  # words whose share tells a writer
_PIECE = 200  # words of hers in which those shares are taken
_PIECES = 5  # without so many nothing can be said of how her own shares vary
_HABIT = 2  # mails that end alike make an ending of hers
_MARKS = (
    r"[\U0001f300-\U0001faff\u2600-\u27bf]|(?<!\w)[:;=]-?[()DPp/|]",  # emoji, and those of type
    r"\.{2,}|\u2026",
    r"!",
    r"\?",
    r";",
    r":",
    r",",
    r"\.",
    r"(?<=\s)-+(?=\s)|[\u2013\u2014]",
    r"\(",
    r"[\"\u201c\u201d\u201e\u00ab\u00bb]",
)
_MARK = re.compile("|".join(f"({mark})" for mark in _MARKS))


@dataclass(frozen=True, slots=True)
class Habits:
    """How the owner writes, as her mails of the training tell.

    Attributes:
        closings: What she ends a mail with, more than once: words in small letters.
        frequent: Her most frequent words.
        spread: The standard deviation of each one's share among all words, over pieces of her text;
            empty where there is too little text to tell.
    """

    closings: frozenset[str]
    frequent: tuple[str, ...]
    spread: tuple[float, ...]

    @classmethod
    def of(cls, mails: Iterable[SentMail]) -> Habits:
        """Learn them from mails, oldest first."""
        texts = [mail.text for mail in mails]
        closings = Counter(filter(None, map(_closing, texts)))
        running = [word.casefold() for text in texts for word in words(text)]
        spread = _spread(running)
        return cls(
            frozenset(one for one, count in closings.items() if count >= _HABIT),
            tuple(spread),
            tuple(spread.values()),
        )


def _spread(running: Sequence[str]) -> dict[str, float]:
    """Return the standard deviation of the shares of the most frequent words of a text."""
    pieces = [running[i : i + _PIECE] for i in range(0, len(running) - _PIECE + 1, _PIECE)]
    if len(pieces) < _PIECES:
        return {}
    frequent = [word for word, _ in Counter(running).most_common(_FREQUENT)]
    shares = np.array([[piece.count(word) / _PIECE for word in frequent] for piece in pieces])
    found = zip(frequent, shares.std(axis=0, ddof=1).tolist(), strict=True)
    return {word: spread for word, spread in found if spread}


def compared(drafts: Sequence[str], mails: Sequence[SentMail], habits: Habits) -> dict[str, Score]:
    """Return how alike drafts are to the mails that the owner wrote.

    Returns:
        By name:

        * ``greeting``: the share of drafts that open with her form in that mail, whatever the name:
          "Hi", "Dear", a name alone, or none;
        * ``closing``: the share that closes as she does: where her mail has a closing with that one
          or another of hers, where it has none with none. Which of hers it is is left open, for in
          like mails she takes now one, now another;
        * ``length_ratio``: the words of all drafts over those of all her mails;
        * ``sentence_length``: how many words a sentence of the drafts has more or fewer than one
          of hers, in the mean;
        * ``punctuation``: of eleven kinds of marks, emoji among them, how many there are too many
          or too few in 100 words;
        * ``delta``: Burrows' delta (Burrows 2002) between drafts and mails over her most frequent
          words: by how many standard deviations of hers the shares differ, in the mean. It is left
          out where the training has less than a thousand words.
    """
    own = [mail.text for mail in mails]
    pairs = list(zip(drafts, mails, strict=True))
    scores = {
        "greeting": mean([_form(text, one.to) == _form(one.text, one.to) for text, one in pairs]),
        "closing": mean([_closes(text, one.text, habits) for text, one in pairs]),
        "length_ratio": ratio([(len(words(text)), len(words(one.text))) for text, one in pairs]),
        "sentence_length": _beside(drafts, own, _sentences, _lengths_apart),
        "punctuation": _beside(drafts, own, _marks, _marks_apart),
    }
    if habits.spread:
        spread = np.array(habits.spread)
        scores["delta"] = _beside(
            drafts,
            own,
            lambda text: _shares(text, habits.frequent),
            lambda one, other: (np.abs(_rates(one) - _rates(other)) / spread).mean(-1),
        )
    return scores


# --- greeting and closing ---------------------------------------------------------------------


def _form(text: str, to: Sequence[str]) -> str:
    """Return how a text greets, without the name; "" where it does not."""
    greeting = letter(text).greeting
    if match := GREETER.match(greeting):
        return match[0].casefold()
    names = {word.casefold() for one in to for word in words(one)}
    left = [word.casefold() for word in words(greeting) if word.casefold() not in names]
    return left[0] if left else "a name" if greeting else ""


def _closes(text: str, own: str, habits: Habits) -> bool:
    draft, mail = _closing(text), _closing(own)
    return draft == mail or (bool(mail) and draft in habits.closings)


def _closing(text: str) -> str:
    return " ".join(words(letter(text).closing)).casefold()


# --- sums of both sides -----------------------------------------------------------------------


def _beside(
    drafts: Iterable[str],
    own: Iterable[str],
    count: Callable[[str], Sequence[int]],
    compare: Callable[[Numbers, Numbers], Numbers],
) -> Score:
    """Return a score of what is counted in the drafts beside what is counted in the mails."""
    left = np.array([count(text) for text in drafts], dtype=np.float64)
    right = np.array([count(text) for text in own], dtype=np.float64)
    width = left.shape[1]
    parts = np.hstack((left, right))
    return Score(parts, lambda sums: compare(sums[..., :width], sums[..., width:]))


def _sentences(text: str) -> list[int]:
    body = letter(text).body
    return [len(words(body)), sum(bool(words(one)) for one in sentences(body))]


def _lengths_apart(draft: Numbers, mail: Numbers) -> Numbers:
    return np.abs(divided(draft[..., 0], draft[..., 1]) - divided(mail[..., 0], mail[..., 1]))


def _marks(text: str) -> list[int]:
    found = Counter(match.lastindex for match in _MARK.finditer(text))
    return [*(found[kind] for kind in range(1, len(_MARKS) + 1)), len(words(text))]


def _marks_apart(draft: Numbers, mail: Numbers) -> Numbers:
    apart: Numbers = 100 * np.abs(_rates(draft) - _rates(mail)).sum(-1)
    return apart


def _shares(text: str, frequent: Sequence[str]) -> list[int]:
    found = Counter(word.casefold() for word in words(text))
    return [*(found[word] for word in frequent), found.total()]


def _rates(counts: Numbers) -> Numbers:
    """Return counts by word; how many words there are stands last."""
    return divided(counts[..., :-1], counts[..., -1:])
