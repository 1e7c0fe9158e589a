"""Logging in to an IMAP server: which mechanism, what is said when, and what is never said."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from dovecot import Dovecot
from process import started
from scripted import Talk, listening, local, scripted

from connectors.base import InsecureError, LoginRefusedError, Role, UnreachableError
from connectors.imap import ImapConnector, ImapSettings
from daemon.accounts import open_mailbox
from daemon.config import Account

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKEN = "ya29.the-token"  # noqa: S105 - of nobody


def offering(*mechanisms: str) -> dict[str, object]:
    """Return what a server says that offers these capabilities."""
    return {"CAPABILITY": f"* CAPABILITY IMAP4rev1 {' '.join(mechanisms)}\r\n"}


def decoded(line: str) -> str:
    """Return the SASL response in a line."""
    return base64.b64decode(line.rpartition(" ")[2]).decode()


# OAuth 2


@pytest.mark.parametrize(
    ("offered", "chosen", "response"),
    [
        ("AUTH=XOAUTH2", "XOAUTH2", f"user=jen\1auth=Bearer {TOKEN}\1\1"),
        ("AUTH=OAUTHBEARER", "OAUTHBEARER", f"n,a=jen,\1auth=Bearer {TOKEN}\1\1"),
        ("AUTH=XOAUTH2 AUTH=OAUTHBEARER", "OAUTHBEARER", f"n,a=jen,\1auth=Bearer {TOKEN}\1\1"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_token_is_sent_as_the_server_wants_it(
    offered: str, chosen: str, response: str, *, at_once: bool
) -> None:
    """The standard's mechanism comes first; with SASL-IR it takes one round trip, else two."""
    seen: list[str] = []

    def authenticate(talk: Talk) -> None:
        line = talk.command
        if not at_once:
            talk.say("+ ")
            line = f"{talk.command} {talk.hear()}"
        seen.append(line)
        talk.say(f"{talk.tag} OK [CAPABILITY IMAP4rev1] hello")

    odd = offering(offered, "AUTH=PLAIN", *(["SASL-IR"] if at_once else []))
    with scripted({**odd, "AUTHENTICATE": authenticate}, password=TOKEN, oauth=True) as connector:
        assert connector.state(Role.SENT).messages == 2
    (line,) = seen
    assert line.startswith(f"AUTHENTICATE {chosen} ")
    assert decoded(line) == response


def test_a_comma_in_the_user_name() -> None:
    """OAUTHBEARER's own separators in a name are escaped as RFC 5801 wants it."""
    seen: list[str] = []
    odd = offering("AUTH=OAUTHBEARER", "SASL-IR")
    changes = {"user": "jen=a,b", "password": TOKEN, "oauth": True}
    with scripted(odd, seen=seen, **changes) as connector:
        connector.state(Role.SENT)
    (line,) = [one for one in seen if one.startswith("AUTHENTICATE")]
    assert decoded(line).startswith("n,a=jen=3Da=2Cb,\1")


def test_a_token_is_asked_anew_at_each_login() -> None:
    """Access tokens live an hour: none is kept for the next connection."""
    tokens = iter(["first", "second"])
    seen: list[str] = []
    odd = offering("AUTH=XOAUTH2", "SASL-IR")
    changes = {"password": lambda: next(tokens), "oauth": True}
    with scripted(odd, seen=seen, **changes) as connector:
        connector.state(Role.SENT)
        connector.state(Role.SENT)
        connector.close()
        connector.state(Role.SENT)
    used = [decoded(line) for line in seen if line.startswith("AUTHENTICATE")]
    assert used == [f"user=jen\1auth=Bearer {token}\1\1" for token in ("first", "second")]


