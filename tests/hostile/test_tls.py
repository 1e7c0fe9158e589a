"""No credential leaves Panza but over TLS with the right server, whatever is tried, and by whom."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from certificates import Authority, Leaf, self_signed
from trap import Trap, traces, trapped

from connectors.base import ConnectorError, InsecureError, Role
from connectors.imap import ImapConnector, ImapSettings
from connectors.smtp import SmtpConnector, SmtpSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Literal

    from trap import Trick

    Protocol = Literal["imap", "smtp"]
    Security = Literal["tls", "starttls"]

USER, PASSWORD = "canary.user@example.org", "canary-pässword-7391"
SECRETS = [USER, PASSWORD]

both_protocols = pytest.mark.parametrize("protocol", ["imap", "smtp"])
both_ways = pytest.mark.parametrize("security", ["tls", "starttls"])


@pytest.fixture(name="authority", scope="module")
def _authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(name="leaves", scope="module")
def _leaves(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Leaf]:
    return {
        "good": authority.leaf("good"),
        "expired": authority.leaf("expired", days=-1),
        "of another host": authority.leaf("elsewhere", hosts=["mail.example.org"]),
        "self-signed": self_signed(tmp_path_factory.mktemp("self")),
    }


def attempt(
    protocol: Protocol,
    security: Security,
    port: int,
    trusted: Path,
    password: Callable[[], str] = lambda: PASSWORD,
) -> None:
    """Let Panza connect, log in and do something.

    Raises:
        ConnectorError: What became of it.
    """
    if protocol == "imap":
        imap = ImapSettings("localhost", USER, password, port, security, ca_file=trusted, timeout=5)
        with ImapConnector(imap) as connector:
            connector.state(Role.SENT)
    else:
        smtp = SmtpSettings("localhost", USER, password, port, security, ca_file=trusted, timeout=5)
        SmtpConnector(smtp, ["jen@example.org"]).check()


def assert_refused(protocol: Protocol, security: Security, trap: Trap, trusted: Path) -> None:
    """Panza gives up since the line is not private, without even fetching the password."""

    def password() -> str:
        pytest.fail("nobody should have asked for the password")

    with trapped(trap) as (port, heard), pytest.raises(InsecureError):
        attempt(protocol, security, port, trusted, password)
    assert traces(SECRETS, heard.on_the_wire) == []
    assert traces(SECRETS, heard.by_the_server) == []


@both_protocols
@both_ways
def test_the_right_server_gets_the_password(
    protocol: Protocol, security: Security, authority: Authority, leaves: dict[str, Leaf]
) -> None:
    """It does, so that the traps would; and only it can read it."""
    tls = leaves["good"].context()
    trap = Trap(protocol, tls=tls, implicit=security == "tls")
    with trapped(trap) as (port, heard), suppress(ConnectorError):
        attempt(protocol, security, port, authority.certificate)
    assert traces(SECRETS, heard.by_the_server) == SECRETS
    assert traces(SECRETS, heard.on_the_wire) == []


@pytest.mark.parametrize(
    ("protocol", "trick"),
    [
        *[("imap", trick) for trick in ("stripped", "refused", "claimed", "injected", "preauth")],
        *[("smtp", trick) for trick in ("stripped", "refused", "claimed")],
    ],
)
def test_starttls_that_is_no_starttls(
    protocol: Protocol, trick: Trick, authority: Authority, leaves: dict[str, Leaf]
) -> None:
    """STARTTLS hidden, refused, claimed, answered for, or needless: nothing follows."""
    trap = Trap(protocol, trick, leaves["good"].context())
    assert_refused(protocol, "starttls", trap, authority.certificate)


def test_what_is_added_to_starttls(authority: Authority, leaves: dict[str, Leaf]) -> None:
    """What somebody says in clear behind SMTP's "ready" is not taken for said under TLS."""
    trap = Trap("smtp", "injected", leaves["good"].context())
    with trapped(trap) as (port, heard):
        attempt("smtp", "starttls", port, authority.certificate)
    assert b"AUTH PLAIN" in heard.by_the_server  # not AUTH LOGIN, which was all that was added
    assert traces(SECRETS, heard.on_the_wire) == []


@both_protocols
@both_ways
@pytest.mark.parametrize("which", ["expired", "of another host", "self-signed"])
def test_a_certificate_that_proves_nothing(
    protocol: Protocol,
    security: Security,
    which: str,
    authority: Authority,
    leaves: dict[str, Leaf],
) -> None:
    """An expired, a foreign and a self-signed certificate end the attempt."""
    trap = Trap(protocol, tls=leaves[which].context(), implicit=security == "tls")
    assert_refused(protocol, security, trap, authority.certificate)


@both_protocols
@both_ways
def test_old_tls(
    protocol: Protocol, security: Security, authority: Authority, leaves: dict[str, Leaf]
) -> None:
    """A server that knows nothing newer than TLS 1.1 gets nothing."""
    trap = Trap(protocol, tls=leaves["good"].context(old=True), implicit=security == "tls")
    assert_refused(protocol, security, trap, authority.certificate)


@both_protocols
def test_no_tls_where_tls_is_expected(protocol: Protocol, authority: Authority) -> None:
    """A server that speaks in clear on the port of TLS hears no word."""
    assert_refused(protocol, "tls", Trap(protocol, "stripped"), authority.certificate)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "said",
    [
        lambda text: text,
        lambda text: f"\0{text}\0",
        lambda text: f"x\0{text}",
        lambda text: f"ab{text}cd",
    ],
)
def test_traces_are_found(secret: str, said: Callable[[str], str]) -> None:
    """The search finds a secret in clear, and in base64 wherever it stands in what is encoded."""
    text = said(secret).encode()
    assert traces(SECRETS, b"a1 LOGIN " + text) == [secret]
    assert traces(SECRETS, b"AUTH PLAIN " + base64.b64encode(text)) == [secret]
    assert traces(SECRETS, b"EHLO [127.0.0.1]") == []
