"""Mail to the owner alone, over a line that nobody reads."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from submission import PASSWORD, TOKEN, USER, SubmissionServer

from connectors.base import (
    ConnectorError,
    InsecureError,
    LoginRefusedError,
    RefusedError,
    UnreachableError,
)
from connectors.breaker import left_alone
from connectors.smtp import SmtpConnector, SmtpSettings, StrangerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWNER = ("jen@example.org", "Jen.Doe@example.org")
RAW = (
    b"From: jen@example.org\r\nTo: eve@example.com\r\nCc: eve@example.com\r\n"
    b"Bcc: eve@example.com\r\nResent-To: eve@example.com\r\nSubject: Hi\r\n\r\n.dot\r\nBye\r\n"
)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def starttls(certificate: tuple[Path, Path]) -> Iterator[SubmissionServer]:
    """Serve submission with STARTTLS, and AUTH only behind it."""
    with SubmissionServer(_free_port(), certificate) as server:
        yield server


@pytest.fixture
def implicit(certificate: tuple[Path, Path]) -> Iterator[SubmissionServer]:
    """Serve submission with TLS from the first byte."""
    with SubmissionServer(_free_port(), certificate, implicit=True) as server:
        yield server


@pytest.fixture
def plain() -> Iterator[SubmissionServer]:
    """Serve submission without TLS, AUTH offered in clear: as one whose STARTTLS was stripped."""
    with SubmissionServer(_free_port(), None) as server:
        yield server


@pytest.fixture
def settings(certificate: tuple[Path, Path]) -> SmtpSettings:
    """Return settings for the servers above, short of port and security."""
    return SmtpSettings("localhost", USER, PASSWORD, timeout=5, ca_file=certificate[0])


@pytest.mark.parametrize("recipient", ["jen@example.org", "JEN.DOE@Example.ORG"])
def test_a_message_reaches_the_owner_by_starttls(
    starttls: SubmissionServer, settings: SmtpSettings, recipient: str
) -> None:
    """The envelope is computed from her addresses; the header's recipients play no part in it."""
    settings = replace(settings, port=starttls.port, security="starttls")
    SmtpConnector(settings, OWNER).send(recipient, RAW)
    (message,) = starttls.script.accepted
    assert message.sender == "jen@example.org"
    assert message.recipients == (next(o for o in OWNER if o.lower() == recipient.lower()),)
    assert message.raw == RAW
    assert message.encrypted
    assert starttls.script.heard[:2] == ["EHLO", "STARTTLS"]
    assert starttls.script.logins == [(USER, PASSWORD, "PLAIN")]
    assert starttls.script.heard[-1] == "QUIT"


def test_a_message_reaches_the_owner_by_tls(
    implicit: SubmissionServer, settings: SmtpSettings
) -> None:
    """TLS from the first byte, and nothing is said before it."""
    SmtpConnector(replace(settings, port=implicit.port), OWNER).send("jen@example.org", RAW)
    (message,) = implicit.script.accepted
    assert message.raw == RAW
    assert "STARTTLS" not in implicit.script.heard


def test_a_message_may_go_in_clear_within_this_machine(
    plain: SubmissionServer, settings: SmtpSettings
) -> None:
    """security: none is for a server on loopback."""
    settings = replace(settings, port=plain.port, security="none", host="127.0.0.1")
    SmtpConnector(settings, OWNER).send("jen@example.org", RAW)
    assert len(plain.script.accepted) == 1


