"""The contract between Panza and a place where mail is kept.

Vocabulary, after RFC 3501 and RFC 9051:

* A **message** is the bytes of one mail (RFC 5322) as the folder holds them.
* A **folder** is found by its `Role`, not by its name: Sent, Drafts, Panza requests.
* A **UID** names one message in one folder. UIDs ascend in the order of arrival and are never
  given twice while the folder's **UIDVALIDITY** stays the same.
* A **cursor** is a UIDVALIDITY and the last UID that was read under it.

All connectors are synchronous and serve one caller at a time; other calls may come between two
messages of a `Connector.fetch`. Only `Connector.wake` and `Connector.abort` may be called from
other threads. Nothing that this contract offers changes a message that is already in a folder,
apart from its flags.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from types import TracebackType


LARGEST: Final = 25 * 2**20
"""The largest message, in bytes, that a connector hands out whole."""

BEGINNING: Final = 2**20
"""How many bytes come of a message larger than `LARGEST`."""

REQUESTS_FOLDER: Final = "Panza requests"
"""The name of the requests folder where the owner gave it no other."""


class Role(StrEnum):
    """What a folder is for."""

    SENT = "sent"
    DRAFTS = "drafts"
    REQUESTS = "requests"


@dataclass(frozen=True, slots=True)
class Message:
    r"""One message as a folder holds it.

    Attributes:
        uid: Its UID in the folder.
        raw: The whole message, headers and body, exactly as stored, unless ``complete`` is false.
        flags: System flags and keywords in the server's spelling, for example ``\Seen``, without
            ``\Recent``.
        received: When the folder got it (INTERNALDATE), aware, or None where not known.
        complete: False for a message above `LARGEST`: then ``raw`` is its first `BEGINNING` bytes,
            headers and, in practice, the text, for mail clients put attachments behind it. False
            as well for a large message from Sent whose attachments were left on the server: then
            ``raw`` says the same with empty ones, and is not what the folder holds byte by byte.
    """

    uid: int
    raw: bytes
    flags: frozenset[str] = frozenset()
    received: datetime | None = None
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a folder has been read: the last UID seen under a UIDVALIDITY."""

    uidvalidity: int
    uid: int = 0


@dataclass(frozen=True, slots=True)
class FolderState:
    """What a folder says of itself.

    Attributes:
        name: The folder's name as a user would write it.
        uidvalidity: Its UIDVALIDITY.
        uidnext: A UID above every UID given so far; the next message gets this one or a higher.
            What `Connector.append` stores gets one even if it is taken away before anybody looks.
        messages: How many messages it holds.
    """

    name: str
    uidvalidity: int
    uidnext: int
    messages: int


class ConnectorError(Exception):
    """Root of all that a connector raises; the facts are in the subclasses' attributes."""


class UnreachableError(ConnectorError):
    """The server does not answer, or the connection broke; trying again later may help."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"{host}:{port} cannot be reached: {reason}")
        self.host, self.port, self.reason = host, port, reason


class InsecureError(ConnectorError):
    """The connection would not be private: trying again later does not help.

    A certificate that is not trusted, no TLS where TLS is wanted, STARTTLS that is not offered, or
    plain text to a host other than this one.
    """

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"no secure connection to {host}:{port}: {reason}")
        self.host, self.port, self.reason = host, port, reason


class LoginRefusedError(ConnectorError):
    """The server refused the user name or the password."""

    def __init__(self, host: str, user: str, reason: str) -> None:
        super().__init__(f"{host} refused the login: {reason}")
        self.host, self.user, self.reason = host, user, reason


class FolderMissingError(ConnectorError):
    """No folder for a role, or none of the configured name."""

    def __init__(self, role: Role, name: str | None, candidates: Iterable[str] = ()) -> None:
        self.role, self.name, self.candidates = role, name, tuple(candidates)
        wanted = f"named {name!r}" if name else f"for {role.value}"
        super().__init__(f"there is no folder {wanted}")


class MailboxError(ConnectorError):
    """A path that holds no mailbox of the expected format, or one that cannot be read."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class ReadOnlyError(ConnectorError):
    """A change was asked of a place that Panza only reads."""

    def __init__(self, place: str) -> None:
        super().__init__(f"{place} is read-only")
        self.place = place


class CursorInvalidError(ConnectorError):
    """A cursor's UIDVALIDITY is not the folder's any more: its UIDs mean nothing now."""

    def __init__(self, role: Role, expected: int, found: int) -> None:
        super().__init__(f"UIDVALIDITY of {role.value} changed from {expected} to {found}")
        self.role, self.expected, self.found = role, expected, found


class RefusedError(ConnectorError):
    """The server answered NO: it understood, and will not.

    Attributes:
        command: What was asked, for example ``APPEND``.
        code: The response code in capitals (``OVERQUOTA``, ``TRYCREATE``), or "".
        reason: The server's own words.
    """

    def __init__(self, command: str, code: str, reason: str) -> None:
        super().__init__(f"{command} was refused: {f'[{code}] ' if code else ''}{reason}")
        self.command, self.code, self.reason = command, code, reason


class MessageError(ConnectorError):
    """A message that cannot be read within the limits of size, parts or depth."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ReaderError(ConnectorError):
    """The process that reads messages cannot be started; no message is at fault."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the process that reads mail cannot be started: {reason}")
        self.reason = reason


