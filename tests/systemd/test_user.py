"""The daemon as a service of a user's own, under the systemd of a real session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon import units

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

    from booted import Machine
    from dovecot import Dovecot
    from imapclient import IMAPClient

_CONFIG = """
accounts:
  - name: jen
    address: jen@example.org
    imap:
      host: localhost
      port: {port}
      security: none
      password: {{credential: imap}}
training: {{schedule: "off"}}
requests: {{poll: 5s}}
"""
_PROBE = """
[Service]
Type=oneshot
ExecStart=
ExecStart=/opt/panza/bin/python /opt/probe.py 1 {bus}
StandardOutput=truncate:/home/jen/probe.json
"""
_ASK = """
import os, socket
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ["XDG_RUNTIME_DIR"] + "/panza-model.sock")
connection.sendall(b'{"panza": 1, "do": "embed", "texts": []}\\n')
print(*connection.makefile())
"""
_HOME = "/home/jen"
_UNITS = f"{_HOME}/.config/systemd/user"
_PANZA = "/opt/panza/bin/panza"


class Session:
    """A user's session on the booted machine.

    Attributes:
        machine: The machine.
        bus: The socket of the session's D-Bus.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.run("sh", "-c", f"rm -rf {_HOME}; id jen || useradd --create-home jen")
        uid = machine.run("id", "-u", "jen").stdout.strip()
        # Whichever service of the system is the first with namespaces makes a folder that the
        # namespaces of users need as well.
        machine.run("systemd-run", "--quiet", "--wait", "--property=PrivateTmp=yes", "true")
        machine.run("mkdir", "-p", _HOME)
        machine.run("chown", "jen:", _HOME)
        machine.run("systemctl", "start", f"user@{uid}.service")
        runtime = f"/run/user/{uid}"
        self.bus = f"{runtime}/bus"
        self._manager = f"user@{uid}.service"
        jen = ("setpriv", "--reuid=jen", "--regid=jen", "--init-groups", "env")
        self._as = (*jen, f"HOME={_HOME}", "USER=jen", f"XDG_RUNTIME_DIR={runtime}")

    def run(self, *command: str) -> CompletedProcess[str]:
        """Run a command as the user."""
        return self.machine.run(*self._as, *command)

    def write(self, path: str, text: str) -> None:
        """Write a file as the user."""
        self.run("mkdir", "-p", f"{_HOME}/{path.rpartition('/')[0]}")
        self.machine.run(*self._as, "tee", f"{_HOME}/{path}", stdin=text)

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit of the user's manager."""
        command = ("systemctl", "--user", "show", "--value", f"--property={name}", unit)
        return self.run(*command).stdout.strip()

    def probe(self, unit: str) -> dict[str, Any]:
        """Return what becomes of each attempt of probe.py under a unit's settings."""
        source = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
        self.machine.path("/opt/probe.py").write_text(source, encoding="utf-8")
        self.run("cp", f"{_UNITS}/{unit}", f"{_UNITS}/probe.service")
        self.run("cp", "-r", f"{_UNITS}/{unit}.d", f"{_UNITS}/probe.service.d")
        probe = _PROBE.format(bus=self.bus)
        self.write(".config/systemd/user/probe.service.d/probe.conf", probe)
        self.run("systemctl", "--user", "daemon-reload")
        self.run("systemctl", "--user", "start", "probe.service")
        told = json.loads(self.machine.path(f"{_HOME}/probe.json").read_text())
        tried: dict[str, Any] = told["tried"]
        return tried

    def end(self) -> None:
        """End the session, and forget the user's files."""
        self.machine.run("systemctl", "stop", self._manager)
        self.machine.run("rm", "-rf", _HOME)


@pytest.fixture
def session(machine: Machine, server: Dovecot, mailbox: IMAPClient) -> Iterator[Session]:  # noqa: ARG001 - empty
    """Open a session of a user who has configured Panza for the machine's mail server."""
    one = Session(machine)
    one.write(".config/panza/panza.yaml", _CONFIG.format(port=server.port))
    one.write(".config/credstore/panza.imap", server.password)
    yield one
    one.end()


def test_a_service_of_a_user_works_and_goes(session: Session, mailbox: IMAPClient) -> None:
    """Installed, it logs in with a credential; uninstalled, the user's files are left."""
    said = session.run(_PANZA, "service", "install", "--user")
    assert "loginctl enable-linger jen" in said.stderr
    assert session.show(units.MAIL, "StatusText") == "serving jen"
    session.machine.wait_for(lambda: mailbox.folder_exists("Panza requests"))
    status = json.loads(session.run(_PANZA, "--json", "status").stdout)
    assert status["accounts"][0]["name"] == "jen"
    session.run("systemctl", "--user", "reload", units.MAIL)
    session.run(_PANZA, "service", "uninstall", "--user")
    assert session.show(units.MAIL, "LoadState") == "not-found"
    left = session.run("find", f"{_HOME}/.config", "-type", "f").stdout.split()
    assert sorted(left) == [
        f"{_HOME}/.config/credstore/panza.imap",
        f"{_HOME}/.config/panza/panza.yaml",
    ]
    assert session.machine.path(f"{_HOME}/.local/share/panza/jen/panza.db").exists()


def test_the_model_process_of_a_user_can_talk_to_nobody(session: Session) -> None:
    """It works with no network, no session bus and no secrets, and writes data and cache alone."""
    session.run(_PANZA, "service", "install", "--user")
    assert '"result"' in session.run("/opt/panza/bin/python", "-c", _ASK).stdout
    assert session.show(units.MODEL, "ActiveState") == "active"
    tried = session.probe(units.MODEL)
    allowed = {name for name, error in tried.items() if not error}
    assert {name for name in allowed if name.startswith("socket")} == {"socket AF_UNIX"}
    # The file of a probe in its own /tmp and /dev/shm is gone with it.
    assert {name for name in allowed if name.startswith(("write /", "read /"))} == {
        "write /dev/shm/probe"
    }
    assert tried["ask another service"] == "ENOENT"
    for name in ("mount", "make a user namespace", "trace the mail process", "use io_uring"):
        assert tried[name] == "EPERM", name
    assert {"lower its priority", "write and execute memory"} <= allowed
