"""The writer's own words, and the text that was answered or forwarded.

Three things set off what others wrote: ``>`` before each line; a line that announces it ("On …
Bob wrote:", "-----Original Message-----"); and a block of header lines, as Outlook puts it. Own
words may stand above, below and between.
"""

# ruff: noqa: RUF001 - letters and marks of many scripts are meant as they stand

from __future__ import annotations

import re
from dataclasses import dataclass, field

import quotequail

from connectors import quote_patterns as patterns

MAX_SPAN = 4  # lines that an attribution is wrapped over
MAX_ATTRIBUTION = 400  # characters
MAX_CANDIDATES = 300  # lines of one text that are looked at as announcements
MAX_HEADER_LINES = 40  # of a header block, with what its values wrap over

_QUOTED = re.compile(r" ?>")
_MARK = re.compile(r" ?> ?")
_OLD_MARK = re.compile(r"( ?(?:[A-Z]{1,3}>|\|))(?: |$)")
_MBOX_FROM = re.compile(r">+From ")
_EMAIL = re.compile(r"\S@\S")
_DATE = re.compile(r"\b\d{4}\b|\b\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b|\d{4}年")
_CLOCK = re.compile(r"\b\d{1,2}[:.h]\d{2}\b")
_SENTENCE = re.compile(r"\b(?!(?i:prof|dipl))[^\W\d_]{4,}[.!?] +[A-ZÀ-Þ]")
_PRONOUN = re.compile(
    r"\b(?:he|she|they|we|i|er|sie|ihr|wir|il|elle|on) (?:wrote|schrieb|a écrit)\b", re.IGNORECASE
)
_SMALL_WORD = re.compile(r"\b[a-zà-ÿ]{4,}\b")
_MAX_SMALL_WORDS = 6  # an attribution is made of names and a date
_MAX_WORDS = 6  # of an attribution without a date


@dataclass(frozen=True, slots=True)
class Split:
    """A text, taken apart.

    Attributes:
        own: The writer's own words in order, one string for each run between quotes.
        answered: What was quoted or forwarded, one level of ``>`` removed, "" if nothing was.
        heading: The line or the header lines that announced it, on one line each, "" if none.
        lead: The writer's own words above all that was quoted.
        announced: The announcement stands outside of what is quoted: the writer's own client wrote
            it, and the heading that follows it.
    """

    own: tuple[str, ...]
    answered: str
    heading: str
    lead: str = field(default="", compare=False)
    announced: bool = field(default=False, compare=False)


def split(text: str) -> Split:
    """Tell the writer's own words from the others' in a text with LF line ends."""
    return _Splitter(text.split("\n")).split()


def header_block(lines: list[str], start: int = 0) -> tuple[dict[str, str], int]:
    """Read the header lines of a forwarded mail that begin at ``start``.

    Returns:
        The values by field (from, date, to, cc, subject), and the number of the line after the
        block. Without a block, nothing and ``start``.
    """
    found: dict[str, str] = {}
    field, number, wraps = "", start, 0
    while number < min(len(lines), start + MAX_HEADER_LINES) and lines[number].strip():
        if header := patterns.header_line(lines[number]):
            field, wraps = header[0], 0
            found.setdefault(field, header[1])
        elif not field or _QUOTED.match(lines[number]) or (wraps := wraps + 1) > MAX_SPAN:
            break
        else:
            found[field] += " " + lines[number].strip()
        number += 1
    return (found, number) if found else ({}, start)


