"""Numbers, dates and names in a text, and those of them that come from nowhere.

A small model fills a sentence with what sounds right: a time, a sum, a town. What is in none of the
texts that it wrote from is marked, so that its owner looks at it before she sends it. A fact counts
as given however it is spelled: "2pm" by "14:00", "Friday" by "Freitag", "5" by "five".

A mark too many costs more than it saves, so what may be no fact is left alone: words at the head of
a sentence, capitals in languages that give them to every noun, and names that the owner uses often.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Kind = Literal["name", "date", "number", "link"]

FAMILIAR = 3  # mails in which a name makes it one that the owner uses
_NOON = 12
_HOURS = 24
_ABBREVIATED = 5  # letters at most

_DAYS = """monday montag lundi lunes lunedì maandag segunda-feira poniedziałek
tuesday dienstag mardi martes martedì dinsdag terça-feira wtorek
wednesday mittwoch mercredi miércoles mercoledì woensdag quarta-feira środa
thursday donnerstag jeudi jueves giovedì donderdag quinta-feira czwartek
friday freitag vendredi viernes venerdì vrijdag sexta-feira piątek
saturday samstag samedi sábado sabato zaterdag sonnabend sobota
sunday sonntag dimanche domingo domenica zondag niedziela"""
_MONTHS = """january januar jänner janvier enero gennaio januari janeiro styczeń
february februar feber février febrero febbraio februari fevereiro luty
march märz mars marzo maart março marzec
april avril abril aprile kwiecień
may mai mayo maggio mei maio maj
june juni juin junio giugno junho czerwiec
july juli juillet julio luglio julho lipiec
august août agosto augustus sierpień
september septembre septiembre settembre setembro wrzesień sept
october oktober octobre octubre ottobre outubro październik
november novembre noviembre novembro listopad
december dezember décembre diciembre dicembre dezembro grudzień"""
_NUMBERS = """zero null zéro cero|one eins ein eine einen un une uno una a an first
|two zwei deux dos second both|three drei trois tres tre third
|four vier quatre cuatro quattro fourth|five fünf cinq cinco cinque fifth|six sechs seis
|seven sieben siete sette|eight acht huit ocho otto|nine neun neuf nueve nove
|ten zehn dix diez dieci|eleven elf onze undici|twelve zwölf douze doce dodici noon midday mittag"""

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_DIGITS = re.compile(r"\d+")
_THOUSANDS = re.compile(r"\d{1,3}(?:[.,'\u2019 \u00a0]\d{3})+(?!\d)")
_SHORT_THOUSANDS = re.compile(r"(\d+)\s?[kK]\b")
_CLOCK = re.compile(
    r"\b(\d{1,2})(?:[:.h]\d{2})?\s?(?:[ap]\.?m\b\.?|uhr\b|h\b|o['\u2019]clock)|\b(\d{1,2}):\d{2}\b",
    re.IGNORECASE,
)
_FIGURE = re.compile(
    # With its currency, unit and parts: "€ 1.234,50", "14:30", "2-3", "20K", "15th".
    r"(?:[$\u20ac\u00a3]\s?)?(?<![\w@/.-])\d+(?:[.,:/'\u2019\u2013-]\d+)*"
    r"(?:\s?(?:[ap]\.m\.|[ap]m\b|%|\u20ac)|[^\W\d_]{1,3}\b)?"
)
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)")
_CALENDAR = re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{2,4}|(?:19|20)\d\d")
_LISTED = re.compile(r"^\s*(?:\(?\d{1,2}[.)]|-|\*)\s", re.MULTILINE)
_BESIDE = 14  # characters of the text beside a figure in which a month may stand
_BEFORE = 4  # characters before a word that tell whether it begins a sentence
_HEAD = re.compile(r"(?:\A|[.!?:;\u2026>\"\u201c\u201e\u00bb(\[*_\u2013\u2014\u2022-]|\n)\s*$")
_MARKED = re.compile(r"\[[^\[\]\n]*\]|https?://\S+|\S+@\S+")
_KNOWN = """i mr mrs ms mx dr prof herr frau ok okay am pm re fwd god internet english german french
spanish italian dutch european american christmas easter best dear hi hello cheers"""
_ALL_NOUNS = frozenset({"de", "lb"})  # languages that write every noun with a capital


def _table(rows: Iterable[str]) -> dict[str, int]:
    return {word: number for number, row in enumerate(rows) for word in row.split()}


_DAY = _table(_DAYS.splitlines())
_MONTH = _table(_MONTHS.splitlines())
_NUMBER = _table(_NUMBERS.replace("\n", " ").split("|"))
# "may", "march" and "mars" are words as well: with a small letter or a name, they tell no month.
_PLAIN = frozenset({"may", "march", "mars", "sept", "mai", "maj", "mei"})
_DATES = frozenset(_DAY.keys() | _MONTH.keys()) - _PLAIN


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact in a text.

    Attributes:
        kind: What it is; times of day are dates, sums and quantities are numbers. Links are found
            by `trainer.recall` alone.
        text: How it is spelled there.
        start: Where it begins.
        stop: Where it ends.
    """

    kind: Kind
    text: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Given:
    """What is known from the texts that a draft is written from.

    Attributes:
        words: Their words, in small letters.
        numbers: The numbers in them, in figures or in words.
    """

    words: frozenset[str]
    numbers: frozenset[int]

    @classmethod
    def by(cls, texts: Iterable[str]) -> Given:
        """Collect what is in texts."""
        whole = "\n".join(texts)
        words = {part for word in _WORD.findall(whole) for part in _spellings(word)}
        numbers = {int(digits) for digits in _DIGITS.findall(whole)}
        numbers |= {int(re.sub(r"\D", "", one)) for one in _THOUSANDS.findall(whole)}
        numbers |= {int(one) * 1000 for one in _SHORT_THOUSANDS.findall(whole)}
        numbers |= {_NUMBER[word] for word in words if word in _NUMBER}
        for match in _CLOCK.finditer(whole):
            hour = int(match[1] or match[2])
            numbers |= {hour % _HOURS, (hour + _NOON) % _HOURS, hour % _NOON or _NOON}
        months = {_MONTH[word] + 1 for word in words if word in _MONTH}
        return cls(frozenset(words), frozenset(numbers | months | {0}))

    def has(self, fact: Fact) -> bool:
        """Tell whether a fact is among them, however it is spelled."""
        if fact.text.casefold() in _DATES:
            return _dated(fact.text.casefold(), self)
        if fact.kind == "name":
            return bool(_spellings(fact.text) & self.words)
        if not _DIGITS.search(fact.text):  # "next week"
            return {word.casefold() for word in _WORD.findall(fact.text)} <= self.words
        return _numbers(fact.text) <= self.numbers


