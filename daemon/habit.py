"""How the owner quotes what she answers, learned from the answers that she sent.

Her mail client put the quoted mail above or below her words, or left it out, and wrote a line over
it. A draft that does the same looks as if that client had begun it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from daemon.store import Store

NEWEST = 50  # answers that are looked at
DEFAULT = "On {yyyy}-{MM}-{dd} at {HH}:{mm}, {name} wrote:"

Place = Literal["below", "above", "none"]

_PLACES: tuple[Place, ...] = ("below", "above", "none")

# As the larger clients write it, in the languages in which they are at home.
_FORMS = (
    "On {weekday}, {month} {d}, {yyyy} at {h}:{mm} {ampm} {name} <{email}> wrote:",  # Gmail
    "On {weekday}, {d} {month} {yyyy} at {HH}:{mm}, {name} <{email}> wrote:",
    "On {month} {d}, {yyyy}, at {h}:{mm} {ampm}, {name} <{email}> wrote:",  # Apple Mail
    "On {d} {month} {yyyy}, at {HH}:{mm}, {name} <{email}> wrote:",
    "On {d} {month} {yyyy}, at {HH}:{mm}, {name} wrote:",
    "On {m}/{d}/{yy} {h}:{mm} {ampm}, {name} wrote:",  # Thunderbird
    "On {m}/{d}/{yy} {HH}:{mm}, {name} wrote:",
    "On {dd}/{MM}/{yyyy} {HH}:{mm}, {name} wrote:",
    "On {yyyy}-{MM}-{dd} {HH}:{mm}, {name} wrote:",
    "On {weekday}, {month} {dd}, {yyyy} at {hh}:{mm}:{ss}{ampm} {zone}, {name} wrote:",  # mutt
    DEFAULT,
    "Am {weekday}., {d}. {month} {yyyy} um {HH}:{mm} Uhr schrieb {name} <{email}>:",  # Gmail
    "Am {dd}.{MM}.{yyyy} um {HH}:{mm} schrieb {name} <{email}>:",  # Apple Mail
    "Am {d}.{MM}.{yyyy} um {HH}:{mm} schrieb {name} <{email}>:",
    "Am {dd}.{MM}.{yy} um {HH}:{mm} schrieb {name}:",  # Thunderbird
    "Am {dd}.{MM}.{yyyy} um {HH}:{mm} schrieb {name}:",
    "Le {weekday} {d} {month} {yyyy} à {HH}:{mm}, {name} <{email}> a écrit :",  # Gmail
    "Le {d} {month} {yyyy} à {HH}:{mm}, {name} <{email}> a écrit :",  # Apple Mail
    "Le {dd}/{MM}/{yyyy} à {HH}:{mm}, {name} a écrit :",  # Thunderbird
)
_UNDATED = {"On": "{name} wrote:", "Am": "{name} schrieb:", "Le": "{name} a écrit :"}
_WEEKDAYS = {
    "On": "Mon Tue Wed Thu Fri Sat Sun",
    "Am": "Mo Di Mi Do Fr Sa So",
    "Le": "lun. mar. mer. jeu. ven. sam. dim.",
}
_MONTHS = {
    "On": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "Am": "Jan. Feb. März Apr. Mai Juni Juli Aug. Sept. Okt. Nov. Dez.",
    "Le": "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
}
_PATTERNS = {
    "weekday": r"[^\W\d_]{2,4}\.?",
    "month": r"[^\W\d_]{3,9}\.?",
    "yyyy": r"\d{4}",
    "yy": r"\d{2}",
    "MM": r"\d{2}",
    "m": r"[1-9]\d?",
    "dd": r"\d{2}",
    "d": r"[1-9]\d?",
    "HH": r"\d{2}",
    "hh": r"\d{2}",
    "h": r"[1-9]\d?",
    "mm": r"\d{2}",
    "ss": r"\d{2}",
    "ampm": r"[AP]M",
    "zone": r"[+-]\d{4}",
    "name": r"[^<>]+?",
    "email": r"[^<>\s]+@[^<>\s]+",
}


@dataclass(frozen=True, slots=True)
class Habit:
    """How the owner quotes.

    Attributes:
        place: Where the quoted mail stands, seen from her own words.
        form: The line above it, with names in braces for what changes.
    """

    place: Place = "below"
    form: str = DEFAULT

    def heading(self, date: datetime | None, name: str, email: str) -> str:
        """Return the line above what somebody wrote at some time, None where that is not known."""
        writer = " ".join((name or email).split())
        language = self.form.partition(" ")[0]
        if date is None:
            return _UNDATED[language].format(name=writer)
        form = self.form if name else self.form.replace("{name} <{email}>", "{name}")
        return form.format(name=writer, email=email, **_parts(date, language))


def learn(store: Store) -> Habit:
    """Return the habit that most of her newest answers show.

    Where they show none, and where two are even, the quoted mail stands below.
    """
    answers = store.quoting(NEWEST)
    places = Counter(place for place, _ in answers)
    place = max(_PLACES, key=lambda one: places[one])
    forms = Counter(form for _, heading in answers if (form := _form(heading)))
    return Habit(place, forms.most_common(1)[0][0] if forms else DEFAULT)


def _form(heading: str) -> str:
    """Return the form that a line above a quoted mail has, "" if it is none of ours."""
    line = " ".join(heading.split())
    return next((form for form, pattern in _COMPILED.items() if pattern.fullmatch(line)), "")


def _pattern(form: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", form)
    return re.compile(
        "".join(_PATTERNS[one] if odd % 2 else re.escape(one) for odd, one in enumerate(pieces))
    )


_COMPILED = {form: _pattern(form) for form in _FORMS}


def _parts(date: datetime, language: str) -> dict[str, str]:
    return {
        "weekday": _WEEKDAYS[language].split()[date.weekday()],
        "month": _MONTHS[language].split()[date.month - 1],
        "yyyy": f"{date:%Y}",
        "yy": f"{date:%y}",
        "MM": f"{date:%m}",
        "m": str(date.month),
        "dd": f"{date:%d}",
        "d": str(date.day),
        "HH": f"{date:%H}",
        "hh": f"{date:%I}",
        "h": str(date.hour % 12 or 12),
        "mm": f"{date:%M}",
        "ss": f"{date:%S}",
        "ampm": "AM" if date.hour < 12 else "PM",  # noqa: PLR2004 - noon
        "zone": f"{date:%z}" or "+0000",
    }
