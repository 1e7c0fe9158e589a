"""Mail to the account's owner by SMTP, and to nobody else.

This is the one place that sends mail. `SmtpConnector` is given the owner's addresses when it is
made and refuses every other recipient before it connects; the envelope is computed from these
addresses and never read from a message. Nothing of aiosmtplib's, asyncio's or ssl's leaves this
module.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NoReturn

import aiosmtplib

from connectors.base import (
    ConnectorError,
    InsecureError,
    LoginRefusedError,
    RefusedError,
    UnreachableError,
)
from connectors.breaker import aside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

_CALL_TIMEOUT: Final = 180.0  # seconds for all of one call
_CLIENT_NAME: Final = "[127.0.0.1]"  # the machine's own name is nobody's business
_TEMPORARY: Final = range(400, 500)
_CLOSING: Final = 421
_LONGEST_WORDS: Final = 200
_ADDRESS = re.compile(r"\S+@\S+")
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]+")


class StrangerError(ConnectorError):
    """Mail for somebody other than the owner was asked for; nothing was sent."""

    def __init__(self) -> None:
        super().__init__("Panza mails to the account's own addresses only")


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """How to reach a submission server (RFC 6409, RFC 8314).

    Attributes:
        host: A name or an address.
        user: The login name.
        secret: The password or OAuth token, or what returns it; asked anew at each login, once the
            connection is private.
        port: 465 with TLS from the start, else 587 as a rule.
        security: ``tls`` from the start, ``starttls`` without exception, or ``none``, which is for
            this machine only.
        oauth: The secret is an OAuth 2 access token (XOAUTH2).
        timeout: Seconds that the server may keep silent within a command.
        ca_file: Certificates (PEM) to trust instead of the system's, for a server of one's own.
    """

    host: str
    user: str
    secret: str | Callable[[], str] = field(repr=False)
    port: int = 465
    security: Literal["tls", "starttls", "none"] = "tls"
    oauth: bool = False
    timeout: float = 30.0
    ca_file: Path | None = None


class SmtpConnector:
    """Sends mail to one owner.

    Synchronous, for one caller at a time; each call has a connection of its own. Only `abort` may
    be called from other threads.

    Args:
        settings: How to reach the server.
        owner: The owner's addresses: the only recipients there can be. The first one is the sender.

    Raises:
        ValueError: One of them is no address that SMTP can carry, or there is none.
    """

    def __init__(self, settings: SmtpSettings, owner: Iterable[str]) -> None:
        self._settings = settings
        self._owner = {address.casefold(): _envelope_address(address) for address in owner}
        if not self._owner:
            raise ValueError("an owner has at least one address")
        self._sender = next(iter(self._owner.values()))
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None

    def send(self, recipient: str, raw: bytes) -> None:
        """Send one message to one of the owner's addresses.

        When it returns, the server has taken the message. After an `UnreachableError` nobody can
        tell whether it has: SMTP offers at least once, or at most once, never exactly once.

        Args:
            recipient: One of the owner's addresses, whatever the case of its letters.
            raw: The message in 7-bit form; its header fields choose no recipient.

        Raises:
            StrangerError: The recipient is somebody else. No connection was made.
            UnreachableError: No answer, or the server has no time now.
            InsecureError: The connection would not be private.
            LoginRefusedError: The server refuses the login, or offers none.
            RefusedError: The server refuses the message; ``code`` holds SMTP's three digits.
        """
        envelope = self._owner.get(recipient.casefold())
        if envelope is None:
            raise StrangerError
        self._call(lambda client: self._submit(client, envelope, raw))

    def check(self) -> None:
        """Log in and send nothing; raises what `send` raises."""
        self._call(lambda client: client.noop())

    def abort(self) -> None:
        """Break off the call that is going on, from any thread; it raises `UnreachableError`."""
        running = self._running
        if running is not None:
            loop, task = running
            with suppress(RuntimeError):  # the call has just ended
                loop.call_soon_threadsafe(task.cancel)

    def _call(self, work: Callable[[aiosmtplib.SMTP], Awaitable[object]]) -> None:
        settings = self._settings
        if settings.security == "none" and not _is_loopback(settings.host):
            self._insecure("security none sends mail and password in clear; use tls or starttls")
        try:
            asyncio.run(self._connected(work))
        except (asyncio.CancelledError, OSError, ValueError) as error:
            self._raise_lost(error)
        except aiosmtplib.SMTPException as error:
            self._raise_refusal(error)

    async def _connected(self, work: Callable[[aiosmtplib.SMTP], Awaitable[object]]) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio.run has made one
        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            local_hostname=_CLIENT_NAME,
            timeout=settings.timeout,
            use_tls=settings.security == "tls",
            start_tls=False,  # by default aiosmtplib would go on in clear where TLS is not offered
            tls_context=self._context(),
        )
        self._running = asyncio.get_running_loop(), task
        try:
            async with asyncio.timeout(_CALL_TIMEOUT):
                await client.connect()
                await self._secure(client)
                await self._log_in(client)
                await work(client)
                with suppress(aiosmtplib.SMTPException):
                    await client.quit()
        finally:
            self._running = None
            client.close()

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._settings.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    async def _secure(self, client: aiosmtplib.SMTP) -> None:
        """Upgrade the connection where the settings say so; go on in clear on loopback only."""
        if self._settings.security == "starttls":
            await client.ehlo()
            if not client.supports_extension("starttls"):
                self._insecure("the server does not offer STARTTLS; use tls (port 465) if it can")
            try:
                await client.starttls()
            except aiosmtplib.SMTPResponseException as error:
                self._insecure("the server refused STARTTLS", error)
        private = client.get_transport_info("sslcontext") is not None
        if not private and self._settings.security != "none":
            self._insecure("the connection is not encrypted")

    async def _log_in(self, client: aiosmtplib.SMTP) -> None:
        """Log in by one mechanism: trying several counts as several wrong passwords."""
        await client.ehlo()
        offered = client.server_auth_methods
        wanted = ("xoauth2",) if self._settings.oauth else ("plain", "login", "cram-md5")
        mechanism = next((one for one in wanted if one in offered), None)
        if mechanism is None:
            self._login_refused("the server offers no login that Panza knows")
        secret = self._settings.secret
        if not isinstance(secret, str):
            # It may wait for the owner, who is not to hold up whoever breaks this off.
            secret = await asyncio.wrap_future(aside(secret))
        if re.search(r"[\r\n\0]", self._settings.user + secret):
            self._login_refused("the user name or the password holds a line break")
        log_in = {
            "xoauth2": client.auth_xoauth2,
            "plain": client.auth_plain,
            "login": client.auth_login,
            "cram-md5": client.auth_crammd5,
        }[mechanism]
        await log_in(self._settings.user, secret)

    async def _submit(self, client: aiosmtplib.SMTP, envelope: str, raw: bytes) -> None:
        await client.sendmail(self._sender, [envelope], raw)

    def _raise_lost(self, error: BaseException) -> NoReturn:
        """Raise what the end of a connection means."""
        cause = error.__cause__ if isinstance(error, aiosmtplib.SMTPConnectError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            self._insecure(f"the certificate is not trusted ({cause.verify_message})", error)
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            reason = f"no TLS was agreed on ({cause.reason or 'unknown'}); check port and security"
            self._insecure(reason, error)
        if isinstance(error, aiosmtplib.SMTPConnectResponseError):
            self._unreachable(f"it answers {error.code} {_words(error.message)}".strip(), error)
        self._unreachable(_reason(error, cause), error)

    def _raise_refusal(self, error: aiosmtplib.SMTPException) -> NoReturn:
        """Raise what the server's answer means."""
        if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
            error = error.recipients[0]
        if not isinstance(error, aiosmtplib.SMTPResponseException) or error.code < 0:
            self._unreachable("its answer is no SMTP that could be understood", error)
        words = _words(error.message)
        login = isinstance(error, aiosmtplib.SMTPAuthenticationError)
        if error.code == _CLOSING or (login and error.code in _TEMPORARY):
            self._unreachable(f"it answers {error.code} {words}".strip(), error)
        if login:
            self._login_refused(f"{error.code} {words}".strip(), error)
        raise RefusedError(_command(error), str(error.code), words) from error

    def _insecure(self, reason: str, cause: BaseException | None = None) -> NoReturn:
        raise InsecureError(self._settings.host, self._settings.port, reason) from cause

    def _unreachable(self, reason: str, cause: BaseException) -> NoReturn:
        raise UnreachableError(self._settings.host, self._settings.port, reason) from cause

    def _login_refused(self, reason: str, cause: BaseException | None = None) -> NoReturn:
        raise LoginRefusedError(self._settings.host, self._settings.user, reason) from cause


