"""The certificates of the tests are as good or as bad as their names say."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from certificates import Authority, Leaf, self_signed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


def verdict(leaf: Leaf, trusted: Path) -> str:
    """Return why a client that trusts this file refuses a server; "" when it does not."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with suppress(OSError), leaf.context().wrap_socket(theirs, server_side=True) as line:
            line.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cafile=str(trusted))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        with ours, client.wrap_socket(ours, server_hostname="localhost"):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        thread.join(10)


def test_certificates_are_what_they_say(authority: Authority, tmp_path: Path) -> None:
    """Good, expired, for another host, unknown: a strict client tells them apart."""
    trusted = authority.certificate
    assert verdict(authority.leaf("good"), trusted) == ""
    assert "expired" in verdict(authority.leaf("expired", days=-1), trusted)
    elsewhere = authority.leaf("elsewhere", hosts=["imap.example.org"])
    assert "Hostname mismatch" in verdict(elsewhere, trusted)
    lonely = self_signed(tmp_path)
    assert "self-signed" in verdict(lonely, trusted)
    assert verdict(authority.leaf("other"), lonely.certificate) != ""
