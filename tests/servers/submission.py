"""A submission server on loopback (aiosmtpd) whose answers a test chooses."""

from __future__ import annotations

import base64
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

USER, PASSWORD, TOKEN = "jen", 'se"k\\ret ü', "ya29.token"


@dataclass(frozen=True)
class Accepted:
    """A message that the server took."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes
    options: tuple[str, ...]
    encrypted: bool


@dataclass
class Script:
    """What the server shall answer, and what it heard.

    Attributes:
        answers: For a command, the answer instead of the usual one; DATA's comes after the message.
        hang_up_after: The command after which the connection is cut; DATA: after the message.
        silent: The command that gets no answer.
        mechanisms: What EHLO offers to log in by.
        heard: The commands in order, without arguments.
        logins: Every user name with its password or token, right or wrong, and by what mechanism.
        accepted: The messages.
    """

    answers: dict[str, str] = field(default_factory=dict)
    hang_up_after: str = ""
    silent: str = ""
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN", "XOAUTH2")
    heard: list[str] = field(default_factory=list)
    logins: list[tuple[str, str, str]] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)


class _Handler:
    def __init__(self, script: Script) -> None:
        self.script = script

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Session, _envelope: Envelope, name: str, lines: list[str]
    ) -> list[str]:
        session.host_name = name
        offered = f"250-AUTH {' '.join(self.script.mechanisms)}"
        kept = [line for line in lines if not line.startswith("250-AUTH")]
        return [*kept[:-1], offered, kept[-1]] if len(kept) < len(lines) and offered else kept

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        scripted = self.script.answers.get("DATA")
        if scripted is None:
            self.script.accepted.append(
                Accepted(
                    envelope.mail_from or "",
                    tuple(envelope.rcpt_tos),
                    bytes(envelope.original_content or b""),
                    tuple(envelope.mail_options),
                    session.ssl is not None,
                )
            )
        return scripted or "250 OK"

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        user, _, rest = base64.b64decode(args[1]).decode().partition("\1auth=Bearer ")
        token = rest.removesuffix("\1\1")
        self.script.logins.append((user.removeprefix("user="), token, "XOAUTH2"))
        if token == TOKEN:
            return AuthResult(success=True)
        await server.challenge_auth(b'{"status":"401"}', encode_to_b64=True)
        return AuthResult(success=False, handled=False)


class _Session(SMTP):
    """One connection, which follows the script."""

    def __init__(self, script: Script, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        self.script = script
        super().__init__(*arguments, **named)

    async def push(self, status: str | bytes) -> None:
        """Answer, unless the command was to get no answer."""
        last = self.script.heard[-1] if self.script.heard else "GREETING"
        if self.script.silent == last:
            return
        if last == "GREETING" and "GREETING" in self.script.answers:
            status = self.script.answers["GREETING"]
        await super().push(status)


def _scripted(name: str) -> Callable[..., Any]:
    usual = getattr(SMTP, f"smtp_{name}")

    async def command(self: _Session, argument: str) -> None:
        script = self.script
        script.heard.append(name)
        if name != "DATA" and name in script.answers:
            await self.push(script.answers[name])
        else:
            await usual(self, argument)
        if script.hang_up_after == name and self.transport is not None:
            self.transport.close()

    command.__doc__ = usual.__doc__
    return command


for _name in ("EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "QUIT", "NOOP", "RSET"):
    setattr(_Session, f"smtp_{_name}", _scripted(_name))


class SubmissionServer(Controller):
    """One submission server; a context manager.

    Args:
        port: Where it listens.
        certificate: Its certificate and key; None for no TLS at all.
        implicit: TLS from the first byte instead of STARTTLS.
    """

    def __init__(
        self, port: int, certificate: tuple[Path, Path] | None, *, implicit: bool = False
    ) -> None:
        self.script = Script()
        context = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
        # aiosmtpd does not know its own TLS from the first byte for one when it offers AUTH.
        self._arguments = {
            "tls_context": None if implicit else context,
            "auth_require_tls": context is not None and not implicit,
            "authenticator": self._authenticate,
            "hostname": "mail.example.org",
            "timeout": 30,
        }
        super().__init__(
            _Handler(self.script),
            hostname="127.0.0.1",
            port=port,
            ssl_context=context if implicit else None,
        )

    def factory(self) -> SMTP:
        """Return what serves one connection."""
        return _Session(self.script, self.handler, **self._arguments)

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, mechanism: str, login: object
    ) -> AuthResult:
        assert isinstance(login, LoginPassword)
        user, password = login.login.decode(), login.password.decode()
        self.script.logins.append((user, password, mechanism))
        return AuthResult(success=(user, password) == (USER, PASSWORD), handled=False)

    def forget(self) -> None:
        """Forget what was heard so far, as if nobody had connected."""
        self.script.heard.clear()
        self.script.logins.clear()

    def wait_for(self, command: str) -> None:
        """Wait until a client has sent this command."""
        deadline = time.monotonic() + 10
        while command not in self.script.heard and time.monotonic() < deadline:
            time.sleep(0.01)
        assert command in self.script.heard

    def __enter__(self) -> Self:
        self.start()
        self.forget()
        return self

    def __exit__(self, *_details: object) -> None:
        self.stop()