class Connector(ABC):
    """One account's mail, or one archive of it.

    Every method may raise `UnreachableError`, `InsecureError`, `LoginRefusedError`,
    `FolderMissingError`, `RefusedError` or `MailboxError`. After an error the connector stays
    usable: the next call starts afresh. Reading is safe to repeat. Of the changes, `ensure`,
    `add_flags`, `remove_flags` and `remove` are safe to repeat and `append` is not: after an
    `UnreachableError` look with `message_ids` whether the message arrived before trying again.

    Attributes:
        read_only: Nothing is ever written here; what would change something raises
            `ReadOnlyError`.
    """

    read_only: bool = False
    _woken: threading.Event
    _broken_off: threading.Event

    def __new__(cls, *_arguments: object, **_named: object) -> Self:
        """Give every connector its bells, whatever its own constructor does."""
        made = super().__new__(cls)
        made._woken = threading.Event()
        made._broken_off = threading.Event()
        return made

    @abstractmethod
    def state(self, role: Role) -> FolderState:
        """Return what the role's folder says of itself now."""

    @abstractmethod
    def ensure(self, role: Role) -> str:
        """Return the name of the role's folder, which is made first where there is none.

        Drafts and the requests folder are made, and on a server subscribed to, so that mail
        clients show them. Sent is never made, and neither is a server's Drafts folder of a name
        that the owner gave: that name is more likely misspelt than missing.

        Raises:
            ReadOnlyError: The folder is missing and the place is read-only.
        """

    @abstractmethod
    def fetch(
        self, role: Role, cursor: Cursor | None = None, *, last: int | None = None
    ) -> Iterator[Message]:
        """Yield the messages behind the cursor in ascending order of UID; all without one.

        With ``last`` none above that UID comes, and no more is read ahead than is needed for that.
        Messages are read as they are asked for, a bounded number of bytes ahead. One that the
        folder lists and will not give is skipped. Errors come from the iteration.

        Raises:
            CursorInvalidError: The folder's UIDVALIDITY is not the cursor's, or changed on the
                way.
        """

    @abstractmethod
    def message_ids(self, role: Role, first_uid: int = 1) -> dict[int, str]:
        """Map each UID from ``first_uid`` on to its Message-ID, "" where it has none.

        Message-IDs come without angle brackets, as from `raw.message_id`.
        """

    @abstractmethod
    def append(
        self, role: Role, raw: bytes, *, flags: Iterable[str] = (), date: datetime | None = None
    ) -> int | None:
        """Store a message; return its UID where the folder tells it, else None.

        The folder is made first as by `ensure`. Line ends are stored as the place keeps them, CRLF
        on a server and LF in a Maildir, so compare messages in `raw.canonical` form. A flag that
        the place cannot keep is left out. ``date`` becomes INTERNALDATE, in whole seconds.

        Raises:
            ReadOnlyError: The place is read-only.
        """

    @abstractmethod
    def add_flags(
        self, role: Role, uid: int, flags: Iterable[str], *, uidvalidity: int | None = None
    ) -> None:
        r"""Add flags, for example ``\Answered``, to a message; one that is gone is no error.

        Raises:
            CursorInvalidError: ``uidvalidity`` is given and is not the folder's; nothing is done.
            ReadOnlyError: The place is read-only.
        """

    @abstractmethod
    def remove_flags(
        self, role: Role, uid: int, flags: Iterable[str], *, uidvalidity: int | None = None
    ) -> None:
        r"""Take flags, for example ``\Flagged``, off a message; one that is gone is no error.

        Raises:
            CursorInvalidError: ``uidvalidity`` is given and is not the folder's; nothing is done.
            ReadOnlyError: The place is read-only.
        """

    @abstractmethod
    def remove(self, role: Role, uid: int, *, uidvalidity: int | None = None) -> None:
        r"""Remove this one message and no other (UID EXPUNGE); one that is gone is no error.

        A server without UIDPLUS cannot do that: there the message is only marked ``\Deleted``.

        Raises:
            CursorInvalidError: ``uidvalidity`` is given and is not the folder's; nothing is done.
            ReadOnlyError: The place is read-only.
        """

    def wait(self, role: Role, timeout: float) -> bool:
        """Wait until the role's folder may have changed; a hint, never a promise.

        What arrived since this connector last called `state` for the role counts as a change. Where
        the place announces nothing, the whole time passes.

        Args:
            role: Which folder.
            timeout: Seconds to wait at most.

        Returns:
            Whether there may be something new; false when the time passed or `wake` was called.

        Raises:
            UnreachableError: The connection broke while it waited, or `abort` was called.
        """
        del role
        self._woken.wait(timeout)
        self._woken.clear()
        self._go_on()
        return False

    def wake(self) -> None:
        """End the `wait` that is going on, else the next one, at once; from any thread."""
        self._woken.set()

    def abort(self) -> None:
        """Break off the call that is going on, from any thread; it raises `UnreachableError`.

        Where none is going on the next one may be broken off instead. A call that does not depend
        on anybody's answer may end as usual. The connector stays usable.
        """
        self._broken_off.set()
        self.wake()

    def _go_on(self) -> None:
        """Raise if `abort` was called, once; for what takes long without anybody's answer."""
        if self._broken_off.is_set():
            self._broken_off.clear()
            raise UnreachableError("this machine", 0, "the call was broken off")

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and files; closing twice is no error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_uidvalidity(role: Role, expected: int | None, found: int) -> None:
    """Raise `CursorInvalidError` if a UIDVALIDITY is expected and another one is found."""
    if expected is not None and expected != found:
        raise CursorInvalidError(role, expected, found)
