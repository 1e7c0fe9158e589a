"""`panza run` is told to stop in the middle of what takes long, as a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripted import listening
from stubmodel import StubModel

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    Run = Callable[[str], subprocess.Popen[str]]

MAILS = 40_000
MAIL = (
    "From jen@example.org Mon Jan  6 10:00:00 2025\n"
    "From: jen@example.org\nTo: stew@example.org\nSubject: Kiln {0}\n"
    "Message-ID: <s{0}@example.org>\nDate: Mon, 06 Jan 2025 10:00:00 +0100\n\n"
    "Hello Stew,\n\nthe kiln number {0} is hot.\n" + "It is of clay and of stone.\n" * 30 + "\n"
)
CONFIG = """
data: {folder}/data
accounts:
  - name: jen
    address: jen@example.org
    full_name: Jen Doe
{mail}
requests: {{poll: 5s}}
"""
PROCESSES = Path("/proc")
HOLDS_NOTHING_UP = 4.0
"""Seconds: half of what the daemon waits for a thread that hangs."""


def until(reached: Callable[[], bool], seconds: float = 30) -> bool:
    """Wait until something is so; tell whether it came to be."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if reached():
            return True
        time.sleep(0.05)
    return False


def mails(folder: Path) -> int:
    """Return how many mails the status counts; none before there is a store."""
    command = [sys.executable, "-m", "daemon", "--config", str(folder / "panza.yaml")]
    done = subprocess.run(  # noqa: S603
        [*command, "status", "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    return int(json.loads(done.stdout)["accounts"][0]["mails"]) if done.returncode == 0 else 0


def seconds_to_stop(process: subprocess.Popen[str]) -> float:
    """Tell a daemon to stop; return how long it takes."""
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in log
    return time.monotonic() - started


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Return what starts a daemon for a mailbox, given as YAML; all are ended with the test."""
    started = []
    with StubModel(tmp_path) as model:

        def start(mail: str) -> subprocess.Popen[str]:
            path = tmp_path / "panza.yaml"
            path.write_text(CONFIG.format(folder=tmp_path, mail=mail), encoding="utf-8")
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "daemon", "--config", str(path), "run"],
                env={**os.environ, "PANZA_MODEL_SOCKET": str(model.path)},
                stderr=subprocess.PIPE,
                text=True,
            )
            started.append(process)
            return process

        yield start
        for process in started:
            process.kill()
            process.communicate(timeout=10)


def test_a_first_sync_is_broken_off(run: Run, tmp_path: Path) -> None:
    """A stop while a large archive is read ends at once; the next daemon reads on from there."""
    archive = tmp_path / "sent.mbox"
    archive.write_text("".join(map(MAIL.format, range(MAILS))), encoding="utf-8")
    process = run(f"    archives: [{archive}]")
    assert until(lambda: mails(tmp_path) > 0)
    assert seconds_to_stop(process) < HOLDS_NOTHING_UP
    kept = mails(tmp_path)
    assert 0 < kept < MAILS
    again = run(f"    archives: [{archive}]")
    assert until(lambda: mails(tmp_path) > kept)
    assert seconds_to_stop(again) < HOLDS_NOTHING_UP


def greet(connection: socket.socket) -> None:
    """Be an IMAP server up to the moment of the login."""
    connection.sendall(b"* OK ready\r\n")
    with connection.makefile("rb") as lines:
        for line in lines:
            tag = line.split()[0]
            connection.sendall(b"* CAPABILITY IMAP4rev1\r\n%b OK done\r\n" % tag)


def test_password_managers_are_broken_off(run: Run, tmp_path: Path) -> None:
    """A stop while passwords are asked for ends at once, and leaves nobody behind who asks."""
    asking = tmp_path / "asking"
    asking.mkdir()
    manager = tmp_path / "manager"
    manager.write_text(f"#!/bin/sh\n: > {asking}/$$\nexec sleep 58\n", encoding="utf-8")
    manager.chmod(0o700)
    with listening(greet) as port:
        process = run(
            f"    imap: {{host: 127.0.0.1, port: {port}, security: none, user: jen,"
            f" password: {{command: {manager}}}}}"
        )
        assert until(lambda: any(asking.iterdir()))
        assert seconds_to_stop(process) < HOLDS_NOTHING_UP
    pids = [one.name for one in asking.iterdir()]
    assert until(lambda: not any((PROCESSES / pid).exists() for pid in pids), seconds=3)
