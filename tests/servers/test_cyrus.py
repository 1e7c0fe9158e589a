"""The private Cyrus is what the tests take it for, breaks as asked, and comes back."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from cyrus import Cyrus

    Emptied = Callable[..., AbstractContextManager[IMAPClient]]


def login(server: Cyrus) -> IMAPClient:
    """Return a connection."""
    client = IMAPClient(server.host, port=server.port, ssl=False, timeout=10)
    client.plain_login(server.user, server.password)
    return client


def test_special_uses_uidplus_and_idle(cyrus: Cyrus, emptied: Emptied) -> None:
    """Sent and Drafts have their uses, APPEND tells the UID, IDLE tells at once."""
    with emptied(cyrus, "Sent", "Drafts", "Other") as client:
        uses = {name: attributes for attributes, _, name in client.list_folders()}
        assert (b"\\Sent" in uses["Sent"], b"\\Drafts" in uses["Drafts"]) == (True, True)
        watcher = login(cyrus)
        watcher.select_folder("Drafts")
        watcher.idle()
        assert b"APPENDUID" in client.append("Drafts", b"Subject: x\r\n\r\nx\r\n", [b"$Panza"])
        assert (1, b"EXISTS") in watcher.idle_check(timeout=10)
        watcher.idle_done()
        assert watcher.fetch([1], ["FLAGS"])[1][b"FLAGS"] == (b"\\Recent", b"$Panza")
        watcher.logout()


def test_quota_and_form_are_insisted_on(cyrus: Cyrus, emptied: Emptied) -> None:
    """A full mailbox and a NUL refuse an APPEND, both without a response code."""
    with emptied(cyrus, "Drafts") as client:
        with pytest.raises(IMAPClientError, match="NUL"):
            client.append("Drafts", b"Subject: x\r\n\r\n\0\r\n")
        cyrus.set_quota(1)
        with pytest.raises(IMAPClientError, match="append failed: Over quota"):
            client.append("Drafts", b"Subject: x\r\n\r\n" + b"x" * 2000)
        cyrus.set_quota(1_000_000)
        client.append("Drafts", b"Subject: x\r\n\r\n" + b"x" * 2000)


def test_it_survives_crashes_and_serves_tls(make_cyrus: Callable[..., Cyrus]) -> None:
    """After killed sessions and a crash of the whole, what was acknowledged is there."""
    server = make_cyrus(users={"stew": "other"})
    client = login(server)
    client.append("INBOX", b"Subject: x\r\n\r\nx\r\n")
    assert server.kill_sessions() > 0
    with pytest.raises((OSError, IMAPClientError)):
        client.noop()
    with suppress(OSError):
        client.shutdown()
    server.crash()
    server.start()
    context = ssl.create_default_context(cafile=str(server.ca_file))
    client = IMAPClient(server.host, port=server.tls_port, ssl_context=context, timeout=10)
    client.plain_login(server.user, server.password)
    assert client.select_folder("INBOX")[b"EXISTS"] == 1
    client.logout()
    account = server.account("stew")
    with IMAPClient(account.host, port=account.port, ssl=False, timeout=10) as other:
        other.plain_login(account.user, account.password)
        assert other.select_folder("INBOX")[b"EXISTS"] == 0
