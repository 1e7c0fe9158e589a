"""Which facts of a mail its instruction carries.

The model writes from the instruction and what stands beside it in the prompt: the recipients, the
subject of an answer, the mail that is answered. A fact of the mail that is in none of these is one
that a training teaches to invent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trainer.corpus import letter
from trainer.english import vocabulary
from trainer.facts import Fact, Given, Kind, found

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.corpus import SentMail

_LINK = re.compile(r"https?://[^\s<>\"')\]]+")
_CODE = re.compile(r"(?<![\w@/.-])[^\W\d_]+-?\d[\w-]*")  # "A62-123", "H100"
_ACRONYM = re.compile(r"(?<![\w@/.])[A-Z]{2,5}(?![\w@])")
_NO_NAMES = vocabulary("OK TLDR TL DR FYI BTW PS ASAP AM PM RE FW FWD CC PDF ID RSVP FAQ TBA")
# Days that are told from the day of writing, by language.
_RELATIVE = {
    language: re.compile(rf"(?i)\b(?:{pattern})\b")
    for language, pattern in {
        "en": r"today|tonight|tomorrow|yesterday|(?:next|this|last) (?:week(?:end)?|month|year"
        r"|semester|spring|summer|autumn|fall|winter|morning|afternoon|evening)",
        "de": r"heute|\u00fcbermorgen|morgen|gestern"
        r"|(?:n\u00e4chst|kommend|diese|letzt)\w* (?:woche|monat|jahr|wochenende)",
        "fr": r"aujourd'hui|demain|hier|(?:la |le )?(?:semaine|mois|ann\u00e9e) prochaine?",
        "es": r"hoy|ma\u00f1ana|ayer|la pr\u00f3xima semana|la semana que viene",
        "it": r"oggi|domani|ieri|la (?:prossima )?settimana(?: prossima)?",
        "pt": r"hoje|amanh\u00e3|ontem|(?:na )?pr\u00f3xima semana",
        "nl": r"vandaag|morgen|gisteren|volgende (?:week|maand)",
        "pl": r"dzi\u015b|dzisiaj|jutro|pojutrze|wczoraj",
        "sv": r"idag|i dag|imorgon|i morgon|ig\u00e5r|n\u00e4sta vecka",
    }.items()
}


def held(text: str, language: str) -> list[Fact]:
    """Return the facts of a text in their order.

    They are figures, days, months, times, names, codes and links; a name is told by its capital in
    mid-sentence, in languages that give capitals to names alone.
    """
    return sorted(_facts(text, language), key=lambda fact: fact.start)


def _facts(text: str, language: str) -> Iterator[Fact]:
    yield from found(text, language=language)
    relative = _RELATIVE.get(language or "en")
    for match in relative.finditer(text) if relative else ():
        yield Fact("date", match[0], *match.span())
    for match in _LINK.finditer(text):
        link = match[0].rstrip(".,;:!?")
        yield Fact("link", link, match.start(), match.start() + len(link))
    # What stands within a link is no fact beside it.
    text = _LINK.sub(lambda match: " " * len(match[0]), text)
    for match in _CODE.finditer(text):
        yield Fact("number", match[0], *match.span())
    for match in _ACRONYM.finditer(text):
        if match[0] not in _NO_NAMES:
            yield Fact("name", match[0], *match.span())


def lost(text: str, mail: SentMail, body: str | None = None, *, alone: bool = False) -> list[Fact]:
    """Return the facts of `mail` that its instruction `text` does not carry, as they stand in it.

    Args:
        text: The instruction.
        mail: The mail.
        body: The part of it that counts; by default all between greeting and closing.
        alone: Whether what the prompt shows beside it (recipients, the subject of an answer, the
            mail that is answered) does not count.
    """
    shown = text if alone else "\n".join((text, *beside(mail)))
    given = Given.by([shown])
    told = letter(mail.text).body if body is None else body
    return [
        fact for fact in held(told, mail.language) if not _carried(fact, given, shown.casefold())
    ]


def invented(text: str, mail: SentMail) -> list[Fact]:
    """Return the facts that an instruction tells and that are nowhere in its mail."""
    source = "\n".join((mail.text, mail.subject, *beside(mail)))
    given = Given.by([source])
    return [
        fact for fact in held(text, mail.language) if not _carried(fact, given, source.casefold())
    ]


def allowance(kind: Kind, count: int) -> int:
    """Return how many of `count` facts of a kind an instruction may leave out.

    A model that is trained without a date, a number or a link learns to make one up; of many, one
    or two are details. A name may be one in passing.
    """
    return count // (2 if kind == "name" else 4)


def beside(mail: SentMail) -> tuple[str, ...]:
    """Return what the prompt shows of a mail besides its instruction."""
    answers = mail.answered or mail.subject[:3].casefold() == "re:"
    return (*mail.to, mail.subject if answers else "", mail.answered)


def _carried(fact: Fact, given: Given, shown: str) -> bool:
    small = fact.text.casefold()
    if fact.kind == "link" or _CODE.fullmatch(fact.text):
        return small in shown
    return given.has(fact)
