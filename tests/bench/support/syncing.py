"""One sync, as `panza sync` does it but for the embedding; run by a bench in a process.

python syncing.py STORE OWNER PORT USER FOLDER < PASSWORD
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from daemon import accounts, sync
from daemon.config import Account
from daemon.store import Store


def account(owner: str, port: int, user: str, folder: str) -> Account:
    """Return an account on this machine whose password is in the variable BENCH_PASSWORD."""
    server = {
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "user": user,
        "password": {"env": "BENCH_PASSWORD"},
    }
    values = {"name": "bench", "address": owner, "full_name": "Jen Doe", "imap": server}
    return Account.model_validate(values | {"folders": {"sent": folder}})


def main() -> None:
    """Read a folder into a store."""
    place, owner, port, user, folder = sys.argv[1:]
    os.environ["BENCH_PASSWORD"] = sys.stdin.read()
    chosen = account(owner, int(port), user, folder)
    with Store(Path(place)) as store, accounts.opened(chosen, Path(place)) as sources:
        sync.sync(chosen, sources, store)


if __name__ == "__main__":
    main()
