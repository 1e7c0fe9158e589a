"""Starts the model process where there is no systemd to do it.

As systemd would, by the same protocol (sd_listen_fds(3)): the listening socket is there from the
beginning, and the first job that comes to it starts the process, which leaves when it has long had
nothing to do. Connections that come in between wait in the socket.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from daemon import protocol
from daemon.backoff import Backoff
from daemon.errors import FAILED
from daemon.kernel import ending
from daemon.model_link import ModelLink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.config import Config

_log = logging.getLogger(__name__)

_WAITING_JOBS = 128
_LONGEST_PATH = 100  # sun_path has 108 bytes, the name of the socket included
_SETTLED = 10.0  # seconds that a process lives whose end is no failed start
_GRACE = 2.5  # seconds for it to end its training and itself
_STANDARD_ERROR = 2
# The shell becomes the process, and so knows its pid; a socket that is its standard input is put
# where the protocol wants it. Only a shell does all of this without code between fork and exec.
_SHELL = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&0 0</dev/null'

# systemd's for the service itself, and the ways to the owner's secrets and her other programs.
_PRIVATE = (
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSH_AUTH_SOCK",
    "GPG_AGENT_INFO",
)


class ModelProcess:
    """The model process, whenever there is work for it.

    Args:
        file: The configuration file, None for the usual places.
        config: What stands in it: the process gets none of the secrets that it names.
        command: What to start, `panza model` by default.

    Attributes:
        link: Asks it.

    Raises:
        OSError: No folder can be made for the socket.
    """

    def __init__(
        self, file: Path | None, config: Config, *, command: Sequence[str] | None = None
    ) -> None:
        self._command = list(command or _command(file))
        self._environment = environment(config)
        self._folder = _short_folder()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._folder / "model.sock"))
        self._listener.listen(_WAITING_JOBS)
        self.link = ModelLink(self._folder / "model.sock")
        self._backoff = Backoff(1, 60)
        self._lock = threading.Lock()
        self._closing = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="model process", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The process's id, None while none runs."""
        with self._lock:  # one that is just being started may have answered already
            process = self._process
        return process.pid if process and process.returncode is None else None

    def close(self) -> None:
        """End the process and its training, within seconds; closing twice is no error."""
        with self._lock:
            self._closing = True
            self.link.abort()
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for a job
            self._signal(signal.SIGTERM)
        self._thread.join(_GRACE)
        if self._thread.is_alive():
            self._signal(signal.SIGKILL)
            self._thread.join(_GRACE)
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _keep(self) -> None:
        """Start the process whenever a job waits and none runs."""
        failures = 0
        while self._is_wanted():
            began = time.monotonic()
            code = self._run()
            if self._closing:
                return
            if code == 0 or time.monotonic() - began >= _SETTLED:
                failures = 0
                self._backoff.reset()
            else:
                failures += 1
            if code:
                _log.warning("the model process: %s", ending(code))
            if failures > 1:
                self._turn_away(ending(code), self._backoff.next())

    def _is_wanted(self, seconds: float | None = None) -> bool:
        """Wait for a job; return whether there is one."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        came = poll.poll(None if seconds is None else seconds * 1000)
        return bool(came) and not self._closing

    def _run(self) -> int:
        """Start the process and wait for its end; return its exit code."""
        with self._lock:
            if self._closing:
                return 0
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own command, word by word
                    ["/bin/sh", "-c", _SHELL, "sh", *self._command],
                    stdin=self._listener.fileno(),
                    stdout=_STANDARD_ERROR,
                    env=self._environment,
                    process_group=0,  # Ctrl-C is for the mail process, which then ends this one
                )
            except OSError as error:  # no memory, for example
                _log.warning("the model process: %s", error.strerror)
                return FAILED
        return self._process.wait()

    def _turn_away(self, reason: str, seconds: float) -> None:
        """Tell all who ask meanwhile that it does not start; afterwards it is tried again."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self._is_wanted(left):
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                with connection:
                    connection.sendall(protocol.line("unavailable", f"it does not start: {reason}"))

    def _signal(self, number: signal.Signals) -> None:
        # Popen looks whether it is still there: its pid is never somebody else's.
        if self._process:
            self._process.send_signal(number)


def environment(config: Config) -> dict[str, str]:
    """Return what the model process may know of this process's environment: no secret."""
    servers = [server for one in config.accounts for server in (one.imap, one.smtp) if server]
    named = {where for kind, where in (one.secret.reference for one in servers) if kind == "env"}
    return {name: v for name, v in os.environ.items() if name not in {*_PRIVATE, *named}}


def _command(file: Path | None) -> list[str]:
    named = ["--config", str(file)] if file else []
    # -P: whatever lies in the folder that the service was started in is not Panza.
    return [sys.executable, "-P", "-m", "daemon", *named, "model"]


def _short_folder() -> Path:
    """Make a folder for this process's socket that is the owner's alone (0700)."""
    given = (os.environ.get(name, "") for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"))
    places = [one.partition(":")[0] for one in given]
    for place in (*filter(None, places), tempfile.gettempdir()):
        if len(os.fsencode(place)) < _LONGEST_PATH - len("/panza-12345678/model.sock"):
            with contextlib.suppress(OSError):
                return Path(tempfile.mkdtemp(prefix="panza-", dir=place))
    return Path(tempfile.mkdtemp(prefix="panza-", dir="/tmp"))
