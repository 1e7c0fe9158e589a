"""A booted machine for all tests of this folder, a mail server in it, and Panza as a service."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import booted
import dovecot as dovecot_server
import pytest
from needs import need

from daemon import units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from booted import Machine
    from dovecot import Dovecot
    from imapclient import IMAPClient

CONFIG = """
data: {data}
accounts:
  - name: jen
    address: jen@example.org
    full_name: Jen Doe
    imap:
      host: localhost
      port: {port}
      security: none
      password: {{credential: imap}}
training: {{schedule: "off"}}
requests: {{poll: 5s}}
"""
PANZA = "/opt/panza/bin/panza"
UNITS = "/etc/systemd/system"
_CLEAR = f"""
systemctl stop {" ".join(units.UNITS)} 2>/dev/null
systemctl reset-failed
rm -rf {UNITS}/panza* /etc/credstore/panza.* /etc/credstore.encrypted/panza.*
rm -rf /var/lib/panza /var/lib/private/panza
systemctl daemon-reload
journalctl --quiet --rotate --vacuum-time=1us
"""


class Service:
    """Panza as a service of the booted machine.

    Attributes:
        machine: The machine.
        server: The mail server that it is configured for.
    """

    def __init__(self, machine: Machine, server: Dovecot) -> None:
        self.machine, self.server = machine, server

    def configure(self, more: str = "") -> None:
        """Write the configuration, with more text at its end."""
        text = CONFIG.format(data=units.STATE, port=self.server.port)
        self.machine.path("/etc/panza/panza.yaml").write_text(text + more, encoding="utf-8")

    def store_password(self, store: str) -> None:
        """Store the server's password, in clear or encrypted as the store's name has it."""
        self.machine.run("mkdir", "-p", "-m", "700", f"/etc/{store}")
        path = f"/etc/{store}/panza.imap"
        if store == "credstore":
            self.machine.path(path).write_text(self.server.password, encoding="utf-8")
        else:
            encrypt = ("systemd-creds", "encrypt", "--with-key=host", "--name=imap", "-", path)
            self.machine.run(*encrypt, stdin=self.server.password)

    def drop_in(self, unit: str, *lines: str) -> None:
        """Set something else for a unit, as an administrator would."""
        path = self.machine.path(f"{UNITS}/{unit}.d/test.conf")
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(("[Service]", *lines, "")), encoding="utf-8")
        self.machine.run("systemctl", "daemon-reload")

    def start(self) -> str:
        """Start it; return the id that its main process has inside."""
        self.machine.run("systemctl", "start", units.MAIL)
        return self.pid

    @property
    def pid(self) -> str:
        """The id that its main process has inside, "0" where none runs."""
        return self.machine.show(units.MAIL, "MainPID")

    @property
    def state(self) -> str:
        """What systemd calls its state: active, activating, failed or inactive."""
        return self.machine.show(units.MAIL, "ActiveState")

    def clear(self) -> None:
        """Stop it and forget everything of it: units, credentials, mail."""
        self.machine.run("sh", "-c", _CLEAR)


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """Boot a systemd; all tests of the session share it."""
    need(not (lack := booted.missing()), lack)
    if lack := booted.not_allowed():
        pytest.skip(f"this machine does not allow {lack}")
    with booted.booted() as one:
        one.path("/etc/panza").mkdir()
        yield one


@pytest.fixture(scope="session")
def server(machine: Machine) -> Iterator[Dovecot]:
    """Serve one mailbox by a Dovecot on the machine's loopback."""
    need(not (lack := dovecot_server.missing()), lack)
    with ExitStack() as stack:
        yield machine.inside(stack.enter_context, dovecot_server.running())


@pytest.fixture
def mailbox(
    machine: Machine, server: Dovecot, emptied: Callable[..., AbstractContextManager[IMAPClient]]
) -> Iterator[IMAPClient]:
    """Leave the mailbox with Sent and Drafts, empty; give the owner's own connection to it."""
    with ExitStack() as stack:
        yield machine.inside(stack.enter_context, emptied(server, "Sent", "Drafts"))


@pytest.fixture(scope="session")
def installed(machine: Machine, server: Dovecot) -> Service:
    """Install Panza as a service, configured for the server, once; keep the units aside."""
    one = Service(machine, server)
    one.configure()
    one.store_password("credstore.encrypted")
    machine.run(PANZA, "service", "install", "--no-start")
    machine.run("sh", "-c", f"mkdir /var/aside; cp -r {UNITS}/panza* /var/aside")
    return one


@pytest.fixture
def service(installed: Service, mailbox: IMAPClient) -> Iterator[Service]:  # noqa: ARG001 - empty
    """Give Panza as a service, as if just installed, with no mail; it does not run yet."""
    installed.clear()
    installed.configure()
    installed.store_password("credstore.encrypted")
    installed.machine.run("sh", "-c", f"cp -r /var/aside/* {UNITS}; systemctl daemon-reload")
    yield installed
    installed.clear()
