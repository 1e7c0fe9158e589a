"""imapclient over our own line, and with what it lacks."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from imapclient import IMAPClient, SocketTimeout
from imapclient.datetime_util import parse_to_datetime
from imapclient.exceptions import IMAPClientError
from imapclient.response_parser import parse_response

from connectors.imap_folders import Folder
from connectors.imap_wire import Wire

if TYPE_CHECKING:
    import socket
    import ssl
    from datetime import datetime

    from connectors.breaker import Breaker

# imapclient logs user names, and imaplib whole messages, at levels below this one.
logging.getLogger("imapclient").setLevel(logging.WARNING)

_CONNECT_TIMEOUT: Final = 20.0  # seconds; who does not answer by then will not
_GOODBYE: Final = 3.0


class Client(IMAPClient):  # type: ignore[misc]
    """imapclient with UID ranges, SPECIAL-USE on request, and waiting that can be ended.

    Args:
        host: A name or an address.
        port: The port.
        timeout: Seconds that the server may keep silent within a command.
        breaker: Breaks the connection off.
        context: For TLS from the start; None for none.
        preauth: See `Wire`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float,
        breaker: Breaker,
        context: ssl.SSLContext | None,
        preauth: bool,
    ) -> None:
        self._wire_context = context
        self._preauth = preauth
        self.breaker = breaker
        patience = SocketTimeout(min(_CONNECT_TIMEOUT, timeout), timeout)
        super().__init__(host, port=port, ssl=False, timeout=patience)
        self._imap.debug = 0

    @property
    def logged_in(self) -> bool:
        """Whether the server asks for no login, any more or at all (PREAUTH)."""
        return str(self._imap.state) != "NONAUTH"

    @property
    def hung_up(self) -> bool:
        """Whether the server has closed the connection without a word."""
        wire: Wire = self._imap
        return wire.hung_up

    def hurry(self) -> None:
        """Give the server only a moment for what is left to say."""
        self.socket().settimeout(min(self._timeout.read, _GOODBYE))

    def secure(self, context: ssl.SSLContext) -> None:
        """STARTTLS.

        imapclient's own asks for the capabilities again and again afterwards.
        """
        kind, data = self._imap.upgrade(context)
        self._checkok("starttls", kind, data)

    def login(self, username: str, password: str) -> tuple[str, str]:
        """LOGIN; return the kind of the answer and its words.

        Raises:
            UnicodeEncodeError: A letter beyond ASCII.
        """
        # imaplib's own leaves the user name unquoted.
        kind, data = self._imap._simple_command("LOGIN", _quoted(username), _quoted(password))  # noqa: SLF001
        return self._logged_in(kind, data)

    def authenticate(self, mechanism: str, response: bytes) -> tuple[str, str, bytes]:
        """AUTHENTICATE; return the kind of the answer, its words, and the last challenge."""
        wire: Wire = self._imap
        kind, data, challenge = wire.exchange(
            mechanism, response, at_once=self.has_capability("SASL-IR")
        )
        return (*self._logged_in(kind, data), challenge)

    def _logged_in(self, kind: str, data: list[Any]) -> tuple[str, str]:
        if kind == "OK":
            self._imap.state = "AUTH"
        return kind, str(data[-1] or b"", "utf-8", "replace")

    def fetched(
        self, messages: str, items: str, *, by_uid: bool = True
    ) -> dict[int, dict[bytes, Any]]:
        """Return what FETCH gives, by UID; dates aware.

        imapclient's own ``fetch`` takes no ranges, for it turns each of its arguments into an int,
        and takes the number of a message whose flags are told unasked for a UID.
        """
        command = (messages, f"({items})")
        kind, data = self._imap.uid("FETCH", *command) if by_uid else self._imap.fetch(*command)
        self._checkok("fetch", kind, data)
        found: dict[int, dict[bytes, Any]] = {}
        try:
            rows = iter(parse_response(data)) if data != [None] else iter(())
        except RecursionError:
            raise IMAPClientError("the answer is nested too deeply") from None
        for _, row in zip(rows, rows, strict=True):
            pairs = {_word(key): value for key, value in zip(row[::2], row[1::2], strict=True)}
            uid = pairs.get(b"UID")
            if isinstance(uid, int):
                pairs[b"INTERNALDATE"] = _moment(pairs.get(b"INTERNALDATE"))
                found.setdefault(uid, {}).update(pairs)
        return found

    def watch(self, seconds: float, exists: int, bell: socket.socket) -> bool:
        """Listen, in IDLE where the server has it; see `Wire.watch`."""
        wire: Wire = self._imap
        return wire.watch(seconds, exists, bell, idle=self.has_capability("IDLE"))

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

    def _create_IMAP4(self) -> Wire:  # noqa: N802 - imapclient's name
        return Wire(
            self.host,
            self.port,
            timeout=self._timeout.connect,
            breaker=self.breaker,
            context=self._wire_context,
            preauth=self._preauth,
        )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _word(key: object) -> bytes:
    if not isinstance(key, bytes):
        raise ValueError(f"an answer has a {type(key).__name__} for a name")  # noqa: TRY004 - no IMAP
    return key.upper()


def _moment(told: object) -> datetime | None:
    """Return an INTERNALDATE, None for none and for what is no date."""
    if not isinstance(told, bytes):
        return None
    try:
        found: datetime | None = parse_to_datetime(told, normalise=False)
    except ValueError:
        return None
    return found


def shut_down(client: Client) -> None:
    """Drop a connection without a word, whatever state it is in."""
    with suppress(OSError, IMAPClientError):
        client.shutdown()
