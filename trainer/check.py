"""Whether an instruction is one: an order, about this mail, and no copy of it.

The model is trained to write a mail from its instruction. An instruction that repeats the mail
teaches it to copy; one that misses the facts teaches it to invent them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trainer.corpus import letter, words
from trainer.english import COMMON, vocabulary
from trainer.recall import allowance, held, invented, lost

if TYPE_CHECKING:
    from trainer.corpus import SentMail

MAX_WORDS = 35
MAX_SENTENCES = 3
MAX_RUN = 8  # words in a row that may stand in the mail alike, names, numbers and links not counted
COPIED = 0.75  # of the runs of four words that stand in the mail alike make a copy
GRAM = 4
NEAR = 0.35
"""The least cosine of the embeddings of an instruction and its mail.

Of 166 mails of a real person and their extractive instructions 95 % of the right pairs are nearer,
and 6 % of the wrong ones (`tests/bench/playback.py` prints both).
"""
OVER = 3  # words by which a fact may exceed the limit
_MIN_LIMIT = 9  # a mail of ten words cannot be told in six
_HEAD = 2  # "Tell Stew" says whom, not what
_SHARE = 0.6  # of the mail's words

NOT_AN_ORDER = "no order"
TOO_LONG = "too long"
NOT_ABOUT = "not about this mail"
INVENTED = "tells facts that the mail does not hold"
LOST = "does not tell the mail's facts"
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
    if not _is_order(text, found):
        return NOT_AN_ORDER
    if reason := excess(text, mail):
        return reason
    if not _is_about(text, mail) or _names_the_writer(found[1:], mail):
        return NOT_ABOUT
    if invented(text, mail):
        return INVENTED
    return LOST if _loses(text, mail) else ""


def excess(text: str, mail: SentMail) -> str:
    """Return what `text` has too much of: `TOO_LONG`, `COPY`, or "" where it is neither."""
    if _is_long(words(text), mail) or len(_SENTENCE.split(text.strip())) > MAX_SENTENCES:
        return TOO_LONG
    copied = longest_run(text, mail.text) > MAX_RUN or overlap(text, mail.text) >= COPIED
    return COPY if copied else ""


def overlap(text: str, mail: str) -> float:
    """Return how much of `text` stands in `mail` alike: the share of its runs of four words.

    Runs of facts are not counted: an address or a list of dates is told as it is.
    """
    theirs = set(_grams(words(mail.casefold())))
    ours = [gram for gram in _grams(words(text)) if sum(map(is_fact, gram)) < GRAM - 1]
    copied = sum(tuple(map(str.casefold, gram)) in theirs for gram in ours)
    return copied / len(ours) if ours else 0.0


def _grams(found: list[str]) -> list[tuple[str, ...]]:
    return [tuple(found[i : i + GRAM]) for i in range(len(found) - GRAM + 1)]


_SENTENCE = re.compile(r"(?<=[.!?])(?<!Prof\.)(?<!Dr\.)(?<!M[rs]\.)(?<!Mrs\.)\s+(?=[^\W\d_a-z])")
# "Tell them to write a short e-mail": small models speak of their own task.
_OF_WRITING = re.compile(
    r"(?i)\bwrit\w+ (?:an?|the|this) (?:\w+ )?(?:e-?mail|order|instruction)\b|\bsecretary\b"
)
_ASKED = re.compile(r"\?(?=\s|$)")


def _is_order(text: str, found: list[str]) -> bool:
    """Tell whether `text` begins as an order does, and speaks about the mail's reader."""
    if len(found) < 2 or found[0].casefold() not in ORDERS:  # noqa: PLR2004
        return False
    return not any(one.search(text) for one in (_ASKED, _ADDRESSED, _OF_WRITING))


def _names_the_writer(found: list[str], mail: SentMail) -> bool:
    """Tell whether the one who signs is spoken of: small models take her for the reader."""
    parts = letter(mail.text)
    known = words(" ".join((parts.greeting, parts.body, mail.subject, *mail.to)).casefold())
    signed = {word.casefold() for word in words(parts.closing) if word.istitle()} - COMMON
    return any(word[:1].isupper() and word.casefold() in signed.difference(known) for word in found)


def _loses(text: str, mail: SentMail) -> bool:
    """Tell whether more of the mail's facts are lost than may be."""
    missing = lost(text, mail)
    told = held(letter(mail.text).body, mail.language) if missing else []
    return any(
        sum(fact.kind == kind for fact in missing)
        > allowance(kind, sum(fact.kind == kind for fact in told))
        for kind in {fact.kind for fact in missing}
    )


def _is_long(found: list[str], mail: SentMail) -> bool:
    """Tell whether there are too many words; facts do not count, up to a limit for all."""
    facts = sum(map(is_fact, found[1:]))
    limit = word_limit(mail.text) + OVER
    return len(found) > MAX_WORDS + OVER or len(found) - facts > limit


def _is_about(text: str, mail: SentMail) -> bool:
    """Tell whether half of the telling words come from the mail."""
    source = " ".join((mail.text, mail.subject, *mail.to))
    known = telling(source)
    orders = {stem(word) for word in _ORDER_WORDS} - known
    ours = telling(text) - orders
    enough = min(2, len(telling(mail.text)))
    return len(ours & known) >= max(enough, len(ours) / 2)
