"""What the sentences of an English mail do: ask, tell, thank, offer, and with what content.

"Could you please push your code somewhere?" is ``Act("ask", "to push their code somewhere")``. The
first rule of a table that fits a clause decides; a clause that fits none tells something.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.english import clauses, plain, third

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a mail does.

    Attributes:
        verb: "tell", "ask", "thank", "apologise", "send", "remind", "confirm", "invite",
            "suggest", "offer", "encourage", "congratulate", "decline", "accept" or "write".
        content: What follows the verb and the recipient: "I can't make Thursday".
        weight: How much the mail is about it: 3 its purpose, 2 what it says, 1 courtesy, 0 habit.
    """

    verb: str
    content: str
    weight: int = 2


def acts(sentence: str) -> list[Act]:
    """Return the acts of one sentence in their order; none for a mere pleasantry."""
    found: list[Act] = []
    pending = ""  # "Since I'm away," belongs to the clause after it
    for clause in clauses(sentence):
        if _SUBORDINATE.match(clause) and not clause.endswith("?"):
            pending = clause
            continue
        act = _act(clause)
        if act and pending:
            act = Act(act.verb, f"{act.content}, {third(plain(pending))}", act.weight)
            pending = ""
        if act:
            found.append(act)
    return [*found, Act("tell", third(plain(pending)))] if pending else found


def _act(clause: str) -> Act | None:
    """Return what one clause does, None for a pleasantry."""
    text = plain(clause)
    if _PLEASANTRY.match(text.rstrip("?")) or len(text) < 2:  # noqa: PLR2004 - a lone letter
        return None
    for pattern, verb, content, weight in _RULES:
        match = pattern.match(text)
        if match:
            said = content(match) if callable(content) else match.expand(content)
            said = _tidy(third(said))
            courtesy = _COURTESY.search(said)
            return None if _EMPTY.match(said) else Act(verb, said, 1 if courtesy else weight)
    text = text.rstrip("?")
    for start, subject in _SUBJECTLESS:
        text = start.sub(subject, text)
    said = _tidy(third(text))
    return Act("tell", said) if said else None


# --- the rules --------------------------------------------------------------------------------

_SUBORDINATE = re.compile(
    r"(?i)^(?:since|as|because|if|in case|given|due to|when|once|although|while|after|before)\b"
    r"(?!.*,)(?! (?:so|for)\b)"
)
_PLEASANTRY = re.compile(
    r"(?i)^(?:(?:i )?hope (?:you|all|every|this|that|it)|long time no|no worries|fingers crossed"
    r"|any comments|how are you|how is it going|(?:i )?trust (?:you|this)|in advance|i see$"
    r"|that(?:'s| is) (?:great|nice|lovely)$|great$|nice$|good$|ok(?:ay)?$|alright$|warm(?:ly|est)?"
    r"|(?:have|enjoy) (?:a|the|your) \w+ (?:day|week|evening|trip)|all the best|see you|talk soon"
    r"|best(?: regards| wishes)?$|kind regards$|sincerely$|cheers$|i'd appreciate it"
    r"|(?:i'll|will) do$)"
)
_EMPTY = re.compile(r"(?i)^(?:(?:to|we|i) do (?:that|so|this|it)|to|if|for|about)$")
_COURTESY = re.compile(
    r"(?i)\b(?:if (?:they|there) \w+ (?:any\w*|me to)|(?:any|further) questions|if anything)\b"
)

_PRONOUN = r"(?:you|i|we|they|it|he|she|there|this|that)"
_SUBJECT = rf"({_PRONOUN}|(?-i:[A-Z][a-z]+))"
_AUXILIARY = r"(am|are|is|was|were|do|does|have|has|had|can|could|will|would|should|may|might)"
_PLEASE = r"(?:please |kindly |also |maybe |perhaps |possibly )*"
_THANKS = r"(?:many )?(?:thanks|thank you)(?: again| a lot| very much| a million)*"
_WISH = r"(?:i(?:'d)? |we(?:'d)? )?(?:(?:would )?(?:want|like|love) to |must |have to |need to )"
_KIND = (
    r"(?:this is )?(?:a |an |another |one )?(?:gentle |kind |quick |friendly |small |short |last )*"
)
_YOU_COULD = r"you(?:'d be able to| could| can| would| might)"
_NOT_NEWS = r"(?!hear|see|have|learn|read)"
_GLAD = r"(?:more than )?(?:happy|glad|delighted|pleased)"
_ORDERS = (
    r"(?:keep|use|see|check|call|bring|send|take|look|try|make sure|remember|wait|join|add|write"
    r"|tell|read|say|ask|pick|come|put|leave|text|ring|email|drop|wear|eat|buy)"
)
_OPEN = r"(?:what|which|who|whom|when|where|why|how|whether)"
_HAS_VERB = re.compile(r"(?i)\b(?:is|are|was|were|has|have|had|will|would|can|could|should)\b|'\w")


