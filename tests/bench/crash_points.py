"""Every crash point of a request's cycle: killed at each write, fsync and send, and restarted.

    PYTHONPATH=tests/servers:tests/faults .venv/bin/python tests/bench/crash_points.py

CI takes two of three writes and every seventeenth point of a failing disk
(tests/faults/test_crash_points.py); this takes all of them, which lasts some minutes. It needs
strace and Dovecot.
"""

from __future__ import annotations

import os
import signal
import time

import dovecot
from crashing import CALLS, KILL, Crashing
from jens_mail import jens_client

FAULTS = (KILL, "error=EIO", "error=ENOSPC")


def main() -> None:
    """Take every point, and say how many there were."""
    if lack := dovecot.missing():
        print(f"skipped: needs {lack}")
        return
    with (
        dovecot.running() as server,
        jens_client(server) as client,
        Crashing(client, server) as crashing,
    ):
        calls = crashing.calls()
        print(", ".join(f"{count} {call}" for call, count in calls.items()))
        for fault in FAULTS:
            begun = time.monotonic()
            points = [
                (call, ordinal)
                for call in CALLS
                for ordinal in range(1, calls[call] + 1)
                if fault == KILL or call != "sendto"
            ]
            failed = 0
            for call, ordinal in points:
                # A disk fails for one sector; a full one stays full.
                which = f"{ordinal}+" if fault.endswith("ENOSPC") else ordinal
                status = crashing.look(call, which, fault)
                killed = status == signal.SIGKILL
                assert killed if fault == KILL else os.WIFEXITED(status), (call, ordinal)
                failed += status != 0
                crashing.assert_recovers()
            seconds = time.monotonic() - begun
            print(f"{fault}: {len(points)} points, {failed} looks ended by it, {seconds:.0f} s")


if __name__ == "__main__":
    main()
