"""`panza run`, as a real process over a Maildir and a stand-in for the model process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from stubmodel import StubModel

from connectors.base import FolderMissingError, Role
from connectors.maildir import MaildirConnector
from daemon import protocol
from daemon.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REQUEST = b"From: jen@example.org\r\nMessage-ID: <r%d@example.org>\r\n\r\nTell Stew I am late.\r\n"
SENT = (
    b"From: jen@example.org\r\nTo: stew@example.org\r\nSubject: Kiln\r\n"
    b"Message-ID: <s%d@example.org>\r\nDate: Mon, 06 Jan 2025 10:00:00 +0100\r\n\r\n"
    b"Hello Stew,\r\n\r\nthe kiln number %d is hot.\r\n\r\nJen\r\n"
)
CONFIG = """
data: {folder}/data
accounts:
  - name: jen
    address: jen@example.org
    full_name: Jen Doe
    maildir: {folder}/mail
requests: {{poll: 5s}}
training: {{min_new_mails: 3}}
"""


def until(reached: Callable[[], bool], seconds: float = 20) -> bool:
    """Wait until something is so; tell whether it came to be."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if reached():
            return True
        time.sleep(0.05)
    return False


class Home:
    """One owner's configuration, mail and data, and the daemons that serve them."""

    def __init__(self, folder: Path, model: StubModel) -> None:
        self.folder, self.model = folder, model
        self.config = folder / "panza.yaml"
        self.config.write_text(CONFIG.format(folder=folder), encoding="utf-8")
        self.mailbox = self.maildir("mail")
        self.environment = {**os.environ, "PANZA_MODEL_SOCKET": str(model.path)}
        self.started: list[subprocess.Popen[str]] = []

    def maildir(self, name: str) -> MaildirConnector:
        """Return another program's view of a Maildir."""
        folders = {Role.SENT: "Sent", Role.DRAFTS: "Drafts", Role.REQUESTS: "Panza requests"}
        (self.folder / name).mkdir(exist_ok=True)
        for role in ("Sent", "Drafts", "Panza requests"):
            for part in ("cur", "new", "tmp"):
                (self.folder / name / f".{role}" / part).mkdir(parents=True, exist_ok=True)
        return MaildirConnector(
            self.folder / name, folders=folders, state=self.folder / f"uids-{name}"
        )

    def panza(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [sys.executable, "-m", "daemon", "--config", str(self.config), *words]
        return subprocess.run(  # noqa: S603
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def run(self) -> subprocess.Popen[str]:
        """Start the daemon."""
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "daemon", "--config", str(self.config), "run"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def train_is_due(self) -> None:
        """Sync some mail, and let the time of a training have passed long ago."""
        for number in range(3):
            self.mailbox.append(Role.SENT, SENT % (number, number))
        assert self.panza("sync").returncode == 0
        with Store(self.folder / "data" / "jen") as store:
            store.set_note("training considered", datetime(2024, 1, 1, tzinfo=UTC).isoformat())

    def status(self) -> dict[str, Any]:
        """Return what the status says."""
        answer: dict[str, Any] = json.loads(self.panza("status", "--json").stdout)
        return answer

    def drafts(self) -> int:
        """Return how many drafts there are."""
        with suppress(FolderMissingError):
            return self.mailbox.state(Role.DRAFTS).messages
        return 0

    def file(self, number: int) -> None:
        """Put a request into the folder."""
        self.mailbox.append(Role.REQUESTS, REQUEST % number)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Return an owner's home; its daemons are ended with the test."""
    with StubModel(tmp_path) as model:
        made = Home(tmp_path, model)
        yield made
        for process in made.started:
            process.kill()
            process.communicate(timeout=10)


def ended(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    """End a daemon; return its exit code, and what it logged."""
    started = time.monotonic()
    process.send_signal(number)
    _, log = process.communicate(timeout=20)
    assert time.monotonic() - started < 10
    return process.returncode, log


def test_reads_answers_and_stops(home: Home) -> None:
    """A daemon syncs, answers a request at once, tells so in its status, and ends on SIGTERM."""
    for number in range(3):
        home.mailbox.append(Role.SENT, SENT % (number, number))
    process = home.run()
    home.file(1)
    assert until(lambda: home.drafts() == 1)
    home.file(2)
    assert until(lambda: home.drafts() == 2, seconds=5)
    assert until(lambda: home.status()["accounts"][0]["mails"] == 3)
    status = home.status()
    assert status["accounts"][0]["process"] == process.pid
    assert status["accounts"][0]["not_indexed"] == 0
    assert status["requests"][0]["states"] == {"done": 2}
    code, log = ended(process)
    assert code == 0
    assert "example.org" not in log
    assert "kiln" not in log
    after = home.status()
    assert after["accounts"][0]["process"] is None
    assert after["requests"][0]["states"] == {"done": 2}
    assert {job["kind"] for job in after["jobs"]} >= {"sync"}


def test_imports_no_model(home: Home) -> None:
    """The process that has the network has neither torch nor NumPy in it."""
    process = home.run()
    home.mailbox.append(Role.SENT, SENT % (1, 1))
    home.file(1)
    assert until(lambda: home.drafts() == 1)
    maps = open(f"/proc/{process.pid}/maps", encoding="utf-8").read()  # noqa: PTH123, SIM115
    assert "torch" not in maps
    assert "numpy" not in maps


def test_tells_the_service_manager(home: Home, tmp_path: Path) -> None:
    """It says when it is ready, that it lives, that it reads anew, and that it stops."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        home.environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        process = home.run()
        assert manager.recv(500).startswith(b"READY=1\nSTATUS=serving jen")
        assert [manager.recv(500) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        process.send_signal(signal.SIGHUP)
        heard = [manager.recv(500) for _ in range(6)]
        reloading = next(i for i, one in enumerate(heard) if one.startswith(b"RELOADING=1\nMONO"))
        assert any(one.startswith(b"READY=1") for one in heard[reloading:])
        process.send_signal(signal.SIGTERM)
        assert until(lambda: manager.recv(500) == b"STOPPING=1")


def test_a_second_daemon_is_refused(home: Home) -> None:
    """Two daemons never serve the same folder: the second one says who is there."""
    first = home.run()
    home.file(1)
    assert until(lambda: home.drafts() == 1)
    second = home.panza("run")
    assert second.returncode == 75
    assert f"process {first.pid}" in second.stderr
    assert home.panza("sync").returncode == 75


def test_it_serves_all_accounts_or_none(home: Home) -> None:
    """An account that is named has no meaning for the daemon, and that is said."""
    done = home.panza("run", "--account", "jen")
    assert done.returncode == 2
    assert "all accounts" in done.stderr


def test_a_request_of_the_first_minute_knows_whom_she_wrote_to(home: Home) -> None:
    """On a new installation the sent mail is read before the first name is looked up."""
    home.mailbox.append(Role.SENT, SENT % (1, 1))
    home.file(1)
    home.run()
    assert until(lambda: home.drafts() == 1)
    [draft] = home.mailbox.fetch(Role.DRAFTS)
    assert b"To: stew@example.org" in draft.raw


def test_a_faulty_configuration_ends_it(home: Home) -> None:
    """A start with faults in the file ends with 78, which systemd does not try again."""
    home.config.write_text("accounts: []\nmodle: {}\n", encoding="utf-8")
    done = home.panza("run")
    assert done.returncode == 78
    assert "modle" in done.stderr


def test_a_reload_takes_in_a_new_account(home: Home) -> None:
    """SIGHUP serves an account that was added; a file with faults changes nothing."""
    process = home.run()
    home.file(1)
    assert until(lambda: home.drafts() == 1)
    home.config.write_text("accounts: 3", encoding="utf-8")
    process.send_signal(signal.SIGHUP)
    home.file(2)
    assert until(lambda: home.drafts() == 2)
    other = home.maildir("other")
    text = CONFIG.format(folder=home.folder).replace(
        "requests:",
        "  - name: work\n    address: jen@example.org\n"
        f"    maildir: {home.folder}/other\nrequests:",
    )
    home.config.write_text(text, encoding="utf-8")
    other.append(Role.REQUESTS, REQUEST % 3)
    process.send_signal(signal.SIGHUP)
    assert until(lambda: other.state(Role.DRAFTS).messages == 1)
    home.file(4)
    assert until(lambda: home.drafts() == 3)
    code, log = ended(process)
    assert code == 0
    assert "has faults" in log


def test_a_reload_that_cannot_end_what_runs_begins_anew(home: Home) -> None:
    """Where a thread hangs in a call that nothing breaks off, the daemon becomes a new process."""
    text = home.config.read_text(encoding="utf-8")
    os.mkfifo(home.folder / "fifo")  # who opens it waits for a writer, for ever
    archives = f"    archives: [{home.folder}/fifo]\n"
    home.config.write_text(text.replace("requests:", f"{archives}requests:"), encoding="utf-8")
    process = home.run()
    assert until(lambda: "sync" in {job["kind"] for job in home.status()["jobs"]})
    home.config.write_text(text, encoding="utf-8")
    process.send_signal(signal.SIGHUP)
    home.file(1)
    assert until(lambda: home.drafts() == 1, seconds=30)
    assert home.status()["accounts"][0]["process"] == process.pid
    code, log = ended(process)
    assert code == 0
    assert "by a new process" in log


def test_a_stop_in_the_middle_of_a_draft_costs_nothing(home: Home) -> None:
    """Told to stop while a model writes, it ends in time, and the next one makes the draft."""
    home.model.held.clear()
    process = home.run()
    home.file(1)
    assert until(lambda: any(isinstance(one, protocol.Write) for one in home.model.asked))
    assert ended(process)[0] == 0
    assert home.drafts() == 0
    home.model.held.set()
    home.run()
    assert until(lambda: home.drafts() == 1)


def test_a_stop_in_the_middle_of_a_training_is_no_fault(home: Home) -> None:
    """Told to stop while a job of the schedule runs, it ends in time and without a word."""
    home.model.held.clear()
    home.train_is_due()
    process = home.run()
    assert until(lambda: any(isinstance(one, protocol.Train) for one in home.model.asked))
    code, log = ended(process)
    assert code == 0
    assert "Traceback" not in log
    assert home.status()["accounts"][0]["troubles"] == []


def test_interrupted_it_ends_like_that_too(home: Home) -> None:
    """Ctrl-C in a terminal is a clean end."""
    process = home.run()
    home.file(1)
    assert until(lambda: home.drafts() == 1)
    code, log = ended(process, signal.SIGINT)
    assert code == 0
    assert "Traceback" not in log


def test_a_training_that_was_missed_is_made_up_for(home: Home) -> None:
    """A time that passed while no daemon ran counts, once, if enough mail is new."""
    home.train_is_due()
    process = home.run()
    assert until(lambda: any(isinstance(one, protocol.Train) for one in home.model.asked))
    assert until(lambda: home.status()["accounts"][0]["untrained"] == 0)
    ended(process)
    home.model.asked.clear()
    home.run()
    home.file(1)
    assert until(lambda: home.drafts() == 1)
    assert not any(isinstance(one, protocol.Train) for one in home.model.asked)


def test_a_training_that_fails_is_told(home: Home) -> None:
    """What the model process cannot do stands in the status, with what to do about it."""
    home.model.fault = {"message": "Too few mails.", "next_step": "Add archives.", "exit_code": 1}
    home.train_is_due()
    home.run()
    assert until(lambda: bool(home.status()["accounts"][0]["troubles"]))
    [trouble] = home.status()["accounts"][0]["troubles"]
    assert (trouble["job"], trouble["message"]) == ("train", "Too few mails.")
    assert trouble["retry"] is None
    assert "Add archives." in home.panza("status").stdout