@pytest.mark.parametrize(
    "recipient",
    [
        "eve@example.com",
        "jen@example.org, eve@example.com",
        "jen@example.org>\r\nRCPT TO:<eve@example.com",
        "jen@example.org ",
        "jen+x@example.org",
        "<jen@example.org>",
        "eve@example.com <jen@example.org>",
        "jen@example.org.example.com",
        "jen@exampl\u0435.org",
        "j\u212aen@example.org",
        "",
    ],
)
def test_nobody_else_can_be_mailed_to(recipient: str) -> None:
    """Every other recipient is refused before a connection is made."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        port = listener.getsockname()[1]
        settings = SmtpSettings("127.0.0.1", USER, PASSWORD, port=port, security="none")
        with pytest.raises(StrangerError) as caught:
            SmtpConnector(settings, OWNER).send(recipient, RAW)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert "example" not in str(caught.value)


@pytest.mark.parametrize(
    "owner",
    [
        (),
        ("",),
        ("jen",),
        ("jen@",),
        ("jen@example.org\r\nDATA",),
        ("jen <jen@example.org>",),
        ("j\u00fcrgen@example.org",),
    ],
)
def test_an_owner_has_addresses_that_smtp_carries(owner: tuple[str, ...]) -> None:
    """What cannot stand in an SMTP command is refused when the connector is made."""
    with pytest.raises(ValueError, match="address"):
        SmtpConnector(SmtpSettings("localhost", USER, PASSWORD), owner)


def test_an_international_domain_goes_as_ascii(
    implicit: SubmissionServer, settings: SmtpSettings
) -> None:
    """A domain of other letters is sent in its ASCII form (RFC 5890)."""
    connector = SmtpConnector(replace(settings, port=implicit.port), ["jen@m\u00fcnchen.example"])
    connector.send("Jen@M\u00dcNCHEN.example", RAW)
    assert implicit.script.accepted[0].recipients == ("jen@xn--mnchen-3ya.example",)


# The line is private, or there is none


def _fails(
    server: SubmissionServer, settings: SmtpSettings, expected: type[ConnectorError]
) -> ConnectorError:
    with pytest.raises(expected) as caught:
        SmtpConnector(replace(settings, port=server.port), OWNER).send("jen@example.org", RAW)
    assert type(caught.value) is expected
    assert server.script.accepted == []
    text = f"{caught.value!r} {caught.value}"
    assert PASSWORD not in text
    assert "@" not in text
    return caught.value


def test_a_stripped_starttls_gets_no_password(
    plain: SubmissionServer, settings: SmtpSettings
) -> None:
    """Where STARTTLS is not offered nothing follows EHLO, although AUTH is offered in clear."""
    error = _fails(plain, replace(settings, security="starttls"), InsecureError)
    assert "does not offer STARTTLS" in str(error)
    assert set(plain.script.heard) <= {"EHLO", "QUIT"}
    assert plain.script.logins == []


def test_a_refused_starttls_gets_no_password(
    starttls: SubmissionServer, settings: SmtpSettings
) -> None:
    """Where STARTTLS is offered and then refused nothing follows."""
    starttls.script.answers["STARTTLS"] = "454 TLS not available"
    error = _fails(starttls, replace(settings, security="starttls"), InsecureError)
    assert "refused STARTTLS" in str(error)
    assert "AUTH" not in starttls.script.heard


def test_an_answer_that_only_claims_tls_gets_no_password(
    plain: SubmissionServer, settings: SmtpSettings
) -> None:
    """A server that says it is ready for TLS and goes on in clear text hears nothing more."""
    plain.script.answers |= {
        "EHLO": "250-mail.example.org\r\n250-STARTTLS\r\n250 AUTH PLAIN",
        "STARTTLS": "220 ready\r\n250 AUTH PLAIN",
    }
    with pytest.raises((InsecureError, UnreachableError)):
        SmtpConnector(replace(settings, port=plain.port, security="starttls"), OWNER).check()
    assert "AUTH" not in plain.script.heard


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_an_unknown_certificate_is_refused(
    request: pytest.FixtureRequest, settings: SmtpSettings, security: str
) -> None:
    """A certificate that the system does not trust ends the attempt before the login."""
    name = {"tls": "implicit", "starttls": "starttls"}[security]
    server: SubmissionServer = request.getfixturevalue(name)
    wanted = replace(settings, security=security, ca_file=None)  # type: ignore[arg-type]
    error = _fails(server, wanted, InsecureError)
    assert "certificate is not trusted" in str(error)
    assert "AUTH" not in server.script.heard


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_certificate_of_another_name_is_refused(
    tmp_path: Path, settings: SmtpSettings, security: str
) -> None:
    """A trusted certificate of another host is no better than none."""
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(  # noqa: S603
        ["openssl", "req", "-x509", "-days", "2", "-newkey", "ec", "-pkeyopt",  # noqa: S607
         "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=other.example",
         "-addext", "subjectAltName=DNS:other.example", "-keyout", files[1], "-out", files[0]],
        check=True,
        capture_output=True,
    )  # fmt: skip
    with SubmissionServer(_free_port(), files, implicit=security == "tls") as server:
        wanted = replace(settings, security=security, ca_file=files[0])  # type: ignore[arg-type]
        assert "certificate is not trusted" in str(_fails(server, wanted, InsecureError))


def test_plain_text_where_tls_is_wanted_is_told(
    plain: SubmissionServer, settings: SmtpSettings
) -> None:
    """A server that speaks no TLS on its port is named as such."""
    error = _fails(plain, settings, InsecureError)
    assert "no TLS was agreed on" in str(error)


def test_old_versions_of_tls_are_refused(
    certificate: tuple[Path, Path], settings: SmtpSettings
) -> None:
    """TLS 1.1 and older are as good as none: a server that offers nothing newer hears no command.

    A client that is content with them does reach that server.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    lenient = ssl.create_default_context(cafile=certificate[0])
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        for one in context, lenient:
            one.minimum_version = one.maximum_version = ssl.TLSVersion.TLSv1_1
            one.set_ciphers("ALL:@SECLEVEL=0")
    heard: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        for _ in range(2):
            client, _ = listener.accept()
            with suppress(OSError), context.wrap_socket(client, server_side=True) as secured:
                secured.sendall(b"220 mail.example.org\r\n")
                heard.append(secured.recv(100))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        with pytest.raises((InsecureError, UnreachableError)):
            SmtpConnector(replace(settings, port=port), OWNER).check()
        assert heard == []
        with (
            socket.create_connection(("127.0.0.1", port), 5) as connection,
            lenient.wrap_socket(connection, server_hostname="localhost") as secured,
        ):
            secured.sendall(b"EHLO x")
            secured.recv(100)
        thread.join(10)
    assert heard == [b"EHLO x"]


