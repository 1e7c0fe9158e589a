"""English sentences made plain, and put as somebody would who orders a mail.

A sentence falls into clauses; each loses what carries no fact (openers, hedges), stock phrases
become plain ones, and the reader, who is "you" in the mail, becomes "they". Names, dates, numbers
and links stay. All of it is regular expressions: cheap, and the same everywhere.
"""

from __future__ import annotations

import re


def vocabulary(text: str) -> frozenset[str]:
    """Return the words of a list written as one text."""
    return frozenset(text.split())


COMMON = vocabulary(
    "a about after all also am an and any are as at be been before but by can can't could did do "
    "does don't for from get go good had has have he hello her hey hi him his how i i'd i'll i'm "
    "i've if in is it it's its just know last let like make me meet more my need next no not now "
    "of ok on one only or our out please see send she should so some sorry still than thank thanks "
    "that that's the their them then there these they this those time to too until up us very was "
    "we we'd we'll we're we've were what when where which while who why will with would yes you "
    "you're your they're they'd it'd we'd"
)


def is_english(text: str) -> bool:
    """Tell whether `text` looks English: a fourth of its words are common English ones."""
    found = re.findall(r"[^\W\d_]+(?:['\u2019]\w+)?", text.casefold())
    return 4 * sum(word.replace("\u2019", "'") in COMMON for word in found) >= len(found) > 0


# --- clauses ----------------------------------------------------------------------------------

_EMOTICON = re.compile(r"(?<!\w)[:;]-?[)(DPp](?!\w)|[\u2600-\u27bf\ufe0f\U0001f300-\U0001faff]|<3")
_MARKUP = re.compile(r"(?<![\w/])[*_~]+(?=\S)|(?<=\w)[*_~]+(?![\w/])")
_BULLET = re.compile(r"^\s*(?:[-*\u2022\u2014\u2013]+|\(?\d{1,2}[.)])\s+")
_DASH = re.compile(r"(?<=\w)(?:\.{2,}|\u2026|\s*--+|\s+[\u2013\u2014-](?=\s)|\s*\u2014)\s*(?=\w)")

# "Short version: ..." but not "Where: <link>" and not "Speaker: Jen Doe".
_LABEL = re.compile(r"^(?:[A-Z][\w']*(?: [a-z']+){0,2}|[A-Z]{2,4}):\s+(?=[\w']+,?(?: [\w']+,?){3})")

# What begins an act of its own after a comma or an "and".
_NEW_ACT = (
    r"(?=(?:could|can|would|will|do|did|are|is|have) (?:you|we|it|i|there|they)\b|please\b|sorry\b"
    r"|let (?:me|us) know|(?:many )?thank|looking forward|i'd (?:be|love|like)|feel free|how about"
    r"|i would (?:be|love|like)|i(?: am|'m) (?:happy|glad)|any (?:chance|idea|suggestion)|congrat"
    r"|what (?:about|do|are|is|would)|when (?:are|do|would|could))"
)
_BOUNDARY = re.compile(
    rf"(?i)\s*[;,]\s*(?:and |so |but |then )*{_NEW_ACT}|\s+(?:and|but)\s+(?:so )?{_NEW_ACT}"
)
# "Thanks for the reminder, this is ..." is two acts, and so is "Yes, I confirm ...".
_LEAD = re.compile(
    r"(?i)^((?:(?:(?:i am |i'm )?(?:really |very |so |terribly )*sorry|(?:ok(?:ay)?,? |alright,? )?"
    r"(?:many |so )*(?:thanks|thank you)|(?:my )?apologies|congrat\w+)"
    r"(?: again| a lot| so much| very much| a million)?"
    r"(?: (?:for|about|on) [^,;:!]+?)?(?= but |[,;:!]| (?-i:[A-Z])\w+[,!]))"
    r"|(?:yes|no|sure|yep)(?=[,!;]))"
    r"(?: (?-i:[A-Z])\w+)?(?:[,;:!]+(?: and| but| so)?| but)\s+(?=\w)"
)


_LONGEST = 1000  # characters of a sentence that are read; what goes on further is none


def clauses(sentence: str) -> list[str]:
    """Return the clauses of a sentence that may each be an act; "?" stays on the last one."""
    sentence = sentence[:_LONGEST]
    text = re.sub(r"\s+", " ", _BULLET.sub("", _MARKUP.sub("", _EMOTICON.sub(" ", sentence))))
    text = re.sub(r"^\((.*)\)\W*$", r"\1", text.strip()).replace("\u2019", "'")
    text = _LABEL.sub("", _DASH.sub(", ", text))
    end = "?" if re.search(r"\?[)\s!.\"]*$", text) else ""
    lead = _LEAD.match(text)
    parts = [lead.group(1), *_BOUNDARY.split(text[lead.end() :])] if lead else _BOUNDARY.split(text)
    parts = [part.strip(" ,;.!?") for part in parts]
    return [part + (end if i == len(parts) - 1 else "") for i, part in enumerate(parts) if part]


