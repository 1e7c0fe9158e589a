"""No network for this process and all that it starts, from now on and without a way back.

What reads mail with a model shall be able to talk to nobody. A filter of system calls (seccomp,
which needs no privilege) leaves it Unix sockets and nothing else; under systemd the unit says the
same once more and better (PrivateNetwork=, RestrictAddressFamilies=). What the filter lets pass,
and why:

- Unix sockets, since jobs come over one, systemd is told over one that the process is ready, and
  CUDA may look for its daemons (MPS, persistence) by them. They reach no other machine.
- Whatever is no socket. Files are the business of the user's rights and of the unit.
- Sockets that are open already. There are none but the one that jobs come over.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from daemon import kernel
from daemon.errors import UnfitError

# By prctl(2) and not by seccomp(2), which systemd's usual filter of system calls forbids.
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_PR_SET_NO_NEW_PRIVS = 38

# linux/audit.h: the instruction set that a system call was made in.
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}
_X32 = 0x40000000  # set in the numbers of x86-64's third set of calls

# linux/seccomp.h: where the filter finds the call, and what it answers.
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000

# linux/bpf_common.h.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06

# io_uring makes sockets by itself; the others reach into a process that has the network.
_FORBIDDEN = ("io_uring_setup", "ptrace", "process_vm_writev", "pidfd_getfd")


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def enter() -> None:
    """Shut the network off; to be called before any other thread runs, so before torch is imported.

    Libraries that know it are told as well, so that they do not even try.

    Raises:
        UnfitError: This kernel or processor cannot do it.
    """
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 - a count, no paths
        raise AssertionError("threads that run already would keep the network")
    program = _filter(kernel.machine())
    loaded = _Program(len(program) // 8, program)
    try:
        kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)
        kernel.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(loaded))
    except OSError as error:
        raise _unfit(error.strerror or type(error).__name__) from error
    if is_online():
        raise _unfit("the filter does not hold")


def is_online() -> bool:
    """Tell whether this process may make network sockets."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    except OSError as error:
        return error.errno != errno.EAFNOSUPPORT
    return True


def _filter(machine: str) -> bytes:
    """Return the filter's program: struct sock_filter {code, jump if true, if false, operand}."""
    calls = kernel.SYSCALLS[machine]
    lines = [
        _line(_LOAD, _ARCH),
        _line(_IF_EQUAL, _AUDIT_ARCH[machine], true=1),
        _line(_RETURN, _KILL),  # the calls of another instruction set have other numbers
        _line(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        lines += [_line(_IF_AT_LEAST, _X32, false=1), _line(_RETURN, _ERROR | errno.ENOSYS)]
    for name in _FORBIDDEN:
        lines += [_line(_IF_EQUAL, calls[name], false=1), _line(_RETURN, _ERROR | errno.EPERM)]
    lines += [
        _line(_IF_EQUAL, calls["socket"], true=2),
        _line(_IF_EQUAL, calls["socketpair"], true=1),
        _line(_RETURN, _ALLOW),
        # The kernel, too, takes the family from these 32 bits alone; all three are little endian.
        _line(_LOAD, _FIRST_ARGUMENT),
        _line(_IF_EQUAL, socket.AF_UNIX, false=1),
        _line(_RETURN, _ALLOW),
        _line(_RETURN, _ERROR | errno.EAFNOSUPPORT),
    ]
    return b"".join(lines)


def _line(code: int, operand: int, *, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, true, false, operand)


def _unfit(reason: str) -> UnfitError:
    return UnfitError(
        f"the model process cannot shut itself off from the network: {reason}",
        "It needs Linux with seccomp filters (CONFIG_SECCOMP_FILTER); a container's own profile "
        "must allow it.",
    )