def test_none_is_for_this_machine_only() -> None:
    """No connection is made in clear to another host."""
    settings = SmtpSettings("mail.example.org", USER, PASSWORD, security="none")
    with pytest.raises(InsecureError):
        SmtpConnector(settings, OWNER).send("jen@example.org", RAW)


# Logging in


def test_the_password_is_asked_anew_and_only_on_a_private_line(
    starttls: SubmissionServer, plain: SubmissionServer, settings: SmtpSettings
) -> None:
    """What returns the password is called at each login, after TLS, and not where there is none."""
    asked: list[list[str]] = []

    def secret() -> str:
        asked.append(list(starttls.script.heard))
        return PASSWORD

    settings = replace(settings, secret=secret, security="starttls")
    connector = SmtpConnector(replace(settings, port=starttls.port), OWNER)
    connector.send("jen@example.org", RAW)
    connector.check()
    assert len(asked) == 2
    assert asked[0] == ["EHLO", "STARTTLS", "EHLO"]
    with pytest.raises(InsecureError):
        SmtpConnector(replace(settings, port=plain.port), OWNER).check()
    assert len(asked) == 2


def test_a_token_is_sent_by_xoauth2(implicit: SubmissionServer, settings: SmtpSettings) -> None:
    """With OAuth the secret is an access token, and no password mechanism sees it."""
    settings = replace(settings, port=implicit.port, secret=TOKEN, oauth=True)
    SmtpConnector(settings, OWNER).send("jen@example.org", RAW)
    assert implicit.script.logins == [(USER, TOKEN, "XOAUTH2")]
    assert len(implicit.script.accepted) == 1


@pytest.mark.parametrize("oauth", [True, False])
def test_a_wrong_secret_is_tried_once(
    implicit: SubmissionServer, settings: SmtpSettings, *, oauth: bool
) -> None:
    """Several mechanisms would count as several wrong passwords and may lock the account."""
    error = _fails(implicit, replace(settings, secret="wrong", oauth=oauth), LoginRefusedError)
    assert "535" in str(error)
    assert len(implicit.script.logins) == 1


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_either_password_mechanism_does(
    implicit: SubmissionServer, settings: SmtpSettings, mechanism: str
) -> None:
    """PLAIN and LOGIN carry any character of a password."""
    implicit.script.mechanisms = (mechanism,)
    SmtpConnector(replace(settings, port=implicit.port), OWNER).check()
    assert implicit.script.logins == [(USER, PASSWORD, mechanism)]


@pytest.mark.parametrize("mechanisms", [(), ("GSSAPI",), ("XOAUTH2",)])
def test_a_server_without_a_usable_login_is_told(
    implicit: SubmissionServer, settings: SmtpSettings, mechanisms: tuple[str, ...]
) -> None:
    """No AUTH, or none that a password fits: nothing is sent."""
    implicit.script.mechanisms = mechanisms
    error = _fails(implicit, settings, LoginRefusedError)
    assert "offers no login" in str(error)
    assert "MAIL" not in implicit.script.heard


def test_a_login_that_is_refused_for_now_may_be_tried_later(
    implicit: SubmissionServer, settings: SmtpSettings
) -> None:
    """454 and its like are the server's trouble, not the password's."""
    implicit.script.answers["AUTH"] = "454 4.7.0 Temporary authentication failure"
    assert "454" in str(_fails(implicit, settings, UnreachableError))


def test_a_line_break_in_a_secret_is_refused(
    implicit: SubmissionServer, settings: SmtpSettings
) -> None:
    """Nothing that ends a command, or a field of AUTH PLAIN, gets into one."""
    _fails(implicit, replace(settings, secret="a\0b"), LoginRefusedError)


# Answers, and none


