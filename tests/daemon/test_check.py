"""`panza check` on real servers: each thing that is wrong with one is told, with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from certificates import Authority
from imapclient import IMAPClient
from process import free_port

from daemon import check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dovecot import Dovecot

    Look = Callable[..., dict[str, check.Check]]

USER = "jen@example.org"


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Return what looks at an account with these settings of IMAP; the checks by their names."""
    monkeypatch.setenv("PANZA_TEST_RIGHT", "right")
    monkeypatch.setenv("PANZA_TEST_WRONG", "wrong")

    def look(port: int, *, more: str = "{}", **changes: object) -> dict[str, check.Check]:
        settings = {"host": "127.0.0.1", "port": port, "security": "none", "user": USER}
        settings |= {"password": "{env: PANZA_TEST_RIGHT}"} | changes
        imap = ", ".join(f"{key}: {value}" for key, value in settings.items())
        (tmp_path / "panza.yaml").write_text(
            f"data: data\naccounts: [{{name: jen, address: {USER}, imap: {{{imap}}}, "
            f"folders: {more}}}]\n"
        )
        found = check.run(tmp_path / "panza.yaml")
        return {one.name.removeprefix("jen: "): one for one in found if one.name.startswith("jen")}

    return look


@pytest.fixture
def server(make_dovecot: Callable[..., Dovecot]) -> Dovecot:
    """Return a server with a mailbox that has its folders."""
    made = make_dovecot(users={USER: "right"})
    with IMAPClient(made.host, made.port, ssl=False) as client:
        client.plain_login(USER, "right")
        for name in ("Sent", "Drafts", "Panza requests"):
            client.create_folder(name)
    return made


def test_all_well(look: Look, server: Dovecot) -> None:
    """The mailbox, and each of its folders with its name and size."""
    found = look(server.port)
    assert all(one.ok for one in found.values()), found
    assert [*found] == ["data", "mailbox", "sent", "drafts", "requests"]
    assert found["requests"].detail == "Panza requests, 0 messages"


@pytest.mark.parametrize(
    ("changes", "said", "code"),
    [
        ({"password": "{env: PANZA_TEST_WRONG}"}, "refused the login", 78),
        ({"password": "{env: PANZA_TEST_NONE}"}, "the variable is not set", 78),
        ({"host": "imap.example.invalid", "security": "tls"}, "name cannot be resolved", 75),
        ({"port": free_port()}, "connection refused", 75),
        ({"host": "localhost", "security": "tls"}, "port and security", 78),
        ({"host": "localhost", "security": "starttls"}, "let this machine trust", 78),
    ],
)
def test_a_mailbox_that_cannot_be_opened(
    look: Look, server: Dovecot, changes: dict[str, object], said: str, code: int
) -> None:
    """It is one fault, told once, and not one for each folder."""
    found = look(**({"port": server.port} | changes))
    assert [name for name, one in found.items() if not one.ok] == ["mailbox"]
    assert said in found["mailbox"].detail
    assert found["mailbox"].exit_code == code


@pytest.mark.parametrize(
    ("options", "said"),
    [({"days": -1}, "has to renew its certificate"), ({"hosts": ["other.example"]}, "Set host")],
)
def test_a_certificate_that_will_not_do(
    look: Look,
    make_dovecot: Callable[..., Dovecot],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    options: dict[str, object],
    said: str,
) -> None:
    """What is wrong with it is told, and who can mend it."""
    authority = Authority(tmp_path / "authority")
    server = make_dovecot(users={USER: "right"}, leaf=authority.leaf("leaf", **options))  # type: ignore[arg-type]
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    found = look(server.tls_port, host="localhost", security="tls")
    assert said in found["mailbox"].detail


def test_folders(look: Look, server: Dovecot) -> None:
    """A folder whose name the owner gave has to be there; hers for requests is made when needed."""
    with IMAPClient(server.host, server.port, ssl=False) as client:
        client.plain_login(USER, "right")
        client.delete_folder("Panza requests")
    found = look(server.port, more="{sent: Snet, drafts: Drafs}")
    assert [name for name, one in found.items() if not one.ok] == ["sent", "drafts"]
    assert "Set folders.sent in panza.yaml to one of: " in found["sent"].detail
    assert "Sent" in found["sent"].detail
    assert "Panza makes it" in found["requests"].detail
