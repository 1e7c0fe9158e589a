"""The instruction that could have produced a mail, made from the mail itself, without a model.

It is put together from the recipient, what the mail's key sentences do and, where these leave it
open, the subject: "Tell Jin I can't make it tomorrow, ask them if they'd like to have a call".
English mail goes through `trainer.acts`; mail in another language gives recipient, subject and the
telling words of its key sentences, under a verb of that language.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING
from zlib import crc32

from trainer.acts import Act, acts
from trainer.check import MAX_WORDS, OVER, excess, is_fact, telling, word_limit
from trainer.corpus import GREETER, first_names, is_marked, letter, unmarked, words
from trainer.english import is_english, plain, start_low, third
from trainer.mention import phrases
from trainer.recall import lost
from trainer.shorten import cut, facts, loosen, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trainer.corpus import SentMail


def habits(mails: Iterable[SentMail]) -> frozenset[str]:
    """Return the sentences that the owner writes again and again, as `instruct` takes them.

    An owner orders no turns of phrase, and does not spell out an address that she has given a
    hundred times: these are what a model has to learn.
    """
    found = Counter(
        sentence
        for mail in mails
        for sentence in {_spelled(one) for one in sentences(letter(mail.text).body)}
    )
    return frozenset(one for one, count in found.items() if count >= _HABIT and one)


def _spelled(sentence: str) -> str:
    return " ".join(words(sentence.casefold()))


_HABIT = 3  # mails with a sentence make it one


def instruct(mail: SentMail, known: frozenset[str] = frozenset()) -> str:
    """Return an instruction for `mail`; the same arguments always give the same one.

    Args:
        mail: A mail that the owner sent.
        known: Her `habits`: a turn of phrase is left out, an address, a link or opening hours are
            mentioned and not spelled out.
    """
    body = letter(mail.text).body
    told = [one for one in sentences(body) if _spelled(one) not in known]
    habitual = [one for one in sentences(body) if _spelled(one) in known]
    # A short mail's language is easily misjudged; its common words tell.
    if mail.language == "en" or is_english(body):
        return _in_english(mail, told, habitual)
    return _in_any_language(mail, told or habitual)


# --- sentences, recipient, topic --------------------------------------------------------------

_ABBREVIATED = ("Prof", "Dr", "Mr", "Mrs", "Ms", r"e\.g", r"i\.e", "vs", "St", "No", "Nr", "bzw")
_NOT_AFTER = "".join(rf"(?<!\b{one}\.)" for one in _ABBREVIATED)
_END = re.compile(
    rf"(?<=[.!?\u2026)]){_NOT_AFTER}\s+(?=[\"'(\[\u00bf\u00a1]?[^\Wa-z_])"
    r"|(?<=[\u3002\uff01\uff1f])|\n+"
)


def sentences(text: str) -> list[str]:
    """Return the sentences of `text`; a line break ends one, except before lower case."""
    text = re.sub(r"(?<![.!?:\s])\n(?=[a-z])", " ", text)
    text = re.sub(r":\s*\n\s*(?=https?://|[a-z])", ": ", text)
    return [part.strip() for part in _END.split(text) if part.strip()]


_GROUPS = {
    "all": "everyone",
    "everyone": "everyone",
    "everybody": "everyone",
    "folks": "everyone",
    "both": "both of them",
    "team": "the team",
    "guys": "the guys",
    "there": "",
    "again": "",
}


def recipient(mail: SentMail) -> str:
    """Return whom `mail` greets: the name in its greeting, else its recipients' first names."""
    greeting = letter(mail.text).greeting
    known = first_names(mail.to)
    if GREETER.match(greeting):
        name = GREETER.sub("", greeting).strip(" ,")
    else:
        # In an owner's own greeting, "Ahoy Priya", only a known name tells where the name begins.
        name = known if known in greeting else ""
    name = _GROUPS.get(name.casefold(), name) or known
    return _GROUPS.get(name.casefold(), name)


_TOPIC = 6  # words of the subject that an owner would type


def _topic(subject: str) -> str:
    return " ".join(unmarked(subject).split()[:_TOPIC]).strip(" !.,;:-")


# --- English ----------------------------------------------------------------------------------

