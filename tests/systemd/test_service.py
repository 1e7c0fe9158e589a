"""The daemon under a real systemd: ready, watched, reloaded, stopped, and never tried in vain."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from daemon import units

if TYPE_CHECKING:
    from conftest import Service
    from imapclient import IMAPClient

PANZA = "/opt/panza/bin/panza"
STOPS_WITHIN = 10.0
BROKEN = "retrieval: {emails: many}\n"
SECOND = """
  - name: second
    address: jen@example.net
    archives: [/var/lib/panza/none.mbox]
"""


def has_logged_in(mailbox: IMAPClient) -> bool:
    """Tell whether Panza has made its folder, which it does when it is in."""
    return bool(mailbox.folder_exists("Panza requests"))


@pytest.mark.parametrize("store", ["credstore.encrypted", "credstore"])
def test_credentials_arrive_and_work(service: Service, mailbox: IMAPClient, store: str) -> None:
    """The password is in one of systemd's stores, in clear or encrypted, and Panza logs in."""
    service.clear()
    service.store_password(store)
    service.machine.run(PANZA, "service", "install")
    assert service.state == "active"
    service.machine.wait_for(lambda: has_logged_in(mailbox))


def test_the_service_is_up_when_it_says_so(service: Service) -> None:
    """`systemctl start` waits for its word, and `systemctl status` tells what it serves."""
    pid = service.start()
    machine = service.machine
    assert service.state == "active"
    assert machine.show(units.MAIL, "StatusText") == "serving jen"
    assert machine.show(units.MAIL, "WatchdogUSec") == "1min"
    user = machine.run("ps", "-o", "user=", "-p", pid).stdout.strip()
    assert user == "panza"


def test_its_data_are_its_own(service: Service, mailbox: IMAPClient) -> None:
    """Folders 0700, files 0600, of the service's own user; and root's `panza status` reads them."""
    service.start()
    service.machine.wait_for(lambda: has_logged_in(mailbox))
    said = service.machine.run("find", "/var/lib/panza/", "-printf", "%y %m %u\n").stdout
    assert set(said.splitlines()) == {"d 700 panza", "f 600 panza"}
    status = json.loads(service.machine.run(PANZA, "--json", "status").stdout)
    assert status["accounts"][0]["name"] == "jen"
    again = service.machine.run("find", "/var/lib/panza/", "-printf", "%y %m %u\n").stdout
    assert set(again.splitlines()) == {"d 700 panza", "f 600 panza"}


def test_a_process_that_hangs_is_replaced(service: Service) -> None:
    """The watchdog ends a process that keeps silent, and a new one takes its place."""
    service.drop_in(units.MAIL, "WatchdogSec=1", "RestartSec=100ms")
    pid = service.start()
    time.sleep(2)
    assert service.pid == pid  # one that works is left alone
    service.machine.run("kill", "-STOP", pid)
    service.machine.wait_for(lambda: service.state == "active" and service.pid not in {"0", pid})
    assert "Watchdog timeout" in service.machine.journal(units.MAIL)
    assert service.machine.show(units.MAIL, "NRestarts") == "1"


def test_a_process_that_dies_is_replaced(service: Service) -> None:
    """Whatever killed it; and it goes on with the same data."""
    service.drop_in(units.MAIL, "RestartSec=100ms")
    pid = service.start()
    service.machine.run("kill", "-KILL", pid)
    service.machine.wait_for(lambda: service.state == "active" and service.pid not in {"0", pid})


def test_a_faulty_configuration_is_not_tried_again(service: Service) -> None:
    """Exit code 78 ends it for good, with every fault by its path in the journal."""
    service.configure(BROKEN)
    service.drop_in(units.MAIL, "RestartSec=100ms")
    service.machine.run("systemctl", "start", units.MAIL, fails=True)
    time.sleep(1)
    assert service.state == "failed"
    assert service.machine.show(units.MAIL, "ExecMainStatus") == "78"
    assert service.machine.show(units.MAIL, "NRestarts") == "0"
    assert "retrieval.emails: expected an integer" in service.machine.journal(units.MAIL)


