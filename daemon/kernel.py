"""What a process asks of the Linux kernel, where Python has no name for it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
from pathlib import Path

from daemon.errors import UnfitError

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
        "socket": 41,
        "socketpair": 53,
    },
    "aarch64": {
        "ioprio_set": 30,
        "io_uring_setup": 425,
        "pidfd_getfd": 438,
        "process_vm_writev": 271,
        "ptrace": 117,
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


def prctl(option: int, first: int, second: int = 0) -> None:
    """Set one of the things that a process may say of itself (man 2 prctl).

    Raises:
        OSError: The kernel refuses.
    """
    given = (ctypes.c_ulong(one) for one in (first, second, 0, 0))
    _checked(_libc.prctl(option, *given))


def end_with_parent(end: signal.Signals) -> None:
    """Have this signal sent to this process when the thread that started it ends."""
    prctl(_PR_SET_PDEATHSIG, end)


def work_in_background() -> None:
    """Take of processor and disk only what nobody else wants, and of all be ended first.

    Whoever starts this process leaves it in its session: with a session of its own it would get,
    where the scheduler groups processes by sessions (CONFIG_SCHED_AUTOGROUP), as much as all of
    the other one, whatever its nice value.
    """
    # What a container or unit refuses is no reason not to train.
    with contextlib.suppress(OSError):
        os.nice(19)
    with contextlib.suppress(OSError):
        number = ctypes.c_long(SYSCALLS[machine()]["ioprio_set"])
        given = (ctypes.c_long(one) for one in (_IOPRIO_WHO_PROCESS, 0, _IOPRIO_CLASS_IDLE))
        _checked(_libc.syscall(number, *given))
    # When memory runs out the kernel ends a training, and neither the writer nor the desktop.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_FIRST, encoding="ascii")


def give_back_memory() -> None:
    """Return to the kernel what was freed; glibc by itself keeps hundreds of megabytes."""
    with contextlib.suppress(AttributeError):  # musl has no such call, and no such habit
        _libc.malloc_trim(ctypes.c_size_t(0))


def ending(code: int) -> str:
    """Say how a process with this exit code, or minus this signal, has ended."""
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"it was ended by {name}"


def _checked(returned: int) -> int:
    if returned == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return returned
