"""What the IMAP connector promises beyond the contract: security, faults, and odd servers."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from scripted import ORDINARY, listening, local, scripted

from connectors.base import (
    Cursor,
    FolderMissingError,
    InsecureError,
    LoginRefusedError,
    RefusedError,
    Role,
    UnreachableError,
)
from connectors.imap import ImapConnector, ImapSettings
from connectors.raw import canonical
from daemon.demo.server import DemoServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Protocol

    from imapclient import IMAPClient

    class Server(Protocol):
        """An IMAP server and the one user it knows."""

        host: str
        port: int
        user: str
        password: str

    class TlsServer(Server, Protocol):
        """One with TLS."""

        tls_port: int
        ca_file: Path

        def allow(self, folder: str, rights: str) -> None:
            """Set the owner's rights on a folder."""

    class Proxy(Protocol):
        """A proxy that cuts lines."""

        port: int

    Emptied = Callable[..., AbstractContextManager[IMAPClient]]


def mail(number: int) -> bytes:
    """Return a small message with a Message-ID of its own."""
    return b"Subject: %d\r\nMessage-ID: <%d@example.org>\r\n\r\nx\r\n" % (number, number)


def settings(server: Server) -> ImapSettings:
    """Return how to reach a server in clear."""
    return ImapSettings(
        server.host, server.user, server.password, port=server.port, security="none", timeout=20
    )


@pytest.fixture
def connector(demo_server: Server, emptied: Emptied) -> Iterator[ImapConnector]:
    """Return a connector to the embedded server, which has Sent and Drafts, empty."""
    with emptied(demo_server, "Sent", "Drafts"), ImapConnector(settings(demo_server)) as connector:
        yield connector


# Security


def test_a_wrong_password_is_refused_as_such(demo_server: Server) -> None:
    """A wrong password is told apart from a server that cannot be reached, and is not shown."""
    wrong = replace(settings(demo_server), password="wrong-secret")
    with pytest.raises(LoginRefusedError) as caught, ImapConnector(wrong) as connector:
        connector.state(Role.SENT)
    assert caught.value.user == demo_server.user
    assert "wrong-secret" not in f"{caught.value} {wrong}"


def test_a_password_with_a_line_break_is_never_sent(demo_server: Server) -> None:
    """What would be a command of its own on the line is refused before it is sent."""
    wrong = replace(settings(demo_server), password="x\r\nA1 LOGOUT")
    with pytest.raises(LoginRefusedError, match="line break"):
        ImapConnector(wrong).state(Role.SENT)


def test_clear_text_is_for_this_machine_only() -> None:
    """Security none to another host is refused without a connection."""
    far = ImapSettings("192.0.2.1", "jen", "secret", port=143, security="none")
    with pytest.raises(InsecureError, match="in clear"):
        ImapConnector(far).state(Role.SENT)


def test_starttls_is_never_left_out(demo_server: Server) -> None:
    """A server that does not offer STARTTLS is not logged into; the password is not even asked."""
    asked = []
    wanted = replace(settings(demo_server), security="starttls", password=lambda: asked.append(1))
    with pytest.raises(InsecureError, match="STARTTLS"):
        ImapConnector(wanted).state(Role.SENT)
    assert asked == []


def test_tls_to_a_port_without_tls_says_so(demo_server: Server) -> None:
    """A port that speaks no TLS is a matter of settings, not of waiting."""
    wanted = replace(settings(demo_server), security="tls")
    with pytest.raises(InsecureError, match="check port and security"):
        ImapConnector(wanted).state(Role.SENT)


def test_a_self_signed_certificate_is_refused(certificate: tuple[Path, Path]) -> None:
    """A certificate that nobody vouches for ends the connection before the login."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def answer(connection: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            secured.sendall(b"* OK hello\r\n")
            secured.recv(100)

    with listening(answer) as port:
        unknown = ImapSettings("localhost", "jen", "secret", port=port, timeout=5)
        with pytest.raises(InsecureError, match="certificate is not trusted"):
            ImapConnector(unknown).state(Role.SENT)


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_trusted_certificate_is_accepted(
    dovecot: TlsServer, security: str, emptied: Emptied
) -> None:
    """With the server's own certificate named as trusted, TLS and STARTTLS work."""
    with emptied(dovecot, "Sent"):
        port = dovecot.tls_port if security == "tls" else dovecot.port
        secured = replace(settings(dovecot), security=security, port=port, ca_file=dovecot.ca_file)
        with ImapConnector(secured) as connector:
            assert connector.state(Role.SENT).messages == 0


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_the_certificate_is_checked_either_way(dovecot: TlsServer, security: str) -> None:
    """A certificate that is not trusted is refused with TLS from the start and with STARTTLS."""
    port = dovecot.tls_port if security == "tls" else dovecot.port
    with pytest.raises(InsecureError, match="certificate is not trusted"):
        ImapConnector(replace(settings(dovecot), security=security, port=port)).state(Role.SENT)


