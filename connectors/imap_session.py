r"""One connection to an IMAP server: made, secured, logged in; and errors in Panza's own terms.

Nothing of imapclient's, imaplib's, ssl's or the socket's leaves this module and `connectors.imap`.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import ssl
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import (
    CapabilityError,
    IMAPClientAbortError,
    IMAPClientError,
    IMAPClientReadOnlyError,
    LoginError,
    ProtocolError,
)
from imapclient.response_parser import parse_fetch_response

from connectors.base import InsecureError, LoginRefusedError, RefusedError, Role, UnreachableError
from connectors.imap_folders import Folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

# imapclient logs user names, and imaplib whole messages, at levels below this one.
logging.getLogger("imapclient").setLevel(logging.WARNING)

TEMPORARY: Final = frozenset({"INUSE", "LIMIT", "SERVERBUG", "THROTTLED", "UNAVAILABLE"})
"""Response codes of a NO that may become an OK later (RFC 5530, RFC 9051)."""

_CONNECT_TIMEOUT = 20.0  # seconds; who does not answer by then will not
_PREFIX = re.compile(r"^(?:command: )?[A-Za-z ]+ (?:failed:|command error: BAD|=>) ?")
_CODE = re.compile(r"^[\['b\"]*\[([A-Z][A-Z0-9-]*)[^\]]*\] ?")


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
    """

    host: str
    user: str
    password: str | Callable[[], str] = field(repr=False)
    port: int = 993
    security: Literal["tls", "starttls", "none"] = "tls"
    timeout: float = 60.0
    folders: Mapping[Role, str | None] = field(default_factory=dict)
    ca_file: Path | None = None


class Client(IMAPClient):  # type: ignore[misc]
    """imapclient with what it lacks: UID ranges, SPECIAL-USE on request, prompt small packets."""

    def __init__(self, settings: ImapSettings, context: ssl.SSLContext) -> None:
        super().__init__(
            settings.host,
            port=settings.port,
            ssl=settings.security == "tls",
            ssl_context=context,
            timeout=SocketTimeout(min(_CONNECT_TIMEOUT, settings.timeout), settings.timeout),
        )
        # A literal follows its command in a packet of its own; Nagle would hold it back 40 ms.
        self.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._imap.debug = 0

    def uid_fetch(self, uids: str, items: str) -> dict[int, dict[bytes, Any]]:
        """Return what UID FETCH gives, by UID; dates aware.

        imapclient's own ``fetch`` takes no ranges, for it turns each of its arguments into an int.
        """
        kind, data = self._imap.uid("FETCH", uids, f"({items})")
        self._checkok("fetch", kind, data)
        return dict(parse_fetch_response(data, normalise_times=False, uid_is_key=True))

    def folders(self) -> list[Folder]:
        """Return all folders, with special uses also where LIST tells them only when asked."""
        rows = None
        if self.has_capability("SPECIAL-USE"):
            with suppress(IMAPClientError):
                command = ("LIST", '""', '"*"', "RETURN", "(SPECIAL-USE)")
                kind, data = self._imap._simple_command(*command)  # noqa: SLF001 - no other way
                self._checkok("list", kind, data)
                rows = self._proc_folder_list(self._imap._untagged_response(kind, data, "LIST")[1])  # noqa: SLF001
        return [
            Folder(
                name,
                delimiter.decode("ascii", "replace") if delimiter else "",
                frozenset(flag.decode("ascii", "replace").lower() for flag in flags),
            )
            for flags, delimiter, name in rows or self.list_folders()
        ]

    def prefix(self) -> str | None:
        """Return the prefix of the personal namespace (RFC 2342), None where it is not told."""
        if not self.has_capability("NAMESPACE"):
            return None
        try:
            personal = self.namespace().personal
        except ValueError:  # a namespace with extensions, which imapclient does not take apart
            return None
        return str(personal[0][0]) if personal else ""


