"""One connection to an IMAP server: made, secured, logged in."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from imapclient.exceptions import IMAPClientAbortError, IMAPClientError

from connectors.base import InsecureError, Role, UnreachableError
from connectors.imap_client import Client, shut_down
from connectors.imap_errors import reason, translated
from connectors.imap_login import log_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from connectors.breaker import Breaker


@dataclass(frozen=True, slots=True)
class ImapSettings:
    """How to reach an account, and what its folders are called.

    Attributes:
        host: A name or an address.
        user: The login name.
        password: The password, or what returns it; asked anew at each login, once the connection
            is private.
        port: 993 with TLS from the start, else 143 as a rule.
        security: ``tls`` from the start, ``starttls`` without exception, or ``none``, which is for
            this machine only.
        timeout: Seconds that the server may keep silent within a command.
        folders: The owner's names; a role that is missing or None is looked for.
        ca_file: Certificates (PEM) to trust instead of the system's, for a server of one's own.
        oauth: The password is an OAuth 2 access token (RFC 7628, or Google's XOAUTH2).
    """

    host: str
    user: str
    password: str | Callable[[], str] = field(repr=False)
    port: int = 993
    security: Literal["tls", "starttls", "none"] = "tls"
    timeout: float = 60.0
    folders: Mapping[Role, str | None] = field(default_factory=dict)
    ca_file: Path | None = None
    oauth: bool = False


def connect(settings: ImapSettings, breaker: Breaker) -> Client:
    """Return a connection that is private and logged in.

    Raises:
        UnreachableError: No answer, the server has no time now, or it was broken off.
        InsecureError: The connection would not be private.
        LoginRefusedError: The user name or the password is wrong.
    """
    if settings.security == "none" and not _is_loopback(settings.host):
        raise InsecureError(
            settings.host,
            settings.port,
            "security none sends mail and password in clear; use tls or starttls",
        )
    client = _secured(settings, breaker)
    try:
        if not client.logged_in:
            secret = _secret(settings, breaker)
            with translated(settings.host, settings.port, "LOGIN"):
                log_in(client, settings, secret)
    except BaseException:
        shut_down(client)
        raise
    return client


def _secured(settings: ImapSettings, breaker: Breaker) -> Client:
    """Connect, with TLS unless the settings say none."""
    host, port = settings.host, settings.port
    client = None
    try:
        context = _context(settings)
        client = Client(
            host,
            port,
            timeout=settings.timeout,
            breaker=breaker,
            context=context if settings.security == "tls" else None,
            preauth=settings.security == "none",  # a tunnel on this machine may do that
        )
        if settings.security == "starttls":
            _start_tls(client, settings, context)
    except BaseException as error:
        if client is not None:
            shut_down(client)
        _raise_connect_error(host, port, error, greeted=client is not None)
        raise
    return client


def _context(settings: ImapSettings) -> ssl.SSLContext:
    if settings.security == "none":  # not used, and certificates take 30 ms to read
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _start_tls(client: Client, settings: ImapSettings, context: ssl.SSLContext) -> None:
    if not client.has_capability("STARTTLS"):
        missing = "the server does not offer STARTTLS; use tls (port 993) if it can"
        raise InsecureError(settings.host, settings.port, missing)
    client.secure(context)


def _secret(settings: ImapSettings, breaker: Breaker) -> str:
    if isinstance(settings.password, str):
        return settings.password
    try:
        # It may wait for the owner, who is not to hold up whoever breaks this off.
        return breaker.run(settings.password)
    except ConnectionAbortedError as error:
        raise UnreachableError(settings.host, settings.port, reason(error)) from error


def _raise_connect_error(host: str, port: int, error: BaseException, *, greeted: bool) -> None:
    """Raise what a failed attempt to connect means; return if it is none of the libraries'."""
    if isinstance(error, ssl.SSLCertVerificationError):
        untrusted = f"the certificate is not trusted ({error.verify_message})"
        raise InsecureError(host, port, untrusted) from error
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        disagreed = f"no TLS was agreed on ({error.reason or error}); check port and security"
        raise InsecureError(host, port, disagreed) from error
    lost = isinstance(error, IMAPClientAbortError | OSError)
    if greeted and isinstance(error, IMAPClientError) and not lost:
        raise InsecureError(host, port, "the server refused STARTTLS") from error
    if lost or isinstance(error, IMAPClientError | ValueError):
        raise UnreachableError(host, port, reason(error)) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in {"localhost", "localhost."}
