"""Whether an instruction is one: an order, about this mail, and no copy of it.

The model is trained to write a mail from its instruction. An instruction that repeats the mail
teaches it to copy; one that misses the facts teaches it to invent them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trainer.corpus import words
from trainer.english import COMMON, vocabulary

if TYPE_CHECKING:
    from trainer.corpus import SentMail

MAX_WORDS = 35
MAX_RUN = 8  # words in a row that may stand in the mail alike, names, numbers and links not counted
OVER = 3  # words by which a fact may exceed the limit
_MIN_LIMIT = 9  # a mail of ten words cannot be told in six
_HEAD = 2  # "Tell Stew" says whom, not what
_SHARE = 0.6  # of the mail's words

NOT_AN_ORDER = "no order"
TOO_LONG = "too long"
NOT_ABOUT = "not about this mail"
COPY = "a copy of the mail"

# What an order to a secretary begins with; the other languages are those of `extractive`.
ORDERS = vocabulary(
    "accept acknowledge agree announce answer apologise apologize approve arrange ask assure "
    "cancel check clarify complain confirm congratulate contact decline describe email encourage "
    "explain express follow forward give greet inform inquire introduce invite let mention message "
    "notify offer order postpone praise present promise propose provide recommend refuse reject "
    "remind reply report request reschedule respond say schedule send share suggest summarise "
    "summarize tell thank update warn welcome wish write "
    "schreib schreibe sag sage frag frage bitte bitten danke dank antworte teile teil lade sende "
    "schicke schick erinnere \u00e9cris dis demande remercie r\u00e9ponds envoie invite escribe "
    "dile pide pregunta agradece responde scrivi d\u00ec di' chiedi ringrazia rispondi escreve "
    "escreva diz pede agradece schrijf zeg vraag bedank napisz powiedz popro\u015b podzi\u0119kuj "
    "skriv svara"
)
_ORDER_WORDS = vocabulary(
    "tell ask say write reply thank offer suggest invite remind confirm send apologise apologize "
    "decline accept encourage congratulate answer about"
)
_TIMES = vocabulary(
    "today tomorrow tonight morning afternoon evening noon minutes hour hours day days week weeks "
    "weekend month months year years"
)


def word_limit(text: str) -> int:
    """Return how many words an instruction for the mail `text` may have."""
    return min(MAX_WORDS, _HEAD + max(_MIN_LIMIT, int(_SHARE * len(words(text)))))


def is_fact(word: str) -> bool:
    """Tell whether a word in mid-sentence is a name, a number, a date or a link."""
    if any(char.isdigit() for char in word) or "://" in word or word in _TIMES:
        return True
    return any(char.isupper() for char in word) and not re.fullmatch(r"I(?:'\w+)?", word)


def stem(word: str) -> str:
    """Return what two forms of a word have in common: its first letters, without an ending."""
    word = word.casefold().replace("\u2019", "'")
    return word if word in COMMON else _ENDING.sub("", word)[:5]


_ENDING = re.compile(r"(?<=\w\w\w)(?:'s|ing|ed|es|s|e)$")


def telling(text: str) -> set[str]:
    """Return the stems of the words that say what a text is about."""
    return {stem(word) for word in words(text) if len(word) > 1} - COMMON


def longest_run(text: str, mail: str) -> int:
    """Return the most words in a row that `text` has in common with `mail`, facts not counted."""
    return max(_runs(text, mail), default=0)


def copied_from(text: str, mail: str) -> int | None:
    """Return the index of the word with which `text` becomes a copy of `mail`, None if never."""
    return next((i for i, run in enumerate(_runs(text, mail)) if run > MAX_RUN), None)


def _runs(text: str, mail: str) -> list[int]:
    """Return for each word of `text` the length of the longest common run that ends with it."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words(mail)):
        places.setdefault(word.casefold(), []).append(place)
    found, before = [], dict[int, int]()
    for word in words(text):
        # A name, a number or a link is 0 long, yet the run goes on over it.
        cost = int(not is_fact(word))
        before = {at: before.get(at - 1, 0) + cost for at in places.get(word.casefold(), ())}
        found.append(max(before.values(), default=0))
    return found


# Who orders a mail speaks about its reader: "Thank you, Jin" is the mail itself.
_ADDRESSED = re.compile(r"(?i)\b(?:you|your|yours|yourself)\b|^thank[s]?,")


def fault(text: str, mail: SentMail) -> str:
    """Return why `text` is no instruction for `mail`, "" if it is one."""
    found = words(text)
    if len(found) < 2 or found[0].casefold() not in ORDERS or text.endswith("?"):  # noqa: PLR2004
        return NOT_AN_ORDER
    if _ADDRESSED.search(text):
        return NOT_AN_ORDER
    if len(found) > word_limit(mail.text) + OVER:
        return TOO_LONG
    if longest_run(text, mail.text) > MAX_RUN:
        return COPY
    return "" if _is_about(text, mail) else NOT_ABOUT


def _is_about(text: str, mail: SentMail) -> bool:
    """Tell whether half of the telling words, and all numbers, come from the mail."""
    source = " ".join((mail.text, mail.subject, *mail.to))
    known = telling(source)
    orders = {stem(word) for word in _ORDER_WORDS} - known
    ours = telling(text) - orders
    numbers = set(re.findall(r"\d+", text)) <= set(re.findall(r"\d+", source))
    enough = min(2, len(telling(mail.text)))
    return numbers and len(ours & known) >= max(enough, len(ours) / 2)