# Connections


def test_an_unknown_host_is_unreachable() -> None:
    """A name that resolves to nothing is told as such."""
    nowhere = ImapSettings("nowhere..invalid", "jen", "secret")
    with pytest.raises(UnreachableError, match="cannot be resolved") as caught:
        ImapConnector(nowhere).state(Role.SENT)
    assert caught.value.host == "nowhere..invalid"


def test_a_closed_port_is_unreachable() -> None:
    """Nobody listening is told as such."""
    with socket.socket() as bound:  # bound and not listening, so that nobody else takes the port
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(UnreachableError, match="refused"):
            ImapConnector(local(bound.getsockname()[1])).state(Role.SENT)


def test_a_silent_server_is_given_up() -> None:
    """A server that accepts and says nothing costs the timeout and no more."""
    release = threading.Event()
    with listening(lambda _: release.wait(20)) as port:
        with pytest.raises(UnreachableError, match="in time"):
            ImapConnector(local(port)).state(Role.SENT)
        release.set()


def test_what_is_no_imap_server_is_unreachable() -> None:
    """Another protocol's greeting is no crash."""
    with (
        listening(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n")) as port,
        pytest.raises(UnreachableError),
    ):
        ImapConnector(local(port)).state(Role.SENT)


def test_it_reconnects_after_a_crash_of_the_server(tmp_path: Path) -> None:
    """The call that meets a dead server fails; once it is back, the next one goes well."""
    server = DemoServer("jen", "secret", keep=tmp_path / "mail")
    with server, ImapConnector(settings(server)) as connector:
        connector.append(Role.SENT, mail(1))
        server.stop()
        with pytest.raises(UnreachableError):
            connector.state(Role.SENT)
        with pytest.raises(UnreachableError):
            connector.state(Role.SENT)
        server.start()
        assert connector.state(Role.SENT).messages == 1


def test_a_connection_that_died_idle_is_replaced_silently(tmp_path: Path) -> None:
    """After a long silence the connection is tried first, so the call itself does not fail."""
    now = [0.0]
    server = DemoServer("jen", "secret", keep=tmp_path / "mail")
    with server, ImapConnector(settings(server), clock=lambda: now[0]) as connector:
        connector.append(Role.SENT, mail(1))
        server.stop()
        server.start()
        now[0] += 3600
        connector.append(Role.SENT, mail(2))
        assert connector.state(Role.SENT).messages == 2


def test_a_lost_answer_leaves_one_message(connector: ImapConnector, cutting_proxy: Proxy) -> None:
    """When the line is cut behind an APPEND, the caller learns that it may have worked; it has."""
    cut = replace(settings_of(connector), port=cutting_proxy.port)
    with ImapConnector(cut) as unlucky:
        before = unlucky.state(Role.DRAFTS)
        with pytest.raises(UnreachableError):
            unlucky.append(Role.DRAFTS, mail(7))
        assert list(unlucky.message_ids(Role.DRAFTS, before.uidnext).values()) == ["7@example.org"]
        assert unlucky.append(Role.DRAFTS, mail(8)) is not None
    assert connector.state(Role.DRAFTS).messages == 2


# Folders


def test_the_requests_folder_is_subscribed_to(demo_server: Server, emptied: Emptied) -> None:
    """What Panza makes is subscribed to, so that mail clients show it."""
    with emptied(demo_server) as client, ImapConnector(settings(demo_server)) as connector:
        assert connector.ensure(Role.REQUESTS) == "Panza requests"
        assert connector.ensure(Role.DRAFTS) == "Drafts"
        names = {name for _, _, name in client.list_sub_folders()}
    assert names >= {"Panza requests", "Drafts"}


def test_special_use_comes_before_names(dovecot: Server, emptied: Emptied) -> None:
    r"""The folder marked \Sent is Sent, whatever it is called."""
    with emptied(dovecot, "Sent Items", "Versandt"), ImapConnector(settings(dovecot)) as connector:
        assert connector.state(Role.SENT).name == "Versandt"


def test_a_configured_name_comes_first(dovecot: Server, emptied: Emptied) -> None:
    """The owner's word counts more than the server's."""
    with emptied(dovecot, "Mine/Old post", "Versandt"):
        wanted = replace(settings(dovecot), folders={Role.SENT: "Mine/Old post"})
        with ImapConnector(wanted) as connector:
            assert connector.state(Role.SENT).name == "Mine/Old post"


def test_a_misspelt_name_is_an_error_with_candidates(demo_server: Server, emptied: Emptied) -> None:
    """A configured folder that is not there is neither guessed nor made."""
    with emptied(demo_server, "Sent", "Entwürfe") as client:
        wanted = replace(settings(demo_server), folders={Role.DRAFTS: "Entwurfe"})
        with ImapConnector(wanted) as connector:
            for attempt in (
                lambda: connector.state(Role.DRAFTS),
                lambda: connector.append(Role.DRAFTS, mail(1)),
            ):
                with pytest.raises(FolderMissingError) as caught:
                    attempt()
                assert set(caught.value.candidates) == {"INBOX", "Sent", "Entwürfe"}
        assert not client.folder_exists("Entwurfe")


# Many and refused messages


def test_more_than_one_batch(demo_server: Server, emptied: Emptied) -> None:
    """Hundreds of messages, some of them gone, come once each and in order."""
    with emptied(demo_server, "Sent") as client, ImapConnector(settings(demo_server)) as connector:
        answers = [client.append("Sent", mail(number)) for number in range(250)]
        uids = [int(re.findall(rb"\d+", answer)[1]) for answer in answers]
        gone = set(uids[::7])
        client.select_folder("Sent")
        client.delete_messages(gone)
        client.uid_expunge(gone)
        kept = [uid for uid in uids if uid not in gone]
        assert [message.uid for message in connector.fetch(Role.SENT)] == kept
        assert list(connector.message_ids(Role.SENT)) == kept
        cursor = Cursor(connector.state(Role.SENT).uidvalidity, kept[-3])
        assert [message.uid for message in connector.fetch(Role.SENT, cursor)] == kept[-2:]


def test_a_refusal_carries_its_code(dovecot: TlsServer, emptied: Emptied) -> None:
    """NO to an APPEND is an error with the server's code and words, and stores nothing."""
    with emptied(dovecot, "Sent", "Drafts"):
        dovecot.allow("Drafts", "lr")
        try:
            with ImapConnector(settings(dovecot)) as connector:
                with pytest.raises(RefusedError) as caught:
                    connector.append(Role.DRAFTS, mail(1))
                assert (caught.value.command, caught.value.code) == ("APPEND", "NOPERM")
                assert connector.state(Role.DRAFTS).messages == 0
        finally:
            dovecot.allow("Drafts", "lrswipkxtea")


# Odd servers, played from a script


def settings_of(connector: ImapConnector) -> ImapSettings:
    """Return how a connector reaches its server."""
    return connector._settings


def test_a_plain_old_server_will_do() -> None:
    r"""Without any extension mail can be read; \Recent is dropped, numbers as keywords are not."""
    with scripted({}) as connector:
        assert connector.state(Role.SENT).uidnext == 9
        first, second = connector.fetch(Role.SENT)
    assert (first.raw, second.raw) == (b"one\n", b"two\n")
    assert (first.received, second.flags) == (None, {"7"})


def test_the_last_message_is_not_read_again_and_again() -> None:
    """A server that answers "9:*" with message 8, as the RFC says, brings nothing new."""
    without = str(ORDINARY["(?:EXAMINE|SELECT)"]).replace("* OK [UIDNEXT 9] x\r\n", "")
    odd = {"EXAMINE": without, "UID FETCH 9:": "* 2 FETCH (UID 8 RFC822.SIZE 4)\r\n"}
    with scripted(odd) as connector:
        assert list(connector.fetch(Role.SENT, Cursor(5, 8))) == []
        assert connector.state(Role.SENT).uidnext == 9


def test_one_refused_message_does_not_stop_the_rest() -> None:
    """A message that the server will not give is passed over, alone."""
    odd = {
        r"UID FETCH 3:8 .*BODY": "NO [CANNOT] something is broken",
        r"UID FETCH 3:3 .*BODY": "NO [CANNOT] this one",
        r"UID FETCH 8:8 .*BODY": "* 2 FETCH (UID 8 BODY[] {4}\r\ntwo\n)\r\n",
    }
    with scripted(odd) as connector:
        assert [message.uid for message in connector.fetch(Role.SENT)] == [8]


@pytest.mark.parametrize("refusal", ["NO [UNAVAILABLE] later", "NO not one of them"])
def test_a_folder_that_gives_nothing_is_an_error(refusal: str) -> None:
    """A refusal that is temporary or meets every message must not look like an empty folder."""
    with (
        scripted({r"UID FETCH .*BODY": refusal}) as connector,
        pytest.raises(RefusedError),
    ):
        list(connector.fetch(Role.SENT))


def test_a_login_refused_for_now_is_not_a_wrong_password() -> None:
    """UNAVAILABLE and a line that breaks during the login mean: later."""
    for reply in ("NO [UNAVAILABLE] database down", "* BYE overloaded\r\nNO"):
        with scripted({"LOGIN": reply}) as connector, pytest.raises(UnreachableError):
            connector.state(Role.SENT)


def test_a_namespace_of_nil_is_no_namespace() -> None:
    """NAMESPACE NIL, on which imapclient's own search for folders stumbles, is understood."""
    seen: list[str] = []
    odd = {
        "CAPABILITY": "* CAPABILITY IMAP4rev1 NAMESPACE\r\n",
        "NAMESPACE": "* NAMESPACE NIL NIL NIL\r\n",
    }
    with scripted(odd, seen=seen) as connector:
        assert connector.ensure(Role.REQUESTS) == "Panza requests"
    assert 'CREATE "Panza requests"' in seen
    assert 'SUBSCRIBE "Panza requests"' in seen


@pytest.mark.parametrize(
    "odd",
    [
        {
            "CAPABILITY": "* CAPABILITY IMAP4rev1 NAMESPACE\r\n",
            "NAMESPACE": '* NAMESPACE (("INBOX." ".")) NIL NIL\r\n',
        },
        {
            "CAPABILITY": "* CAPABILITY IMAP4rev1 NAMESPACE\r\n",
            "NAMESPACE": '* NAMESPACE (("INBOX." "." "X-PARAM" ("A"))) NIL NIL\r\n',
        },
        {},
    ],
)
def test_new_folders_go_where_the_server_wants_them(odd: dict[str, str]) -> None:
    """Below INBOX where the personal namespace is there, told or not."""
    listed = '* LIST () "." INBOX\r\n* LIST () "." INBOX.Sent\r\n'
    seen: list[str] = []
    with scripted({**odd, "LIST": listed}, seen=seen) as connector:
        assert connector.ensure(Role.REQUESTS) == "INBOX.Panza requests"
        assert connector.ensure(Role.SENT) == "INBOX.Sent"
    assert 'CREATE "INBOX.Panza requests"' in seen


def test_special_uses_are_asked_for() -> None:
    """Where LIST tells special uses only when asked, it is asked."""
    odd = {
        "CAPABILITY": "* CAPABILITY IMAP4rev1 SPECIAL-USE\r\n",
        "LIST .* RETURN": '* LIST (\\Sent) "/" Outgoing\r\n* LIST () "/" Sent\r\n',
    }
    with scripted(odd) as connector:
        assert connector.state(Role.SENT).name == "Outgoing"
    odd["LIST .* RETURN"] = "BAD what is RETURN"
    with scripted(odd) as connector:
        assert connector.state(Role.SENT).name == "Sent"


def test_keywords_only_where_they_are_kept() -> None:
    """A keyword is not sent to a folder that cannot keep it; the system flag is."""
    seen: list[str] = []
    with scripted({}, seen=seen) as connector:
        connector.add_flags(Role.SENT, 3, ["\\Answered", "$Panza"])
    (stored,) = [command for command in seen if "STORE" in command]
    assert "\\Answered" in stored
    assert "$Panza" not in stored


def test_without_uidplus_nothing_is_expunged() -> None:
    r"""A message is then only marked \Deleted: a plain EXPUNGE could take others with it."""
    seen: list[str] = []
    with scripted({}, seen=seen) as connector:
        connector.remove(Role.SENT, 3)
    assert any("STORE 3" in command and "\\Deleted" in command for command in seen)
    assert not any("EXPUNGE" in command for command in seen)


def test_messages_are_stored_with_crlf(demo_server: Server, emptied: Emptied) -> None:
    """What is appended arrives with CRLF line ends, which some servers insist on."""
    with emptied(demo_server, "Sent", "Drafts") as client:
        with ImapConnector(settings(demo_server)) as connector:
            connector.append(Role.DRAFTS, mail(1).replace(b"\r\n", b"\n"))
        client.select_folder("Drafts", readonly=True)
        ((_, data),) = client.fetch(client.search(), ["BODY.PEEK[]"]).items()
    assert data[b"BODY[]"] == canonical(mail(1))