def _asked(match: re.Match[str]) -> str:
    """Return what is asked for: "when ...", "if they'd like ...", "for their preference"."""
    content = match.group(1)
    if re.match(
        rf"(?i){_OPEN}\b|if (?:you'd|you would|you want|you have time|you are|you're|i can)",
        content,
    ):
        return content
    if re.match(r"(?i)(?:if|as soon as|once|in case|that)\b", content):
        return f"to let me know {content}"
    return f"for {content}"


def _if(match: re.Match[str]) -> str:
    """Return "to push ..." for "you could push ...", else "if ..."."""
    content = match.group(1)
    content = re.sub(r"(?i)^it (?:would|could|might) be possible", "it's possible", content)
    request = re.match(rf"(?i){_YOU_COULD} {_PLEASE}(.+)", content)
    return f"to {request.group(1)}" if request else f"if {content}"


def _wished(match: re.Match[str]) -> str:
    """Return "to add ..." for "(it'd be nice if) you add ...", else "if ..."."""
    content = match.group(1)
    request = re.match(rf"(?i)(?:{_YOU_COULD}|you) {_PLEASE}(.+)", content)
    return f"to {request.group(1)}" if request else f"if {content}"


def _yes_or_no(match: re.Match[str]) -> str:
    """Put a yes/no question as "if ...": do you have -> if they have."""
    auxiliary, subject, rest = match.group(1).casefold(), match.group(2), match.group(3)
    if auxiliary == "do":
        return f"if {subject} {rest}"
    if auxiliary == "does":
        verb, _, tail = rest.partition(" ")
        return f"if {subject} {verb}s {tail}"
    return f"if {subject} {auxiliary} {rest}"


_PAST = {
    "get": "got",
    "see": "saw",
    "send": "sent",
    "have": "had",
    "make": "made",
    "find": "found",
    "go": "went",
    "come": "came",
    "write": "wrote",
    "meet": "met",
    "hear": "heard",
    "take": "took",
    "think": "thought",
    "know": "knew",
    "do": "did",
    "give": "gave",
    "speak": "spoke",
    "buy": "bought",
}


def _past(match: re.Match[str]) -> str:
    """Put a question about the past: did you ever publish -> if they ever published."""
    subject, adverb, verb, rest = match.groups(default="")
    stem = verb[:-1] + "i" if re.search(r"[^aeiou]y$", verb) else verb.removesuffix("e")
    return f"if {subject} {adverb}{_PAST.get(verb.casefold(), stem + 'ed')} {rest}"


def _open_question(match: re.Match[str]) -> str:
    """Put an open question as a clause: what would you need -> what they would need."""
    word, auxiliary, subject, rest = match.groups()
    return f"{word} {subject} {'' if auxiliary.casefold() in {'do', 'does'} else auxiliary} {rest}"


def _works(match: re.Match[str]) -> str:
    """Put "would 2:30 work for you" as "if 2:30 works for them"."""
    what, verb, rest = match.groups()
    return f"if {what} {'is' if verb == 'be' else verb + 's'}{rest}"


def _any_question(match: re.Match[str]) -> str:
    content = match.group(1)
    if re.match(rf"(?i)(?:{_AUXILIARY}|did)\b", content):
        return f"this: {content}"
    return f"if {content}" if _HAS_VERB.search(content) else f"about {content}"


