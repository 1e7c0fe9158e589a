"""A real systemd, booted in a second, that sees this machine and can change nothing of it.

The fixture `machine` of tests/systemd boots one for all of its tests:

    machine.run("systemctl", "start", "panza")         # a command inside, as root
    machine.path("/etc/panza/panza.yaml").write_text(…)   # a file inside, from outside
    machine.inside(running_dovecot.start)              # a call of ours, in its network

Panza is in it as if installed into /opt/panza. It needs root, and a kernel and container that allow
namespaces, overlays and a control group; `missing` says what is not there. See boot.sh.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from process import children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_P = ParamSpec("_P")
_T = TypeVar("_T")

_BOOT = Path(__file__).with_name("boot.sh")
_TREE = Path(__file__).parents[2]
_PACKAGES = "systemd dbus-user-session libnss-systemd util-linux procps"
_NEEDED = (
    "lib/systemd/systemd",
    "lib/*/libnss_systemd.so.2",
    "usr/lib/systemd/user/dbus.socket",
    "usr/bin/nsenter",
    "usr/bin/unshare",
    "usr/bin/ps",
)
_START = 30.0  # seconds; one is usual
_CLONE_NEWNET = 0x40000000
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "SYSTEMD_PAGER": ""}
_libc = ctypes.CDLL(None, use_errno=True)


class Machine:
    """The booted machine.

    Attributes:
        pid: Its PID 1, as seen from outside.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def run(
        self, *command: str, fails: bool = False, stdin: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root.

        Raises:
            AssertionError: It failed, or it is to fail and did not.
        """
        done = subprocess.run(  # noqa: S603
            ["/usr/bin/nsenter", "--target", str(self.pid), "--all", *command],
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
            encoding="utf-8",
            env=_ENVIRONMENT,
        )
        if bool(done.returncode) != fails:
            said = f"{done.returncode}\n{done.stdout}{done.stderr}"
            raise AssertionError(f"{' '.join(command)} ended with {said}")
        return done

    def path(self, inside: str) -> Path:
        """Return where a file of the machine is reached from outside."""
        return Path(f"/proc/{self.pid}/root") / inside.lstrip("/")

    def inside(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Make a call in the machine's network: what it connects or starts stays there."""
        results: list[_T] = []
        errors: list[BaseException] = []

        def entered() -> None:
            try:
                _enter_network(self.pid)
                results.append(call(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        # The network is a thread's own, so this thread ends with the call.
        thread = threading.Thread(target=entered)
        thread.start()
        thread.join()
        for error in errors:
            raise error
        return results[0]

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def journal(self, unit: str) -> str:
        """Return what a unit has logged, and systemd about it."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout

    def wait_for(self, condition: Callable[[], _T], seconds: float = 20) -> _T:
        """Wait until a condition holds, and return what it gives.

        Raises:
            AssertionError: It does not.
        """
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                said = self.run("journalctl", "--no-pager", "--output=short-monotonic", "-n60")
                raise AssertionError(f"not within {seconds} s\n{said.stdout}")
            time.sleep(0.05)
        return found


def _enter_network(pid: int) -> None:
    with Path(f"/proc/{pid}/ns/net").open("rb") as network:
        if _libc.setns(network.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def missing() -> str:
    """Return what cannot be had here; "" when a machine can be booted."""
    if os.geteuid():
        return "root, to boot a systemd"
    for file in _NEEDED:
        if not any(Path("/").glob(file)):
            return f"/{file}: apt-get install {_PACKAGES}"
    return ""


def not_allowed() -> str:
    """Return what this machine, a container for example, does not allow root to do; or ""."""
    try:
        with _control_group(), tempfile.TemporaryDirectory() as place:
            script = (
                f"mount -t tmpfs tmpfs {place} && cd {place} && mkdir u w r && "
                "mount -t overlay -o lowerdir=/,upperdir=u,workdir=w overlay r && "
                "mount -t proc proc r/proc"
            )
            namespaces = ("--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup")
            subprocess.run(  # noqa: S603
                ["/usr/bin/unshare", *namespaces, "/bin/sh", "-c", script],
                check=True,
                capture_output=True,
                encoding="utf-8",
            )
    except OSError as error:
        return f"a control group ({error.strerror})"
    except subprocess.CalledProcessError as error:
        return f"namespaces and an overlay ({error.stderr.strip()})"
    return ""


@contextmanager
def booted() -> Iterator[Machine]:
    """Give a booted machine; all of it ends with the context."""
    with _control_group() as group, tempfile.TemporaryDirectory(prefix="panza-view-") as base:
        place, log = Path(base, "view"), Path(base, "log")
        place.mkdir()
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603
                [_BOOT, group, place, Path(sys.executable).resolve(), sys.prefix, *_packages()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield _ready(process, log)
        finally:
            process.kill()  # the kernel then kills PID 1, and all that it had started
            process.wait(10)


def _ready(process: subprocess.Popen[bytes], log: Path) -> Machine:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        for pid in children(process.pid, "systemd"):
            machine = Machine(pid)
            with suppress(AssertionError):
                machine.run("systemctl", "is-active", "view.target")
                return machine
        time.sleep(0.02)
    raise RuntimeError(f"systemd did not boot:\n{log.read_text('utf-8', 'replace')}")


def _packages() -> list[Path]:
    """Return the folders of source code that an editable install only points at."""
    files = metadata.files("panza-mail-daemon") or ()
    if any(file.match("daemon/cli.py") for file in files):
        return []
    return [_TREE / name for name in ("connectors", "daemon", "trainer", "systemd")]


@contextmanager
def _control_group() -> Iterator[Path]:
    """Give an empty control group of the unified tree; it and those below go with the context."""
    mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    roots = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
    if not roots:
        raise OSError(0, "there is no cgroup2")
    group = Path(tempfile.mkdtemp(prefix="panza-test-", dir=roots[0]))
    group.chmod(0o755)  # as the root of all of them is
    try:
        yield group
    finally:
        deadline = time.monotonic() + 10
        while group.exists() and time.monotonic() < deadline:
            # Those that were in it are dead, and leave it when the kernel has buried them.
            with suppress(OSError):
                for folder in sorted((f for f in group.rglob("*") if f.is_dir()), reverse=True):
                    folder.rmdir()
                group.rmdir()
            time.sleep(0.01)
