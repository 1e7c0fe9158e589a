"""What other processes of the same user can see of a process's children while it runs."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Self


class Watch:
    """Looks at all descendants of a process again and again, until the context ends.

    Args:
        pid: The process.

    Attributes:
        commands: The command lines that were seen, the process's own among them.
        environments: The environment of each descendant, by its command line.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.commands: set[bytes] = set()
        self.environments: dict[bytes, bytes] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.005):
            self._note(self._pid, b"")

    def _note(self, pid: int, parent: bytes) -> None:
        with suppress(OSError):
            place = Path(f"/proc/{pid}")
            command = (place / "cmdline").read_bytes()
            self.commands.add(command)
            # Between fork and exec a child is its parent still.
            if parent and command != parent:
                self.environments[command] = (place / "environ").read_bytes()
            for task in (place / "task").iterdir():
                for child in (task / "children").read_text(encoding="ascii").split():
                    self._note(int(child), command)
