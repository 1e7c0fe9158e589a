"""A real IMAP server on this machine, for the demo and for tests: pymap in a process of its own."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

_SCRIPT = Path(__file__).with_name("server_process.py")
_START_TIMEOUT = 30.0  # seconds; a third of one is usual
_STOP_TIMEOUT = 10.0


class ServerError(DaemonError):
    """The embedded IMAP server did not start.

    Attributes:
        reason: Why.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the embedded IMAP server did not start: {reason}")
        self.reason = reason


class DemoServer:
    """A mailbox of one user on 127.0.0.1, served while the context lasts.

    It has INBOX and the folders asked for, with UIDPLUS, MOVE and IDLE, but no SPECIAL-USE, no
    NAMESPACE and no TLS. The process behind it ends with this one, whatever ends this one.

    Args:
        user: The login name.
        password: The password.
        folders: Folders to make where they are missing.
        keep: Serve the mail in this folder, and keep it there, one file for each message; made if
            missing. Without it the mail ends with the server.
        port: The port to serve on; 0 for any that is free.

    Attributes:
        host: ``127.0.0.1``.
        port: The port it serves on, once started.
        user: The login name.
        password: The password.

    Raises:
        ServerError: On entering, if the server does not start.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        user: str,
        password: str,
        *,
        folders: Iterable[str] = ("Sent", "Drafts"),
        keep: Path | None = None,
        port: int = 0,
    ) -> None:
        self.user, self.password, self.port = user, password, port
        self._folders, self._keep = tuple(folders), keep
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start serving, on the same port as before if it was started before.

        Raises:
            ServerError: It did not start.
        """
        settings = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "folders": self._folders,
            "keep": str(self._keep) if self._keep else None,
        }
        self._process = process = subprocess.Popen(  # noqa: S603 - our own script
            # -P: modules that lie beside the script must not stand in for the standard library's.
            [sys.executable, "-P", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # tracebacks there can show mail
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for this process, which then stops the server
        )
        answer = _exchange(process, json.dumps(settings))
        if not answer.isdigit():
            self.kill()
            raise ServerError(answer or "it ended at once")
        self.port = int(answer)

    def stop(self) -> None:
        """Stop with all mail saved; stopping twice is no error."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()  # the process ends when its input does
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_TIMEOUT)
        self.kill()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            with self._process as process:  # closes its pipes and waits for it
                process.kill()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _exchange(process: subprocess.Popen[str], line: str) -> str:
    """Send one line and return the answer's line, "" where there is none in time."""
    if process.stdin is None or process.stdout is None:
        return ""
    with suppress(OSError):
        process.stdin.write(line + "\n")
        process.stdin.flush()
        if select.select([process.stdout], [], [], _START_TIMEOUT)[0]:
            return process.stdout.readline().strip()
    return ""
