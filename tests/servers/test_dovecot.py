"""The private Dovecot breaks as asked, and comes back."""

from __future__ import annotations

import ssl
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest
from certificates import Authority
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from dovecot import Dovecot
    from process import Account

    Emptied = Callable[..., AbstractContextManager[IMAPClient]]


def login(server: Dovecot | Account) -> IMAPClient:
    """Return a connection that ends without a LOGOUT."""
    client = IMAPClient(server.host, port=server.port, ssl=False, timeout=10)
    client.plain_login(server.user, server.password)
    return client


def close(client: IMAPClient) -> None:
    """Close a connection, broken or not."""
    with suppress(OSError, IMAPClientError):
        client.shutdown()


def test_a_fresh_one_is_cheap(make_dovecot: Callable[..., Dovecot]) -> None:
    """A test that breaks its server can have one of its own."""
    started = time.monotonic()
    one, other = make_dovecot(), make_dovecot(fsync="never")
    assert time.monotonic() - started < 5  # two tenths of a second on an idle machine
    with closing(login(one).socket()), closing(login(other).socket()):
        assert len(one.imap_pids()) == len(other.imap_pids()) == 1


def test_it_survives_the_loss_of_its_sessions(make_dovecot: Callable[..., Dovecot]) -> None:
    """Killed sessions are seen by their clients; killed as a whole it keeps port and mail."""
    server = make_dovecot()
    client = login(server)
    client.append("INBOX", b"Subject: x\r\n\r\n")
    assert server.kill_sessions() == 1
    with pytest.raises((OSError, IMAPClientError)):
        client.noop()
    close(client)
    server.crash()
    with pytest.raises(ConnectionRefusedError):
        login(server)
    server.start()
    client = login(server)
    assert client.select_folder("INBOX")[b"EXISTS"] == 1
    client.logout()
    server.stop()


@pytest.mark.parametrize("folder", ["INBOX", "Drafts"])
def test_folders_are_renumbered(
    make_dovecot: Callable[..., Dovecot], emptied: Emptied, folder: str
) -> None:
    """A new UIDVALIDITY, and the same messages with their flags."""
    server = make_dovecot()
    with emptied(server, "Drafts") as client:
        client.append(folder, b"Subject: x\r\n\r\n", [b"\\Seen", b"$Panza"])
        before = client.select_folder(folder)[b"UIDVALIDITY"]
    for _ in range(2):
        server.change_uidvalidity(folder)
        client = login(server)
        after = client.select_folder(folder)[b"UIDVALIDITY"]
        assert after > before
        before = after
        ((_, data),) = client.fetch(client.search(), ["FLAGS"]).items()
        assert {b"\\Seen", b"$Panza"} <= set(data[b"FLAGS"])
        client.logout()


def test_refusals_carry_their_codes(make_dovecot: Callable[..., Dovecot], emptied: Emptied) -> None:
    """Rights, quota and size of a message refuse an APPEND, each in its own words."""
    server = make_dovecot(max_mail="20k")
    message = b"Subject: x\r\n\r\n" + b"x" * 5000
    with emptied(server, "Drafts", "Sent") as client:
        client.append("Sent", message)
        with pytest.raises(IMAPClientError, match=r"\[(LIMIT|OVERQUOTA)\]"):
            client.append("Drafts", message * 5)
        server.allow("Drafts", "lr")
        with pytest.raises(IMAPClientError, match=r"\[NOPERM\]"):
            client.append("Drafts", message)
        with pytest.raises(IMAPClientError, match=r"\[TRYCREATE\]"):
            client.append("Nowhere", message)
        server.allow("Drafts", "lrsi")
        flags = client.select_folder("Drafts")[b"PERMANENTFLAGS"]
        assert b"\\*" not in flags
    server.set_quota("8k")
    client = login(server)
    with pytest.raises(IMAPClientError, match=r"\[OVERQUOTA\]"):
        client.append("Sent", message)
    client.logout()


def test_users_have_mail_of_their_own(make_dovecot: Callable[..., Dovecot]) -> None:
    """A second user logs in with another password and sees another INBOX."""
    server = make_dovecot(users={"stew@example.org": "other-secret"})
    one, other = login(server), login(server.account("stew@example.org"))
    one.append("INBOX", b"Subject: x\r\n\r\n")
    assert other.select_folder("INBOX")[b"EXISTS"] == 0
    assert server.mailbox("INBOX").is_dir()
    assert server.mailbox("INBOX", "stew@example.org").is_dir()
    one.logout()
    other.logout()


def test_it_shows_the_certificate_it_is_given(
    make_dovecot: Callable[..., Dovecot], tmp_path: Path
) -> None:
    """A certificate of an authority is shown on the port with TLS."""
    authority = Authority(tmp_path)
    server = make_dovecot(leaf=authority.leaf("good"))
    context = ssl.create_default_context(cafile=str(authority.certificate))
    client = IMAPClient(server.host, port=server.tls_port, ssl_context=context, timeout=10)
    client.plain_login(server.user, server.password)
    client.logout()
