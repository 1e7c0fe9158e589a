"""How much memory this process may still take, without any library that knows it."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_V2 = ("memory.current", ("memory.max", "memory.high"), "inactive_file")
_V1 = ("memory.usage_in_bytes", ("memory.limit_in_bytes",), "total_inactive_file")
_UNLIMITED = 1 << 62  # what cgroup v1 says where there is no limit is just below 2^63


def available(*, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return the bytes of main memory that this process may still take.

    The least of what the kernel calls available, of what each control group that the process is in
    has left (version 2 with its ancestors, or 1), and of what ``ulimit`` leaves of its own space.
    A group's cached files are given up under pressure, so they count as free.

    Args:
        proc: Where the kernel tells of processes.
        cgroups: Where it tells of control groups.
    """
    machine = _fields(proc / "meminfo")["MemAvailable"]
    left = [machine, *_in_groups(proc, cgroups), *_in_limits(proc)]
    return max(0, min(left))


def resident(*, proc: Path = _PROC) -> int:
    """Return the bytes of main memory that this process holds now."""
    return _fields(proc / "self" / "status")["VmRSS"]


def peak(*, proc: Path = _PROC) -> int:
    """Return the most bytes of main memory that this process held since `forget_peak`."""
    return _fields(proc / "self" / "status")["VmHWM"]


def forget_peak(*, proc: Path = _PROC) -> None:
    """Begin to measure `peak` anew, where the system allows it."""
    with suppress(OSError):
        (proc / "self" / "clear_refs").write_text("5", encoding="ascii")


def _fields(file: Path) -> dict[str, int]:
    """Return the fields of a file of the kernel's that are counted in kB, in bytes."""
    found = {}
    for line in file.read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value.split()[0]) * 1024
    return found


def _in_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _left(cgroups, path, _V2)
        elif "memory" in controllers.split(","):
            yield from _left(cgroups / "memory", path, _V1)


def _left(root: Path, path: str, names: tuple[str, tuple[str, ...], str]) -> Iterator[int]:
    """Tell what a group and each one above it has left.

    A container sees its own group at the root, under a path that only its host knows.
    """
    usage, limits, cached = names
    group = root / path.lstrip("/")
    for one in (group, *group.parents):
        used = _number(one / usage)
        for limit in limits:
            most = _number(one / limit)
            if used is not None and most is not None and most < _UNLIMITED:
                yield most - used + _stat(one / "memory.stat", cached)
        if one == root:
            return


def _number(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _stat(file: Path, name: str) -> int:
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[0] == name), 0)


def _in_limits(proc: Path) -> Iterator[int]:
    held = _fields(proc / "self" / "status")
    for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most, _ = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            yield most - held[name]
