r"""What a server leaves unsaid and refuses when one of its capabilities is hidden.

Used by `faultproxy.FaultProxy(server, hide={"UIDPLUS", "IDLE"})`. A name is that of a capability;
what stands before ``=`` means all of them (``AUTH`` hides AUTH=PLAIN and AUTH=LOGIN). Some names
hide more than a word in CAPABILITY:

- ``SPECIAL-USE``: the attributes of LIST as well;
- ``UIDPLUS`` and ``CONDSTORE``: the response codes as well;
- ``\*``: it and all keywords of PERMANENTFLAGS; keywords of APPEND and STORE are dropped without a
  word, as Exchange does.

A command that needs what is hidden is answered BAD, as by a server that never heard of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ANY_KEYWORD = r"\*"

# All that a client of RFC 3501 can do without.
EXTENSIONS = frozenset(
    {
        "CONDSTORE",
        "ENABLE",
        "ESEARCH",
        "ID",
        "IDLE",
        "LIST-EXTENDED",
        "LIST-STATUS",
        "LITERAL+",
        "MOVE",
        "MULTIAPPEND",
        "NAMESPACE",
        "SASL-IR",
        "SPECIAL-USE",
        "UIDPLUS",
        "UNSELECT",
        ANY_KEYWORD,
    }
)

_TOGETHER = {
    "CONDSTORE": {"QRESYNC"},
    "LITERAL+": {"LITERAL-"},
    "SPECIAL-USE": {"CREATE-SPECIAL-USE", "XLIST"},
}
_USES = frozenset(b"\\all \\archive \\drafts \\flagged \\important \\junk \\sent \\trash".split())
_CODES = {
    "UIDPLUS": rb"APPENDUID|COPYUID",
    "CONDSTORE": rb"HIGHESTMODSEQ|NOMODSEQ",
}
_COMMANDS = {
    "CONDSTORE": rb"(UID )?(ENABLE|EXAMINE|FETCH|SEARCH|SELECT|STATUS|STORE)\b.*"
    rb"\b(CONDSTORE|QRESYNC|CHANGEDSINCE|UNCHANGEDSINCE|MODSEQ|HIGHESTMODSEQ)\b",
    "ENABLE": rb"ENABLE\b",
    "ESEARCH": rb"(UID )?SEARCH RETURN\b",
    "ID": rb"ID\b",
    "IDLE": rb"IDLE\b",
    "LIST-EXTENDED": rb"LIST (\(|.* RETURN \()",
    "LIST-STATUS": rb"LIST .* RETURN \(.*STATUS \(",
    "LITERAL+": rb".*\{\d+\+\}$",
    "MOVE": rb"(UID )?MOVE\b",
    "NAMESPACE": rb"NAMESPACE\b",
    "SASL-IR": rb"AUTHENTICATE \S+ \S",
    "SPECIAL-USE": rb"(XLIST\b|LIST .*\(.*SPECIAL-USE|CREATE .*\(USE\b)",
    "STARTTLS": rb"STARTTLS\b",
    "UIDPLUS": rb"UID EXPUNGE\b",
    "UNSELECT": rb"UNSELECT\b",
}
_FOLDER = rb'(?:"(?:[^"\\]|\\.)*"|[^\s"({]+)'
_APPENDED_FLAGS = re.compile(rb"(\S+ APPEND " + _FOLDER + rb" )\(([^()]*)\)()", re.IGNORECASE)
_STORED_FLAGS = re.compile(
    rb"(\S+ (?:UID )?STORE \S+ [+-]?FLAGS(?:\.SILENT)? )\(?([^()\r\n]*)\)?(\r?\n)", re.IGNORECASE
)


class Hidden:
    """The capabilities that a client shall not see.

    Args:
        names: Their names, in any case.
    """

    def __init__(self, names: Iterable[str]) -> None:
        wanted = {name.upper() for name in names}
        self._names = wanted.union(*(_TOGETHER.get(name, set()) for name in wanted))
        self._commands = _either(_COMMANDS[name] for name in self._names & _COMMANDS.keys())
        codes = [_CODES[name] for name in self._names & _CODES.keys()]
        self._codes = re.compile(
            rb"^(\S+ OK )\[(?:" + (b"|".join(codes) or b"(?!)") + rb")\b[^\]]*\] ?", re.IGNORECASE
        )

    def refuses(self, command: bytes) -> bool:
        """Say whether a command (its first line, without the tag) needs what is hidden."""
        return self._commands.match(command.rstrip(b"\r\n")) is not None

    def command(self, line: bytes) -> bytes:
        """Return a command's first line as the server shall see it."""
        if ANY_KEYWORD not in self._names:
            return line
        for pattern in (_APPENDED_FLAGS, _STORED_FLAGS):
            line = pattern.sub(_without_keywords, line, count=1)
        return line

    def response(self, line: bytes) -> bytes:
        """Return a response's first line as the client shall see it."""
        if not self._names:
            return line
        line = re.sub(
            rb"(^\* CAPABILITY|^\S+ (?:OK|PREAUTH) \[CAPABILITY)([^\]\r\n]*)",
            lambda found: found[1] + self._capabilities(found[2]),
            line,
            flags=re.IGNORECASE,
        )
        if "SPECIAL-USE" in self._names:
            line = re.sub(rb"^(\* X?LIST )\(([^)]*)\)", _without_uses, line, flags=re.IGNORECASE)
        if ANY_KEYWORD in self._names:
            line = re.sub(
                rb"^(\* OK \[PERMANENTFLAGS )\(([^)]*)\)()",
                _without_keywords,
                line,
                flags=re.IGNORECASE,
            )
        return self._codes.sub(rb"\1", line)

    def _capabilities(self, words: bytes) -> bytes:
        def shown(word: bytes) -> bool:
            name = word.decode("ascii", "replace").upper()
            return not {name, name.partition("=")[0]} & self._names

        return b"".join(b" " + word for word in words.split() if shown(word))


def _either(patterns: Iterable[bytes]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(b"(?:" + p + b")" for p in patterns) or b"(?!)", re.IGNORECASE)


def _without_keywords(found: re.Match[bytes]) -> bytes:
    kept = [flag for flag in found[2].split() if flag.startswith(b"\\") and flag != b"\\*"]
    return found[1] + b"(" + b" ".join(kept) + b")" + found[3]


def _without_uses(found: re.Match[bytes]) -> bytes:
    kept = [each for each in found[2].split() if each.lower() not in _USES]
    return found[1] + b"(" + b" ".join(kept) + b")"
