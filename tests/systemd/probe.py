"""Tries what a unit is to forbid, and prints as JSON what became of each attempt.

It runs inside of the unit, in the place of Panza. An attempt that succeeds is "", one that fails is
the name of its error. Each is harmless where it succeeds: calls have arguments that the kernel
refuses with another error than a sandbox does.

    probe.py PID SOCKET     the mail process's id; a Unix socket of another service
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import platform
import resource
import socket
import stat
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_IO_URING_SETUP = 425
_IOPRIO_SET = {"x86_64": 251}.get(platform.machine(), 30)
_IOPRIO_IDLE = 3 << 13
_CLONE_NEWUSER, _CLONE_NEWNS = 0x10000000, 0x00020000
_ADDR_NO_RANDOMIZE = 0x0040000
_MULTICAST = ("224.0.0.251", 5353)
_WRITTEN = (
    "/etc/probe", "/usr/probe", "/opt/panza/probe", "/var/probe", "/var/lib/probe", "/probe",
    "/home/jen/probe", "/root/probe", "/run/probe", "/dev/shm/probe",  # noqa: S108
)  # fmt: skip
_TUNABLES = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger",
    "/sys/kernel/profiling", "/sys/fs/cgroup/cgroup.procs", "/dev/kmsg",
)  # fmt: skip
_READ = (
    "/home/jen/letter", "/root/letter", "/tmp/letter", "/etc/shadow",  # noqa: S108
    "/etc/credstore/panza.smtp", "/var/lib/private/other/letter", "/var/lib/other/letter",
)  # fmt: skip
_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """Make a call of the C library; raise OSError where it returns -1."""
    if getattr(_libc, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def write(path: str) -> None:
    """Open a file for writing, made when missing, and write nothing."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def overwrite(path: str) -> None:
    """Open a file that is there for writing, and write nothing."""
    os.close(os.open(path, os.O_WRONLY))


def read(path: str) -> None:
    """Read a byte of a file."""
    with Path(path).open("rb") as file:
        file.read(1)


def connect(path: str) -> None:
    """Connect to a Unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)


def open_socket(family: int, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> None:
    """Make a socket of a family."""
    socket.socket(family, kind, protocol).close()


def send_multicast() -> None:
    """Send a datagram to all machines of the link."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sender.sendto(b"", _MULTICAST)


def set_user_bit(path: Path) -> None:
    """Make a program of ours that runs as its owner for everybody."""
    path.touch()
    path.chmod(0o4755)


def write_and_execute() -> None:
    """Have memory that is writable and executable at once, as code made at run time needs it."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    mmap.mmap(-1, 4096, prot=protection).close()


def attempts(mail: str, other: str) -> dict[str, Callable[[], object]]:
    """Return all attempts, by their names."""
    state = Path(os.environ.get("STATE_DIRECTORY", "/tmp"))  # noqa: S108 - as root, for comparison
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials/panza.service")
    calls: dict[str, Callable[[], object]] = {
        "keep state": lambda: write(str(state / "probe")),
        "keep models": lambda: write(f"{os.environ.get('CACHE_DIRECTORY', '/nowhere')}/probe"),
        "use /tmp": lambda: write("/tmp/probe"),  # noqa: S108 - its own, that is the point
        "use credentials": lambda: read(f"{credentials}/imap"),
        "steal credentials": lambda: read("/run/credentials/panza.service/imap"),
        "read the memory of the mail process": lambda: read(f"/proc/{mail}/mem"),
        "read the environment of the mail process": lambda: read(f"/proc/{mail}/environ"),
        "see the files of the mail process": lambda: os.listdir(f"/proc/{mail}/root/run"),  # noqa: PTH208
        "see other processes": lambda: os.stat("/proc/1"),  # noqa: PTH116
        "trace the mail process": lambda: call("ptrace", 9999, int(mail), None, None),
        "ask another service": lambda: connect(other),
        "mount": lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "unmount": lambda: call("umount2", b"/nowhere/at/all", 99),
        "make a user namespace": lambda: call("unshare", _CLONE_NEWUSER),
        "make a mount namespace": lambda: call("unshare", _CLONE_NEWNS),
        "enter a namespace": lambda: call("setns", -1, 0),
        "change the root": lambda: call("chroot", b"/"),
        "load a module": lambda: call("delete_module", b"panza-no-such-module", 0),
        "read the kernel's log": lambda: call("klogctl", 10, None, 0),
        "set the clock": lambda: call("clock_settime", 9999, ctypes.create_string_buffer(16)),
        "set the host's name": lambda: call("sethostname", b"probe", 5),
        "reboot": lambda: call("reboot", 0),
        "swap": lambda: call("swapoff", b"/nowhere/at/all"),
        "account": lambda: call("acct", b"/nowhere/at/all"),
        "change the personality": lambda: call("personality", _ADDR_NO_RANDOMIZE),
        "use io_uring": lambda: call("syscall", _IO_URING_SETUP, 0, None),
        "become root": lambda: os.setresuid(0, 0, 0),
        "make a device": lambda: os.mknod(state / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
        "make a set-user-ID program": lambda: set_user_bit(state / "program"),
        "run in real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        "lower its priority": lambda: os.nice(19),
        "leave the disk to others": lambda: call("syscall", _IOPRIO_SET, 1, 0, _IOPRIO_IDLE),
        "limit its memory": lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32)),
        "write and execute memory": write_and_execute,
        "send to all machines of the link": send_multicast,
        "make raw packets": lambda: open_socket(socket.AF_INET, socket.SOCK_RAW, 1),
    }
    for verb, attempt, paths in (
        ("write", write, _WRITTEN),
        ("overwrite", overwrite, _TUNABLES),
        ("read", read, _READ),
    ):
        calls |= {f"{verb} {path}": partial(attempt, path) for path in paths}
    for family in range(1, 46):
        name = next((f.name for f in socket.AddressFamily if f == family), str(family))
        kind = socket.SOCK_RAW if name in {"AF_NETLINK", "AF_PACKET"} else socket.SOCK_DGRAM
        calls[f"socket {name}"] = partial(open_socket, family, kind)
    return calls


def outcome(attempt: Callable[[], object]) -> str:
    """Make an attempt in a process of its own; return its error's name, or ""."""
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        try:
            attempt()
            said = ""
        except OSError as error:
            said = errno.errorcode.get(error.errno or 0, str(error))
        except BaseException as error:  # noqa: BLE001 - told, and no outcome of a sandbox
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        said = stream.read()
    _, status = os.waitpid(pid, 0)
    return f"killed by {status}" if status else said


def main() -> None:
    """Make all attempts, and tell what this process is."""
    results = {name: outcome(attempt) for name, attempt in attempts(*sys.argv[1:]).items()}
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    facts = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    kept = {name: facts[name] for name in ("NoNewPrivs", "Seccomp", "CapEff", "CapBnd", "Uid")}
    processes = [entry for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208
    devices = sorted(os.listdir("/dev"))  # noqa: PTH208
    print(  # noqa: T201 - this is its output
        json.dumps({"tried": results, **kept, "processes": len(processes), "devices": devices})
    )


if __name__ == "__main__":
    main()
