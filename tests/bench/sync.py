"""Speed, memory and round trips of a sync, beside mbsync with fsync on the same Dovecot.

    .venv/bin/python tests/bench/sync.py [--mails 50000] [--slice 2500] [--pairs 8]

Makes invented sent mails in a private Dovecot: all of them in one folder, and folders of a slice
each. A pair is one slice read by both, mbsync into a Maildir and Panza into its store (without
embedding), one after the other, in turns who goes first; what counts is the median of the pairs'
ratios, since machines are noisy. Then both read the whole folder. Times are those of whole
processes, start included; memory is the largest proportional set of all processes of a sync
together at one moment. Round trips are counted by a proxy, login included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imapclient import IMAPClient
from support.letters import OWNER, letters
from support.memory import Peak
from support.servers import FaultProxy, dovecot
from support.syncing import account

from daemon import accounts
from daemon.store import Store
from daemon.sync import sync

if TYPE_CHECKING:
    from collections.abc import Iterable

_WHOLE, _FIRST = "Sent", "First"
_FIRST_MAILS = 1000
_MBSYNC = """
FSync yes

IMAPAccount bench
Host 127.0.0.1
Port {port}
User {user}
Pass "{password}"
SSLType None
AuthMechs PLAIN

IMAPStore far
Account bench

MaildirStore near
Path {folder}/
Inbox {folder}/INBOX
SubFolders Verbatim

Channel bench
Far :far:
Near :near:
Patterns "{name}"
Sync Pull
Create Near
SyncState *
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one program needed for one folder: seconds, and bytes of memory."""

    seconds: float
    memory: int

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, {self.memory / 2**20:.0f} MiB"


def main() -> None:
    """Run the bench once and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mails", type=int, default=50_000)
    options.add_argument("--slice", type=int, default=2500)
    options.add_argument("--pairs", type=int, default=8)
    chosen = options.parse_args()
    if missing := dovecot.missing() or ("" if shutil.which("mbsync") else "mbsync of isync"):
        print(f"skipped: lacks {missing}")
        return
    with dovecot.running() as server:
        slices = [f"Slice {number}" for number in range(chosen.pairs)]
        fill(server, _WHOLE, letters(chosen.mails))
        fill(server, _FIRST, letters(_FIRST_MAILS, seed=1))
        for number, name in enumerate(slices):
            fill(server, name, letters(chosen.slice, seed=2, first=number * chosen.slice))
        os.environ["BENCH_PASSWORD"] = server.password
        round_trips(server)
        bench = Bench(server.port, server.user, server.password)
        ratios = [bench.pair(name, ours_first=bool(n % 2)) for n, name in enumerate(slices)]
        print(
            f"Panza over mbsync, median of {len(ratios)} slices of {chosen.slice} mails: ", end=""
        )
        print(f"{statistics.median(ratios):.2f}, from {[round(r, 2) for r in sorted(ratios)]}")
        ratio = bench.pair(_WHOLE, ours_first=True)
        print(f"Panza over mbsync, {chosen.mails} mails in one folder: {ratio:.2f}")


def fill(server: dovecot.Dovecot, folder: str, mails: Iterable[bytes]) -> None:
    """Write mails into a folder, and have the server index it: nobody pays who comes first."""
    maildir = server.mailbox(folder)
    for part in ("cur", "new", "tmp"):
        (maildir / part).mkdir(parents=True)
    for number, raw in enumerate(mails):
        name = f"{1_400_000_000 + number}.{number}.bench,S={len(raw)}:2,S"
        (maildir / "cur" / name).write_bytes(raw)
    server.give_away(server.base / "mail")
    with IMAPClient(server.host, server.port, ssl=False) as client:
        client.plain_login(server.user, server.password)
        client.select_folder(folder, readonly=True)
        uids = client.search("ALL")
        for start in range(0, len(uids), 500):
            client.fetch(uids[start : start + 500], ["RFC822.SIZE", "BODY.PEEK[]"])


def round_trips(server: dovecot.Dovecot) -> None:
    """Print how often a first and an idle sync wait for the server."""
    with FaultProxy(server) as proxy, tempfile.TemporaryDirectory(prefix="panza-bench-") as place:
        chosen = account(OWNER, proxy.port, server.user, _FIRST)
        with Store(Path(place)) as store, accounts.opened(chosen, Path(place)) as sources:
            new = sync(chosen, sources, store).new
            print(f"first sync of {new} mails: {proxy.round_trips} round trips")
            proxy.forget()
            sync(chosen, sources, store)
            print(f"idle sync: {proxy.round_trips} round trips")


class Bench:
    """Reads folders by both programs.

    Args:
        port: The server's, plain IMAP.
        user: The login.
        password: Its password.
    """

    def __init__(self, port: int, user: str, password: str) -> None:
        self._port, self._user, self._password = port, user, password

    def pair(self, folder: str, *, ours_first: bool) -> float:
        """Read a folder by both; print the costs, and return the ratio of the speeds."""
        if ours_first:
            ours, theirs = self.panza(folder), self.mbsync(folder)
        else:
            theirs, ours = self.mbsync(folder), self.panza(folder)
        print(f"{folder}: panza {ours}; mbsync {theirs}", flush=True)
        return theirs.seconds / ours.seconds

    def panza(self, folder: str) -> Cost:
        """Read a folder into a store."""
        with tempfile.TemporaryDirectory(prefix="panza-bench-") as place:
            program = str(Path(__file__).parent / "support/syncing.py")
            words = [place, OWNER, str(self._port), self._user, folder]
            return run([sys.executable, program, *words], self._password)

    def mbsync(self, folder: str) -> Cost:
        """Read a folder into a Maildir."""
        with tempfile.TemporaryDirectory(prefix="panza-bench-") as place:
            password = self._password.replace("\\", "\\\\").replace('"', '\\"')
            config = Path(place) / "mbsyncrc"
            values = {"port": self._port, "user": self._user, "password": password}
            text = _MBSYNC.format(folder=place, name=folder, **values)
            config.write_text(text, encoding="utf-8")
            return run(["mbsync", "-q", "-c", str(config), "bench"])


def run(command: list[str], given: str = "") -> Cost:
    """Run a program to its end and return what it cost."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603
    with Peak(process.pid) as peak:
        process.communicate(given.encode())
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return Cost(time.monotonic() - started, peak.bytes)


if __name__ == "__main__":
    main()
