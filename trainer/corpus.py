"""The owner's own mails as a training needs them.

`usable` takes what a training can learn from and counts the rest by reason; `split` holds the
newest fifth out. `letter` tells greeting, body and closing apart, as far as possible by shape, so
that it works in any language.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from trainer import machine
from trainer.confidential import secret_in
from trainer.english import vocabulary
from trainer.errors import TooFewMailsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

ONE_LINER = "one-liner"
TOO_LONG = "too long"
DUPLICATE = "same text as a newer mail, or nearly"
MASS_MAIL = "mass mail"
SECRET = "holds a secret: {kind}"  # noqa: S105 - the name of a reason
OLDER = "older than the newest {newest}"

MIN_WORDS = 5  # besides greeting and closing: "OK, thanks!" teaches no voice
MAX_WORDS = 1000
MIN_MAILS = 25
MIN_HELD_OUT = 5
MAX_RECIPIENTS = 15  # of To, Cc and Bcc; more are an audience
MASS = 5  # different recipients of one text ...
MASS_WITHIN = timedelta(days=7)  # ... in such a time are a mailing, whoever greeted each by name


@dataclass(frozen=True, slots=True)
class SentMail:
    """One mail that the owner sent.

    Attributes:
        key: Names the mail for caches and reports: its content hash, 64 hex digits.
        date: When it was sent, aware.
        to: The recipients' display names, or the local parts of their addresses.
        subject: Its subject, "" if none.
        text: The owner's own words.
        answered: The text it answers, "" for a new mail.
        language: ISO 639-1, "" where not known.
        copies: How many mailboxes Cc and Bcc have.
    """

    key: str
    date: datetime
    to: tuple[str, ...]
    subject: str
    text: str
    answered: str = ""
    language: str = ""
    copies: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """A corpus, oldest mail first.

    Attributes:
        train: The mails to learn from.
        held_out: The mails to judge by, all newer than those.
    """

    train: tuple[SentMail, ...]
    held_out: tuple[SentMail, ...]


@dataclass(frozen=True, slots=True)
class Letter:
    """A text in its three parts; any of them may be "".

    Attributes:
        greeting: "Dear Prof. Aman", without the punctuation that ends it.
        body: What lies between, lines and paragraphs as they were.
        closing: "Best regards," and the name.
    """

    greeting: str
    body: str
    closing: str


# --- what a training learns from --------------------------------------------------------------


def usable(mails: Sequence[SentMail], *, newest: int = 1000) -> tuple[list[SentMail], Counter[str]]:
    """Return the mails that a training can use, oldest first, and the others counted by reason.

    Left out are one-liners, mass mails, what a machine wrote, mails with a secret (a model may
    repeat it), and of mails with the same or nearly the same body all but the newest. A mail of
    any language is used. The time it takes grows in proportion to the mails.

    Args:
        mails: All that the owner sent, in any order.
        newest: How many of the usable ones are training targets: `training.emails`.
    """
    left_out: Counter[str] = Counter()
    sound: list[SentMail] = []
    for mail in sorted(mails, key=lambda mail: (mail.date, mail.key), reverse=True):
        if reason := _fault(mail):
            left_out[reason] += 1
        else:
            sound.append(mail)
    kept = []
    for group in _alike(sound):
        if _is_mailing(group):
            left_out[MASS_MAIL] += len(group)
        else:
            kept.append(group[0])
            left_out[DUPLICATE] += len(group) - 1
    left_out[OLDER.format(newest=newest)] += len(kept[newest:])
    return kept[:newest][::-1], +left_out


def split(mails: Sequence[SentMail], held_out: float = 0.2) -> Split:
    """Split usable mails by date: the newest `held_out` of them, at least 5, are held out.

    The split is chronological because a model is used on mails that come after its training;
    drawn by chance, the hold-out would hold answers to mails of the training.

    Raises:
        TooFewMailsError: There are fewer than 25 mails.
    """
    if len(mails) < MIN_MAILS:
        raise TooFewMailsError(len(mails), MIN_MAILS)
    ordered = sorted(mails, key=lambda mail: (mail.date, mail.key))
    cut = len(ordered) - max(MIN_HELD_OUT, int(len(ordered) * held_out))
    return Split(tuple(ordered[:cut]), tuple(ordered[cut:]))


def _fault(mail: SentMail) -> str:
    """Return why a mail is no use to a training, whatever the others are, "" if it is."""
    parts = letter(mail.text)
    count = len(words(parts.body))
    if count < MIN_WORDS:
        return ONE_LINER
    if count > MAX_WORDS:
        return TOO_LONG
    if len(mail.to) + mail.copies > MAX_RECIPIENTS:
        return MASS_MAIL
    addressed = bool(parts.greeting or parts.closing)
    if reason := machine.reason(mail.subject, mail.text, addressed=addressed):
        return reason
    kind = secret_in(f"{mail.subject}\n{mail.text}")
    return SECRET.format(kind=kind) if kind else ""


def _alike(mails: Sequence[SentMail]) -> list[list[SentMail]]:
    """Group mails with nearly the same body; each group is in the given order, as its first is."""
    from trainer.duplicates import MIN_WORDS as COMPARABLE
    from trainer.duplicates import leaders  # NumPy, which a status needs not

    texts = []
    for mail in mails:
        body = words(letter(mail.text).body)
        # Of short mails greeting and closing are a part of what is learned.
        texts.append(body if len(body) >= COMPARABLE else words(mail.text))
    groups: defaultdict[int, list[SentMail]] = defaultdict(list)
    for leader, mail in zip(leaders(texts), mails, strict=True):
        groups[leader].append(mail)
    return list(groups.values())


def _is_mailing(mails: Sequence[SentMail]) -> bool:
    """Tell whether mails of one text, newest first, went to many people in a short time."""
    window: deque[tuple[datetime, tuple[str, ...]]] = deque()
    people: Counter[tuple[str, ...]] = Counter()
    for mail in mails:
        if mail.to:
            window.append((mail.date, tuple(map(str.casefold, mail.to))))
            people[window[-1][1]] += 1
        while window and window[0][0] - mail.date > MASS_WITHIN:
            left = window.popleft()[1]
            people[left] -= 1
            if not people[left]:
                del people[left]
        if len(people) >= MASS:
            return True
    return False


# --- the parts of a letter --------------------------------------------------------------------

# A link, or a character of a script without spaces, or a word.
_WORD = re.compile(r"https?://\S+|[\u3040-\u30ff\u3400-\u9fff]|\w+(?:[-'\u2019.@:/+&]\w+)*")
_GREETING_END = re.compile(r"[,!:.\u2014\u2013-]*\s*$")
_CLOSERS = re.compile(
    r"(?i)^(?:(?:with |my )?(?:very )?(?:best|kind|warm|many|all|most|lots|see you|talk soon|thank"
    r"|cheers|regards|yours|sincerely|love|take care|hugs|x+$|ciao|bis |viele|liebe|mit |beste"
    r"|herzlich|lg\b|mfg\b|vg\b|cordialement|bien |bonne|merci|\u00e0 |amiti|saludos|un |gracias"
    r"|abrazo|cordiali|un saluto|grazie|a presto|met |groet|obrigad"
    r"|abra\u00e7|atenciosamente|pozdr|z pow|dzi\u0119k))"
)
GREETER = re.compile(
    r"(?i)^(?:dear|hi+|hey+|hello|hiya|howdy|good (?:morning|afternoon|evening)|morning|greetings"
    r"|hallo|liebe[rs]?|sehr geehrte\w*|guten (?:tag|morgen|abend)|moin|servus|gr\u00fc\u00df\w*"
    r"|bonjour|bonsoir|salut|ch[e\u00e8]re?s?|coucou|hola|estimad[oa]s?|querid[oa]s?|buen[oa]s \w+"
    r"|ciao|car[oaie]|gentil\w+|salve|buongiorno|beste|geachte|dag|ol[a\u00e1]|prezad[oa]s?"
    r"|cze\u015b\u0107|dzie\u0144 dobry|szanown\w+|ahoj|dobr\u00fd den|hej|k\u00e6re|kj\u00e6re)\b"
)
_MAX_GREETING = 6
_LONE_GREETING = 3  # words of a greeting that is the whole text
_FULL_STOP = 3  # words of a closing that ends like a sentence: "See you soon."
_MAX_CLOSING = 5


def words(text: str) -> list[str]:
    """Return the words of `text`; a link, a time, "can't" or "e-mail" is one word."""
    return _WORD.findall(text)


def letter(text: str) -> Letter:
    """Tell greeting, body and closing of `text` apart.

    A greeting is a short first line that ends with a comma or begins with a word of greeting. A
    closing is a run of short last lines, none of which is a sentence, unless it begins with a
    word of farewell.
    """
    lines = text.strip().splitlines()
    first = 1 if lines and _greets(lines[0], last=len(lines) == 1) else 0
    last = _closing_start(lines, first)
    greeting = _GREETING_END.sub("", lines[0].strip()) if first else ""
    return Letter(greeting, "\n".join(lines[first:last]).strip(), "\n".join(lines[last:]).strip())


def _greets(line: str, *, last: bool) -> bool:
    count = len(words(line))
    if not 0 < count <= _MAX_GREETING or line.rstrip().endswith("?"):
        return False
    if GREETER.match(line):
        return not last or count <= _LONE_GREETING
    return not last and line.rstrip().endswith(",") and not _CLOSERS.match(line)


def _closing_start(lines: list[str], first: int) -> int:
    """Return the index of the line with which the closing begins, len(lines) if there is none."""
    start = len(lines)
    for index in range(len(lines) - 1, first - 1, -1):
        line = lines[index].strip()
        if not line:
            continue
        if len(words(line)) > _MAX_CLOSING or "://" in line:
            break
        # By its shape too: a short line with a comma, right above the name.
        farewell = bool(_CLOSERS.match(line)) and not line.endswith("?")
        farewell &= not line.endswith(".") or len(words(line)) <= _FULL_STOP
        farewell |= line.endswith(",") and start < len(lines)
        name = not line.endswith((".", "?", ":", ";")) and start == len(lines)
        name &= not line.startswith(("- ", "* ", "\u2022"))
        if not farewell and not name:
            break
        start = index
        if farewell:
            break
    # A mail is no closing alone: "Thanks, got it!" is all that it says.
    return start if any(line.strip() for line in lines[first:start]) else len(lines)


_MARKS = re.compile(r"(?i)^\s*(?:(?:re|fwd?|aw|wg|sv|antw|r|tr|rv)\s*(?:\[\d+\])?\s*:\s*)+")


def is_marked(subject: str) -> bool:
    """Tell whether a subject is that of an answer or of a forwarded mail."""
    return bool(_MARKS.match(subject))


def unmarked(subject: str) -> str:
    """Return a subject without the marks of answers and forwarded mails: that of a new mail."""
    return _MARKS.sub("", subject).strip()


# --- names ------------------------------------------------------------------------------------

TITLES = re.compile(
    r"(?i)^(?:prof(?:essor)?|dr|mr|mrs|ms|mx|herr|frau|mag|dipl|ing|sir|dame|m|mme|aunt|uncle)\.?$"
)
_ROLES = vocabulary(
    "admin administration all billing bookings colleague colleagues contact customer enquiries "
    "everyone help helpdesk hello hr info inquiries list mail me news newsletter noreply "
    "no-reply office orders postmaster reception sales secretary service staff support team "
    "undisclosed webmaster both this that made in got great you it"
)


def first_names(to: Sequence[str]) -> str:
    """Return the name or names by which the owner would greet `to`: "Leo", "Leo and Grisha".

    Family names go, and titles before a first name; "Doe, Jen" and "jen.doe" are Jen, "Mrs Pell"
    stays. Mailboxes of a role, like "info", have no name. More than three people are "all". ""
    where no name is known.
    """
    names = [name for name in dict.fromkeys(map(_first_name, to)) if name]
    if len(names) > 3:  # noqa: PLR2004 - as the docstring says
        return "all"
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _first_name(name: str) -> str:
    name = name.partition("@")[0].strip(" \"'")
    family, comma, given = name.partition(",")
    parts = [part for part in re.split(r"[\s._]+", given if comma else family) if part]
    titles = [part for part in parts if TITLES.match(part)]
    parts = [part for part in parts if part not in titles]
    if titles and len(parts) == 1:
        return f"{titles[-1]} {parts[0]}"
    first = re.sub(r"\d+$", "", parts[0]) if parts else ""
    if len(first) < 2 or first.casefold() in _ROLES:  # noqa: PLR2004 - an initial is no name
        return ""
    return first.capitalize() if first.islower() else first