def mark(text: str, given: Given, *, language: str, spelled: Callable[[str, int], int]) -> str:
    """Return a text with `[check: …]` around each fact that was not given.

    Args:
        text: The draft.
        given: What it was written from.
        language: ISO 639-1 of the draft, "" where not known.
        spelled: Counts the owner's mails, at most so many, that have a word in this spelling.
    """
    spans = sorted(unknown(text, given, language=language, spelled=spelled))
    pieces, end = [], 0
    for start, stop in _joined(spans, text):
        pieces += [text[end:start], f"[check: {text[start:stop]}]"]
        end = stop
    return "".join((*pieces, text[end:]))


def marks(text: str) -> list[str]:
    """Return the marks in a text, each once."""
    return list(dict.fromkeys(re.findall(r"\[check: [^\[\]\n]*\]", text)))


def unknown(
    text: str, given: Given, *, language: str, spelled: Callable[[str, int], int]
) -> Iterator[tuple[int, int]]:
    """Yield where facts stand that were not given.

    Args:
        text: The draft.
        given: What it was written from.
        language: ISO 639-1 of the draft, "" where not known.
        spelled: Counts the owner's mails, at most so many, that have a word in this spelling.
    """
    for fact in found(text, language=language):
        if not given.has(fact) and not (fact.kind == "name" and _used(fact.text, spelled)):
            yield fact.start, fact.stop


