"""Servers as processes: free ports, the user they run as, start, crash and stop."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_START = 20.0  # seconds; a tenth of one is usual


def free_port() -> int:
    """Return a port on loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Owner:
    """Who a server runs as: as root it is nobody, for mail servers do not serve mail as root."""

    name: str
    group: str
    uid: int
    gid: int

    @classmethod
    def current(cls) -> Owner:
        """Return the one for this process."""
        entry = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        return cls(entry.pw_name, grp.getgrgid(entry.pw_gid).gr_name, entry.pw_uid, entry.pw_gid)

    def give(self, path: Path) -> None:
        """Make a file or a tree belong to the owner."""
        if os.getuid() == 0:
            for each in [path, *path.rglob("*")]:
                os.chown(each, self.uid, self.gid, follow_symlinks=False)

    def popen(
        self, command: Sequence[str], output: Path, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process of the owner in a group of its own."""
        is_root = os.getuid() == 0
        with output.open("ab") as stream:
            return subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=env,
                user=self.uid if is_root else None,
                group=self.gid if is_root else None,
                extra_groups=[] if is_root else None,
            )


@contextmanager
def place(prefix: str) -> Iterator[Path]:
    """Give a new folder with a short path that every user can enter, and remove it afterwards.

    pytest's own folders are closed to nobody, and paths of sockets must be short.
    """
    base = Path(tempfile.mkdtemp(prefix=prefix))
    base.chmod(0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


def wait_for_greeting(port: int, process: subprocess.Popen[bytes], log: Callable[[], str]) -> None:
    """Wait until a server greets on a port of loopback; raise RuntimeError when it ends first."""
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
            if connection.recv(100).startswith(b"* OK"):
                return
        time.sleep(0.01)
    raise RuntimeError(log() or "the server did not start")


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all its children at once, as a power cut would."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def children(parent: int, name: str) -> list[int]:
    """Return the process ids of a process's children of this name."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if entry.name.isdigit():
                # "pid (name) state parent …", where the name may hold spaces and brackets
                head, _, tail = (entry / "stat").read_text().rpartition(")")
                if head.partition("(")[2] == name and int(tail.split()[1]) == parent:
                    found.append(int(entry.name))
    return found