# Pattern of the whole clause, verb, content (a template of the match or a function of it), weight.
_TABLE: tuple[tuple[str, str, str | Callable[[re.Match[str]], str], int], ...] = (
    # courtesy
    (rf"{_THANKS},? (for (?:(?:the|your) )?(?:e?-?mails?|message|reply|getting in touch|note))",
     "thank", r"\1", 0),
    (rf"{_THANKS},? (for .+)", "thank", r"\1", 1),
    (rf"{_THANKS}(?: (?-i:[A-Z])\w+)?", "thank", "", 1),
    (r"(?:yes|sure|yep|of course|absolutely)(?:,? (?:sure|please|of course))?", "tell", "yes", 2),
    (r"no", "tell", "no", 2),
    (r"(?:(?:that|it|this) )?(sounds|looks) (good|great|perfect|fine|nice|lovely)",
     "tell", r"it \1 \2", 1),
    (r"(?:i'm |we're )?sorry (?:for|about) (.+)", "apologise", r"for \1", 1),
    (r"(?:my |our )?apologies for (.+)", "apologise", r"for \1", 1),
    (r"(?:my |our )?apolog(?:ies|y)|(?:i'm )?sorry", "apologise", "", 1),
    (r"congrat(?:ulation)?s(?: to you)?(?: on (.+))?",
     "congratulate", lambda m: f"on {m[1]}" if m[1] else "", 2),
    (r"about ([^,]+), (?:i |we )?(?:(?:want|would like|'d like) to )?(?:propose|suggest) (.+)",
     "suggest", r"\2 for \1", 3),
    (r"(about [^,]+)", "write", r"\1", 1),
    # reminders, things sent, confirmations
    (rf"{_KIND}reminder (?:about|of|for) (.+)", "remind", r"about \1", 3),
    (rf"{_KIND}reminder,? (?:that )?(.+)", "remind", r"that \1", 3),
    (r"don't forget (.+)", "remind", r"\1", 3),
    (r"here(?:'s| is| are|'re) (.+)", "send", r"\1", 3),
    (r"(?:please )?(?:find|see) them attached", "send", "the attachments", 3),
    (r"(?:please )?(?:find|see) it attached", "send", "the attachment", 3),
    (r"(?:please )?(?:find|see) (?:the |my )?(.+?) attached", "send", r"the \1 attached", 3),
    (r"(?:(?:please )?(?:find|see) attached|attached (?:is|are|please find)) (.+)",
     "send", r"\1", 3),
    (r"(?:i(?:'ve| have)? |we )?(?:attach(?:ed)?|am attaching) (.+)", "send", r"\1", 3),
    (r"(?:i |we )?(?:can |hereby )*confirm(?: that)? (.+)", "confirm", r"\1", 3),
    # requests
    (rf"(?:(?:could|can|would|will) you )?{_PLEASE}(?:let (?:me|us) know|tell (?:me|us)) (.+)",
     "ask", _asked, 3),
    (rf"{_PLEASE}let (?:me|us) know", "ask", "to let me know", 1),
    (r"(?:would|are) you (?:be )?(?:able|willing) to (.+)", "ask", r"to \1", 3),
    (r"would you be interested in (.+)", "ask", r"if they're interested in \1", 3),
    (rf"(?:would|could|can|will) you (and [\w ]+?) {_PLEASE}(?:be (?:willing|able) to )?(\w+ .+)",
     "ask", r"if they \1 can \2", 3),
    (r"would you consider (.+)", "ask", r"to consider \1", 3),
    (r"would you ((?:have|need|prefer|want|agree|know|say)\b.*)", "ask", r"if they'd \1", 3),
    (r"would you mind (.+)", "ask", r"if they'd mind \1", 3),
    (r"would you like (?:me )?to (.+)", "ask", r"if they'd like to \1", 3),
    (rf"(?:could|can|would|will) you {_PLEASE}(.+)", "ask", r"to \1", 3),
    (rf"(?:until then,? |maybe |perhaps )?you (?:could|can|may|might|should) {_PLEASE}(.+)",
     "ask", r"to \1", 3),
    (rf"(?:could|can|may) (i|we) {_PLEASE}(.+)", "ask", r"if \1 can \2", 3),
    (r"(?:i have|i've got) (?:a|one|another)(?: \w+)? question about (.+)", "ask", r"about \1", 3),
    (r"(?:i |we )?(?:was |were |am |are |'m )?wondering (?:if|whether) (.+)", "ask", _if, 3),
    (r"(?:i |we )?(?:was |were |am |are |'m )?wondering (.+)", "ask", r"\1", 3),
    (rf"{_WISH}ask (?:you )?(?:if|whether) (.+)", "ask", _if, 3),
    (rf"{_WISH}ask (?:you )?(?:for |about )?(.+)", "ask", _asked, 3),
    (r"(?:i'd|we'd) (?:be )?(?:appreciate|grateful|love)(?: it)? if (.+)", "ask", _wished, 3),
    (r"it(?:'d| would) be (?:great|good|nice|lovely|better|helpful|wonderful) if (.+)",
     "ask", _wished, 3),
    (r"would it be (?:possible|ok|okay|fine|alright)(?: for (?:you|me|us))? (to|if) (.+)",
     "ask", r"if it's OK \1 \2", 3),
    (r"is it (?:possible|ok|okay|fine)(?: for (?:you|me|us))? to (.+)",
     "ask", r"if it's OK to \1", 3),
    (r"any chance (?:that )?(i|we|you) (?:can|could) (.+)", "ask", r"if \1 can \2", 3),
    (r"any (?:chance|idea)(?: of| about| on)? (.+)", "ask", r"about \1", 3),
    (r"any (suggestions?|thoughts?|news|ideas?) (.+)", "ask", r"for \1 \2", 3),
    (rf"{_PLEASE}feel free to (.+)", "invite", r"to \1", 3),
    (r"please (?:kindly |also )?don't (.+)", "tell", r"not to \1", 2),
    (rf"please {_PLEASE}(not .+)", "tell", r"\1", 2),
    (rf"please {_PLEASE}(.+)", "ask", r"to \1", 3),
    (rf"({_ORDERS} .+)", "tell", r"to \1", 2),
    # proposals, offers, invitations
    (r"(?:how|what) about ([^?]+)\??", "suggest", r"\1", 3),
    (r"(?:let's|shall we|should we) (?:say )?([^?]+)\??", "suggest", r"we \1", 3),
    (r"(?:maybe|perhaps) (?:let's )?([^?]+)\??", "suggest", r"\1", 3),
    (r"we could (.+)", "suggest", r"we \1", 3),
    (rf"(?:{_WISH}|i |we |(?:i|we) can )(?:propose|suggest)(?: that)? (.+)", "suggest", r"\1", 3),
    (rf"(?:{_WISH}|i |we |i'd )invite you (.+)", "invite", r"\1", 3),
    (r"(?:i(?:'d)? |we )?(?:would )?encourage you (.+)", "encourage", r"\1", 3),
    (rf"(?:(?:i|we)(?:'d|'m|'re)? |would |will )?(?:be |am |are )?{_GLAD} to {_NOT_NEWS}(.+)",
     "offer", r"to \1", 3),
    # questions
    (rf"would ((?!{_PRONOUN}\b).+?) (work|suit|be|do|help)\b([^?]*)\?", "ask", _works, 3),
    (rf"(?:and )?{_AUXILIARY} {_SUBJECT} ([^?]+)\?", "ask", _yes_or_no, 3),
    (rf"((?:(?:at|for|on|to) )?{_OPEN}\b[^?,]{{0,30}}?) {_AUXILIARY} ({_PRONOUN})\b ?([^?]*)\?",
     "ask", _open_question, 3),
    (r"(could|can|would|will) ((?:the|my|your|this|that) \w+) ([^?]+)\?", "ask", r"if \2 \1 \3", 3),
    (rf"({_OPEN}\b[^?]+)\?", "ask", r"\1", 3),
    (rf"did {_SUBJECT} (ever |already |also )?(\w+)\b ?([^?]*)\?", "ask", _past, 3),
    (r"(?:i|we) (?:imagine|assume|take it)(?: that)? ([^?]+)\?", "ask", r"if \1", 3),
    (r"((?:i|we) [^?]+)\?", "tell", r"\1", 2),
    (r"([^?]+)\?", "ask", _any_question, 3),
)  # fmt: skip
_RULES = tuple((re.compile(rf"(?i)^(?:{row[0]})$"), *row[1:]) for row in _TABLE)