def _envelope_address(address: str) -> str:
    """Return an address as RCPT TO carries it without SMTPUTF8 (RFC 5321, RFC 5890)."""
    local_part, _, domain = address.rpartition("@")
    try:
        found = f"{local_part}@{domain.encode('idna').decode('ascii')}"
    except UnicodeError:
        found = ""
    if not re.fullmatch(r"[!#-'*+/-9=?A-Z^-~.-]+@[A-Za-z0-9.\[\]:-]+", found):
        raise ValueError("an address of the owner's cannot stand in an SMTP command")
    return found


def _command(error: aiosmtplib.SMTPResponseException) -> str:
    match error:
        case aiosmtplib.SMTPSenderRefused():
            return "MAIL"
        case aiosmtplib.SMTPRecipientRefused():
            return "RCPT"
        case aiosmtplib.SMTPDataError():
            return "DATA"
        case aiosmtplib.SMTPHeloError():
            return "EHLO"
        case _:
            return "SMTP"


def _reason(error: BaseException, cause: BaseException | None) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "the call was broken off"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(cause, socket.gaierror | ValueError):
        return "its name cannot be resolved"
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno).lower()  # asyncio's own text repeats host and port
    return "the connection broke"


def _words(message: str) -> str:
    """Return the server's own words on one line, without the addresses that they often repeat."""
    line = _UNPRINTABLE.sub(" ", message).strip()
    return _ADDRESS.sub("<address>", line)[:_LONGEST_WORDS]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in {"localhost", "localhost."}
