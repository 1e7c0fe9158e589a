"""The notation of cron, and when it fires."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.cron import is_cron, trigger

LOCAL = ZoneInfo("Europe/Vienna")


def fires(value: str, after: datetime, count: int = 3) -> list[str]:
    """Return the next moments, in the zone of ``after``."""
    found, last = [], None
    made = trigger(value)
    now = after
    for _ in range(count):
        last = made.get_next_fire_time(last, now)
        if last is None:
            break
        found.append(last.astimezone(after.tzinfo).strftime("%a %d %b %H:%M"))
        now = last
    return found


@pytest.fixture(autouse=True)
def _local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine's zone be that of the tests."""
    monkeypatch.setenv("TZ", "Europe/Vienna")


NOON = datetime(2025, 1, 6, 12, tzinfo=LOCAL)  # a Monday


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0 3 * * sun", ["Sun 12 Jan 03:00", "Sun 19 Jan 03:00", "Sun 26 Jan 03:00"]),
        ("0 3 * * 0", ["Sun 12 Jan 03:00", "Sun 19 Jan 03:00", "Sun 26 Jan 03:00"]),
        ("0 3 * * 7", ["Sun 12 Jan 03:00", "Sun 19 Jan 03:00", "Sun 26 Jan 03:00"]),
        ("0 3 * * 1", ["Mon 13 Jan 03:00", "Mon 20 Jan 03:00", "Mon 27 Jan 03:00"]),
        ("30 22 * * fri-7", ["Fri 10 Jan 22:30", "Sat 11 Jan 22:30", "Sun 12 Jan 22:30"]),
        ("0 */8 * * *", ["Mon 06 Jan 16:00", "Tue 07 Jan 00:00", "Tue 07 Jan 08:00"]),
        ("15 6 1,15 * *", ["Wed 15 Jan 06:15", "Sat 01 Feb 06:15", "Sat 15 Feb 06:15"]),
        # The day of the month or the day of the week: either is enough.
        ("0 3 8 * fri", ["Wed 08 Jan 03:00", "Fri 10 Jan 03:00", "Fri 17 Jan 03:00"]),
        ("0 3 31 feb *", []),
    ],
)
def test_fires_as_cron_does(value: str, expected: list[str]) -> None:
    """Numbers and names of days mean the days that cron means."""
    assert is_cron(value)
    assert fires(value, NOON) == expected


@given(
    st.tuples(
        *(
            st.sampled_from(("*", "*/5", str(low), f"{low}-{high}", f"{low},{high}"))
            for low, high in ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
        )
    )
)
def test_what_is_accepted_can_be_scheduled(fields: tuple[str, ...]) -> None:
    """Whatever counts as cron's notation becomes a trigger."""
    value = " ".join(fields)
    assert is_cron(value)
    assert fires(value, NOON, 1)
