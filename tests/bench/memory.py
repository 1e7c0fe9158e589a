"""Memory of the mail process when it has nothing to do.

    .venv/bin/python tests/bench/memory.py [--mails 5000] [--requests 50]

Runs `panza run` on a private Dovecot, with a stand-in for the model process. Measures it when it
has started, and again when it has synced the mails, answered the requests, and been idle a while.
Resident is what `ps` shows; proportional counts shared pages by their share.
"""

from __future__ import annotations

import argparse
import time

from support.letters import letters
from support.memory import proportional, resident, tree
from support.servers import dovecot
from support.serving import daemon, requests, wait

_SETTLED = 8.0  # seconds


def main() -> None:
    """Run the bench once and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mails", type=int, default=5000)
    options.add_argument("--requests", type=int, default=50)
    chosen = options.parse_args()
    if missing := dovecot.missing():
        print(f"skipped: lacks {missing}")
        return
    with daemon() as served:
        served.fill("Sent", letters(chosen.mails))
        served.fill("Panza requests", requests(chosen.requests))
        served.start()
        time.sleep(1)
        report("started", served.pid)
        wait(lambda: served.done() >= chosen.requests)
        wait(lambda: served.synced() >= chosen.mails)
        report(f"{chosen.requests} requests answered, {chosen.mails} mails synced", served.pid)
        time.sleep(_SETTLED)
        report("idle", served.pid)


def report(when: str, pid: int) -> None:
    """Print what the process, and all it has started, take now."""
    children = tree(pid)[1:]
    print(
        f"{when}: {resident(pid) / 2**20:.1f} MiB resident, "
        f"{proportional(pid) / 2**20:.1f} proportional, "
        f"{sum(map(proportional, children)) / 2**20:.1f} in {len(children)} children",
        flush=True,
    )


if __name__ == "__main__":
    main()