def connect(settings: ImapSettings) -> Client:
    """Return a connection that is private and logged in.

    Raises:
        UnreachableError: No answer, or the server has no time now.
        InsecureError: The connection would not be private.
        LoginRefusedError: The user name or the password is wrong.
    """
    if settings.security == "none" and not _is_loopback(settings.host):
        raise InsecureError(
            settings.host,
            settings.port,
            "security none sends mail and password in clear; use tls or starttls",
        )
    client = _secured(settings)
    try:
        secret = settings.password
        password = secret if isinstance(secret, str) else secret()
        with translated(settings, "LOGIN"):
            _log_in(client, settings, password)
    except BaseException:
        shut_down(client)
        raise
    return client


def shut_down(client: Client) -> None:
    """Drop a connection without a word, whatever state it is in."""
    with suppress(OSError, IMAPClientError):
        client.shutdown()


@contextmanager
def translated(settings: ImapSettings, command: str) -> Iterator[None]:
    """Turn what the libraries raise into connector errors.

    Raises:
        UnreachableError: The connection broke, timed out, or carries what is no IMAP.
        RefusedError: The server answered NO or BAD.
    """
    try:
        yield
    except IMAPClientReadOnlyError as error:
        raise RefusedError(command, "READ-ONLY", "the folder is read-only") from error
    except (IMAPClientAbortError, ProtocolError, OSError, ValueError) as error:
        raise UnreachableError(settings.host, settings.port, _reason(error)) from error
    except IMAPClientError as error:
        raise RefusedError(command, *_answer(error)) from error


def _secured(settings: ImapSettings) -> Client:
    """Connect, with TLS unless the settings say none."""
    host, port = settings.host, settings.port
    client = None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        client = Client(settings, context)
        if settings.security == "starttls":
            client.starttls(context)
    except BaseException as error:
        if client is not None:
            shut_down(client)
        _raise_connect_error(host, port, error, greeted=client is not None)
        raise
    return client


def _raise_connect_error(host: str, port: int, error: BaseException, *, greeted: bool) -> None:
    """Raise what a failed attempt to connect means; return if it is none of the libraries'."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"the certificate is not trusted ({error.verify_message})"
        raise InsecureError(host, port, reason) from error
    if isinstance(error, CapabilityError):
        reason = "the server does not offer STARTTLS; use tls (port 993) if it can"
        raise InsecureError(host, port, reason) from error
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        reason = f"no TLS was agreed on ({error.reason or error}); check port and security"
        raise InsecureError(host, port, reason) from error
    lost = isinstance(error, IMAPClientAbortError | OSError)
    if greeted and isinstance(error, IMAPClientError) and not lost:
        raise InsecureError(host, port, "the server refused STARTTLS") from error
    if lost or isinstance(error, IMAPClientError | ValueError):
        raise UnreachableError(host, port, _reason(error)) from error


def _log_in(client: Client, settings: ImapSettings, password: str) -> None:
    if re.search(r"[\r\n\0]", settings.user + password):
        reason = "the user name or the password holds a line break"
        raise LoginRefusedError(settings.host, settings.user, reason)
    try:
        # PLAIN carries any character; LOGIN is ASCII only, and imaplib does not quote the user.
        if client.has_capability("AUTH=PLAIN"):
            client.plain_login(settings.user, password)
        else:
            client.login(_quoted(settings.user), password)
    except LoginError as error:
        cause = error.__context__
        if isinstance(cause, IMAPClientAbortError):  # imapclient takes a lost line for a refusal
            raise cause from None
        code, reason = _answer(error)
        if code in TEMPORARY:
            raise UnreachableError(settings.host, settings.port, reason) from error
        raise LoginRefusedError(settings.host, settings.user, reason) from error
    except UnicodeEncodeError as error:
        reason = "the server takes no letters beyond ASCII in user name and password"
        raise LoginRefusedError(settings.host, settings.user, reason) from error


def _answer(error: IMAPClientError) -> tuple[str, str]:
    """Return the response code, "" if none, and the words of a NO or BAD."""
    text = _PREFIX.sub("", str(error), count=1)
    found = _CODE.match(text)
    return (found.group(1), text[found.end() :].strip()) if found else ("", text)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "its name cannot be resolved"
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    if isinstance(error, ValueError | ProtocolError):
        return "its answer is no IMAP that could be understood"
    return _answer(error)[1] or "the connection broke"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in {"localhost", "localhost."}
