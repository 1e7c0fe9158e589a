"""One first sync, as `panza sync` does it, without embedding; run by the bench in a process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from daemon import accounts, sync
from daemon.config import Account
from daemon.store import Store


def main() -> None:
    """Read the folder that the environment names into a store in the given folder."""
    values = {name: os.environ[f"BENCH_{name.upper()}"] for name in ("port", "user", "folder")}
    account = Account.model_validate(
        {
            "name": "bench",
            "address": os.environ["BENCH_OWNER"],
            "full_name": "Jen Doe",
            "imap": {
                "host": "127.0.0.1",
                "port": int(values["port"]),
                "security": "none",
                "user": values["user"],
                "password": {"env": "BENCH_PASSWORD"},
            },
            "folders": {"sent": values["folder"]},
        }
    )
    folder = Path(sys.argv[1])
    with Store(folder) as store, accounts.opened(account, folder) as sources:
        result = sync.sync(account, sources, store)
    print(result, file=sys.stderr)


if __name__ == "__main__":
    main()
