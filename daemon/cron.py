"""The notation of cron for the times of a schedule (crontab(5)), in local time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apscheduler.triggers.base import BaseTrigger

_DAYS = "sun mon tue wed thu fri sat"
_FIELDS: tuple[tuple[int, int, str], ...] = (
    (0, 59, ""),
    (0, 23, ""),
    (1, 31, ""),
    (1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
    (0, 7, _DAYS),
)
_TERM = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([1-9]\d?))?")


def is_cron(value: str) -> bool:
    """Tell whether a text is five fields of cron, each within its bounds."""
    fields = value.lower().split()
    return len(fields) == len(_FIELDS) and all(
        _term(term, *bounds)
        for field, bounds in zip(fields, _FIELDS, strict=True)
        for term in field.split(",")
    )


def trigger(value: str) -> BaseTrigger:
    """Return what fires at the times that five fields of cron name.

    Where both the day of the month and the day of the week are given, either of them is enough,
    as with cron.
    """
    from apscheduler.triggers.combining import OrTrigger
    from apscheduler.triggers.cron import CronTrigger

    minute, hour, day, month, weekday = value.lower().split()
    time = {"minute": minute, "hour": hour, "month": month}
    weekdays = _weekdays(weekday)
    if day.startswith("*") or weekday.startswith("*"):
        return CronTrigger(day=day, day_of_week=weekdays, **time)
    return OrTrigger([CronTrigger(day=day, **time), CronTrigger(day_of_week=weekdays, **time)])


def _weekdays(field: str) -> str:
    """Return the days by name: APScheduler's numbers begin with Monday, those of cron do not."""
    names = _DAYS.split()
    days = {number % 7 for term in field.split(",") for number in _term(term, *_FIELDS[-1])}
    return ",".join(names[day] for day in sorted(days))


def _term(term: str, low: int, high: int, names: str) -> range:
    """Return the numbers that a term of a field stands for, none if it is not well-formed."""
    match = _TERM.fullmatch(term)
    if not match:
        return range(0)
    known: dict[str, int] = {str(n): n for n in range(low, high + 1)}
    known |= {name: low + n for n, name in enumerate(names.split())}
    first, last, step = match.groups()
    start = low if first is None else known.get(first, -1)
    alone = first is not None and step is None
    end = known.get(last, -1) if last is not None else start if alone else high
    if start < low or end < low:
        return range(0)
    return range(start, end + 1, int(step or 1))
