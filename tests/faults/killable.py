"""A warm process that forks one look at Jen's requests after another, each there to be killed.

Reads a line of JSON from standard input for each: how to reach the server, if there is one, and
the folder of the store. The child stops itself, so that strace can be attached to it, and begins at
SIGCONT. Written are the child's process id once it has stopped, and its wait status when it has
ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from jens_mail import JensMail, Login


def main() -> None:
    """Serve until standard input ends."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _look(**json.loads(line))
                status = 0
            except Exception:  # noqa: BLE001 - the status tells; a disk that fails is expected
                status = 2
            finally:
                os._exit(status)
        os.waitpid(pid, os.WUNTRACED)
        _tell(pid)
        _tell(os.waitpid(pid, 0)[1])


def _look(folder: str, login: list[Any] | None) -> None:
    """Look once, as `panza run` does after a start."""
    mail = JensMail(None, Path(folder), Login(*login) if login else None)
    os.kill(os.getpid(), signal.SIGSTOP)
    with mail.connector:
        mail.look()


def _tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
