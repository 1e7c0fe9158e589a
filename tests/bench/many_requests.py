"""Many requests at once: how long until each has its draft, and what memory that takes.

    .venv/bin/python tests/bench/many_requests.py [--requests 2000] [--mails 1000]

Runs `panza run` on a private Dovecot whose requests folder is full from the start; a stand-in for
the model process writes at once. The time is from the start of the daemon to the last request's
mark; memory is the largest proportional set of the daemon and its children at one moment.
"""

from __future__ import annotations

import argparse
import time

from support.letters import letters
from support.memory import Peak
from support.servers import dovecot
from support.serving import daemon, requests, wait


def main() -> None:
    """Run the bench once and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=2000)
    options.add_argument("--mails", type=int, default=1000)
    chosen = options.parse_args()
    if missing := dovecot.missing():
        print(f"skipped: lacks {missing}")
        return
    with daemon() as served:
        served.fill("Sent", letters(chosen.mails))
        served.fill("Panza requests", requests(chosen.requests))
        started = time.monotonic()
        served.start()
        with Peak(served.pid) as peak:
            time.sleep(1)
            wait(lambda: served.done() >= chosen.requests)
        seconds = time.monotonic() - started
        print(
            f"{chosen.requests} requests: {served.drafts()} drafts in {seconds:.1f} s, "
            f"{peak.bytes / 2**20:.0f} MiB"
        )


if __name__ == "__main__":
    main()
