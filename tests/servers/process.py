"""Mail servers as processes: free ports, the user they run as, start, crash and stop."""

from __future__ import annotations

import grp
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from certificates import self_signed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from certificates import Leaf

ServerT = TypeVar("ServerT", bound="MailServer")

_START = 20.0  # seconds; a tenth of one is usual


def free_port() -> int:
    """Return a port on loopback that nobody listens on now.

    It is none of those that the kernel gives to clients, of which one could have it by the time a
    server is started again.
    """
    while True:
        with suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", random.randrange(10_000, 32_000)))
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


@dataclass(frozen=True)
class Account:
    """An IMAP server and one of its users."""

    host: str
    port: int
    user: str
    password: str


class MailServer(ABC):
    """A mail server on loopback in a folder of its own, run by `Owner.current`.

    Args:
        base: The folder, with a short path.
        users: More users and their passwords.
        leaf: The certificate to show, for clients that trust its authority; one of its own if None.

    Attributes:
        port: Plain IMAP, and STARTTLS.
        tls_port: IMAP with TLS from the start.
        ca_file: What a client must trust, where the certificate is the server's own.
    """

    host = "localhost"
    user = "jen@example.org"
    password = 'se"k\\ret ü'  # noqa: S105 - a test server's
    _session: str  # the name of a process that serves a login

    def __init__(
        self, base: Path, users: Mapping[str, str] | None = None, leaf: Leaf | None = None
    ) -> None:
        self.base, self._leaf = base, leaf
        self.port, self.tls_port = free_port(), free_port()
        self.ca_file = base / "tls/cert.pem"
        self._users = {self.user: self.password, **(users or {})}
        self._owner = Owner.current()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Write configuration, certificate and users."""
        tls = self.base / "tls"
        if self._leaf is None:
            self_signed(tls)
        else:
            tls.mkdir()
            shutil.copy(self._leaf.certificate, tls / "cert.pem")
            shutil.copy(self._leaf.key, tls / "key.pem")
        self._configure()
        self.give_away(self.base)

    @abstractmethod
    def _configure(self) -> None:
        """Write configuration and users below `base`."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Return what to run, in the foreground."""

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    def start(self) -> None:
        """Start it and wait for its greeting; raise RuntimeError with its log if there is none."""
        process = self._owner.popen(self._command(), self.base / "output", self._environment())
        self._process, self._guard = process, _guard(process.pid, self.base)
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline and process.poll() is None:
            with (
                suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 5) as connection,
            ):
                if connection.recv(100).startswith(b"* OK"):
                    return
            time.sleep(0.01)
        raise RuntimeError(self.log() or "the server did not start")

    def crash(self) -> None:
        """Kill it and all its children at once, as a power cut would."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._ended()

    def stop(self) -> None:
        """Stop it as an administrator would, which can take seconds."""
        if self._process is not None:
            self._process.terminate()
            self._ended()

    def _ended(self) -> None:
        if self._guard is not None:
            self._guard.kill()
        for process in (self._guard, self._process):
            if process is not None:
                with process:  # closes its pipes
                    process.wait(20)
        self._process = self._guard = None

    def log(self) -> str:
        """Return what it has said."""
        return (self.base / "output").read_text("utf-8", "replace")

    def account(self, user: str) -> Account:
        """Return how to reach it as one of its users."""
        return Account(self.host, self.port, user, self._users[user])

    def imap_pids(self) -> list[int]:
        """Return the processes that serve logins now."""
        return children(self._process.pid, self._session) if self._process else []

    def kill_sessions(self) -> int:
        """Kill the processes that serve logins, whatever they do; return how many there were."""
        killed = 0
        for pid in self.imap_pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        return killed

    def give_away(self, path: Path) -> None:
        """Make a file or a tree belong to the server's user."""
        self._owner.give(path)


def _guard(group: int, base: Path) -> subprocess.Popen[bytes]:
    """Start what kills a group and removes its folder once this process has ended in any way."""
    script = 'read -r _; kill -KILL -- "-$1"; rm -rf "$2"'
    return subprocess.Popen(  # noqa: S603
        ["/bin/sh", "-c", script, "guard", str(group), str(base)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


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


@contextmanager
def started(server: type[ServerT], prefix: str, **options: Any) -> Iterator[ServerT]:  # noqa: ANN401
    """Give a server of this class, fresh and started; it and its mail end with the context."""
    with place(prefix) as base:
        one = server(base, **options)
        one.prepare()
        try:
            one.start()
            yield one
        finally:
            one.crash()
