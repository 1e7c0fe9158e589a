"""The few calls of the Linux kernel that Python has no name for."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.errors import UnfitError

if TYPE_CHECKING:
    import signal

_PR_SET_PDEATHSIG = 1
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_IDLE = 3 << 13
_OOM_FIRST = "500"  # of -1000 to 1000

SYSCALLS = {
    "x86_64": {
        "ioprio_set": 251,
        "io_uring_setup": 425,
        "pidfd_getfd": 438,
        "process_vm_writev": 311,
        "ptrace": 101,
        "seccomp": 317,
        "socket": 41,
        "socketpair": 53,
    },
    "aarch64": {
        "ioprio_set": 30,
        "io_uring_setup": 425,
        "pidfd_getfd": 438,
        "process_vm_writev": 271,
        "ptrace": 117,
        "seccomp": 277,
        "socket": 198,
        "socketpair": 199,
    },
}
SYSCALLS["riscv64"] = SYSCALLS["aarch64"]  # both have the numbers of asm-generic/unistd.h

_libc = ctypes.CDLL(None, use_errno=True)


def machine() -> str:
    """Return the name of this processor's instruction set.

    Raises:
        UnfitError: Its system calls have numbers that are not known here.
    """
    name = platform.machine()
    if name not in SYSCALLS:
        raise UnfitError(
            f"the model process knows no system calls of {name}",
            f"Use one of {', '.join(SYSCALLS)} with Linux.",
        )
    return name


def prctl(option: int, argument: int) -> None:
    """Change how the kernel treats this process; see prctl(2).

    Raises:
        OSError: The kernel refuses.
    """
    _checked(_libc.prctl(option, ctypes.c_ulong(argument), *(ctypes.c_ulong(0),) * 3))


def syscall(name: str, *arguments: int | ctypes.c_void_p) -> int:
    """Call a system call by its name in `SYSCALLS`; return what it returns.

    Raises:
        OSError: The kernel refuses.
        UnfitError: The number is not known for this processor.
    """
    number = SYSCALLS[machine()][name]
    plain = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return _checked(int(_libc.syscall(ctypes.c_long(number), *plain)))


def end_with_parent(end: signal.Signals) -> None:
    """Have this signal sent to this process when the thread that started it ends."""
    prctl(_PR_SET_PDEATHSIG, end)


def work_in_background() -> None:
    """Take of processor and disk only what nobody else wants, and of all be ended first.

    Whoever starts this process leaves it in its session: with a session of its own it would get,
    where the scheduler groups processes by sessions (CONFIG_SCHED_AUTOGROUP), as much as all of
    the other one, whatever its nice value.
    """
    os.nice(19)
    syscall("ioprio_set", _IOPRIO_WHO_PROCESS, 0, _IOPRIO_CLASS_IDLE)
    # When memory runs out the kernel ends a training, and neither the writer nor the desktop.
    Path("/proc/self/oom_score_adj").write_text(_OOM_FIRST, encoding="ascii")


def _checked(returned: int) -> int:
    if returned == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return returned
