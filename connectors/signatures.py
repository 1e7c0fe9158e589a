"""Signatures: those that announce themselves, and the one that an owner's mails show.

Greeting and closing are style and stay: "Best regards," and the name below it are the owner's
words. A signature is what comes after them.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors import closings, footers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SHARE = 0.3  # of one owner's mails that a block must end
MIN_MAILS = 10  # below this, nothing is learned
MAX_LINES = 15  # of a signature
_LONG = 120  # characters; a longer line repeated word for word is a disclaimer

_DASHES = re.compile(r"--\s*")
_CONTACT = re.compile(r"\d{3}|\S@\S|https?:|www\.|\||•|·|\.(?:com|org|net|de|at|eu|edu|io)\b")


@dataclass(frozen=True, slots=True)
class Signatures:
    """The signatures of one owner.

    Attributes:
        blocks: Each a run of lines without blank ones, longest first.
    """

    blocks: tuple[str, ...] = ()

    def strip(self, text: str) -> str:
        """Return text without a signature at its end; blank lines and spacing may differ."""
        lines = text.rstrip().split("\n")
        places = [(_normal(line), place) for place, line in enumerate(lines) if line.strip()]
        for block in self.blocks:
            wanted = block.split("\n")
            if [line for line, _ in places[-len(wanted) :]] == wanted:
                return "\n".join(lines[: places[-len(wanted)][1]]).rstrip()
        return text


def learn(texts: Sequence[str]) -> Signatures:
    """Learn the signatures of one owner from the own text of her mails.

    A signature is a run of lines that ends at least ``SHARE`` of the mails, from behind the
    closing and the name on. With fewer than ``MIN_MAILS`` mails there is none.
    """
    ends = [_last_lines(text) for text in texts]
    ends = [lines for lines in ends if lines]
    if len(ends) < MIN_MAILS:
        return Signatures()
    counts = Counter(lines[-size:] for lines in ends for size in range(1, len(lines) + 1))
    common = {run for run, count in counts.items() if count >= SHARE * len(ends)}
    longest = [run for run in common if not any(_extends(other, run) for other in common)]
    found = {_behind_name(run, _lines_above(run, ends)) for run in longest} - {()}
    ordered = sorted(found, key=lambda run: (-len(run), run))
    return Signatures(tuple("\n".join(run) for run in ordered))


def cut(text: str) -> str:
    """Cut what is below a line of two dashes, and what clients and companies put below a mail.

    A line without the space of ``-- `` counts when no more lines follow than a signature has.
    """
    lines = text.split("\n")
    end, below = len(lines), 0
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        if _DASHES.fullmatch(line) and (line == "-- " or below <= MAX_LINES):
            end = number
        below += bool(line.strip())
    return footers.cut("\n".join(lines[:end]))


def _normal(line: str) -> str:
    return " ".join(line.split())


def _last_lines(text: str) -> tuple[str, ...]:
    return tuple(_normal(line) for line in text.split("\n") if line.strip())[-MAX_LINES - 5 :]


def _extends(longer: tuple[str, ...], run: tuple[str, ...]) -> bool:
    return len(longer) > len(run) and longer[-len(run) :] == run


def _lines_above(run: tuple[str, ...], ends: Iterable[tuple[str, ...]]) -> list[str]:
    """Return the line above the run in each mail that ends with it, "" where there is none."""
    with_run = (lines for lines in ends if lines[-len(run) :] == run)
    return [lines[-len(run) - 1] if len(lines) > len(run) else "" for lines in with_run]


def _behind_name(run: tuple[str, ...], above: list[str]) -> tuple[str, ...]:
    """Return the part of a repeated ending that is signature: behind closing and name."""
    contact = next((place for place, line in enumerate(run) if _is_boilerplate(line)), len(run))
    farewells = [place for place, line in enumerate(run[:contact]) if closings.is_closing(line)]
    names = [place for place, line in enumerate(run[:contact]) if _is_name(line)]
    if farewells:
        start = farewells[-1] + 1
        named = start < len(run) and closings.is_name(run[start], signed=True)
        block = run[start + named :]
    elif sum(map(_is_name, above)) * 2 > len(above):
        block = run  # the name stands above it, another one in each mail
    else:
        block = run[names[0] + 1 if names else contact :]
    # One more name is a second person; what follows a name and is no contact needs two lines.
    return block if len(block) > 1 or any(map(_is_boilerplate, block)) else ()


def _is_name(line: str) -> bool:
    return closings.is_name(line) and not _is_boilerplate(line)


def _is_boilerplate(line: str) -> bool:
    return bool(_CONTACT.search(line)) or len(line) >= _LONG