@pytest.mark.parametrize(
    ("command", "answer", "code"),
    [
        ("MAIL", "550 5.7.1 <jen@example.org> is not yours", "550"),
        ("MAIL", "452 4.3.1 Insufficient system storage", "452"),
        ("RCPT", "550 5.1.1 <jen@example.org>: unknown", "550"),
        ("RCPT", "450 4.2.0 Greylisted", "450"),
        ("DATA", "552 5.3.4 Too big", "552"),
        ("DATA", "451 4.3.0 Try again", "451"),
    ],
)
def test_a_refused_message_carries_the_code(
    implicit: SubmissionServer, settings: SmtpSettings, command: str, answer: str, code: str
) -> None:
    """SMTP's code tells the caller whether trying again may help; addresses are left out."""
    implicit.script.answers[command] = answer
    error = _fails(implicit, settings, RefusedError)
    assert isinstance(error, RefusedError)
    assert (error.command, error.code) == (command, code)
    assert error.reason


@pytest.mark.parametrize(
    "script",
    [
        {"answers": {"GREETING": "554 no service"}},
        {"answers": {"GREETING": "421 busy"}},
        {"answers": {"GREETING": "* OK IMAP4rev1 ready"}},
        {"answers": {"MAIL": "421 closing"}},
        {"answers": {"MAIL": "what?"}},
        {"hang_up_after": "EHLO"},
        {"hang_up_after": "AUTH"},
        {"hang_up_after": "RCPT"},
        {"silent": "EHLO"},
        {"silent": "DATA"},
    ],
    ids=str,
)
def test_a_server_that_breaks_off_is_unreachable(
    implicit: SubmissionServer, settings: SmtpSettings, script: dict[str, object]
) -> None:
    """Closed, broken, silent or senseless: one error, and the next call works again."""
    for name, value in script.items():
        setattr(implicit.script, name, value)
    settings = replace(settings, timeout=0.5, port=implicit.port)
    connector = SmtpConnector(settings, OWNER)
    with pytest.raises(UnreachableError):
        connector.send("jen@example.org", RAW)
    implicit.script.answers, implicit.script.silent, implicit.script.hang_up_after = {}, "", ""
    implicit.script.accepted.clear()
    implicit.forget()
    connector.send("jen@example.org", RAW)
    assert len(implicit.script.accepted) == 1


def test_a_lost_answer_to_the_message_leaves_it_open(
    implicit: SubmissionServer, settings: SmtpSettings
) -> None:
    """The server may have taken the message when the line breaks: the error says no more."""
    implicit.script.hang_up_after = "DATA"
    connector = SmtpConnector(replace(settings, port=implicit.port), OWNER)
    with suppress(UnreachableError):
        connector.send("jen@example.org", RAW)
    assert len(implicit.script.accepted) == 1


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".example", "a\nb", "\u2024."])
def test_a_name_that_leads_nowhere_is_told(settings: SmtpSettings, host: str) -> None:
    """A name that cannot be resolved, and one that is none, are unreachable."""
    with pytest.raises(UnreachableError):
        SmtpConnector(replace(settings, host=host), OWNER).check()


def test_a_closed_port_is_told(settings: SmtpSettings) -> None:
    """Nobody listens there: the reason is the system's."""
    with pytest.raises(UnreachableError, match="refused"):
        SmtpConnector(replace(settings, host="127.0.0.1", port=_free_port()), OWNER).check()


def test_a_call_can_be_broken_off_from_another_thread(
    implicit: SubmissionServer, settings: SmtpSettings
) -> None:
    """abort() ends a call that waits for a silent server, and the connector stays usable."""
    implicit.script.silent = "MAIL"
    connector = SmtpConnector(replace(settings, port=implicit.port, timeout=30), OWNER)
    connector.abort()  # nothing is going on: no error
    failures: list[BaseException] = []

    def send() -> None:
        try:
            connector.send("jen@example.org", RAW)
        except UnreachableError as error:
            failures.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    implicit.wait_for("MAIL")
    begun = time.monotonic()
    connector.abort()
    thread.join(10)
    assert not thread.is_alive()
    assert time.monotonic() - begun < 5
    assert "broken off" in str(failures[0])
    implicit.script.silent = ""
    connector.check()


def test_a_password_manager_can_be_broken_off(
    implicit: SubmissionServer, settings: SmtpSettings
) -> None:
    """abort() ends a call that waits for the password, and who looks for it is told."""
    asked, told = threading.Event(), threading.Event()

    def secret() -> str:
        asked.set()
        while not left_alone():
            time.sleep(0.02)
        told.set()
        return PASSWORD

    connector = SmtpConnector(replace(settings, port=implicit.port, secret=secret), OWNER)
    ringing = threading.Thread(target=lambda: asked.wait(10) and connector.abort())
    ringing.start()
    begun = time.monotonic()
    with pytest.raises(UnreachableError, match="broken off"):
        connector.check()
    assert time.monotonic() - begun < 5
    assert told.wait(5)
    assert implicit.script.logins == []
    ringing.join()


def test_the_settings_do_not_show_the_secret(settings: SmtpSettings) -> None:
    """A repr in a traceback holds no password."""
    assert PASSWORD not in repr(settings)