# --- plain words ------------------------------------------------------------------------------

_OPENERS = re.compile(
    r"(?i)^(?:(?:(?:hi|hey|hello|dear)(?: \w+)?|look|listen|right|nice|lovely|brilliant|super"
    r"|great)[,!]"
    r"|(?:so|and|but|also|well|now|ok(?:ay)?|alright|oh|ah"
    r"|better still|anyways?|however|firstly|first|second(?:ly)?|finally|lastly|moreover"
    r"|in addition|indeed|ha"
    r"|additionally|therefore|in any case|that said|(?:un)?fortunately|luckily|sadly|hopefully|btw"
    r"|by the way|apparently|obviously|basically|actually|honestly|in fact|of course|after all|wow"
    r"|(?:just )?(?:fyi|tldr|tl;dr|ps|p\.s\.?)|if so|if yes|in particular|specifically|meanwhile"
    r"|regarding this|coming back to this|for some reason|on a(?:nother| related) note|oh no|haha"
    r"|for example|for instance|to be honest|alternatively|otherwise|anyhow|one more thing"
    r"|as a reminder|quick question|with some delay"
    r"|in that case|let's do (?:this|it like this):)(?:\b[,:.!]*|(?<=:))"
    r"|(?:please )?note that|as (?:i|we) (?:\w+ )?(?:said|mentioned|wrote|discussed|agreed)[^,]*,"
    r"|as (?:you|far as i) (?:\w+ )?(?:know|tell|see|remember)[^,]*,|(?:just )?so you know,?"
    r"|i (?:think|guess|believe|suppose)(?: that)? (?=\w+ )"
    r"|i (?:just |also )*(?:wanted|would like|'d like|want) to ask:"
    r"|(?:i have|i had|there(?:'s| is| was)) (?:just )?(?:a|one|another|two|some)\b[\w ]*"
    r"(?:questions?|things?|points?)[^:?]{0,120}:"
    r"|i(?: am|'m) (?:writing|getting in touch|reaching out|contacting you|emailing)(?: you)?"
    r"(?: since| because| as|,)?(?: i (?:wanted|would like) to (?:mention|say|ask))?\b"
    r"|(?:(?:i|we) )?(?:just |also |only )*(?:(?:want(?:ed)?|(?:would|'d) like|need(?:ed)?|have) to"
    r"|am writing to|'m writing to) (?:also |just |quickly )*(?:mention|say|add|let you know|stress"
    r"|tell you|point out|inform you|note|update you(?: on)?)(?: that)?[,:]?(?= )"
    r"|just to let you know,?)\s*"
)

# Stock phrases and their plain forms, in this order.
_PLAIN = tuple(
    (re.compile(rf"(?i)\b(?:{pattern})"), plain)
    for pattern, plain in (
        (r"(?:i )?just want(?:ed)? to (?:mention|say|add|let you know)(?: that)? ", ""),
        (r"(?:un)?fortunately,? |really |actually |just |specifically,? |very |simply ", ""),
        (r"a (?:little )?bit of ", "some "),
        (r"or so\b", ""),
        (r"obviously,? |apparently |basically |somehow |of course,? |indeed,? |kind of ", ""),
        (r"hopefully,? |definitely |absolutely |quite |a (?:little )?bit |a little |slightly ", ""),
        (r"finally |certainly |extremely |totally |completely |fairly |truly |honestly ", ""),
        (
            r"also |so much\b ?|i(?:'m| am) afraid(?: that)? |at all\b|in any way\b|by any chance",
            "",
        ),
        (r"in particular,? ", ""),
        (r"as per\b", "by"),
        (r"seems? to be able to\b", "can"),
        (r"wanted to\b", "want to"),
        (r"(?:cannot|can not|am not able to|(?:am|was) unable to|'m unable to)\b", "can't"),
        (r"(?:won't|will not|'ll not) be able to\b", "can't"),
        (r"(?:will|would|'ll|'d|should) be able to\b", "can"),
        (r"are (?:currently )?unable to\b", "can't"),
        (r"i am\b(?= \w)", "I'm"),
        (r"i will\b", "I'll"),
        (r"i would\b", "I'd"),
        (r"we are\b(?= \w)", "we're"),
        (r"we will\b", "we'll"),
        (r"it is\b(?= (?!that\b)\w)", "it's"),
        (r"that is\b(?= \w)", "that's"),
        (r"do not\b", "don't"),
        (r"does not\b", "doesn't"),
        (r"did not\b", "didn't"),
        (r"will not\b", "won't"),
        (r"is not\b", "isn't"),
        (r"are not\b", "aren't"),
        (r"in order to\b", "to"),
        (r"(?:regarding|concerning|with regards? to|in regards? to|in terms of)\b", "about"),
        (r"due to (?:the fact that)?", "because of "),
        (r"at this (?:time|moment)|at the moment|currently", "now"),
        (r"a couple of\b", "a few"),
        (r"a (?:bunch|lot|number) of\b|lots of\b", "many"),
        (r"have a (?:closer |another )?look at\b", "look at"),
        (r"had a (?:closer |another )?look at\b", "looked at"),
        (r"have a (?:closer )?look\b", "look"),
        (r"get(?:ting)? in touch with\b", "contact"),
        (r"got in touch with\b", "contacted"),
        (r"in the (?:meanwhile|meantime)", "until then"),
        (r"at some point(?: in time)?", "sometime"),
        (r"to some (?:time|point) in\b", "to"),
        (r"as soon as (?:possible|you can)", "asap"),
        (
            r"(?:if (?:at all )?possible|if you (?:can|could|don't mind)|if that's ok)(?=$|[,.;?])",
            "",
        ),
        (r"at your earliest convenience", "soon"),
        (r"it (?:looks|seems) like |it (?:seems|appears)(?: that)? |(?:looks|seems) like ", ""),
        (r"i (?:think|guess|believe|suppose)(?: that)? ", ""),
        (r"as far as i can tell,? ", ""),
    )
)


