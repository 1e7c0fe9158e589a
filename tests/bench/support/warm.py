"""Reads a folder once, so that the server's indexes and the disk's cache are warm."""

from __future__ import annotations

import os

from imapclient import IMAPClient


def main() -> None:
    """Fetch size and bytes of every message of the folder that the environment names."""
    with IMAPClient("127.0.0.1", int(os.environ["BENCH_PORT"]), ssl=False) as client:
        client.plain_login(os.environ["BENCH_USER"], os.environ["BENCH_PASSWORD"])
        client.select_folder(os.environ["BENCH_FOLDER"], readonly=True)
        uids = client.search("ALL")
        for start in range(0, len(uids), 500):
            client.fetch(uids[start : start + 500], ["RFC822.SIZE", "BODY.PEEK[]"])


if __name__ == "__main__":
    main()
