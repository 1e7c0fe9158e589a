"""The odd servers are as odd as they are told to be, and miss no byte."""

from __future__ import annotations

import imaplib
import smtplib
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from certificates import Authority, Leaf
from oddserver import OddServer, Talk, imap, smtp

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def leaf(authority: Authority) -> Leaf:
    """Return a good certificate of it."""
    return authority.leaf("good")


def trusting(certificate: Path) -> ssl.SSLContext:
    """Return a client's context."""
    return ssl.create_default_context(cafile=str(certificate))


def test_imap_in_clear_is_recorded() -> None:
    """What a client sends is on the wire and heard; the server answers as told."""
    with OddServer(imap(answers={"LOGIN": "NO wrong"})) as server:
        client = imaplib.IMAP4(server.host, server.port, timeout=5)
        assert "STARTTLS" not in client.capabilities
        with pytest.raises(imaplib.IMAP4.error, match="wrong"):
            client.login("jen", "secret")
        client.logout()
    assert b'LOGIN jen "secret"\r\n' in server.wire
    assert server.wire == server.heard
    assert server.connections == 1


def test_imap_behind_starttls_is_heard_only(authority: Authority, leaf: Leaf) -> None:
    """After STARTTLS the wire has no word, and the server has understood them."""
    with OddServer(imap(starttls=leaf.context())) as server:
        client = imaplib.IMAP4("localhost", server.port, timeout=5)
        client.starttls(trusting(authority.certificate))
        client.login("jen", "secret")
        client.logout()
    assert b"secret" not in server.wire
    assert b"secret" in server.heard
    assert b"STARTTLS" in server.wire


def test_refused_preauth_and_hung(leaf: Leaf) -> None:
    """STARTTLS is refused in the words given, PREAUTH greets, and a hung server says nothing."""
    with OddServer(imap(starttls="NO not today")) as server:
        client = imaplib.IMAP4(server.host, server.port, timeout=5)
        with pytest.raises(imaplib.IMAP4.error, match="establish TLS"):
            client.starttls(leaf.context())
        client.logout()
    with (
        OddServer(imap(greeting="* PREAUTH hello")) as server,
        imaplib.IMAP4(server.host, server.port, timeout=5) as client,
    ):
        assert client.state == "AUTH"
    with OddServer(imap(hang="")) as server, pytest.raises(TimeoutError):
        imaplib.IMAP4(server.host, server.port, timeout=0.2)


def test_old_tls_is_refused_and_what_follows_recorded(authority: Authority, leaf: Leaf) -> None:
    """A client of today ends the handshake with TLS 1.1; whatever it sends then is recorded."""
    trust = trusting(authority.certificate)
    with (
        OddServer(imap(tls=leaf.context(old=True))) as server,
        pytest.raises(ssl.SSLError, match=r"VERSION|PROTOCOL"),
    ):
        imaplib.IMAP4_SSL("localhost", server.port, ssl_context=trust, timeout=5)
    assert server.wire.startswith(b"\x16\x03")
    with (
        OddServer(imap(tls=leaf.context())) as server,
        socket.create_connection((server.host, server.port), timeout=5) as line,
    ):
        line.sendall(b"a LOGIN jen secret\r\n")
        line.shutdown(socket.SHUT_WR)
        assert line.recv(100) == b""
    assert server.wire == b"a LOGIN jen secret\r\n"


def test_injected_words_come_before_the_lock(leaf: Leaf) -> None:
    """A line is sent in clear right behind the OK, in the same breath."""
    with (
        OddServer(imap(starttls=leaf.context(), injected="* BYE forged")) as server,
        socket.create_connection((server.host, server.port), timeout=5) as line,
    ):
        line.recv(100)
        line.sendall(b"a STARTTLS\r\n")
        assert line.recv(100) == b"a OK begin\r\n* BYE forged\r\n"


def test_smtp(authority: Authority, leaf: Leaf) -> None:
    """A submission server takes a message behind TLS, or refuses as told."""
    with (
        OddServer(smtp(starttls=leaf.context())) as server,
        smtplib.SMTP("localhost", server.port, timeout=5) as client,
    ):
        client.starttls(context=trusting(authority.certificate))
        client.login("jen", "secret")
        client.sendmail("jen@example.org", ["stew@example.org"], "Subject: x\r\n\r\nhello")
    assert b"hello" in server.heard
    assert b"hello" not in server.wire
    with (
        OddServer(smtp(answers={"MAIL": "452 full"})) as server,
        smtplib.SMTP(server.host, server.port, timeout=5) as client,
    ):
        client.ehlo()
        assert not client.has_extn("starttls")
        assert client.mail("jen@example.org")[0] == 452


def test_a_script_of_ones_own() -> None:
    """A function is all it takes."""

    def echo(talk: Talk) -> None:
        talk.say("hello")
        talk.say(talk.hear().upper())

    with (
        OddServer(echo) as server,
        socket.create_connection((server.host, server.port), timeout=5) as line,
        line.makefile("rwb") as stream,
    ):
        assert stream.readline() == b"hello\r\n"
        stream.write(b"x\n")
        stream.flush()
        assert stream.read() == b"X\r\n"