def test_a_reload_reads_the_configuration_again(service: Service) -> None:
    """In the same process; and a faulty one is told, and leaves it as it was."""
    pid = service.start()
    path = service.machine.path("/etc/panza/panza.yaml")
    first = path.read_text(encoding="utf-8")
    path.write_text(first.replace("training:", f"{SECOND.strip(chr(10))}\ntraining:"))
    service.machine.run("systemctl", "reload", units.MAIL)
    status = "serving jen, second"
    service.machine.wait_for(lambda: service.machine.show(units.MAIL, "StatusText") == status)
    path.write_text(first + BROKEN, encoding="utf-8")
    service.machine.run("systemctl", "reload", units.MAIL)
    service.machine.wait_for(lambda: "faults" in service.machine.journal(units.MAIL))
    assert (service.state, service.pid) == ("active", pid)
    assert service.machine.show(units.MAIL, "StatusText") == status


def test_it_stops_at_once(service: Service, mailbox: IMAPClient) -> None:
    """While it waits for mail, and cleanly."""
    service.start()
    service.machine.wait_for(lambda: has_logged_in(mailbox))
    began = time.monotonic()
    service.machine.run("systemctl", "stop", units.MAIL)
    assert time.monotonic() - began < STOPS_WITHIN
    assert service.machine.show(units.MAIL, "Result") == "success"
    assert service.machine.show(units.MAIL, "ExecMainCode") == str(os.CLD_EXITED)


def test_it_stops_while_a_server_is_silent(service: Service, mailbox: IMAPClient) -> None:
    """A mail server that does not answer any more does not keep it from stopping."""
    service.start()
    service.machine.wait_for(lambda: has_logged_in(mailbox))
    silent = service.server.imap_pids()
    for pid in silent:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        service.machine.run("systemctl", "stop", units.MAIL)
        assert time.monotonic() - began < STOPS_WITHIN
        assert service.machine.show(units.MAIL, "Result") == "success"
    finally:
        for pid in silent:
            os.kill(pid, signal.SIGCONT)


def test_installing_again_changes_only_what_is_different(service: Service) -> None:
    """The same again leaves the process alone; other units start it again."""
    pid = service.start()
    said = json.loads(service.machine.run(PANZA, "--json", "service", "install").stdout)
    assert (said["written"], service.pid) == ([], pid)
    service.machine.run("cp", "/etc/panza/panza.yaml", "/etc/panza/other.yaml")
    other = ("--config", "/etc/panza/other.yaml", "service", "install")
    service.machine.run(PANZA, *other)
    assert service.state == "active"
    assert service.pid not in {"0", pid}
    assert "--config /etc/panza/other.yaml run" in service.machine.show(units.MAIL, "ExecStart")
    found = service.machine.run("find", "/etc/systemd/system", "-name", "*panza*").stdout
    assert sorted(line.rpartition("/")[2] for line in found.splitlines()) == [
        "panza-model.service",
        "panza-model.socket",
        "panza-model.socket",  # the link of sockets.target.wants
        "panza.service",
        "panza.service",  # the link of multi-user.target.wants
        "panza.service.d",
    ]


def test_uninstalling_leaves_the_data(service: Service) -> None:
    """Nothing of it runs or is found by systemd any more; mail, secrets and settings stay."""
    service.start()
    said = service.machine.run(PANZA, "service", "uninstall").stdout
    assert "stays     mails, index and adapters in /var/lib/panza" in said
    found = service.machine.run("find", "/etc/systemd/system", "-name", "*panza*").stdout
    assert found == ""
    assert service.machine.show(units.MAIL, "LoadState") == "not-found"
    assert not service.machine.path("/run/panza-model.sock").exists()
    for kept in ("var/lib/private/panza/jen/panza.db", "etc/credstore.encrypted/panza.imap"):
        assert service.machine.path(kept).exists()


def test_an_installation_that_does_not_start_is_told(service: Service) -> None:
    """The command fails with what systemd says, and where to look."""
    service.drop_in(units.MAIL, "ExecStartPre=/bin/false", "Restart=no")
    done = service.machine.run(PANZA, "service", "install", fails=True)
    assert done.returncode == 1
    assert "panza.service failed" in done.stderr
    assert "journalctl -u panza" in done.stderr


def test_only_root_installs_for_the_system(service: Service) -> None:
    """Anybody else is told of `--user`, and changes nothing."""
    somebody = ("setpriv", "--reuid=4321", "--regid=4321", "--clear-groups")
    done = service.machine.run(*somebody, PANZA, "service", "install", fails=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "panza service install --user" in done.stderr
