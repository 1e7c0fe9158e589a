"""A clause in fewer words, its facts kept: how a sentence of a mail becomes a part of an order."""

from __future__ import annotations

import re

from trainer.check import OVER, copied_from, is_fact
from trainer.corpus import words

_PARENTHESIS = re.compile(r"\s*[(\[][^()\[\]]*[)\]]")
# In lower case only: "The Net Loft" is a name. "Once a year" needs its article.
_ARTICLES = re.compile(r"\b(?:the|an?)\s+(?!few|lot|bit|little|couple|year|month|week|day)(?=\w)")
_JOINT = re.compile(r",? (?:but|and|so) (?=(?:i|we|it|they|he|she)\b)", re.IGNORECASE)
_SMALL = re.compile(r"(?i)(?<=\w )(?:some|other|such|both|then|even|still|already|whole) ")
_CLAUSE = re.compile(
    r"(?i)(?<=[\w)])(?:,(?: (?:but|and|so)(?= (?:i|we|it|they|he|she)\b))?|;|:(?!//)|"
    r"(?=\s(?:since|because|so that|which|although|though|while|given that|in case|if|as|but"
    r"|and then|after|before|until|unless|when|(?:and|so)(?= (?:i|we|he|she|they)\b))\s))\s+"
)
_ASIDE = re.compile(
    r"(?i)^(?:since|because|as|so that|which|although|though|while|after|before|given|in case|for"
    r"|with|due|in|on|by|when|until|unless|e\.g|i\.e|such as|like|but)\b"
)
_CONDITION = re.compile(
    r"(?i)^(?:since|because|as|although|though|while|after|before|given|when|if|in case|due to)\b"
)
_STANDS = re.compile(
    r"(?i)^(?:i|we|it|they|he|she|there|this|that|the|my|our|their|(?:i|we|it|they|that)'\w+)\b"
    r"(?! (?:and|or)\b)|^(?-i:[A-Z])\w+ (?:will|is|has|can|would|needs|wants)\b"
)
_DANGLING = re.compile(
    r"(?i)[\s,;:]+(?:a|an|the|of|to|for|in|on|at|by|with|and|or|but|if|when|that|which|this|my|our"
    r"|their|from|about|is|are|be|was|were|been|i|i'm|i'll|i'd|it|it's|we|we're|they|he|she|as|since"
    r"|so|because|not|would|will|can|could|have|has|had|like|very|any|some|such|than|all|few|go|get"
    r"|and \w+)$"
)
_LINK = re.compile(r"https?://\S+")
_TAIL = 3  # so many words may be cut off the end of a clause; more cost it its sense


def shorten(text: str, limit: int, *, tail: int = _TAIL) -> str:
    """Return `text` in about `limit` words: asides go first, then articles, clauses, its end.

    A fact is not cut off: rather the result is up to three words longer. What would lose more than
    `tail` words from its end gives "".
    """
    if len(words(text)) <= limit:
        return text
    text = _PARENTHESIS.sub(_drop_aside, text).strip()
    if len(words(text)) > limit:
        text = _ARTICLES.sub("", text)
    link = _LINK.search(text)
    text = _drop_clauses(text, limit, min(tail, _TAIL))
    over = len(words(text)) - limit
    if over > 0 and not (over <= OVER and facts(" ".join(words(text)[-over:]))):
        text = cut(text, limit) if over <= tail else ""
    return f"{text}: {link[0]}" if text and link and link[0] not in text else text


def loosen(text: str, mail: str) -> str:
    """Return `text` with no more words in a row from `mail` than an instruction may have.

    Articles go first, then other small words, at last its end.
    """
    for small, instead in ((_ARTICLES, ""), (_JOINT, "; "), (_SMALL, "")):
        if copied_from(text, mail) is None:
            return text
        text = small.sub(instead, text)
    copied = copied_from(text, mail)
    return text if copied is None else cut(text, copied)


def _drop_aside(match: re.Match[str]) -> str:
    return match.group() if any(map(is_fact, words(match.group())[1:])) else ""


def _drop_clauses(text: str, limit: int, tail: int) -> str:
    parts = [part for part in _CLAUSE.split(text) if part]
    while len(parts) > 1 and (over := len(words(text)) - limit) > 0:
        least = min(_droppable(parts), key=_weight)
        end = " ".join(words(text)[-over:])
        if over <= tail and _weight(least)[0] >= 0 and not facts(end):
            break
        parts.remove(least)
        text = ", ".join(parts)
    return text


def _droppable(parts: list[str]) -> list[str]:
    """Return the parts without which the rest still reads: the first only if the next can begin."""
    free = _STANDS.match(parts[1]) and (_STANDS.match(parts[0]) or _CONDITION.match(parts[0]))
    return parts if free else parts[1:]


def _weight(part: str) -> tuple[int, int]:
    return 2 * facts(part) - bool(_ASIDE.match(part)), len(words(part))


def facts(text: str) -> int:
    """Return how many names, numbers, dates and links `text` holds."""
    return sum(map(is_fact, words(text)))


def cut(text: str, limit: int) -> str:
    """Return at most the first `limit` words of `text`, ending where a phrase may end."""
    tokens, count = text.split(), 0
    for i, token in enumerate(tokens):
        count += len(words(token))
        if count > limit:
            tokens = tokens[:i]
            break
    text, before = " ".join(tokens).strip(" ,;:("), ""
    while text != before:
        before, text = text, _DANGLING.sub("", text)
    return text