def plain(clause: str) -> str:
    """Return the clause without openers and hedges, stock phrases made plain."""
    before = None
    while clause != before:
        before = clause
        clause = _OPENERS.sub("", clause.strip(" ,;.")).strip()
    for pattern, short in _PLAIN:
        clause = pattern.sub(short, clause)
    clause = re.sub(r",? (?:though|too|as well|perhaps|please|again)(?=[.!?]*$)", "", clause)
    return start_low(re.sub(r"\s+([,;.?!])", r"\1", " ".join(clause.split())).strip(" ,;"))


_SUBJECT_NAME = re.compile(
    r"^[A-Z][\w.-]+(?:'s\b| (?:and I|will|is|was|has|had|can|could|would|should|said|says|mentioned"
    r"|asked|told|wants|needs|agreed|sent|wrote)\b)"
)


_DAY = re.compile(
    r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?\b|(?:January|February|March|April|May|June|July"
    r"|August|September|October|November|December|Christmas|Easter)\b"
)


def start_low(text: str) -> str:
    """Lower the first letter, unless the first word is a name, a day, "I" or an acronym."""
    first = text.split(" ", 1)[0]
    if _DAY.match(text):
        return text
    if first.split("'")[0] == "I" or not (first[1:].islower() or first in {"A", "O"}):
        return text
    if first.casefold() not in COMMON and _SUBJECT_NAME.match(text):
        return text
    return text[:1].lower() + text[1:]


# --- the reader -------------------------------------------------------------------------------

_OBJECT_BEFORE = vocabulary(
    "to for with of from about at on by than let tell ask send give show invite see meet thank "
    "host encourage convince help call contact visit remind wish owe bring email text join "
    "seeing telling meeting having hosting visiting calling helping pick put putting keep lend "
    "pay ping messaged called texted emailed told gave sent showed asked promised miss love hug "
    "catch between without reimburse provide expect want watch need"
)
_SUBJECT_AFTER = vocabulary(
    "are were have had can can't could will won't would should may might do don't did need want "
    "like mind know think mean agree decided get got said asked mentioned sent wrote made "
    "prefer"
)
_OBJECT_AFTER = vocabulary(
    "to in at on for with a an the my our some about and or if when tomorrow today tonight next "
    "this that back out up by from of as directly soon again here there more"
)
_POSSESSIVE = {
    "your": "their",
    "yours": "theirs",
    "yourself": "themselves",
    "yourselves": "themselves",
}
_READER = re.compile(r"(?i)(\W*)(you|your|yours|yourself|yourselves)('\w+)?(\W*)")


def third(text: str) -> str:
    """Put what is said to the reader as said about the reader: you, your -> they, their."""
    tokens = text.split(" ")
    for i, token in enumerate(tokens):
        match = _READER.fullmatch(token)
        if match:
            head, word, tail, end = match.groups(default="")
            before = tokens[i - 1].casefold().strip(',;:()"') if i else ""
            after = tokens[i + 1].casefold() if i + 1 < len(tokens) else ""
            they = "they" if tail or _is_subject(before, after, alone=bool(end)) else "them"
            tokens[i] = head + _POSSESSIVE.get(word.casefold(), they) + tail + end
    return " ".join(tokens)


def _is_subject(before: str, after: str, *, alone: bool) -> bool:
    """Tell whether "you" between these two words is a subject."""
    if not before or after in _SUBJECT_AFTER:
        return True
    return not (alone or not after or before in _OBJECT_BEFORE or after in _OBJECT_AFTER)
