"""Hostile messages, and a thousand broken ones, on their whole way through Panza."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bombs import BOMBS

_TRIAL = Path(__file__).parent / "trial.py"
_SECONDS = 5.0
_MEMORY = 300 * 2**20
_PATIENCE = 240.0  # seconds for one process and all its messages


def trial(*words: object) -> dict[str, Any]:
    """Run one trial in a process of its own."""
    command = [sys.executable, str(_TRIAL), *map(str, words)]
    done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def trials(*jobs: tuple[object, ...]) -> list[dict[str, Any]]:
    """Run trials side by side, as many as there usually are processors."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda job: trial(*job), jobs))


def assert_harmless(found: dict[str, Any]) -> None:
    """No message took too long or too much, and after each one the next request is answered."""
    assert found["unanswered"] == []
    assert found["faults"] == []
    assert found["seconds"] < _SECONDS, found["slowest"]
    assert found["memory"] < _MEMORY


@pytest.mark.timeout(600)
def test_hostile_messages() -> None:
    """Each is done with in five seconds and 300 MB, and the next good request is answered."""
    found = trials(("bombs", 0, 2), ("bombs", 1, 2))
    for each in found:
        assert_harmless(each)
    assert sum(each["count"] for each in found) == 2 * len(BOMBS)


@pytest.mark.timeout(600)
def test_mutations() -> None:
    """So is each of 1,000 messages that were good or hostile before they were broken."""
    found = trials(*(("mutations", seed, 250) for seed in range(4)))
    for each in found:
        assert_harmless(each)
    assert sum(each["count"] for each in found) == 1000
    drafted = sum(each["outcomes"].get("request done", 0) for each in found)
    assert drafted > 300, "most of them should still be requests"
