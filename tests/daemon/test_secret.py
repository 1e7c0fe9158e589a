"""Commands that fetch a password end when nobody waits for them any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from connectors.breaker import aside
from daemon.config import Secret
from daemon.secret import resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ASKING = """
import sys
from daemon.config import Secret
from daemon.secret import resolve
resolve(Secret(command=sys.argv[1]), "jen")
"""


def until(reached: Callable[[], bool], seconds: float = 10) -> bool:
    """Wait until something is so; tell whether it came to be."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if reached():
            return True
        time.sleep(0.02)
    return False


class Manager:
    """A password manager whose owner does not answer."""

    def __init__(self, folder: Path) -> None:
        self._told = folder / "pid"
        program = folder / "manager"
        program.write_text(f"#!/bin/sh\necho $$ > {self._told}\nexec sleep 50\n")
        program.chmod(0o700)
        self.command = str(program)

    @property
    def asks(self) -> bool:
        """Whether it runs, and has said so."""
        return self._told.exists() and self._told.read_text().endswith("\n")

    @property
    def process(self) -> int:
        """Its process id."""
        return int(self._told.read_text())

    @property
    def is_gone(self) -> bool:
        """Whether it ended."""
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        return False


@pytest.fixture
def manager(tmp_path: Path) -> Manager:
    """Return a password manager that waits."""
    return Manager(tmp_path)


def test_a_command_ends_when_nobody_waits_for_it(manager: Manager) -> None:
    """A call that is broken off ends the command; until then it may ask on the terminal."""
    outcome = aside(lambda: resolve(Secret(command=manager.command), "jen"))
    assert until(lambda: manager.asks)
    assert os.getpgid(manager.process) == os.getpgrp()
    assert not manager.is_gone
    outcome.cancel()
    assert until(lambda: manager.is_gone, seconds=3)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_ends_with_who_started_it(manager: Manager, number: int) -> None:
    """However the process ends that wanted the password, none is asked for any more."""
    asking = [sys.executable, "-c", ASKING, manager.command]
    with subprocess.Popen(asking) as process:  # noqa: S603
        try:
            assert until(lambda: manager.asks)
        finally:
            process.send_signal(number)
            process.wait(10)
    assert until(lambda: manager.is_gone, seconds=3)


def test_a_command_meets_signals_as_from_a_shell() -> None:
    """What Python ignores, a command does not inherit: a pipeline may end early."""
    status = resolve(Secret(command="grep SigIgn /proc/self/status"), "jen")
    assert int(status.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0
