"""The notation of cron for the times of a schedule."""

from __future__ import annotations

import re

_FIELDS: tuple[tuple[int, int, str], ...] = (
    (0, 59, ""),
    (0, 23, ""),
    (1, 31, ""),
    (1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
    (0, 7, "sun mon tue wed thu fri sat"),
)


def is_cron(value: str) -> bool:
    """Tell whether a text is five fields of cron (crontab(5)), each within its bounds."""
    fields = value.lower().split()
    return len(fields) == len(_FIELDS) and all(
        _is_term(term, *bounds)
        for field, bounds in zip(fields, _FIELDS, strict=True)
        for term in field.split(",")
    )


def _is_term(term: str, low: int, high: int, names: str) -> bool:
    match = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([1-9]\d?))?", term)
    if not match:
        return False
    known: dict[str, int] = {str(n): n for n in range(low, high + 1)}
    known |= {name: low + n for n, name in enumerate(names.split())}
    ends = [known.get(end, -1) for end in match.groups()[:2] if end is not None]
    return -1 not in ends and ends == sorted(ends)
