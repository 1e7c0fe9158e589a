"""A mail to Panza becomes a draft: both processes, as their units have them."""

from __future__ import annotations

import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import TYPE_CHECKING

import pytest

from daemon import units

if TYPE_CHECKING:
    from conftest import Service
    from imapclient import IMAPClient

_SENT = (
    ("Stew Hill <stew@example.net>", "The kiln", "the kiln is free from Monday on."),
    ("Ada <ada@example.net>", "Glaze", "I mix the glaze tomorrow morning."),
    ("Stew Hill <stew@example.net>", "Clay", "the new clay has come, and it is very good."),
)
_ASK = """
import contextlib, socket
connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/panza-model.sock")
with contextlib.suppress(ConnectionError):
    connection.sendall(b'{"panza": 1, "do": "embed", "texts": []}\\n')
    print(*connection.makefile())
"""
_DRAFTED_WITHIN = 90.0  # seconds; torch starts, and the model is converted


def letter(to: str, subject: str, text: str, number: int) -> bytes:
    """Return a mail of Jen's."""
    mail = EmailMessage()
    mail["From"] = "Jen Doe <jen@example.org>"
    mail["To"] = to
    mail["Subject"] = subject
    mail["Date"] = f"Mon, 06 May 2024 09:{number:02}:00 +0000"
    mail["Message-ID"] = f"<{number}.jen@example.org>"
    mail.set_content(text)
    return mail.as_bytes()


@pytest.fixture
def drafted(service: Service, mailbox: IMAPClient) -> bytes:
    """Start the service, file a request, and return the draft that it becomes."""
    for number, (to, subject, text) in enumerate(_SENT):
        mailbox.append("Sent", letter(to, subject, f"Dear friend,\n\n{text}\n\nJen\n", number))
    service.start()
    service.machine.wait_for(lambda: mailbox.folder_exists("Panza requests"))
    instruction = "Tell Stew I can't make Thursday, offer Friday."
    mailbox.append("Panza requests", letter("jen@example.org", "", instruction, 9))
    mailbox.select_folder("Drafts", readonly=True)
    (uid,) = service.machine.wait_for(mailbox.search, _DRAFTED_WITHIN)
    draft: bytes = mailbox.fetch([uid], ["BODY.PEEK[]"])[uid][b"BODY[]"]
    return draft


def test_a_request_becomes_a_draft(drafted: bytes, service: Service, mailbox: IMAPClient) -> None:
    """By the embedded model, in a process with no network that its socket has started."""
    draft = message_from_bytes(drafted, policy=policy.default)
    assert draft["To"] == "Stew Hill <stew@example.net>"
    assert draft["From"] == "Jen Doe <jen@example.org>"
    assert len(draft.get_content().split()) > 3
    mailbox.select_folder("Panza requests", readonly=True)
    service.machine.wait_for(lambda: mailbox.search("ANSWERED"))
    model = service.machine.show(units.MODEL, "MainPID")
    check_offline(service, model)
    check_refused(service)
    check_stopped(service)


def check_offline(service: Service, model: str) -> None:
    """The model process is in a network of its own, where nothing is, and has no credentials."""
    networks = {
        service.machine.run("readlink", f"/proc/{pid}/ns/net").stdout for pid in (model, "1")
    }
    assert len(networks) == 2
    devices = service.machine.run("cat", f"/proc/{model}/net/dev").stdout
    assert [line.split(":")[0].strip() for line in devices.splitlines()[2:]] == ["lo"]
    environment = service.machine.run("cat", f"/proc/{model}/environ").stdout
    assert "CREDENTIALS_DIRECTORY" not in environment


def check_refused(service: Service) -> None:
    """Another user may connect to the model's socket, and no job of his is done."""
    for user, expected in (("4321", False), ("panza", True)):
        command = ("setpriv", f"--reuid={user}", "--regid=4321", "--clear-groups")
        said = service.machine.run(*command, "/opt/panza/bin/python", "-c", _ASK).stdout
        assert ('"result"' in said) == expected, said


def check_stopped(service: Service) -> None:
    """The model process starts again with the mail process and stops with it; its socket goes."""
    service.machine.run("systemctl", "restart", units.MAIL)
    assert service.state == "active"
    assert service.machine.show(units.SOCKET, "ActiveState") == "active"
    began = time.monotonic()
    service.machine.run("systemctl", "stop", units.MAIL)
    assert time.monotonic() - began < 10
    show, both = service.machine.show, (units.MODEL, units.SOCKET)
    service.machine.wait_for(lambda: {show(u, "ActiveState") for u in both} == {"inactive"})
    assert service.machine.show(units.MODEL, "Result") == "success"
    assert not service.machine.path("/run/panza-model.sock").exists()