class _Splitter:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.own: list[list[str]] = [[]]
        self.answered: list[str] = []
        self.heading = ""
        self.lead = ""
        self.announced = False
        self.candidates = 0
        self.quoted = [bool(_QUOTED.match(line)) for line in lines]
        self.after = self._next_with_text()

    def split(self) -> Split:
        number = 0
        while number < len(self.lines):
            number = self._step(number)
        own = ("\n".join(run).strip("\n") for run in self.own)
        runs = tuple(run for run in own if run.strip())
        answered = self._unquoted()
        return Split(runs, answered, self.heading, self.lead, self.announced)

    def _next_with_text(self) -> list[int]:
        """For each line, the number of the next one that is not blank."""
        after, following = [0] * len(self.lines), len(self.lines)
        for number in range(len(self.lines) - 1, -1, -1):
            after[number] = following
            following = number if self.lines[number].strip() else following
        return after

    def _before_quote(self, number: int) -> bool:
        after = self.after[number]
        return after < len(self.lines) and self.quoted[after]

    def _step(self, number: int) -> int:
        """Place one line, or one announcement; return the number of the next line."""
        line = self.lines[number]
        if self.quoted[number] and not self._escaped_from(number):
            self._others([_MARK.sub("", line, count=1)])
            return number + 1
        if (end := self._announced(number)) is not None:
            return end
        if line.endswith((":", "：")) and (start := self._attribution(number)) is not None:
            del self.own[-1][len(self.own[-1]) - (number - start) :]
            heading = " ".join(map(str.strip, self.lines[start : number + 1]))
            self._head(heading.replace("< ", "<"))  # broken within an address
            self.announced = True
            return self._rest_after(number + 1)
        self.own[-1].append(line[1:] if self.quoted[number] else line)
        return number + 1

    def _escaped_from(self, number: int) -> bool:
        """An mbox writes ``>From`` for a line that begins with From; it stands alone."""
        near = self.quoted[max(0, number - 1) : number] + self.quoted[number + 1 : number + 2]
        return bool(_MBOX_FROM.match(self.lines[number])) and not any(near)

    def _others(self, lines: list[str]) -> None:
        if not self.answered:
            self.lead = "\n".join(line for run in self.own for line in run).strip("\n")
        self.answered += lines
        if self.own[-1]:
            self.own.append([])

    def _head(self, heading: str) -> None:
        self.heading = self.heading or heading

    def _announced(self, number: int) -> int | None:
        """Handle a separator or a header block here; return the number of the line after it."""
        line, after = self.lines[number].strip(), self.after[number]
        if patterns.is_separator(line):
            self.announced = True
            if self._attributed_from(after):
                return number + 1  # Proton: a separator, then an attribution
            fields, end = header_block(self.lines, after)
            self._head(_as_lines(fields))
            return self._rest_after(end if fields else number + 1)
        start = after if patterns.RULE.fullmatch(line) else number
        if not self._may_be_header(start) or not self._try():
            return None
        fields, end = header_block(self.lines, start)
        if not is_header(fields, self.lines[start]):
            return None
        self._head(_as_lines(fields))
        self.announced = True
        return self._rest_after(end)

    def _try(self) -> bool:
        """Spend one of the looks that a text gets; a text full of false announcements has none."""
        self.candidates += 1
        return self.candidates <= MAX_CANDIDATES

    def _may_be_header(self, number: int) -> bool:
        return number < len(self.lines) and patterns.header_line(self.lines[number]) is not None

    def _attributed_from(self, start: int) -> bool:
        numbers = range(start, min(start + MAX_SPAN, len(self.lines)))
        return any(self._attribution(number) == start for number in numbers)

    def _rest_after(self, number: int) -> int:
        """Go on behind an announcement; without quote marks, all the rest is others'."""
        following = self.after[number - 1]
        self._remark(following)
        if following < len(self.lines) and self.quoted[following]:
            return number
        self._others(self.lines[number:])
        return len(self.lines)

    def _remark(self, start: int) -> None:
        """Mark with ``>`` what an older client marked with initials (``BR>``) or with bars."""
        mark = _OLD_MARK.match(self.lines[start]) if start < len(self.lines) else None
        if mark is None:
            return
        for number in range(start, len(self.lines)):
            if self.lines[number].startswith(mark[1]):
                self.lines[number] = ">" + self.lines[number][len(mark[1]) :]
                self.quoted[number] = True

    def _attribution(self, end: int) -> int | None:
        """Return where the attribution that ends on this line begins, None if it is none."""
        if not self.lines[end].strip().endswith((":", "：")):
            return None
        if not self._try():
            return None
        spans = list(self._spans(end))
        before_quote = self._before_quote(end)
        known = [(start, text) for start, text in spans if _is_known(text)]
        for start, text in known:
            if _dated(text) and (_plainly(text) if before_quote else _surely(text)):
                return start
        if not before_quote or not spans:
            return None
        for start, text in spans:
            brief = len(text.split()) <= _MAX_WORDS and _plainly(text)
            if brief and (patterns.NAME_ONLY.fullmatch(text) or (start, text) in known):
                return start
        # Any language: a whole paragraph with an address, or with date and time.
        start, text = spans[-1]
        whole = start == 0 or not self.lines[start - 1].strip() or self.quoted[start - 1]
        return start if whole and _surely(text) else None

    def _spans(self, end: int) -> list[tuple[int, str]]:
        """Return the runs of lines that end here, shortest first, each joined to one line."""
        found: list[tuple[int, str]] = []
        text = ""
        for start in range(end, max(-1, end - MAX_SPAN), -1):
            line = self.lines[start].strip()
            if not line or self.quoted[start] or len(line) + len(text) > MAX_ATTRIBUTION:
                break
            text = f"{line} {text}".rstrip() if not line.endswith("<") else line + text
            found.append((start, text))
        return found

    def _unquoted(self) -> str:
        """Return the answered text without blank edges and without its own header block."""
        text = "\n".join(self.answered).strip("\n")
        above, _, last = text.rpartition("\n")
        if self.announced and patterns.END.fullmatch(last):
            text = above.rstrip("\n")
        if patterns.is_separator(text.partition("\n")[0].strip()):  # Apple's, within the quote
            text = text.partition("\n")[2].lstrip("\n")
        lines = text.split("\n")
        fields, end = header_block(lines)
        if is_header(fields, lines[0]):
            self._head(_as_lines(fields))
            return "\n".join(lines[end:]).strip("\n")
        return text


def _as_lines(fields: dict[str, str]) -> str:
    return "\n".join(f"{field}: {value}" for field, value in fields.items())


def is_header(fields: dict[str, str], first: str) -> bool:
    """Tell whether a `header_block` that begins with this line is a forwarded mail's header.

    That has a sender, a date with figures, and a recipient or subject. Header lines without a date
    are an owner's own: they tell where a draft shall go.
    """
    head = patterns.header_line(first)
    if head is None or head[0] not in {"from", "date", "subject"} or "from" not in fields:
        return False
    dated = any(char.isdigit() for char in fields.get("date", ""))
    return dated and ("to" in fields or "subject" in fields)


def _is_known(text: str) -> bool:
    if any(pattern.fullmatch(text) for pattern in patterns.ATTRIBUTIONS):
        return True
    return bool(quotequail.quote(text, quote_intro_line=True)[0][1] == "")


def _dated(text: str) -> bool:
    return bool(_EMAIL.search(text) or _DATE.search(text) or _CLOCK.search(text))


def _plainly(text: str) -> bool:
    """Whether a line that looks like an attribution is no sentence of prose."""
    return not (_SENTENCE.search(text) or _PRONOUN.search(text))


def _surely(text: str) -> bool:
    """Whether a line announces a mail even though no quote follows."""
    if not _plainly(text) or len(_SMALL_WORD.findall(text)) > _MAX_SMALL_WORDS:
        return False
    return bool(_EMAIL.search(text) or (_DATE.search(text) and _CLOCK.search(text)))
