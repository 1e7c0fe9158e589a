"""One look at Jen's requests in a process of its own, killed or failed at a chosen system call.

    with Crashing(mail, server) as crashing:
        counted = crashing.calls()            # {"pwrite64": 196, "fdatasync": 24, "sendto": 25}
        crashing.look("fdatasync", 7)         # killed as it begins its seventh
        crashing.assert_recovers()            # what has to hold after a restart
        crashing.look("pwrite64", "3+", "error=ENOSPC")  # the third and all after it fail

strace counts the calls and ends them; nothing of Panza is changed for it. A call that is killed is
not executed, so "before call K" is also "after call K - 1" and whatever followed that.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from faultproxy import FaultProxy
from jens_mail import DRAFTS, FOLDERS, REQUESTS, JensMail, draft_name, request
from needs import need_command

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from faultproxy import Server
    from imapclient import IMAPClient

CALLS = ("pwrite64", "write", "fsync", "fdatasync", "sendto")
KILL = "signal=SIGKILL"

UNCLEAR = re.sub(rb"(?s)\r\n\r\n.*", b"\r\n\r\n", request(0))
"""A request without a word, which is parked with a note."""

_HERE = Path(__file__).parent
_CHANGES = ("APPEND", "STORE", "MOVE", "EXPUNGE", "COPY", "CREATE", "DELETE", "RENAME")


def need_tracing() -> None:
    """Skip the test where no process can be traced."""
    strace = need_command("strace")
    if subprocess.run([strace, "-o", os.devnull, "true"], check=False).returncode:  # noqa: S603
        pytest.skip("this machine does not allow a process to be traced")


class TracedLooks:
    """Looks in processes of their own, under strace."""

    def __init__(self) -> None:
        paths = (_HERE, _HERE.parent / "servers", *sys.path)
        self._parent = subprocess.Popen(  # noqa: S603
            [sys.executable, _HERE / "killable.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
            text=True,
        )

    def close(self) -> None:
        """End the warm process."""
        self._parent.communicate(timeout=20)

    def look(
        self, folder: Path, server: Server | None, expression: str, log: Path = Path(os.devnull)
    ) -> int:
        """Look once.

        Args:
            folder: Where Panza keeps its store.
            server: Jen's server; None for the Maildir that `maildir` gives.
            expression: What strace shall do.
            log: What strace writes into.

        Returns:
            The wait status.
        """
        login = server and [server.host, server.port, server.user, server.password]
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps({"folder": str(folder), "login": login}) + "\n")
        self._parent.stdin.flush()
        pid = self._told()
        strace = subprocess.Popen(  # noqa: S603
            ["strace", "-e", expression, "-o", log, "-p", str(pid)],  # noqa: S607
            stderr=subprocess.PIPE,
            text=True,
        )
        assert strace.stderr is not None
        attached = strace.stderr.readline()
        os.kill(pid, signal.SIGCONT if "attached" in attached else signal.SIGKILL)
        status = self._told()
        strace.communicate(timeout=20)
        assert "attached" in attached, attached
        return status

    def count(self, folder: Path, server: Server | None, calls: Iterable[str]) -> Counter[str]:
        """Count the system calls of one look that nothing happens to."""
        log = folder / "calls"
        assert self.look(folder, server, f"trace={','.join(calls)}", log) == 0
        return Counter(re.findall(r"(?m)^(\w+)\(", log.read_text()))

    def _told(self) -> int:
        assert self._parent.stdout is not None
        return int(self._parent.stdout.readline())


class Crashing:
    """Looks that die; see the module.

    Args:
        client: Jen's own client, in an account with her folders.
        server: Her server.
    """

    def __init__(self, client: IMAPClient, server: Server) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="panza-crash-"))
        self._server = server
        self._proxy = FaultProxy(server)
        self.mail = JensMail(client, self._root / "panza", self._proxy)
        self._looks = TracedLooks()

    def close(self) -> None:
        """End the warm process."""
        self._looks.close()
        self._proxy.close()
        shutil.rmtree(self._root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def calls(self) -> Counter[str]:
        """Count the system calls of one look that nothing happens to."""
        self._begin_anew()
        return self._looks.count(self.mail.folder, self._server, CALLS)

    def look(self, call: str, which: int | str, what: str = KILL) -> int:
        """Look once, and let something happen to the call of this ordinal, or from "3+" on.

        Returns:
            The wait status.
        """
        self._begin_anew()
        expression = f"inject={call}:{what}:when={which}"
        return self._looks.look(self.mail.folder, self._server, expression)

    def assert_recovers(self) -> None:
        """Start again, and hold: one draft, both requests marked, one note, nothing left to do."""
        mail = self.mail
        with mail.connector:
            mail.work()
            self._proxy.forget()
            mail.look()
            assert self._proxy.count(*_CHANGES) == 0
            mail.assert_nothing_is_left()
        assert [one.name for one in mail.kept(DRAFTS)] == [draft_name(1)]
        assert sorted((one.name[:10], *one.flags) for one in mail.kept(REQUESTS)) == [
            ("panza.note",),
            ("request.0@", "\\Flagged"),
            ("request.1@", "\\Answered"),
        ]

    def _begin_anew(self) -> None:
        """Leave one good request and one that nobody can understand, and nothing else."""
        shutil.rmtree(self.mail.folder, ignore_errors=True)
        self.mail.folder.mkdir()
        for name in FOLDERS:
            self.mail.empty(name)
        self.mail.ask(1)
        self.mail.client.append(REQUESTS, UNCLEAR)
