"""Takes messages through all of Panza, in a process of its own, and prints what they cost.

    python trial.py bombs FIRST STEP        # every STEP-th of `bombs.BOMBS`, from both authors
    python trial.py mutations SEED COUNT

Each message is sent mail that is synced, and a request that is judged, understood, answered by a
stub and put into Drafts; and after it comes a good request. Prints one JSON object: how many there
were, the name of the slowest and its seconds of a processor, the most memory that this process took
(the one in which messages are read first has a limit of its own), how often requests had each
outcome, the names of those after which the good request had no draft, and those that met a fault of
the reader.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bombs import BOMBS, OWNER, STRANGER
from mutations import mutations

from connectors.base import Role
from connectors.memory import MemoryConnector
from connectors.reader import FAULT
from connectors.readers import Readers
from daemon import requests, sync
from daemon.accounts import Source
from daemon.brief import Draft
from daemon.config import Account
from daemon.journal import Journal, State
from daemon.scan import request_key
from daemon.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.brief import Brief

_ACCOUNT = Account(
    name="jen", address="jen@example.org", full_name="Jen Doe", archives=(Path("/nowhere"),)
)
_WORDS = 4  # of a command line; with one more, each message's seconds are told


class StubWriter:
    """Writes what it is asked for, and quotes the thread, so that all of it reaches the draft."""

    def write(self, brief: Brief) -> Draft:
        """Return a draft of the brief's own words."""
        return Draft(brief.subject or "Boards", f"{brief.instruction[:500]}\n{brief.thread[:500]}")


class Trial:
    """One account, its mail in memory, and what happened so far."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.readers = Readers(1)
        self.connector = MemoryConnector()
        self.seconds: dict[str, float] = {}
        self.outcomes: Counter[str] = Counter()
        self.unanswered: list[str] = []
        self.faults: list[str] = []

    def take(self, name: str, raw: bytes, *, synced: bool) -> None:
        """Take one message through everything, and a good request after it."""
        taken = self._sync(raw) if synced else 0.0
        started = spent()
        state, reason = self._ask(raw)
        self.outcomes[f"request {state}"] += 1
        if FAULT in reason:
            self.faults.append(f"{name}: {reason}")
        self.seconds[name] = max(taken, spent() - started)
        good = (
            f"From: {OWNER}\r\nMessage-ID: <good-{len(self.seconds)}@example.org>\r\n\r\n"
            "Tell stew@example.net that I come on Friday.\r\n"
        )
        if self._ask(good.encode())[0] != State.DONE:
            self.unanswered.append(name)

    def _sync(self, raw: bytes) -> float:
        """Sync it as sent mail; return the seconds that this took."""
        started = spent()
        uid = self.connector.append(Role.SENT, raw)
        sources = [Source("mail", self.connector)]
        sync.sync(_ACCOUNT, sources, self.store, readers=self.readers)
        self.connector.delete(Role.SENT, uid)
        return spent() - started

    def _ask(self, raw: bytes) -> tuple[str, str]:
        """File a request; return what became of it, and why."""
        uid = self.connector.append(Role.REQUESTS, raw)
        requests.process(
            _ACCOUNT, self.connector, self.store, StubWriter(), _now, read=self.readers.read
        )
        self.connector.delete(Role.REQUESTS, uid)
        found = Journal(self.store.database, _now).find(request_key(raw))
        return (found.state.value, found.reason) if found else ("refused", "")


def spent() -> float:
    """Return the seconds of a processor that this process and its children have had so far.

    A clock on the wall would tell what else the machine is doing.
    """
    over = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = 0
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            with suppress(OSError):
                text = Path(f"/proc/{child}/stat").read_text(encoding="ascii")
                fields = text.rpartition(")")[2].split()  # man 5 proc: 11 and 12 are 14 and 15
                living += int(fields[11]) + int(fields[12])
    return time.process_time() + over.ru_utime + over.ru_stime + living / os.sysconf("SC_CLK_TCK")


def _now() -> datetime:
    return datetime.now(UTC)


def messages(kind: str, first: int, second: int) -> Iterator[tuple[str, bytes]]:
    """Yield the messages that the command line names, each with a name of its own."""
    if kind == "bombs":
        for name, make in islice(BOMBS.items(), first, None, second):
            for author in (OWNER, STRANGER):
                yield f"{name}, by {author}", make(author)
    else:
        for number, raw in enumerate(mutations(first, second)):
            yield f"mutation {number} of seed {first}", raw


def most_resident() -> int:
    """Return the most bytes that this process ever had in memory.

    Not as `getrusage` has it: there it begins with what its parent, a whole test run, had when it
    started this one (exec keeps the maximum of both).
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def main() -> None:
    """Run the trial and print what came of it."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - no waiting for a disk
    with TemporaryDirectory(prefix="panza-trial-", dir=place) as folder:
        trial = Trial(Path(folder))
        for name, raw in messages(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])):
            # Whoever wrote it, what is synced is read in the same way, so once is enough.
            trial.take(name, raw, synced=not name.endswith(f"by {STRANGER}"))
            if len(sys.argv) > _WORDS:
                sys.stderr.write(f"{trial.seconds[name]:6.2f} {len(raw) // 1024:6} {name}\n")
        trial.readers.close()
        trial.store.close()
    slowest = max(trial.seconds, key=lambda name: trial.seconds[name])
    found = {
        "count": len(trial.seconds),
        "slowest": slowest,
        "seconds": trial.seconds[slowest],
        "memory": most_resident(),
        "outcomes": trial.outcomes,
        "unanswered": trial.unanswered,
        "faults": trial.faults,
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
