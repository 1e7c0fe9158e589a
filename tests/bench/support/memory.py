"""Memory of a process and all of its descendants, as the kernel counts it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self


class Peak:
    """Watches a process and its descendants while the block runs.

    Attributes:
        bytes: The largest sum of their proportional set sizes (PSS: a page that several share
            counts once) at one of the moments, a twentieth of a second apart.
    """

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.bytes = max(self.bytes, sum(map(proportional, tree(self._pid))))


def tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [pid, *(one for child in text.split() for one in tree(int(child)))]


def proportional(pid: int) -> int:
    """Return the bytes of a process's proportional set size, 0 where it is gone."""
    return _field(pid, "smaps_rollup", "Pss:")


def resident(pid: int) -> int:
    """Return the bytes of a process's resident set, 0 where it is gone."""
    return _field(pid, "status", "VmRSS:")


def _field(pid: int, file: str, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
