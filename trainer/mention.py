"""What an instruction mentions besides: facts of the mail that its acts leave out, in few words."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from trainer.corpus import words
from trainer.english import COMMON, vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.facts import Fact

_GAP = 3  # words between two facts of one phrase
_LONGEST = 9  # words of a phrase; of a longer one the facts alone are told
_LEADS = vocabulary(
    "on at in by until till from to around about for after before since except between near via the"
    " a an of end beginning start middle next early mid late either both approximately roughly only"
    " am um bis ab von vom zum ohne au\u00dfer \u00e0 le la les du de des d\u00e8s avant apr\u00e8s"
    " el los las a desde hasta antes dal al il alle entro om op tot vanaf do od"
)
_MOST_LEADS = 3
_PLAIN = re.compile(r"^(?:in|at|on|of|for) ")  # "mention Lille", but "mention until Friday"
_BREAK = re.compile(r"[.!?;:\n](?:\s|$)|[()]|\n")
_LEAD = re.compile(r"([^\W\d_][\w'-]*) $")
_UNIT = re.compile(r" ([^\W\d_]{2,})\b")


def phrases(facts: Sequence[Fact], text: str) -> Iterator[str]:
    """Yield the phrases of `text` that tell `facts`: "on the 26th or on the 28th of June".

    Args:
        facts: Facts of the text, in their order.
        text: The text.
    """
    for group in _groups(facts, text):
        start, stop = group[0].start, max(fact.stop for fact in group)
        stop = _end(text, stop, group[-1])
        told = (text[_begin(text, start) : stop], text[start:stop])
        brief = (phrase for phrase in told if len(words(phrase)) <= _LONGEST)
        alone = ", ".join(dict.fromkeys(fact.text for fact in group))
        yield _PLAIN.sub("", " ".join(next(brief, alone).split()))


def _groups(facts: Sequence[Fact], text: str) -> list[list[Fact]]:
    groups: list[list[Fact]] = [[fact] for fact in facts[:1]]
    for before, fact in pairwise(facts):
        between = text[before.stop : fact.start]
        apart = len(words(between)) > _GAP or _BREAK.search(between)
        if apart or "link" in (before.kind, fact.kind):
            groups.append([])
        groups[-1].append(fact)
    return groups


def _begin(text: str, start: int) -> int:
    """Return where a phrase begins: the small words before its first fact belong to it."""
    for _ in range(_MOST_LEADS):
        lead = _LEAD.search(text, max(0, start - 20), start)
        if not lead or lead[1].casefold() not in _LEADS:
            break
        start = lead.start()
    return start


def _end(text: str, stop: int, last: Fact) -> int:
    """Return where a phrase ends: "2 weeks" and "6th floor" are one."""
    unit = _UNIT.match(text, stop)
    if last.text[0].isdigit() and unit and unit[1].casefold() not in COMMON | _LEADS:
        return unit.end()
    return stop
