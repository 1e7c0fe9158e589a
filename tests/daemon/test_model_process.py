"""Where there is no systemd, `panza run` starts the model process itself: when, and how."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon import config as configuration
from daemon import protocol
from daemon.errors import ModelUnavailableError
from daemon.model_process import ModelProcess, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.config import Config

_CONFIG = """
data: data
accounts:
  - name: jen
    address: jen@example.org
    imap: {host: imap.example.org, password: {env: MY_IMAP_WORD}}
    smtp: {host: smtp.example.org, oauth: {token: {env: MY_SMTP_WORD}}}
  - name: work
    address: jen@example.net
    imap: {host: imap.example.net, password: {command: pass show work}}
"""

# A model process in miniature: it answers each job with what it finds out about itself.
_ANSWER = """
import json, os, socket, sys, time
assert os.environ.pop("LISTEN_PID") == str(os.getpid()) and os.environ.pop("LISTEN_FDS") == "1"
listener = socket.socket(fileno=3)
listener.settimeout({idle})
open({log!r}, "a").write(f"{{os.getpid()}}\\n")
while True:
    try:
        connection, _ = listener.accept()
    except TimeoutError:
        sys.exit(0)
    connection.makefile("rb").readline()
    about = {{"pid": os.getpid(), "hash": "h", "vectors": [], "environment": dict(os.environ),
             "files": os.listdir("/proc/self/fd"), "group": os.getpgrp()}}
    connection.sendall(json.dumps({{"result": about}}).encode() + b"\\n")
    connection.close()
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration whose secrets are in the environment."""
    file = tmp_path / "panza.yaml"
    file.write_text(_CONFIG, encoding="utf-8")
    return configuration.load(file)


@contextmanager
def started(config: Config, *command: str) -> Iterator[ModelProcess]:
    """Keep a process while the block runs."""
    process = ModelProcess(None, config, command=command)
    try:
        yield process
    finally:
        process.close()


def answering(log: Path, idle: float = 60) -> tuple[str, ...]:
    """Return the command of a process that answers, and logs that it was started."""
    return sys.executable, "-c", _ANSWER.format(idle=idle, log=str(log))


def asked(process: ModelProcess) -> dict[str, object]:
    """Return what the process says about itself."""
    return process.link.ask(protocol.Embed(texts=()))


def until(reached: Callable[[], bool], seconds: float = 20) -> bool:
    """Wait until something is so; tell whether it came to be."""
    end = time.monotonic() + seconds
    while not reached() and time.monotonic() < end:
        time.sleep(0.02)
    return reached()


def is_alive(pid: int) -> bool:
    """Tell whether a process is there, and not only its exit code."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return False


def test_it_starts_with_the_first_job_and_serves_the_next(config: Config, tmp_path: Path) -> None:
    """Nothing runs before there is work; one process serves all of it."""
    log = tmp_path / "log"
    with started(config, *answering(log)) as process:
        time.sleep(0.1)
        assert not log.exists()
        assert process.pid is None
        pids = {asked(process)["pid"] for _ in range(3)}
        assert pids == {process.pid}


def test_one_that_left_is_started_again(config: Config, tmp_path: Path) -> None:
    """Jobs that come while it leaves, and after, are served, each of them."""
    log = tmp_path / "log"
    with started(config, *answering(log, idle=0.05)) as process:
        for pause in (0, 0.03, 0.05, 0.06, 0.1, 0.3):
            time.sleep(pause)
            assert asked(process)["hash"] == "h"
    assert len(log.read_text().splitlines()) > 1


def test_one_that_was_killed_is_started_again(config: Config, tmp_path: Path) -> None:
    """After a kill -9 the next job finds a new process."""
    with started(config, *answering(tmp_path / "log")) as process:
        first = asked(process)["pid"]
        assert process.pid == first
        os.kill(process.pid, signal.SIGKILL)
        assert until(lambda: process.pid is None)
        assert asked(process)["pid"] != first