# English lets these sentences begin without their subject.
_SUBJECTLESS = tuple(
    (re.compile(rf"(?i)^({words})\b"), subject)
    for words, subject in (
        (r"looking forward|still|already|back|planning|hoping|going|on my way|starting", r"I'm \1"),
        (r"would be|will be|was|sounds|looks|seems", r"it \1"),
        (r"should|will|can't|hope|might|made|got|did|have|had|met|saw|found|forgot", r"I \1"),
        (r"(?:so )?(?:great|good|nice|lovely|glad|happy)(?= to| that)", r"it's \1"),
    )
)
_CONTRACTIONS = tuple(
    (re.compile(rf"(?i)\b{long}\b(?= (?!that\b))"), short)
    for long, short in (
        ("they are", "they're"),
        ("they would", "they'd"),
        ("they will", "they'll"),
        ("it is", "it's"),
        ("it would", "it'd"),
        ("that is", "that's"),
    )
)


def _tidy(text: str) -> str:
    """Contract what the rules put together, and drop what they left over."""
    text = re.sub(r"(?i)\s*\bplease\b:?", "", text)
    text = re.sub(r"^(?:(?:and|but|so|or)\b[ ,]*)+", "", " ".join(text.split()).strip(" ,;:?!."))
    for pattern, short in _CONTRACTIONS:
        text = pattern.sub(short, text)
    return text