@pytest.mark.parametrize(
    ("mechanism", "dismissal"), [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")], ids=lambda one: one
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_refused_token_is_told_with_its_status(
    mechanism: str, dismissal: str, *, at_once: bool
) -> None:
    """The server explains in JSON, wants an answer to that, and only then refuses."""
    heard: list[str] = []
    why = base64.b64encode(b'{"status":"401","schemes":"bearer","scope":"https://mail"}').decode()

    def authenticate(talk: Talk) -> None:
        if not at_once:
            talk.say("+ ")
            talk.hear()
        talk.say(f"+ {why}")
        heard.append(talk.hear())
        talk.say(f"{talk.tag} NO [AUTHENTICATIONFAILED] Invalid credentials")

    odd = offering(f"AUTH={mechanism}", *(["SASL-IR"] if at_once else []))
    changes = {"password": TOKEN, "oauth": True}
    with (
        scripted({**odd, "AUTHENTICATE": authenticate}, **changes) as connector,
        pytest.raises(LoginRefusedError, match=r"Invalid credentials \(status 401\)") as caught,
    ):
        connector.state(Role.SENT)
    assert heard == [dismissal]
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "why", [b"\xff\xfe", b"[]", b'{"status": 7}', b"[" * 50_000, b'{"status":"a b"}']
)
def test_an_explanation_that_explains_nothing(why: bytes) -> None:
    """Whatever the server sends as its reason, the refusal stays a refusal."""

    def authenticate(talk: Talk) -> None:
        talk.say(f"+ {base64.b64encode(why).decode()}")
        talk.hear()
        talk.say(f"{talk.tag} NO sorry")

    odd = {**offering("AUTH=XOAUTH2", "SASL-IR"), "AUTHENTICATE": authenticate}
    with (
        scripted(odd, password=TOKEN, oauth=True) as connector,
        pytest.raises(LoginRefusedError, match=r"sorry$"),
    ):
        connector.state(Role.SENT)


def test_a_server_that_never_ends_its_questions() -> None:
    """A login that goes on and on is given up."""

    def authenticate(talk: Talk) -> None:
        for _ in range(100):
            talk.say("+ aGVsbG8=")
            talk.hear()

    odd = {**offering("AUTH=XOAUTH2", "SASL-IR"), "AUTHENTICATE": authenticate}
    with (
        scripted(odd, password=TOKEN, oauth=True) as connector,
        pytest.raises(UnreachableError, match="more than its login needs"),
    ):
        connector.state(Role.SENT)


def test_a_token_for_a_server_that_takes_none() -> None:
    """It is not sent as a password instead."""
    seen: list[str] = []
    with (
        scripted(offering("AUTH=PLAIN"), seen=seen, password=TOKEN, oauth=True) as connector,
        pytest.raises(LoginRefusedError, match="no OAuth 2"),
    ):
        connector.state(Role.SENT)
    assert seen == ["CAPABILITY"]


def test_a_refused_password_points_to_oauth() -> None:
    """Where the server offers OAuth 2 a refusal says so: some providers take nothing else."""
    odd = {
        **offering("AUTH=PLAIN", "AUTH=XOAUTH2", "SASL-IR"),
        "AUTHENTICATE PLAIN": "NO LOGIN failed.",
    }
    with (
        scripted(odd) as connector,
        pytest.raises(LoginRefusedError, match=r"LOGIN failed.*imap\.oauth"),
    ):
        connector.state(Role.SENT)


class OAuthDovecot(Dovecot):
    """A Dovecot that takes signed tokens (RFC 7519)."""

    _KEY = b"a key of this test alone"

    def _configure(self) -> None:
        super()._configure()
        keys = self.base / "keys/default/HS256"
        keys.mkdir(parents=True)
        (keys / "default").write_bytes(base64.b64encode(self._KEY))
        oauth = self.base / "oauth2.conf"
        oauth.write_text(
            f"introspection_mode = local\nusername_attribute = sub\n"
            f"local_validation_key_dict = fs:posix:prefix={self.base}/keys/\n"
        )
        with (self.base / "dovecot.conf").open("a", encoding="utf-8") as file:
            file.write("auth_mechanisms = plain xoauth2 oauthbearer\n")
            file.write(
                f"passdb {{\n driver = oauth2\n mechanisms = xoauth2 oauthbearer\n"
                f" args = {oauth}\n}}\n"
            )

    def token(self, user: str, seconds: float) -> str:
        """Return a token that expires."""
        head = {"typ": "JWT", "alg": "HS256"}
        claims = {"sub": user, "exp": int(time.time() + seconds)}
        parts = [_urlsafe(json.dumps(each).encode()) for each in (head, claims)]
        signed = ".".join(parts)
        mac = hmac.new(self._KEY, signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{_urlsafe(mac)}"


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.fixture(scope="module")
def oauth_dovecot(dovecot: Dovecot) -> Iterator[OAuthDovecot]:
    """Start one, where there is a Dovecot at all."""
    del dovecot
    with started(OAuthDovecot, "panza-oauth-") as server:
        yield server


def test_dovecot_takes_a_token(oauth_dovecot: OAuthDovecot) -> None:
    """A real server lets a good token in, and refuses an expired one with its reason."""
    server = oauth_dovecot
    lifetimes = iter([600, -600])
    settings = ImapSettings(
        server.host,
        server.user,
        lambda: server.token(server.user, next(lifetimes)),
        port=server.port,
        security="starttls",
        ca_file=server.ca_file,
        oauth=True,
    )
    with ImapConnector(settings) as connector:
        connector.ensure(Role.DRAFTS)
        connector.close()
        with pytest.raises(LoginRefusedError, match=r"status"):
            connector.state(Role.DRAFTS)


# What is never said


def secret_free(seen: list[str]) -> bool:
    """Tell whether no command with a credential was sent."""
    return not any(line.startswith(("LOGIN", "AUTHENTICATE")) for line in seen)


@pytest.mark.parametrize("security", ["starttls"])
@pytest.mark.parametrize(
    ("odd", "greeting"),
    [
        ({}, "* OK ready"),
        ({**offering("STARTTLS"), "STARTTLS": "NO no TLS today"}, "* OK ready"),
        ({**offering("STARTTLS"), "STARTTLS": "BAD what is that"}, "* OK ready"),
        (offering("STARTTLS"), "* PREAUTH you are in"),
        ({}, "* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] you are in"),
    ],
    ids=["stripped", "refused", "unknown", "preauth", "preauth told"],
)
def test_starttls_or_nothing(odd: dict[str, object], greeting: str, security: str) -> None:
    """Without TLS nothing is said that is worth hearing, however the server puts it."""
    seen: list[str] = []
    asked: list[int] = []
    changes = {"security": security, "password": lambda: asked.append(1)}
    with (
        scripted(odd, seen=seen, greeting=greeting, **changes) as connector,
        pytest.raises(InsecureError),
    ):
        connector.state(Role.SENT)
    assert secret_free(seen)
    assert asked == []


def test_what_follows_starttls_in_clear_is_refused() -> None:
    """An answer that somebody put behind the OK of STARTTLS does not count as said under TLS."""

    def start(talk: Talk) -> None:
        added = "* CAPABILITY IMAP4rev1 AUTH=PLAIN"
        talk.say(f"{talk.tag} OK go ahead", added)
        talk.hear()

    seen: list[str] = []
    odd = {**offering("STARTTLS"), "STARTTLS": start}
    with (
        scripted(odd, seen=seen, security="starttls") as connector,
        pytest.raises(InsecureError, match="added in clear"),
    ):
        connector.state(Role.SENT)
    assert secret_free(seen)


def test_no_password_where_the_server_wants_none_in_clear() -> None:
    """LOGINDISABLED ends a login without TLS before the password is sent."""
    seen: list[str] = []
    with (
        scripted(offering("LOGINDISABLED", "AUTH=PLAIN"), seen=seen) as connector,
        pytest.raises(InsecureError, match="in clear"),
    ):
        connector.state(Role.SENT)
    assert secret_free(seen)


def test_preauth_on_this_machine() -> None:
    """A tunnel that is logged in already is used as it is."""
    seen: list[str] = []
    with scripted({}, seen=seen, greeting="* PREAUTH welcome") as connector:
        assert connector.state(Role.SENT).messages == 2
    assert secret_free(seen)


def _tls_server(
    certificate: tuple[Path, Path], greeting: str, *, old: bool = False
) -> tuple[Callable[[socket.socket], None], list[bytes]]:
    """Return what answers a connection by TLS, and what it will have heard."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if old:
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    heard: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            secured.sendall(greeting.encode() + b"\r\n")
            while line := secured.recv(4096):
                heard.append(line)
                tag = line.split()[0]
                secured.sendall(tag + b" OK done\r\n")

    return answer, heard


def test_preauth_under_tls_is_refused(certificate: tuple[Path, Path]) -> None:
    """Being logged in as nobody knows whom is no way to read somebody's mail."""
    answer, heard = _tls_server(certificate, "* PREAUTH [CAPABILITY IMAP4rev1] you are in")
    with listening(answer) as port:
        settings = local(port, host="localhost", security="tls", ca_file=certificate[0])
        with pytest.raises(InsecureError, match="PREAUTH"), ImapConnector(settings) as connector:
            connector.state(Role.SENT)
    assert heard == []


@pytest.mark.filterwarnings("ignore:.*TLSv1:DeprecationWarning")
def test_old_tls_is_refused(certificate: tuple[Path, Path]) -> None:
    """TLS 1.1 and older are no protection (RFC 8996)."""
    answer, heard = _tls_server(certificate, "* OK ready", old=True)
    with listening(answer) as port:
        settings = local(port, host="localhost", security="tls", ca_file=certificate[0])
        with pytest.raises(InsecureError, match="no TLS"), ImapConnector(settings) as connector:
            connector.state(Role.SENT)
    assert heard == []


def test_a_server_under_tls_that_takes_no_passwords(certificate: tuple[Path, Path]) -> None:
    """There is no way to log in with one, and none is tried."""
    told = "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2] ready"
    answer, heard = _tls_server(certificate, told)
    with listening(answer) as port:
        settings = local(port, host="localhost", security="tls", ca_file=certificate[0])
        refused = pytest.raises(LoginRefusedError, match=r"takes no passwords.*imap\.oauth")
        with refused, ImapConnector(settings) as connector:
            connector.state(Role.SENT)
    assert heard == []


def test_an_account_with_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`imap.oauth.token` of panza.yaml is what is sent."""
    monkeypatch.setenv("PANZA_TEST_TOKEN", TOKEN)
    seen: list[str] = []
    odd = offering("AUTH=XOAUTH2", "SASL-IR")
    with scripted(odd, seen=seen) as connector:
        imap = {
            "host": "127.0.0.1",
            "port": connector._settings.port,
            "security": "none",
            "oauth": {"token": {"env": "PANZA_TEST_TOKEN"}},
        }
        account = Account.model_validate({"name": "w", "address": "jen@example.org", "imap": imap})
        source = open_mailbox(account, tmp_path)
        assert source is not None
        with source.connector:
            source.connector.state(Role.SENT)
    (line,) = [one for one in seen if one.startswith("AUTHENTICATE")]
    assert decoded(line) == f"user=jen@example.org\1auth=Bearer {TOKEN}\1\1"
