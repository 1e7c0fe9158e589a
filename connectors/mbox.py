r"""Sent mail in an mbox file, read-only: an archive or an export.

The format is that of RFC 4155 and its relatives mboxo and mboxrd: a message begins with a line
``From …`` that follows an empty line; a line of the message itself that looks so carries a ``>``
in front, which is taken off again. Lines that merely begin with "From " and carry no quote, as
careless programs write them, are told apart by what stands in them and in the next line.

A UID is the place of the message's ``From `` line in the file, in bytes, plus one. So a file that
only grew is read on from where it was, without a list of UIDs; UIDs can exceed 32 bits.
UIDVALIDITY is drawn from the header of the first message, so it changes with the file's beginning.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz
from typing import TYPE_CHECKING

from connectors.base import (
    BEGINNING,
    LARGEST,
    Connector,
    Cursor,
    CursorInvalidError,
    FolderMissingError,
    FolderState,
    MailboxError,
    Message,
    ReadOnlyError,
    Role,
    check_uidvalidity,
)
from connectors.raw import message_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

_DATED = rb"[^\r\n]{0,300}\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b[^\r\n]{0,40}\d\d?:\d\d[^\r\n]{0,80}"
_BARE = rb"[^\s]{0,300}[ \t]*"
_HEADER_LINE = rb"[!-9;-~]{1,100}[ \t]*:"
# A line without a date is a separator only before a header; one with a date may also end the file.
# The empty line is looked for behind "From ": a pattern that begins with letters is found faster.
_SEPARATOR = re.compile(
    rb"From (?:(?<=\n\nFrom )|(?<=\n\r\nFrom ))(?:"
    + _DATED
    + rb"(?:\r?\n|\Z)(?="
    + _HEADER_LINE
    + rb"|>?From |\r?\n|[!-9;-~]{0,100}\Z)|"
    + _BARE
    + rb"\r?\n(?="
    + _HEADER_LINE
    + rb"))"
)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_DATE = re.compile(rb"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b.*")

_CHUNK = 2**20
_MARGIN = 2**11
"""More than a separator and the look ahead behind it can take."""

_HEADER = 2**16
"""How much of a message is read for its Message-ID, and of the first for UIDVALIDITY."""

_LEAD = b"\n\n"
"""Stands before the first byte, so that the first separator follows an empty line too."""


class MboxConnector(Connector):
    """An mbox file as the Sent folder of an account; no other folder, and nothing to change.

    The file is read in pieces. A last message that is cut off is yielded as far as it goes. An
    empty file is an empty folder. Messages carry no flags. A file that was changed behind its
    beginning is noticed when the cursor's message no longer begins where it did; then
    `CursorInvalidError` names twice the same UIDVALIDITY.

    Args:
        path: The file.
    """

    read_only = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def state(self, role: Role) -> FolderState:
        """Return what the file says of itself now; this looks through the whole file."""
        with self._opened(role) as file:
            uidnext = os.fstat(file.fileno()).st_size + 1
            count = sum(1 for _ in _starts(file, 0, self._go_on))
            return FolderState(self._path.name, _uidvalidity(file), uidnext, count)

    def ensure(self, role: Role) -> str:
        """Return the file's name for Sent; there is no other folder, and none is made."""
        if role is not Role.SENT:
            raise ReadOnlyError(str(self._path))
        return self._path.name

    def fetch(
        self, role: Role, cursor: Cursor | None = None, *, last: int | None = None
    ) -> Iterator[Message]:
        """Yield the messages behind the cursor in the order of the file; all without one.

        "Received" is the date of the ``From `` line, in UTC where it names no zone.
        """
        with self._opened(role) as file:
            found = _uidvalidity(file)
            start = cursor or Cursor(found)
            check_uidvalidity(role, start.uidvalidity, found)
            spans = _spans(file, max(start.uid - 1, 0), self._go_on)
            if start.uid:
                first = next(spans, None)
                if first is None or first[0] != start.uid - 1:
                    raise CursorInvalidError(role, start.uidvalidity, found)
            for begin, end in spans:
                if last is not None and begin >= last:
                    return
                self._go_on()
                yield _message(file, begin, end)

    def message_ids(self, role: Role, first_uid: int = 1) -> dict[int, str]:
        """Map each UID from ``first_uid`` on to its Message-ID, "" where it has none."""
        with self._opened(role) as file:
            return {
                begin + 1: message_id(_body(file, begin, min(end, begin + _HEADER))[1])
                for begin, end in _spans(file, max(first_uid - 1, 0), self._go_on)
            }

    def append(
        self,
        role: Role,  # noqa: ARG002 - nothing can be appended
        raw: bytes,  # noqa: ARG002
        *,
        flags: Iterable[str] = (),  # noqa: ARG002
        date: datetime | None = None,  # noqa: ARG002
    ) -> int | None:
        """Raise `ReadOnlyError`."""
        raise ReadOnlyError(str(self._path))

    def add_flags(
        self,
        role: Role,  # noqa: ARG002 - nothing can be flagged
        uid: int,  # noqa: ARG002
        flags: Iterable[str],  # noqa: ARG002
        *,
        uidvalidity: int | None = None,  # noqa: ARG002
    ) -> None:
        """Raise `ReadOnlyError`."""
        raise ReadOnlyError(str(self._path))

    def remove_flags(
        self,
        role: Role,  # noqa: ARG002 - nothing is flagged
        uid: int,  # noqa: ARG002
        flags: Iterable[str],  # noqa: ARG002
        *,
        uidvalidity: int | None = None,  # noqa: ARG002
    ) -> None:
        """Raise `ReadOnlyError`."""
        raise ReadOnlyError(str(self._path))

    def remove(
        self,
        role: Role,  # noqa: ARG002 - nothing can be removed
        uid: int,  # noqa: ARG002
        *,
        uidvalidity: int | None = None,  # noqa: ARG002
    ) -> None:
        """Raise `ReadOnlyError`."""
        raise ReadOnlyError(str(self._path))

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    @contextmanager
    def _opened(self, role: Role) -> Iterator[BinaryIO]:
        """Open the file, make sure that it is an mbox, and translate the system's errors."""
        if role is not Role.SENT:
            raise FolderMissingError(role, None)
        try:
            if self._path.is_dir():
                raise MailboxError(
                    str(self._path), "is a folder and no mbox file; name a file in it, or a Maildir"
                )
            with self._path.open("rb") as file:
                self._refuse_other_formats(file)
                yield file
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise MailboxError(str(self._path), f"{reason}; correct the path") from error

    def _refuse_other_formats(self, file: BinaryIO) -> None:
        beginning = _LEAD + file.read(_MARGIN)
        content = beginning.lstrip(b"\r\n")
        if content and not _SEPARATOR.match(beginning, len(beginning) - len(content)):
            reason = "line 1 is no 'From ' line, so this is no mbox file; export the mail as mbox"
            if beginning.startswith((b"\x1f\x8b", b"PK", b"BZh", b"\xfd7z"), len(_LEAD)):
                reason = "line 1 is compressed data, so this is no mbox file yet; unpack it first"
            raise MailboxError(str(self._path), reason)