def test_it_gets_no_secret(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment holds none of the secrets, nothing of systemd's, and no open file."""
    private = {
        "MY_IMAP_WORD": "hush",
        "MY_SMTP_WORD": "hush",
        "CREDENTIALS_DIRECTORY": "/run/credentials/panza",
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": "1000000",
        "WATCHDOG_PID": "1",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/bus",
        "SSH_AUTH_SOCK": "/run/ssh",
    }
    for name, value in {**private, "MY_OTHER": "seen"}.items():
        monkeypatch.setenv(name, value)
    with (
        (tmp_path / "open").open("wb") as file,
        started(config, *answering(tmp_path / "log")) as process,
    ):
        os.set_inheritable(file.fileno(), True)  # noqa: FBT003
        about = asked(process)
    given = about["environment"]
    assert isinstance(given, dict)
    assert given["MY_OTHER"] == "seen"
    assert not private.keys() & given.keys()
    assert given == {**environment(config), **{k: v for k, v in given.items() if k == "LC_CTYPE"}}
    # Three standard ones, the socket, its connection with the file around it, and the listing.
    assert set(about["files"]) <= set("012345")  # type: ignore[arg-type]
    assert about["group"] == about["pid"]


def test_its_socket_is_private_and_its_path_is_short(config: Config, tmp_path: Path) -> None:
    """The folder is the owner's alone and goes with the process."""
    with started(config, *answering(tmp_path / "log")) as process:
        folder = process.link.address.parent
        assert folder.stat().st_mode & 0o777 == 0o700
        assert len(os.fsencode(process.link.address)) < 108
    assert not folder.exists()
    process.close()  # twice is no error
    with pytest.raises(ModelUnavailableError):
        asked(process)


def test_a_long_path_is_not_used(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the runtime folder's path is too long for a socket, another folder is taken."""
    long = tmp_path / ("x" * 90)
    long.mkdir()
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(long))
    with started(config, *answering(tmp_path / "log")) as process:
        assert asked(process)["hash"] == "h"


def test_one_that_does_not_start_is_told_and_left_in_peace(config: Config, tmp_path: Path) -> None:
    """A process that ends at once is started less and less often; who asks meanwhile is told."""
    log = tmp_path / "log"
    code = f"open({str(log)!r}, 'a').write('x'); raise SystemExit(78)"
    said = []
    with started(config, sys.executable, "-c", code) as process:
        for _ in range(30):
            with pytest.raises(ModelUnavailableError) as caught:
                asked(process)
            said.append(str(caught.value))
    assert any("it does not start: it ended with exit code 78" in one for one in said)
    assert len(log.read_text()) < 10


def test_it_is_ended_with_all_who_wait(config: Config) -> None:
    """Closing ends a process that listens to no signal, within seconds, and every call."""
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(100)"
    process = ModelProcess(None, config, command=(sys.executable, "-c", stubborn))
    ended: list[ModelUnavailableError] = []

    def call() -> None:
        try:
            asked(process)
        except ModelUnavailableError as error:
            ended.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert until(lambda: process.pid is not None)
    pid = process.pid or 0
    began = time.monotonic()
    process.close()
    assert time.monotonic() - began < 4
    thread.join(5)
    assert len(ended) == 1
    assert not is_alive(pid)


def test_the_model_process_does_not_outlive_a_killed_daemon(tmp_path: Path) -> None:
    """When the mail process is killed, the model process ends too."""
    file = tmp_path / "panza.yaml"
    file.write_text(_CONFIG, encoding="utf-8")
    code = f"""
import pathlib, time
from daemon import config
from daemon.model_process import ModelProcess
file = pathlib.Path({str(file)!r})
process = ModelProcess(file, config.load(file))
try:
    process.link.train("nobody")
except Exception as error:
    print(process.pid, type(error).__name__, process.link.address.parent, flush=True)
time.sleep(100)
"""
    daemon = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        assert daemon.stdout is not None
        pid, fault, folder = daemon.stdout.readline().split()
        assert fault == "ModelJobError"  # it was asked, and answered
        assert is_alive(int(pid))
        daemon.kill()
        assert until(lambda: not is_alive(int(pid)), 10)
    finally:
        daemon.kill()
        daemon.wait()
        with suppress(OSError):
            (Path(folder) / "model.sock").unlink()
            Path(folder).rmdir()
