"""Authentication-Results (RFC 8601): what a mail server found out about a message's sender.

Anybody can write such a field into a message. So only the topmost one counts, only from the server
that the owner named, and only where nothing but that server's own trace stands above it. A field
that does not follow the grammar says nothing.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from connectors.mime import Part

MAX_FIELD = 16 * 2**10  # bytes; servers write a few hundred
_MAX_COMMENTS = 20  # levels of comments within comments

_KEYWORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
_TOKEN = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
# Looser than the grammar, for servers do not quote every value that has a "/" or "=" in it.
_VALUE = re.compile(r"[^\s;()\"\\,<>]+")
_COMMENT_PIECE = re.compile(r"[^()\\]+|\\.")
# Fields that a server puts above its Authentication-Results, besides all that begin with X-.
_TRACE = frozenset(
    {
        "delivered-to",
        "delivery-date",
        "envelope-to",
        "received",
        "received-spf",
        "return-path",
    }
)
_TRACE_FAMILIES = ("x-", "arc-")
# A trailing A would say that a user of the server had logged in (RFC 3848).
_FROM_OUTSIDE = re.compile(r"(?:utf8)?(?:e?smtps?|lmtps?)", re.IGNORECASE)
# Second-level names below which a country's registry hands out domains.
_SHARED = frozenset({"ac", "co", "com", "edu", "go", "gob", "gov", "ne", "net", "nom", "or", "org"})


@dataclass(frozen=True, slots=True)
class Result:
    """What one method found.

    Attributes:
        method: For example ``dmarc``, in lower case.
        outcome: For example ``pass``, in lower case.
        properties: For example ``header.from``, in lower case, with its value.
    """

    method: str
    outcome: str
    properties: dict[str, str]


@dataclass(frozen=True, slots=True)
class Results:
    """One Authentication-Results field: who says so, and what."""

    server: str
    results: tuple[Result, ...]

    def of(self, method: str) -> list[Result]:
        """Return the results of one method."""
        return [result for result in self.results if result.method == method]


def topmost(message: Part, server: str, domains: Iterable[str]) -> Results | None:
    """Return the topmost Authentication-Results if it is this server's, else None.

    Above it only the trace of the same place may stand: a field that was added before the message
    came there may have been written by anybody.

    Args:
        message: The message.
        server: The authserv-id that the owner trusts.
        domains: The owner's own domains, whose hosts count as the same place.
    """
    places = (server, *domains)
    for name, value in message.fields:
        if name == "authentication-results":
            found = parse(value)
            return found if found and found.server.casefold() == server.casefold() else None
        if name == "received":
            if not _received_at(value, places):
                return None
        elif name not in _TRACE and not name.startswith(_TRACE_FAMILIES):
            return None
    return None


def parse(value: bytes) -> Results | None:
    """Read the value of a field, unfolded; None where it breaks the grammar."""
    if len(value) > MAX_FIELD or not value.isascii() or b"\0" in value:
        return None
    try:
        return _Parser(value.decode("ascii")).field()
    except _GrammarError:
        return None


def domain(name: str) -> str:
    """Return a domain's one spelling: ASCII, lower case, no dot at the end; "" for what is none."""
    try:
        plain = name.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        return ""
    return plain if re.fullmatch(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", plain) else ""


def aligned(signed: str, own: str) -> bool:
    """Tell whether a signature of one domain speaks for another one, both as from `domain`.

    They are the same, or one lies within the other, and the outer one is nobody else's: it is no
    name such as ``co.uk``, below which everybody can have a domain.
    """
    inner, outer = (signed, own) if len(signed) >= len(own) else (own, signed)
    if not inner or not outer:
        return False
    return inner == outer or (inner.endswith(f".{outer}") and not _is_shared(outer))


def _is_shared(name: str) -> bool:
    labels = name.split(".")
    country = len(labels) == 2 and len(labels[1]) == 2  # noqa: PLR2004
    return len(labels) < 2 or (country and labels[0] in _SHARED)  # noqa: PLR2004


def _received_at(value: bytes, places: Iterable[str]) -> bool:
    """Tell whether a Received field was written at one of these places, for mail from outside.

    Mail that a user of the server hands in there is often not examined, so that an
    Authentication-Results below such a field may be the user's own.
    """
    text = _without_comments(value.decode("latin-1"))
    hosts = re.findall(r"\bby\s+([^\s;]+)", text)
    protocols = re.findall(r"\bwith\s+([^\s;]+)", text)
    if not hosts or not protocols or not all(map(_FROM_OUTSIDE.fullmatch, protocols)):
        return False
    return all(_is_private(host) or _is_at(domain(host), places) for host in hosts)


def _is_at(host: str, places: Iterable[str]) -> bool:
    for place in map(domain, places):
        parent = place.partition(".")[2]
        if host and place and (host == place or host.endswith(f".{place}")):
            return True
        if host and not _is_shared(parent) and (host == parent or host.endswith(f".{parent}")):
            return True
    return False


def _is_private(host: str) -> bool:
    """Tell whether a host is an address of an inner network, also one that is wrapped in 6to4."""
    try:
        address = ipaddress.ip_address(host.strip("[]").removeprefix("IPv6:"))
    except ValueError:
        return False
    wrapped = address.sixtofour if isinstance(address, ipaddress.IPv6Address) else None
    return (wrapped or address).is_private


def _without_comments(text: str) -> str:
    for _ in range(_MAX_COMMENTS):
        shorter = re.sub(r"\([^()]*\)", " ", text)
        if shorter == text:
            break
        text = shorter
    return text


class _GrammarError(Exception):
    """The field breaks the grammar."""


class _Parser:
    """A reader of the grammar of RFC 8601, section 2.2, from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def field(self) -> Results:
        server = self._value(_TOKEN)
        self._blank()
        if self._peek().isdigit() and self._take(_KEYWORD) != "1":
            raise _GrammarError
        results: list[Result] = []
        none = False
        while self._more():
            if none:
                raise _GrammarError
            result = self._result()
            none = result is None
            results += [result] if result else []
        if none and results:
            raise _GrammarError
        return Results(server, tuple(results))

    def _more(self) -> bool:
        """Step over the semicolon before a result; some servers end with one."""
        self._blank()
        if self.place == len(self.text):
            return False
        self._expect(";")
        self._blank()
        return self.place < len(self.text)

    def _result(self) -> Result | None:
        method = self._take(_KEYWORD).lower()
        self._blank()
        if method == "none" and self._peek() != "=":
            return None
        if self._peek() == "/":
            self._expect("/")
            self._blank()
            self._take(_KEYWORD)
            self._blank()
        self._expect("=")
        self._blank()
        outcome = self._take(_KEYWORD).lower()
        properties: dict[str, str] = {}
        self._blank()
        while self._peek() not in {"", ";"}:
            name, value = self._property()
            if properties.setdefault(name, value) != value:
                raise _GrammarError
            self._blank()
        return Result(method, outcome, properties)

    def _property(self) -> tuple[str, str]:
        """Read ``ptype.property=value``, ``reason=value``, or a server's own ``name=value``."""
        name = self._take(_KEYWORD).lower()
        self._blank()
        if self._peek() == ".":
            self._expect(".")
            self._blank()
            name += "." + self._take(_KEYWORD).lower()
            self._blank()
        self._expect("=")
        return name, self._value(_VALUE)

    def _value(self, bare: re.Pattern[str]) -> str:
        self._blank()
        if self._peek() != '"':
            return self._take(bare)
        quoted = self._take(_QUOTED)
        text = re.sub(r"\\(.)", r"\1", quoted[1:-1])
        # A mailbox whose local part is quoted; anything else behind a quote is not in the grammar.
        rest = _VALUE.match(self.text, self.place)
        if rest is None:
            return text
        if not rest[0].startswith("@"):
            raise _GrammarError
        self.place = rest.end()
        return quoted + rest[0]

    def _blank(self) -> None:
        """Step over white space and comments."""
        while self._peek() in {" ", "\t", "\r", "\n", "("}:
            if self._peek() == "(":
                self._comment()
            else:
                self.place += 1

    def _comment(self) -> None:
        depth = 0
        while True:
            char = self._peek()
            if char == "(":
                depth += 1
                self.place += 1
            elif char == ")":
                depth -= 1
                self.place += 1
            else:
                self._take(_COMMENT_PIECE)
            if depth == 0:
                return
            if depth > _MAX_COMMENTS:
                raise _GrammarError

    def _peek(self) -> str:
        return self.text[self.place : self.place + 1]

    def _expect(self, char: str) -> None:
        if self._peek() != char:
            raise _GrammarError
        self.place += 1

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.place)
        if found is None:
            raise _GrammarError
        self.place = found.end()
        return found[0]
