"""The instruction that could have produced a mail, made from the mail itself, without a model.

It is put together from the recipient, what the mail's key sentences do and, where these leave it
open, the subject: "Tell Jin I can't make it to the office tomorrow, ask if they'd like a zoom call".
English mail goes through `trainer.acts`; mail in another language gives recipient, subject and the
telling words of its key sentences, under a verb of that language.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from trainer.acts import Act, acts
from trainer.check import MAX_RUN, OVER, is_fact, longest_run, telling, word_limit
from trainer.corpus import GREETER, first_names, letter, words
from trainer.english import is_english, start_low, third

if TYPE_CHECKING:
    from trainer.corpus import SentMail


def instruct(mail: SentMail) -> str:
    """Return an instruction for `mail`; the same mail always gives the same one."""
    body = letter(mail.text).body
    english = mail.language == "en" or (not mail.language and is_english(body))
    return _in_english(mail, body) if english else _in_any_language(mail, body)


# --- sentences, recipient, topic --------------------------------------------------------------

_NOT_AFTER = "".join(
    rf"(?<!\b{one}\.)"
    for one in ("Prof", "Dr", "Mr", "Mrs", "Ms", r"e\.g", r"i\.e", "vs", "St", "No", "ca", "Nr", "bzw")
)
_END = re.compile(
    rf"(?<=[.!?\u2026)]){_NOT_AFTER}\s+(?=[\"'(\[\u00bf\u00a1]?[^\Wa-z_])|(?<=[\u3002\uff01\uff1f])|\n+"
)


def sentences(text: str) -> list[str]:
    """Return the sentences of `text`; a line break ends one unless the line goes on in lower case."""
    text = re.sub(r"(?<![.!?:\s])\n(?=[a-z])", " ", text)
    # What a colon announces belongs to it.
    text = re.sub(r":\s*\n\s*(?:[-*\u2022\u2014\u2013]\s+|\d+[.)]\s+)?(?=\S)", ": ", text)
    return [part.strip() for part in _END.split(text) if part.strip()]


_GROUPS = {
    "all": "everyone",
    "everyone": "everyone",
    "everybody": "everyone",
    "folks": "everyone",
    "both": "both",
    "team": "the team",
    "guys": "the guys",
    "there": "",
    "again": "",
}


def recipient(mail: SentMail) -> str:
    """Return whom `mail` greets: the name in its greeting, else its recipients' first names."""
    greeting = letter(mail.text).greeting
    name = GREETER.sub("", greeting).strip(" ,") if GREETER.match(greeting) else greeting
    name = _GROUPS.get(name.casefold(), name) or first_names(mail.to)
    return _GROUPS.get(name.casefold(), name)


_PREFIX = re.compile(r"(?i)^(?:(?:re|fwd?|aw|wg|sv|antw|r|tr|rv)\s*(?:\[\d+\])?\s*:\s*)+")
_TOPIC = 6  # words of the subject that an owner would type


def _topic(subject: str) -> str:
    return " ".join(_PREFIX.sub("", subject).split()[:_TOPIC]).strip(" ?!.,;:-")


def _is_new(subject: str) -> bool:
    return not _PREFIX.match(subject)


# --- English ----------------------------------------------------------------------------------

# How an act begins the instruction, and how it goes on one.
_FORMS = {
    "tell": ("Tell {to} {what}", "say {what}"),
    "ask": ("Ask {to} {what}", "ask {what}"),
    "thank": ("Thank {to} {what}", "thank them {what}"),
    "apologise": ("Apologise to {to} {what}", "apologise {what}"),
    "send": ("Send {to} {what}", "send {what}"),
    "remind": ("Remind {to} {what}", "remind them {what}"),
    "confirm": ("Confirm to {to} {what}", "confirm {what}"),
    "invite": ("Invite {to} {what}", "invite them {what}"),
    "suggest": ("Suggest to {to} {what}", "suggest {what}"),
    "offer": ("Offer {to} {what}", "offer {what}"),
    "encourage": ("Encourage {to} {what}", "encourage them {what}"),
    "congratulate": ("Congratulate {to} {what}", "congratulate them {what}"),
    "decline": ("Decline {to}'s invitation {what}", "decline the invitation {what}"),
    "accept": ("Accept {to}'s invitation {what}", "accept the invitation {what}"),
    "write": ("Write to {to} {what}", "write {what}"),
}
_LEAST = 3  # fewer words left of a longer content say nothing
_SHARE = 14  # words of a first act that leave room for a second one
_THIS = re.compile(r"^about (?:this|it|that)\b(?: \w+)?$")


