"""`panza run` on a private Dovecot, with a stand-in for the model process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.journal import Journal, State
from daemon.store import Store
from support.letters import OWNER
from support.servers import StubModel, dovecot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CONFIG = """
data: {folder}/data
accounts:
  - name: jen
    address: {owner}
    full_name: Jen Doe
    imap: {{host: 127.0.0.1, port: {port}, security: none, user: {owner}, password: {{env: PASS}}}}
requests: {{poll: 5s}}
training: {{schedule: "off"}}
"""
_LONGEST = 900.0  # seconds


class Daemon:
    """A mailbox, and the daemon that looks after it once it is started.

    Attributes:
        pid: Of the mail process, 0 before it is started.
    """

    def __init__(self, folder: Path, server: dovecot.Dovecot, model: StubModel) -> None:
        self._folder, self._server = folder, server
        self._config = folder / "panza.yaml"
        text = _CONFIG.format(folder=folder, owner=OWNER, port=server.port)
        self._config.write_text(text, encoding="utf-8")
        self._environment = {
            **os.environ,
            "PASS": server.account(OWNER).password,
            "PANZA_MODEL_SOCKET": str(model.path),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def fill(self, folder: str, mails: Iterable[bytes]) -> None:
        """Write mails into one of the owner's folders."""
        maildir = self._server.mailbox(folder, OWNER)
        for part in ("cur", "new", "tmp"):
            (maildir / part).mkdir(parents=True, exist_ok=True)
        for number, raw in enumerate(mails):
            (maildir / "cur" / f"{1_400_000_000 + number}.{number}.bench:2,S").write_bytes(raw)
        self._server.give_away(self._server.base / "mail")

    def start(self) -> None:
        """Start the daemon."""
        command = [sys.executable, "-m", "daemon", "--config", str(self._config), "run"]
        self._process = subprocess.Popen(command, env=self._environment)  # noqa: S603
        self.pid = self._process.pid

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)

    def synced(self) -> int:
        """Return how many mails are in the store."""
        with Store(self._folder / "data/jen", read_only=True) as store:
            return store.total()

    def done(self) -> int:
        """Return how many requests have their draft, and a mark that says so."""
        with Store(self._folder / "data/jen", read_only=True) as store:
            return Journal(store.database, store.clock).counts().get(State.DONE.value, 0)

    def drafts(self) -> int:
        """Return how many messages are in Drafts."""
        maildir = self._server.mailbox("Drafts", OWNER)
        return sum(len(list((maildir / part).iterdir())) for part in ("cur", "new"))


@contextmanager
def daemon() -> Iterator[Daemon]:
    """Give one that is not started yet; it and all its mail end with the context."""
    with (
        dovecot.running(users={OWNER: "secret"}) as server,
        tempfile.TemporaryDirectory(prefix="panza-bench-") as place,
        StubModel(Path(place)) as model,
    ):
        made = Daemon(Path(place), server, model)
        made.fill("Drafts", [])
        try:
            yield made
        finally:
            made.stop()


def requests(count: int) -> Iterator[bytes]:
    """Yield requests of the owner's."""
    for number in range(count):
        head = f"From: Jen Doe <{OWNER}>\r\nMessage-ID: <request{number}@example.org>\r\n\r\n"
        yield f"{head}Tell stew@example.net that kiln number {number} is hot.\r\n".encode()


def wait(reached: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + _LONGEST
    while not reached():
        if time.monotonic() > deadline:
            raise SystemExit("that took too long")
        time.sleep(0.2)
