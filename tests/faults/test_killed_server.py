"""The server's processes killed while Panza's drafts are on the way."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from fuses import WatchedConnector
from jens_mail import FOLDERS, JensMail, jens_client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dovecot import Dovecot

REQUESTS = 300
KILLS = 100


class Killer(threading.Thread):
    """Kills all sessions of a server in the midst of what they do.

    A kill is due at every twelfth moment or so, and comes a few milliseconds later. That depends on
    what was done, not on how fast this machine is, so that there is always some way between two.
    Sessions that are about to begin are spared, else Dovecot lets nobody in for some seconds.
    """

    def __init__(self, server: Dovecot) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.killed = 0
        self._due = threading.Event()
        self._over = False
        self._chance = random.Random(3)

    def moment(self, name: str) -> None:
        """Let a moment pass."""
        if "ensure" not in name and self._chance.random() < 1 / 8:
            self._due.set()

    def run(self) -> None:
        """Kill until it is over."""
        while self._due.wait() and not self._over:
            time.sleep(self._chance.uniform(0, 0.004))
            self.killed += self.server.kill_sessions()
            for name in FOLDERS:
                # A dead process may leave its lock, which Dovecot itself waits for a minute long.
                (self.server.mailbox(name) / "dovecot-uidlist.lock").unlink(missing_ok=True)
            self._due.clear()

    def end(self) -> None:
        """Kill no more."""
        self._over = True
        self._due.set()
        self.join(10)


def test_sessions_killed_a_hundred_times(
    make_dovecot: Callable[..., Dovecot], tmp_path: Path
) -> None:
    """Nothing that the server has acknowledged is lost, and nothing is there twice."""
    server = make_dovecot()
    with jens_client(server) as client:
        numbers = JensMail(client, tmp_path, server).ask(REQUESTS)
    killer = Killer(server)
    mail = JensMail(None, tmp_path, server)
    mail.connector = WatchedConnector(mail.connector, killer.moment)
    killer.start()
    try:
        mail.work()
    finally:
        killer.end()
    with jens_client(server) as mail.client:
        mail.look()
        mail.assert_one_draft_each(numbers)
        mail.assert_nothing_is_left()
    assert killer.killed >= KILLS
    assert mail.errors["UnreachableError"] >= KILLS // 2