# How an act begins the instruction, and how it goes on one.
_FORMS = {
    "tell": ("Tell {to} {what}", "say {what}"),
    "ask": ("Ask {to} {what}", "ask them {what}"),
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
# An owner does not always say "tell": by turns, chosen by the mail's text, so that the same mail
# gets the same form.
_TELL = {
    True: ("Tell {to} {what}", "Tell {to} that {what}", "Let {to} know {what}"),
    False: ("Tell them {what}", "Say {what}", "Reply that {what}"),
}
_MAX = 28  # words that an owner types at most; a model's instruction may be a little longer
_ACTS = 4  # things that an owner asks for at once
_WEIGHTY = 2.2  # the value of an act that says something of its own: one with a fact, or a request
_BRIEF = 9  # words of an act that is there for a fact
_LEAST = 3  # fewer words left of a longer content say nothing
_THIS = re.compile(r"^about (?:this|it|that)(?: (?:question|matter|issue|topic|one))?(?=$|,)")


def _in_english(mail: SentMail, told: list[str], habitual: list[str]) -> str:
    to = recipient(mail) or "them"
    topic = _topic(mail.subject)
    if not topic.istitle() and " " in topic and not topic.split()[1][:1].isupper():
        topic = start_low(topic)
    topic = third(topic)
    found = [act for part in told for act in acts(part)]
    found += [act for part in habitual for act in _mentioned(part)]
    found = [replace(act, content=_named(act.content, topic)) for act in found]
    found = [replace(act, content=loosen(act.content, mail.text)) for act in found]
    found = _answer_invitation(found)
    limit = min(_MAX, word_limit(mail.text)) - 2
    chosen = _choose(found, limit)
    if _is_open(topic, list(chosen.values()), new=not is_marked(mail.subject)):
        chosen = _choose(found, max(limit - len(words(topic)) - 1, limit // 2))
    else:
        topic = ""
    say = _Sayer(to, topic, crc32(mail.text.encode()))
    while excess(say(chosen), mail) and len(chosen) > 1:
        # Two sentences of the mail may have come to stand side by side again.
        del chosen[max(chosen)]
    body = "\n".join(told)
    chosen = _with_facts(found, chosen, say, mail, body)
    return _finish(_with_mentions(say(chosen), mail, body, ", mention "))


@dataclass(frozen=True, slots=True)
class _Sayer:
    """Puts acts, by their place in the mail, into an instruction."""

    to: str
    topic: str
    dice: int

    def __call__(self, chosen: Mapping[int, Act]) -> str:
        return _compose([chosen[i] for i in sorted(chosen)], self.to, self.topic, self.dice)


def _with_facts(
    found: list[Act], chosen: dict[int, Act], say: _Sayer, mail: SentMail, body: str
) -> dict[int, Act]:
    """Add the acts that tell in a few words a fact which the chosen ones leave out."""
    for i, act in enumerate(found):
        if i in chosen or len(chosen) > _ACTS:
            continue
        brief = shorten(act.content, _BRIEF, tail=0)
        if any(fact.text in brief for fact in lost(say(chosen), mail, body)):
            more = chosen | {i: replace(act, content=brief)}
            if not excess(say(more), mail):
                chosen = more
    return chosen


def _with_mentions(text: str, mail: SentMail, body: str, by: str) -> str:
    """Add what is lost of the mail's facts still, joined `by` a verb, as far as there is room."""
    for phrase in dict.fromkeys(phrases(lost(text, mail, body), body)):
        more = f"{text}{by}{phrase}"
        if len(words(more)) <= MAX_WORDS and not excess(more, mail):
            text, by = more, ", "
    return text


def _named(content: str, topic: str) -> str:
    return _THIS.sub(lambda _: f"about {topic}", content) if topic else content


# Subjects that are sentences: "Thank you for the festival", "She floats", "Meet today?".
_NO_TOPIC = re.compile(
    r"(?i)\?$|^(?:thank|sorry|happy|hello|hi|she|he|it|we|i|they|you)\b"
    r"|\b(?:is|are|has|have|was|will)\b"
)


def _is_open(topic: str, chosen: list[Act], *, new: bool) -> bool:
    """Tell whether the acts leave open what the mail is about; a new mail needs more of it."""
    said = telling(" ".join(act.content for act in chosen))
    named = set() if _NO_TOPIC.search(topic) else telling(topic)
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


def _choose(found: list[Act], limit: int) -> dict[int, Act]:
    """Return the weightiest acts that fit into `limit` words, shortened, by their place."""
    # What stands first is what the mail is about, more often than not.
    order = sorted(range(len(found)), key=lambda i: (-_value(found[i]) - (not i) * 0.6, i))
    chosen: dict[int, Act] = {}
    for i in order:
        act = found[i]
        if chosen:
            content = shorten(act.content, max(limit - 2, 1))
        else:
            content = _first_content(act, found[order[1]] if order[1:] else None, limit)
        act = replace(act, content=content)
        used = len(words(_later_form(act) if chosen else content))
        whole = act == found[i] or not chosen or len(words(content)) >= _LEAST
        if whole and (content or not found[i].content) and used <= limit + OVER:
            chosen[i] = act
            limit -= used
        if len(chosen) == _ACTS:
            break
    return chosen


def _first_content(act: Act, second: Act | None, limit: int) -> str:
    """Return the weightiest act's content, brief where that leaves room for a weighty second."""
    if second and _value(second) > _WEIGHTY:
        room = limit - len(words(second.content)) - 2
        brief = shorten(act.content, max(room, limit // 2), tail=0)
        if brief:
            return brief
    return shorten(act.content, limit, tail=len(act.content))


def _value(act: Act) -> float:
    return act.weight + 0.3 * min(facts(act.content), 3) + 0.7 * bool(_REGRET.search(act.content))


def _compose(chosen: list[Act], to: str, topic: str, dice: int) -> str:
    about = f"Write to {to} about {topic}" if topic else f"Write to {to}"
    if not chosen:
        return about
    act = chosen[0]
    if topic:
        told = act.verb == "tell" and not _TO_DO.match(act.content)
        about += f": {act.content}" if told else f", {_later_form(act)}"
    else:
        about = _first_form(act, to, dice)
    return ", ".join([about, *_later(chosen)])


def _first_form(act: Act, to: str, dice: int) -> str:
    form = _FORMS[act.verb][0]
    if act.verb == "tell" and not _TO_DO.match(act.content):
        form = _TELL[to != "them"][dice % 3]
    text = form.format(to=to, what=act.content).strip().replace("them's", "the")
    return re.sub(r"\bthat (?=(?:yes|no)\b|that\b|when\b)", "", text)


def _later_form(act: Act) -> str:
    if act.verb == "tell" and _TO_DO.match(act.content):
        return f"tell them {act.content}"
    return _FORMS[act.verb][1].format(what=act.content).strip()


_TO_DO = re.compile(r"(?:not )?to\b")
_NO_NEWS = re.compile(rf"{_TO_DO.pattern}|when\b")


def _later(chosen: list[Act]) -> list[str]:
    """Return how the acts after the first go on."""
    parts = []
    for before, act in pairwise(chosen):
        told = act.verb == before.verb == "tell" and not _NO_NEWS.match(act.content)
        asked = act.verb == before.verb == "ask" and act.content[:3] == before.content[:3]
        # The "and" also keeps two sentences of the mail from standing side by side again.
        parts.append(f"and {act.content}" if told or asked else _later_form(act))
    return parts


def _mentioned(sentence: str) -> list[Act]:
    """Return what an owner says of a sentence that she writes often, [] for mere style."""
    text = plain(sentence.strip(" .!"))
    if "://" in sentence:
        return [Act("send", "the link", 3)]
    if re.search(r"\d{5}", sentence):
        return [Act("send", "the telephone number", 1)]
    match = re.match(r"((?:the|my|our|we)\b[\w' ]*?)\b(?: is|'s|'re| are) open\b", text)
    if match:
        verb = "are" if match[1] == "we" else "is"
        return [Act("tell", f"when {match[1]} {verb} open", 3)]
    match = re.match(r"((?:the|my|our)\b [\w' ]*?) is\b.*[A-Z].*\d", text)
    return [Act("send", f"the address of {match[1]}", 3)] if match else []


def _finish(text: str) -> str:
    """Return `text` as one clean sentence."""
    text = re.sub(r",? say (?=https?://)", ": ", " ".join(text.split()))
    text = re.sub(r"(?:,? (?:and|but|so))+(?=,)|,? (?:and|but)$", "", text).strip(" ,;:-")
    if text.count("(") != text.count(")"):
        text = re.sub(r"[()]", "", text)
    return text if text.endswith((".", "!")) else text + "."


# --- any language -----------------------------------------------------------------------------

# "Write to {to}", "Write to {to} about {topic}": what an owner would begin with.
_WRITE = {
    "de": ("Schreib {to}", " wegen {topic}"),
    "fr": ("\u00c9cris \u00e0 {to}", " pour {topic}"),
    "es": ("Escribe a {to}", " sobre {topic}"),
    "it": ("Scrivi a {to}", " su {topic}"),
    "pt": ("Escreve a {to}", " sobre {topic}"),
    "nl": ("Schrijf {to}", " over {topic}"),
    "pl": ("Napisz do {to}", " o {topic}"),
    "sv": ("Skriv till {to}", " om {topic}"),
}
_ANY = ("Write to {to}", " about {topic}")
_NEGATIONS = frozenset(("no", "ne", "non", "not", "nie", "pas", "nao", "n\u00e3o", "n\u00e5"))
_SHORT = 3  # letters of a word that in most languages carries grammar rather than sense


def _in_any_language(mail: SentMail, parts: list[str]) -> str:
    who, about = _WRITE.get(mail.language, _ANY)
    topic, to = _topic(mail.subject), recipient(mail)
    text = who.format(to=to) if to else who.split()[0]
    text += about.format(topic=topic) if topic else ""
    limit = max(word_limit(mail.text) + OVER - len(words(text)), 2 * _LEAST)
    told: dict[int, str] = {}
    for i in sorted(range(len(parts)), key=lambda i: -facts(parts[i][1:])):
        brief = " ".join(word for word in parts[i].split() if _tells(word)).strip(" ,;:.!?")
        brief = cut(loosen(brief, mail.text), limit)
        if len(words(brief)) >= _LEAST:
            told[i] = brief
            limit -= len(words(brief))
    said = "; ".join(told[i] for i in sorted(told))
    text = f"{text}: {said}" if said else text
    return _finish(_with_mentions(text, mail, "\n".join(parts), "; "))


def _tells(word: str) -> bool:
    bare = word.strip("\"'()[],.;:!?")
    return len(bare) > _SHORT or is_fact(bare) or bare.casefold() in _NEGATIONS
