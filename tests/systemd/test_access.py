"""What the units deny is denied: every attempt is made from inside, and once without a unit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon import units

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Service

    Probe = Callable[[str], dict[str, Any]]

_PROBE = """
[Service]
Type=oneshot
ExecStart=
ExecStart=/opt/panza/bin/python /opt/probe.py {mail} /run/other.sock
WatchdogSec=0
Restart=no
StandardOutput=truncate:/opt/probe.json
"""
_UNITS = "/etc/systemd/system"
_DENIED = {"EPERM", "EACCES", "EROFS", "ENOENT", "EAFNOSUPPORT"}
_DEVICES = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "log"}
_NO_DEVICES = {"char", "core", "fd", "hugepages", "mqueue", "stderr", "stdin", "stdout"}

# What each of the two can do, of all that is tried.
_ALLOWED = {
    units.MAIL: {
        "keep state",
        "use /tmp",
        "use credentials",
        "ask another service",  # the resolver is one
        "limit its memory",  # as the processes that read mail do
        "write /dev/shm/probe",
        "socket AF_UNIX",
        "socket AF_INET",
        "socket AF_INET6",
    },
    units.MODEL: {
        "keep state",
        "keep models",
        "use /tmp",
        "write /dev/shm/probe",  # its own
        "lower its priority",  # as a training does
        "leave the disk to others",
        "limit its memory",
        "write and execute memory",
        "socket AF_UNIX",
    },
}
# What fails for root as well, because it is not there, or of the machine that all of this runs in.
_FAILS_ALWAYS = {
    "keep models",
    "read /tmp/letter",
    "overwrite /proc/sys/kernel/core_pattern",
    "overwrite /proc/sys/vm/drop_caches",
    "overwrite /proc/sysrq-trigger",
    "overwrite /sys/kernel/profiling",
    "overwrite /dev/kmsg",
    "swap",
    "account",
}


@pytest.fixture
def probe(service: Service) -> Probe:
    """Return what makes all attempts under a unit's settings, "" for none; Panza runs beside."""
    machine = service.machine
    for folder in ("/home/jen", "/root", "/var/lib/private/other", "/var/lib/other"):
        machine.run("mkdir", "-p", "-m", "755", folder)
        machine.path(f"{folder}/letter").write_text("Dear Jen")
    machine.path("/home/jen").chmod(0o777)
    machine.path("/tmp/letter").write_text("Dear Jen")  # noqa: S108 - of the machine inside
    machine.run("mkdir", "-p", "-m", "700", "/etc/credstore")
    machine.path("/etc/credstore/panza.smtp").write_text("secret")
    machine.path("/var/lib/other/letter").chmod(0o600)
    machine.path(f"{_UNITS}/other.socket").write_text("[Socket]\nListenStream=/run/other.sock\n")
    machine.path(f"{_UNITS}/other.service").write_text("[Service]\nExecStart=sleep infinity\n")
    source = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
    machine.path("/opt/probe.py").write_text(source, encoding="utf-8")
    mail = service.start()

    def probed(unit: str) -> dict[str, Any]:
        text = machine.path(f"{_UNITS}/{unit}").read_text() if unit else "[Unit]\n"
        machine.path(f"{_UNITS}/probe.service").write_text(text, encoding="utf-8")
        drop_ins = machine.path(f"{_UNITS}/probe.service.d")
        drop_ins.mkdir(exist_ok=True)
        (drop_ins / "probe.conf").write_text(_PROBE.format(mail=mail))
        if unit == units.MAIL:
            credentials = machine.path(f"{_UNITS}/{units.CREDENTIALS}").read_text(encoding="utf-8")
            (drop_ins / "credentials.conf").write_text(credentials, encoding="utf-8")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", "other.socket", "probe.service")
        result: dict[str, Any] = json.loads(machine.path("/opt/probe.json").read_text())
        machine.run("sh", "-c", f"rm -r {_UNITS}/probe.service*")
        return result

    return probed


@pytest.mark.parametrize("unit", [units.MAIL, units.MODEL])
def test_a_unit_allows_what_it_has_to_and_nothing_else(
    probe: Probe, service: Service, unit: str
) -> None:
    """Files, homes, credentials, memory of others, sockets, namespaces, the kernel's settings."""
    told = probe(unit)
    tried = told["tried"]
    assert {name for name, error in tried.items() if not error} == _ALLOWED[unit]
    odd = {name: error for name, error in tried.items() if error and error not in _DENIED}
    assert odd == {}
    assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")
    assert {int(told["CapEff"], 16), int(told["CapBnd"], 16)} == {0}
    assert "0" not in told["Uid"].split()
    assert told["processes"] == 1
    assert set(told["devices"]) - _NO_DEVICES <= _DEVICES
    shared = service.machine.path("/dev/shm/probe")  # noqa: S108 - of the machine inside
    assert shared.exists() == (unit == units.MAIL)


def test_without_a_unit_the_same_is_allowed(probe: Probe) -> None:
    """So that a probe that would fail anywhere proves nothing by failing."""
    tried = probe("")["tried"]
    denied = {name for name, error in tried.items() if error in _DENIED}
    assert {name for name in denied if not name.startswith("socket ")} <= _FAILS_ALWAYS
    families = {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"}
    assert not denied & {f"socket {family}" for family in families}
