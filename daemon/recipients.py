"""Whom the owner means: names in her words, addresses from her own mail.

Nothing here guesses. A name that fits nobody, or more than one address, gives no address and a
reason that says so; a draft without a recipient costs the owner a moment, one with the wrong
recipient may cost her more.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors.mail import Address
from daemon import compose

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from daemon.trust import Owner

_EMAIL = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*"
_WORD = re.compile(rf"{_EMAIL}|[^\W\d_](?:[\w\u2019'-]*\w)?|[,&;:.!?\n]")
_ENTRY = re.compile(r'(?:"[^"]*"|[^,;"])+')
_POSSESSIVE = re.compile(r"['\u2019]s?$")
_TITLE = re.compile(r"\b(?:dr|frau|herrn?|mrs?|ms|prof|professor)\b\.?", re.IGNORECASE)
_LONGEST_NAME = 4  # words
NAME_THEM = 'Put a line such as "To: name or address" on top of the request.'
_LEAD = 12  # the verb stands within so many words


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_VERBS = _set(
    """answer ask assure compose congratulate contact draft email e-mail forward inform invite
    let mail message notify remind reply respond send tell thank update urge warn write
    antworte bitte danke erinnere frag frage informiere sag sage schick schicke schreib schreibe"""
)
_FILLERS = _set(
    """a an answer back brief draft email e-mail formal friendly invitation letter line mail
    message my note polite quick reminder reply response short thank thank-you the to you
    bei dem den der die ein eine einen kurz kurze nachricht"""
)
_JOINERS = _set(", & and und")
_CLAUSE = _set(
    """about because how if that what when where whether which who why , ; : . ! ?
    dass ob über wann warum was weil wenn wer wie wo"""
) | {"\n"}


@dataclass(frozen=True, slots=True)
class Recipients:
    """The addresses that were found, and a sentence on each name or address that is of no use."""

    found: tuple[Address, ...] = ()
    reasons: tuple[str, ...] = ()


class People:
    """The people in the owner's own mail, by every name they go by.

    Args:
        correspondents: Those she wrote to, with the names she knows them by, without herself;
            repeats do no harm.
    """

    def __init__(self, correspondents: Iterable[Address]) -> None:
        self._by_name: defaultdict[str, dict[str, Address]] = defaultdict(dict)
        self._by_local_part: defaultdict[str, dict[str, Address]] = defaultdict(dict)
        self._by_email: dict[str, Address] = {}
        for address in correspondents:
            self._learn(address.email.casefold(), address)

    def _learn(self, email: str, address: Address) -> None:
        if address.name or email not in self._by_email:
            self._by_email[email] = address
        for name in _names_of(address.name):
            self._by_name[name][email] = address
        for name in _local_names(email):
            self._by_local_part[name][email] = address

    def named(self, name: str) -> tuple[Address, ...]:
        """Return everybody of this name, one entry for each address, in order of address.

        A name is a whole name, a first or a last name; only when nobody bears it, the part of
        an address before the @ counts as one. Case, accents and titles make no difference.
        """
        wanted = " ".join(_name_words(name))
        if not wanted:
            return ()
        matches = self._by_name.get(wanted) or self._by_local_part.get(wanted) or {}
        return tuple(matches[email] for email in sorted(matches))

    def knows(self, email: str) -> bool:
        """Tell whether the owner ever wrote to an address."""
        return email.casefold() in self._by_email

    def at(self, email: str) -> Address:
        """Return the address with the name it is known by, or without a name."""
        return self._by_email.get(email.casefold(), Address("", email))


def without(
    owner: Owner, addresses: Iterable[Address], taken: Iterable[Address] = ()
) -> Recipients:
    """Drop the owner, repeats, what is taken already, and what cannot stand in a header.

    Of the last, a reason is told.
    """
    known = {address.email.casefold() for address in taken}
    found: dict[str, Address] = {}
    lost: list[str] = []
    for address in addresses:
        email = address.email.casefold()
        if email in known or owner.receives_at(email):
            continue
        if compose.mailable(email):
            found.setdefault(email, address)
        else:
            lost.append(f"The address {address.email} is not valid.")
    return Recipients(tuple(found.values()), tuple(lost))


def listed(value: str, people: People) -> Recipients:
    """Read a list of names and addresses that the owner wrote behind ``To:`` or ``Cc:``."""
    found: dict[str, Address] = {}
    reasons: list[str] = []
    for entry in _ENTRY.findall(value):
        name, email = _entry(entry)
        if not (name or email):
            continue
        known = people.at(email) if email else None
        one = Recipients((Address(name or known.name, email),)) if known else _one(name, people)
        found.update((address.email.casefold(), address) for address in one.found)
        reasons.extend(one.reasons)
    return Recipients(tuple(found.values()), tuple(reasons))


def addressees(instruction: str, people: People, hint: str = NAME_THEM) -> Recipients:
    """Find whom an instruction is about to be written to.

    They are the names behind its first verb ("Tell Stew and Anna …", "Write a short note to
    stew@example.org …"); where none stands there, the only person whom its first clause names
    ("Confirm the meeting with Anna …").

    Args:
        instruction: The owner's words.
        people: Whom she knows.
        hint: What she can do where it names nobody, or too many.
    """
    words = _WORD.findall(_TITLE.sub("", instruction))
    verb = next((i for i, word in enumerate(words[:_LEAD]) if word.lower() in _VERBS), None)
    start = len(words) if verb is None else verb + 1
    while start < len(words) and words[start].lower() in _FILLERS:
        start += 1
    behind_verb = _run(words[start:], people)
    return behind_verb or _in_first_clause(words, people, hint)


def contradicted(given: Collection[Address], instruction: str, people: People) -> tuple[str, ...]:
    """Tell where an instruction speaks to somebody else than the recipients that the owner gave.

    Another address of the same name is no contradiction.
    """
    emails = {one.email.casefold() for one in given}
    names = {name for one in given for name in _called(one)}
    others = [
        one.email
        for one in addressees(instruction, people).found
        if one.email.casefold() not in emails and not names & _called(one)
    ]
    if not (given and others):
        return ()
    goes, meant = ", ".join(one.email for one in given), ", ".join(others)
    return (f"It goes to {goes}, as you set it; its text speaks to {meant}.",)


def _run(words: Sequence[str], people: People) -> Recipients | None:
    """Read "Stew", "Stew and Anna" or "Stew, Anna and Bob" from the start of the words."""
    names: list[str] = []
    joiner = ""
    joined = 1  # "Tell Stew, Anna is ill" is for Stew: only an "and" makes commas a list
    while words:
        name, length = _longest_name(words, people)
        if not length and joiner != "," and _looks_like_name(words[0]):
            name, length = words[0], 1
        if not length:
            break
        names.append(name)
        joined = len(names) if joiner not in {"", ","} else joined
        joiner = words[length].lower() if length < len(words) else ""
        if joiner not in _JOINERS:
            break
        words = words[length + 1 :]
    results = [_one(name, people) for name in names[:joined]]
    found = tuple(address for result in results for address in result.found)
    reasons = tuple(reason for result in results for reason in result.reasons)
    return Recipients(found, reasons) if results else None


def _in_first_clause(words: Sequence[str], people: People, hint: str) -> Recipients:
    names = dict.fromkeys(_names(words, people))
    if len(names) == 1:
        return _one(next(iter(names)), people)
    if names:
        return Recipients(reasons=(f"The request names several people. {hint}",))
    return Recipients(reasons=(f"The request names nobody whom your sent mail knows. {hint}",))


def _names(words: Sequence[str], people: People) -> Iterator[str]:
    position = 0
    while position < len(words) and words[position].lower() not in _CLAUSE:
        name, length = _longest_name(words[position:], people)
        if length and (_looks_like_name(words[position]) or "@" in name):
            yield name
        position += length or 1


def _longest_name(words: Sequence[str], people: People) -> tuple[str, int]:
    """Return the longest known name or the address at the start of the words, and its length."""
    if words and "@" in words[0]:
        return words[0], 1
    for length in range(min(_LONGEST_NAME, len(words)), 0, -1):
        if not all(word[0].isalpha() for word in words[:length]):
            continue
        name = _POSSESSIVE.sub("", " ".join(words[:length]))
        if people.named(name):
            return name, length
    return "", 0


def _one(name: str, people: People) -> Recipients:
    if "@" in name:
        return Recipients((people.at(name),))
    matches = people.named(name)
    if len(matches) == 1:
        return Recipients(matches)
    if not matches:
        return Recipients(reasons=(f'Your sent mail knows nobody called "{name}".',))
    several = ", ".join(address.email for address in matches)
    return Recipients(reasons=(f'"{name}" may be any of {several}.',))


def _entry(entry: str) -> tuple[str, str]:
    """Split one entry of a list of recipients into a name and an address; either may be ""."""
    name, email = "", entry.strip()
    if "<" in email and email.endswith(">"):
        name, _, email = email[:-1].rpartition("<")
    if not re.fullmatch(_EMAIL, email.strip()):
        return " ".join(entry.replace('"', " ").split()), ""
    return name.strip().strip('" '), email.strip()


def _looks_like_name(word: str) -> bool:
    return word[0].isupper() and word != "I" and not word.startswith(("I'", "I\u2019"))


def _names_of(name: str) -> set[str]:
    """Return what somebody of this display name is called: the whole, first and last name."""
    words = [] if "@" in name else _name_words(name)
    single = {word for word in (*words[:1], *words[-1:]) if len(word) > 1}
    return single | {" ".join(words), " ".join((*words[:1], *words[-1:]))} if words else set()


def _local_names(email: str) -> set[str]:
    """Return what somebody of this address may be called."""
    local_part = email.rpartition("@")[0]
    return {_fold(local_part), _fold(re.split(r"[._+-]", local_part)[0])}


def _called(one: Address) -> set[str]:
    return _names_of(one.name) | _local_names(one.email)


def _name_words(name: str) -> list[str]:
    last, comma, first = _TITLE.sub("", re.sub(r"\([^()]*\)|\"", " ", name)).partition(",")
    return re.findall(r"[\w\u2019'-]+", _fold(f"{first} {last}" if comma else last))


def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))