def _uidvalidity(file: BinaryIO) -> int:
    """Return a number drawn from the first message's ``From `` line and header."""
    beginning = os.pread(file.fileno(), _HEADER, 0)
    header = re.split(rb"\r?\n\r?\n", beginning, maxsplit=1)[0].rstrip()
    return int.from_bytes(hashlib.sha256(header).digest()[:4], "big") >> 1 or 1


def _starts(file: BinaryIO, first: int, go_on: Callable[[], None]) -> Iterator[int]:
    """Yield where each ``From `` line from ``first`` on begins; ``go_on`` may raise on the way."""
    # What stands before counts too: a separator follows an empty line.
    position = first - 3
    file.seek(max(position, 0))
    buffer = b""
    if position < 0:
        position, buffer = -len(_LEAD), _LEAD
    while True:
        go_on()
        chunk = file.read(_CHUNK)
        buffer += chunk
        # At the end of what was read a separator, or what follows it, may be cut in two.
        limit = len(buffer) - _MARGIN if chunk else len(buffer)
        for match in _SEPARATOR.finditer(buffer):
            start = match.start()
            if start >= limit:
                break
            if position + start >= first:
                first = position + start + 1
                yield first - 1
        if not chunk:
            return
        cut = max(limit - 3, 0)
        position, buffer = position + cut, buffer[cut:]


def _spans(file: BinaryIO, first: int, go_on: Callable[[], None]) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each message from ``first`` on, its ``From `` line included."""
    size = os.fstat(file.fileno()).st_size
    begin = None
    for start in _starts(file, first, go_on):
        if begin is not None:
            yield begin, start
        begin = start
    if begin is not None:
        yield begin, size


def _body(file: BinaryIO, begin: int, end: int) -> tuple[bytes, bytes]:
    """Return a message's ``From `` line and the message itself, unquoted."""
    # pread leaves the position alone that `_starts` reads on from.
    line, _, raw = os.pread(file.fileno(), end - begin, begin).partition(b"\n")
    return line, _QUOTED_FROM.sub(rb"\1", raw)


def _message(file: BinaryIO, begin: int, end: int) -> Message:
    complete = end - begin <= LARGEST
    line, raw = _body(file, begin, end if complete else begin + BEGINNING)
    if complete:  # the empty line before the next separator is not the message's
        raw = re.sub(rb"(\A|\n)\r?\n\Z", rb"\1", raw)
    return Message(begin + 1, raw, received=_date(line), complete=complete)


def _date(line: bytes) -> datetime | None:
    """Return the date in a ``From `` line (asctime, with or without a zone), None if none."""
    found = _DATE.search(line)
    parsed = parsedate_tz(found.group().decode("ascii", "replace")) if found else None
    if parsed is None:
        return None
    try:
        zone = timezone(timedelta(seconds=parsed[9] or 0))
        return datetime(*parsed[:6], tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