def found(text: str, *, language: str) -> Iterator[Fact]:
    """Yield the facts of a text: its figures, days, months and names.

    Args:
        text: The text; what is in brackets, a link or an address is none of its facts.
        language: ISO 639-1, "" where not known.
    """
    # What is in brackets, links and addresses have their own guard, numbers of a list none.
    open_text = _LISTED.sub(_blank, _MARKED.sub(_blank, text))
    for match in _FIGURE.finditer(open_text):
        kind: Kind = "date" if _is_date(match, open_text) else "number"
        yield Fact(kind, match[0], *match.span())
    for match in _WORD.finditer(open_text):
        word = match[0].casefold()
        if word in _DATES:
            yield Fact("date", match[0], *match.span())
        elif word not in _PLAIN and language not in _ALL_NOUNS and _is_name(match, open_text):
            yield Fact("name", match[0], *match.span())


def _is_date(match: re.Match[str], text: str) -> bool:
    """Tell whether a figure is a time or a part of a date."""
    figure = match[0].strip()
    if _CLOCK.match(text, match.start()):
        return True
    if _ORDINAL.fullmatch(figure) or _CALENDAR.fullmatch(figure):
        return True
    before = _WORD.findall(text[max(0, match.start() - _BESIDE) : match.start()])[-1:]
    after = _WORD.findall(text[match.end() : match.end() + _BESIDE])[:1]
    return any(word.casefold() in _MONTH for word in before + after)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _numbers(figure: str) -> set[int]:
    """Return the numbers in a figure, of a large one only the whole."""
    whole = _THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), figure)
    if short := _SHORT_THOUSANDS.fullmatch(whole):
        return {int(short[1]) * 1000}
    found = {int(digits) for digits in _DIGITS.findall(whole)}
    clock = _CLOCK.fullmatch(whole.strip())
    return {number % _HOURS for number in found} if clock and max(found) == _HOURS else found


def _dated(word: str, given: Given) -> bool:
    """Tell whether a day or a month was given, in any language, a month also by its number."""
    table = _DAY if word in _DAY else _MONTH
    number = table[word]
    if any(table.get(one) == number for one in given.words):
        return True
    return table is _MONTH and number + 1 in given.numbers


def _is_name(match: re.Match[str], text: str) -> bool:
    """Tell whether a word is capitalised by its own right."""
    word = match[0]
    if not word[0].isupper() or len(word) == 1 or _is_abbreviation(word):
        return False
    if word.casefold().partition("'")[0].partition("\u2019")[0] in _KNOWN.split():
        return False
    return not _HEAD.search(text[max(0, match.start() - _BEFORE) : match.start()])


def _is_abbreviation(word: str) -> bool:
    letters = word.removesuffix("s")  # "GPUs"
    return letters.isupper() and len(letters) <= _ABBREVIATED


def _used(word: str, spelled: Callable[[str, int], int]) -> bool:
    """Tell whether the owner writes a word in small letters, too, or has often written the name."""
    return spelled(word.lower(), 1) > 0 or spelled(word, FAMILIAR) >= FAMILIAR


def _spellings(word: str) -> set[str]:
    """Return a word in small letters, also without what it is possessed by or put together of."""
    small = word.casefold().replace("\u2019", "'")
    bare = small.removesuffix("'s").removesuffix("'")
    parts = {part for part in bare.split("-") if part}
    return {small, bare, bare.removesuffix("s"), *parts} - {""}


def _joined(spans: Iterable[tuple[int, int]], text: str) -> list[tuple[int, int]]:
    """Join what stands side by side: "New York", "12 May"."""
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and start <= joined[-1][1] + 1 and not text[joined[-1][1] : start].strip(" "):
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return joined
