"""Hard-wrapped lines back to paragraphs.

A model trained on wrapped mail learns to wrap. What only looks wrapped must stay as it is: lists,
addresses, code, tables, verse, and a closing such as "Best," above a name.
"""

# ruff: noqa: RUF001 - letters and marks of many scripts are meant as they stand

from __future__ import annotations

import re
from itertools import pairwise

from connectors import closings

_NARROWEST = 55  # columns; nobody's client wraps below this
_USUAL = range(60, 91)  # columns at which clients wrap
_WIDEST = 100  # a longer line was not broken to fit a width
_SENTENCE = 40  # a line this long that stops in mid-sentence was broken
_ITEM = re.compile(r"\s*(?:[-*+•–—◦▪·o]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s+\S")
_INDENTED = re.compile(r"    |\t")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_URL = re.compile(r"\s*<?(?:https?://|www\.)\S+\s*$", re.IGNORECASE)
_LABEL = re.compile(r"\s*[A-ZÀ-Þ][\w .-]{0,24}:(?:\s|$)")
_STATEMENT = re.compile(r"[=(][^=(]*;$")
_PROMPT = re.compile(r"\s*(?:[$#%] |>>> |\.\.\. )")
_COLUMNS = re.compile(r"\S {3,}\S")
_OPENING = "(\"'“„«‘"  # stands before the word that tells how a line goes on
# The end of a sentence: a stop, a smiley, an emoji.
_STOP = re.compile(
    r"(?:[.!?:;…。！？][\"'”’)\]]*|[:;8=]['-]?[()DPp|/]|[\u2600-\u27bf\U0001f000-\U0001faff])\s*$"
)
_GOES_ON = re.compile(r"\s[^\W\d_A-ZÀ-Þ]\w*$")  # a small word, with nothing behind it
_DOUBLE_SPACE = re.compile(r"(?<=[^\s.!?:])  (?=[^\s])")
_UNSPACED = re.compile("[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]")  # scripts without spaces


def unwrap(text: str) -> str:
    """Join lines that were broken to fit a width; trim blank lines to one between paragraphs."""
    blocks = _blocks(text)
    width = max((_width(block) for block in blocks), default=0)
    return "\n\n".join("\n".join(_joined(block, width)) for block in blocks)


def tidy(text: str) -> str:
    """Trim line ends and blank lines to one between paragraphs; keep all other line breaks."""
    return "\n\n".join("\n".join(block) for block in _blocks(text))


def _blocks(text: str) -> list[list[str]]:
    """Split text at blank lines; fenced code stays in one block."""
    blocks: list[list[str]] = [[]]
    fenced = False
    for line in map(_trimmed, text.split("\n")):
        if _FENCE.match(line):
            if not fenced:
                blocks.append([])
            fenced = not fenced
        if line or fenced:
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _trimmed(line: str) -> str:
    """Drop spaces at the end, and the single one that editors leave at the beginning."""
    line = line.rstrip()
    return line[1:] if line[:1] == " " and line[1:2] not in {" ", ">"} else line


def _width(block: list[str]) -> int:
    """Return the widest line that was broken in mid-sentence, 0 where none was."""
    pairs = pairwise(block)
    return max((len(line) for line, after in pairs if _mid_sentence(line, after)), default=0)


def _mid_sentence(line: str, following: str) -> bool:
    if not _SENTENCE <= len(line) <= _WIDEST:
        return False
    if not following.lstrip(" " + _OPENING)[:1].islower():
        return False
    return not (_STOP.search(line) or _stands_alone(line, following))


def _joined(block: list[str], width: int) -> list[str]:
    if _FENCE.match(block[0]) or (_INDENTED.match(block[0]) and not _ITEM.match(block[0])):
        return block
    found: list[list[str]] = []
    for number, line in enumerate(block):
        last = number == len(block) - 1
        if number and _continues(block[number - 1], line, width, last=last):
            found[-1].append(line.lstrip())
        else:
            found.append([line])
    return [_spaced(pieces) for pieces in found]


def _continues(line: str, following: str, width: int, *, last: bool) -> bool:
    """Tell whether the break between two lines was made to fit a width."""
    if _stands_alone(line, following) or closings.is_closing(following):
        return False
    if last and line.endswith((",", "，")) and closings.is_name(following):
        return False  # "… and my very best regards,", and the name below
    first = following.split(maxsplit=1)[0].lstrip(_OPENING)
    if not _STOP.search(line):
        if not width and len(line) in _USUAL:
            return True
        goes_on = first[:1].islower() or (width and _GOES_ON.search(line))
        if len(line) >= _SENTENCE and goes_on:
            return True
    # The next word did not fit, as far as the widest line shows where the edge was.
    full = _NARROWEST <= len(line) <= _WIDEST and len(line) + 1 + len(first) > width
    return bool(width) and full


def _stands_alone(line: str, following: str) -> bool:
    if _ITEM.match(following) or _LABEL.match(following) or _URL.match(following):
        return True
    if _URL.match(line) or _is_code(line) or _is_code(following):
        return True
    indent = len(following) - len(following.lstrip())
    inside = len(line) - len(line.lstrip())
    # Indented below a list item, a line goes on with it; elsewhere it is set off on purpose.
    return indent > inside and not _ITEM.match(line)


def _is_code(line: str) -> bool:
    """Tell whether a line is of a program, a session in a shell, or a table."""
    return (
        "\t" in line
        or line.endswith(("{", "}"))
        or (line.endswith(";") and _STATEMENT.search(line) is not None)
        or ("   " in line and _COLUMNS.search(line) is not None)
        or _PROMPT.match(line) is not None
    )


def _spaced(pieces: list[str]) -> str:
    text = [pieces[0]]
    for before, piece in pairwise(pieces):
        unspaced = _UNSPACED.match(before[-1]) and _UNSPACED.match(piece[0])
        text.append(piece if unspaced else f" {piece}")
    # Rich-text editors leave double spaces where they had a non-breaking one.
    return _DOUBLE_SPACE.sub(" ", "".join(text))
