"""The lines ``To:``, ``Cc:`` and ``Subject:`` on top of a request, in the owner's language."""

from __future__ import annotations

import re
from dataclasses import dataclass

from connectors.body import Body

_LABELS = {
    "to": "to|an|à|a|para|aan|till|til|宛先|收件人",
    "cc": "cc|kopie|copie|copia|kopia|kopi|抄送",
    "bcc": "bcc|blindkopie|cci|cco|ccn",
    "subject": "subject|betreff|objet|sujet|asunto|oggetto|assunto|onderwerp|ämne|emne"
    "|件名|主题|主題",
}
_FIELD_OF = {label: field for field, labels in _LABELS.items() for label in labels.split("|")}
_LINE = re.compile(rf"\s*({'|'.join(_LABELS.values())})\s*[:：](.*)", re.IGNORECASE)  # noqa: RUF001 - the colon of East Asian keyboards
_LONGEST = 20_000  # characters of all such lines; more than that is text
_LISTS = frozenset({"to", "cc", "bcc"})


@dataclass(frozen=True, slots=True)
class HeaderLines:
    """What stands on top of a text, and the text below it.

    Attributes:
        values: By field: to, cc, bcc or subject; an empty line gives none.
        below: The rest of the text.
    """

    values: dict[str, str]
    below: Body


def take(text: Body) -> HeaderLines:
    """Take the header-like lines off the top of a text.

    They end with the first other line. A list of recipients that ends in a comma goes on in the
    next line; two lists for one field are one.
    """
    lines = text.text.strip("\n").split("\n")
    values: dict[str, str] = {}
    field, number, length = "", 0, 0
    while number < len(lines) and (length := length + len(lines[number])) <= _LONGEST:
        found = _LINE.fullmatch(lines[number])
        if found:
            field = _FIELD_OF[found[1].lower()]
            separator = ", " if field in _LISTS and values.get(field) else ""
            before = values.get(field, "") if separator else ""
            values[field] = before + separator + found[2].strip()
        elif field in _LISTS and values[field].endswith((",", ";")) and lines[number].strip():
            values[field] += f" {lines[number].strip()}"
        else:
            break
        number += 1
    given = {name: value for name, value in values.items() if value}
    return HeaderLines(given, Body("\n".join(lines[number:]), text.wrapped))