def _in_english(mail: SentMail, body: str) -> str:
    to = recipient(mail) or "them"
    topic = start_low(third(_topic(mail.subject)))
    found = [act for part in sentences(body) for act in acts(part)]
    if topic:
        found = [replace(act, content=_THIS.sub(f"about {topic}", act.content)) for act in found]
    found = [replace(act, content=loosen(act.content, mail.text)) for act in found]
    found = _answer_invitation(found)
    limit = word_limit(mail.text) - 2
    chosen = _choose(found, limit)
    if _is_open(topic, chosen, new=_is_new(mail.subject)):
        chosen = _choose(found, max(limit - len(words(topic)) - 1, limit // 2))
        return _finish(_with_topic(chosen, to, topic))
    return _finish(_compose(chosen, to) if chosen else f"Write to {to}")


def _is_open(topic: str, chosen: list[Act], *, new: bool) -> bool:
    """Tell whether the acts leave open what the mail is about: a new mail needs more than a reply."""
    said = telling(" ".join(act.content for act in chosen))
    named = telling(topic)
    return bool(named) and (2 * len(named - said) > len(named) if new else not said)


_REGRET = re.compile(r"(?i)\b(?:can't|won't|(?:would|'d) have|to decline|not able|have to pass)\b")
_DELIGHT = re.compile(r"(?i)\b(?:i'd love|we'd love|count me in|happy to come|be there)\b")


def _answer_invitation(found: list[Act]) -> list[Act]:
    """Turn thanks for an invitation into accepting or declining it, where the mail does either."""
    rest = " ".join(act.content for act in found[1:])
    offers = any(act.verb == "offer" for act in found)
    for i, act in enumerate(found):
        if act.verb == "thank" and re.match(r"for (?:the|their|this) (?:\w+ )?invit", act.content):
            if _REGRET.search(rest):
                found[i] = Act("decline", "", 3)
            elif offers or _DELIGHT.search(rest):
                found[i] = Act("accept", "", 3)
    return found


def _choose(found: list[Act], limit: int) -> list[Act]:
    """Return the weightiest acts that fit into `limit` words, in their order, shortened if need be."""
    chosen: dict[int, Act] = {}
    for i in sorted(range(len(found)), key=lambda i: (-_value(found[i]), i)):
        act, first = found[i], not chosen
        room = limit - (not first)
        if first and len(found) > 1:
            room = min(room, max(_SHARE, limit // 2))
        content = shorten(act.content, room, force=first)
        used = len(words(content)) + (not first)
        whole = content == act.content or len(words(content)) >= _LEAST
        if whole and used <= limit + OVER:
            chosen[i] = replace(act, content=content)
            limit -= used
    return [chosen[i] for i in sorted(chosen)]


def _value(act: Act) -> float:
    facts = sum(map(is_fact, words(act.content)[1:]))
    return act.weight + 0.3 * min(facts, 3) + 0.7 * bool(_REGRET.search(act.content))


def _compose(chosen: list[Act], to: str) -> str:
    opening = _FORMS[chosen[0].verb][0].format(to=to, what=chosen[0].content).strip()
    return ", ".join([opening.replace("them's", "the"), *_later(chosen)])


def _with_topic(chosen: list[Act], to: str, topic: str) -> str:
    about = f"Write to {to} about {topic}"
    if not chosen:
        return about
    if chosen[0].verb == "tell":
        about = f"{about}: {chosen[0].content}"
    else:
        about = f"{about}, {_FORMS[chosen[0].verb][1].format(what=chosen[0].content).strip()}"
    return ", ".join([about, *_later(chosen)])


def _later(chosen: list[Act]) -> list[str]:
    """Return how the acts after the first go on."""
    parts = []
    for before, act in pairwise(chosen):
        if act.verb == before.verb == "tell":
            parts.append(act.content)
        elif act.verb == before.verb == "ask" and act.content[:3] == before.content[:3]:
            parts.append(f"and {act.content}")
        else:
            parts.append(_FORMS[act.verb][1].format(what=act.content).strip())
    return parts


def _finish(text: str) -> str:
    """Return `text` as one clean sentence."""
    text = re.sub(r",? say (?=https?://)", ": ", " ".join(text.split()))
    text = re.sub(r"(?:,? (?:and|but|so))+(?=,|$)", "", text).strip(" ,;:-")
    if text.count("(") != text.count(")"):
        text = re.sub(r"[()]", "", text)
    return text if text.endswith((".", "!")) else text + "."


# --- shorter ----------------------------------------------------------------------------------

_PARENTHESIS = re.compile(r"\s*[(\[][^()\[\]]*[)\]]")
_ARTICLES = re.compile(r"(?i)\b(?:the|an?)\s+(?!few|lot|bit|little|couple)(?=\w)")
_SMALL = re.compile(r"(?i)(?<=\w )(?:some|that|which|other|such|both|then|even|still|already|our|my) ")
_CLAUSE = re.compile(
    r"(?i)(?<=[\w)])(?:,(?: (?:but|and|so)(?= (?:i|we|it|they|he|she)\b))?|;|:(?!//)|"
    r"(?=\s(?:since|because|so that|which|although|though|while|given that|in case|if|as|but|and then"
    r"|after|before|until|unless|when|(?:and|so)(?= (?:i|we|he|she|they)\b))\s))\s+"
)
_ASIDE = re.compile(
    r"(?i)^(?:since|because|as|so that|which|although|though|while|after|before|given|in case|for"
    r"|with|due|in|on|by|when|until|unless|e\.g|i\.e|such as|like|but)\b"
)
_STANDS = re.compile(
    r"(?i)^(?:i|we|it|they|he|she|there|this|that|the|my|our|their|(?:i|we|it|they|that)'\w+)\b"
    r"(?! (?:and|or)\b)|^(?-i:[A-Z])\w+ (?:will|is|has|can|would|needs|wants)\b"
)
_DANGLING = re.compile(
    r"(?i)[\s,;:]+(?:a|an|the|of|to|for|in|on|at|by|with|and|or|but|if|when|that|which|this|my|our"
    r"|their|from|about|is|are|be|was|were|been|i|i'm|i'll|i'd|it|it's|we|we're|they|he|she|as|since|so"
    r"|because|not|would|will|can|could|have|has|had|like|very|any|some|such|than|all|few|go|get|and \w+)$"
)
_TAIL = 3  # so many words may be cut off the end of a clause; more cost it its sense


def shorten(text: str, limit: int, *, force: bool = False) -> str:
    """Return `text` in about `limit` words: asides go first, then articles, clauses, its end.

    A fact is not cut off: rather the result is up to three words longer. What cannot be shortened
    with its sense kept gives "", unless `force` asks for what there is.
    """
    if len(words(text)) <= limit:
        return text
    text = _PARENTHESIS.sub(_drop_aside, text).strip()
    if len(words(text)) > limit:
        text = _ARTICLES.sub("", text)
    text = _drop_clauses(text, limit)
    over = len(words(text)) - limit
    if over <= 0 or (over <= OVER and _facts(" ".join(words(text)[-over:]))):
        return text
    return _cut(text, limit) if force or over <= _TAIL else ""


def loosen(text: str, mail: str) -> str:
    """Return `text` with no more words in a row from `mail` than an instruction may have.

    Articles go first, then other small words, then its end.
    """
    for small in (_ARTICLES, _SMALL):
        if longest_run(text, mail) <= MAX_RUN:
            return text
        text = small.sub("", text)
    while longest_run(text, mail) > MAX_RUN:
        text = _cut(text, len(words(text)) - 1)
    return text


def _drop_aside(match: re.Match[str]) -> str:
    return match.group() if any(map(is_fact, words(match.group())[1:])) else ""


def _drop_clauses(text: str, limit: int) -> str:
    parts = [part for part in _CLAUSE.split(text) if part]
    while len(parts) > 1 and (over := len(words(text)) - limit) > 0:
        least = min(_droppable(parts), key=_weight)
        tail = " ".join(words(text)[-over:])
        if over <= _TAIL and _weight(least)[0] >= 0 and not _facts(tail):
            break
        parts.remove(least)
        text = ", ".join(parts)
    return text


def _droppable(parts: list[str]) -> list[str]:
    """Return the parts without which the rest still reads: the first only if the next can begin."""
    return parts if _STANDS.match(parts[1]) else parts[1:]


def _weight(part: str) -> tuple[int, int]:
    return 2 * _facts(part[1:]) - bool(_ASIDE.match(part)), len(words(part))


def _facts(text: str) -> int:
    return sum(map(is_fact, words(text)))


def _cut(text: str, limit: int) -> str:
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


# --- any language -----------------------------------------------------------------------------

# "Write to {to}", "Write to {to} about {topic}": what an owner would begin with.
_WRITE = {
    "de": ("Schreib {to}", " wegen {topic}"),
    "fr": ("\u00c9cris \u00e0 {to}", " au sujet de {topic}"),
    "es": ("Escribe a {to}", " sobre {topic}"),
    "it": ("Scrivi a {to}", " di {topic}"),
    "pt": ("Escreve a {to}", " sobre {topic}"),
    "nl": ("Schrijf {to}", " over {topic}"),
    "pl": ("Napisz do {to}", " o {topic}"),
    "sv": ("Skriv till {to}", " om {topic}"),
}
_ANY = ("Write to {to}", " about {topic}")
_NEGATIONS = frozenset(("no", "ne", "non", "not", "nie", "pas", "nao", "n\u00e3o", "n\u00e5"))
_SHORT = 3  # letters of a word that in most languages carries grammar rather than sense


def _in_any_language(mail: SentMail, body: str) -> str:
    who, about = _WRITE.get(mail.language, _ANY)
    topic, to = _topic(mail.subject), recipient(mail)
    text = " ".join(who.format(to=to).split()) + (about.format(topic=topic) if topic else "")
    limit = word_limit(mail.text) - len(words(text))
    told: list[str] = []
    for sentence in sorted(sentences(body), key=lambda one: -_facts(one[1:])):
        brief = " ".join(word for word in sentence.split() if _tells(word)).strip(" ,;:.!?")
        if brief and len(words(brief)) <= limit:
            told.append(brief)
            limit -= len(words(brief))
    if not told and limit > _LEAST:
        told = [_cut(" ".join(word for word in body.split() if _tells(word)), limit)]
    told.sort(key=lambda brief: body.find(brief.split(" ", 1)[0]))
    return _finish(f"{text}: {'; '.join(told)}" if told else text)


def _tells(word: str) -> bool:
    bare = word.strip("\"'()[],.;:!?")
    return len(bare) > _SHORT or is_fact(bare) or bare.casefold() in _NEGATIONS
