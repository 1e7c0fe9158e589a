"""The structure of a message, read in place: header fields and parts (RFC 5322, RFC 2045, 2046).

The standard library's parser copies and splits the whole message into lines, attachments too, and
some of its policies take gigabytes for a hostile header. Here a part is a range of the message's
bytes, delimiters are found by searching, and only the parts somebody asks for are decoded.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from email.message import Message as _Fields
from typing import TYPE_CHECKING

from connectors import charsets
from connectors.base import MessageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MESSAGE = 150 * 2**20  # bytes; the largest mail that public servers take
MAX_HEADER = 256 * 2**10  # bytes of all header fields of one part
MAX_PARAMETERS = 16 * 2**10  # bytes of a field with parameters, whose parsing is not linear
MAX_CONTENT = 4 * 2**20  # bytes of one part that is to be read as text
MAX_PARTS = 1000
MAX_DEPTH = 30
MAX_FALSE_DELIMITERS = 100_000  # places that begin like a delimiter line and are none

_BLANK_LINE = re.compile(rb"\n\r?\n")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:(.*)", re.DOTALL)
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64))


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Part:
    """One part of a message; the message itself is the outermost part.

    Each is only equal to itself.

    Attributes:
        raw: The whole message.
        start: Where the part's body begins in ``raw``.
        end: Where it ends.
        fields: Header fields in order: names in lower case, values unfolded but not decoded.
        content_type: For example ``text/plain``, in lower case.
        parameters: Those of Content-Type, names in lower case.
        children: The parts of a multipart; empty for all others.
    """

    raw: bytes = field(repr=False)
    start: int
    end: int
    fields: tuple[tuple[str, bytes], ...] = field(repr=False)
    content_type: str
    parameters: dict[str, str]
    children: tuple[Part, ...] = ()

    def get(self, name: str) -> bytes:
        """Return the first header field of this name (in lower case), b"" if there is none."""
        return next(self.all(name), b"")

    def all(self, name: str) -> Iterator[bytes]:
        """Yield the values of all header fields of this name (in lower case)."""
        return (value for key, value in self.fields if key == name)

    @property
    def attachment(self) -> bool:
        """Whether the part is a file rather than text to be read with the message."""
        if "name" in self.parameters:
            return True
        value = self.get("content-disposition").strip()
        if not value:
            return False
        kind = value.split(b";")[0].strip().lower()
        return kind == b"attachment" or "filename" in _parameters(b"a/" + value)[1]

    def content(self) -> bytes:
        """Return the body with its transfer encoding undone, as far as it can be.

        Raises:
            MessageError: The body is larger than ``MAX_CONTENT``.
        """
        if self.end - self.start > MAX_CONTENT * 3:  # quoted-printable triples at most
            raise MessageError(f"a text of {self.end - self.start} bytes is too large to read")
        data = _decoded(self.raw[self.start : self.end], self.get("content-transfer-encoding"))
        if len(data) > MAX_CONTENT:
            raise MessageError(f"a text of {len(data)} bytes is too large to read")
        return data

    def message(self) -> bytes:
        """Return the message that a part of type ``message/rfc822`` carries."""
        return _decoded(self.raw[self.start : self.end], self.get("content-transfer-encoding"))

    def walk(self) -> Iterator[Part]:
        """Yield this part and all parts within it, outermost first."""
        yield self
        for child in self.children:
            yield from child.walk()


def read(raw: bytes) -> Part:
    """Return the message as a tree of parts.

    Whatever is damaged is read as far as it goes: lines that are no header field are skipped, a
    multipart without its boundary is plain text, a missing end is the end of the message.

    Raises:
        MessageError: The message passes one of this module's limits.
    """
    if len(raw) > MAX_MESSAGE:
        raise MessageError(f"the message has {len(raw)} bytes; at most {MAX_MESSAGE} are read")
    return _Reader(raw).part(0, len(raw), "text/plain", 0)


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.parts = 0
        self.false_delimiters = 0

    def part(self, start: int, end: int, default: str, depth: int) -> Part:
        self.parts += 1
        if self.parts > MAX_PARTS:
            raise MessageError(f"the message has more than {MAX_PARTS} parts")
        if depth > MAX_DEPTH:
            raise MessageError(f"the message is nested more than {MAX_DEPTH} levels deep")
        body = self._body_start(start, end)
        fields = tuple(_fields(self.raw[start:body]))
        value = next((value for key, value in fields if key == "content-type"), b"")
        content_type, parameters = _parameters(value)
        content_type = content_type or default
        ranges = []
        if content_type.startswith("multipart/"):
            ranges = list(self._ranges(body, end, parameters.get("boundary", "").rstrip()))
            if not ranges:
                content_type = "text/plain"
        inner = "message/rfc822" if content_type == "multipart/digest" else "text/plain"
        children = tuple(self.part(first, last, inner, depth + 1) for first, last in ranges)
        return Part(self.raw, body, end, fields, content_type, parameters, children)

    def _body_start(self, start: int, end: int) -> int:
        if self.raw.startswith((b"\n", b"\r\n"), start, end):
            return self.raw.index(b"\n", start) + 1
        blank = _BLANK_LINE.search(self.raw, start, min(end, start + MAX_HEADER))
        if blank:
            return blank.end()
        if end - start > MAX_HEADER:
            raise MessageError(f"the header has more than {MAX_HEADER} bytes")
        return end

    def _ranges(self, start: int, end: int, boundary: str) -> Iterator[tuple[int, int]]:
        """Yield where each part of a multipart begins and ends (RFC 2046, 5.1.1)."""
        delimiter = b"--" + boundary.encode("latin-1", "replace")
        opened, position = None, start
        while boundary and (found := self.raw.find(delimiter, position, end)) >= 0:
            position = found + len(delimiter)
            line_end = self.raw.find(b"\n", position, min(end, position + 1000))
            line_end = min(end, position + 1000) if line_end < 0 else line_end
            rest = self.raw[position:line_end].strip()
            at_line_start = found == start or self.raw[found - 1 : found] == b"\n"
            if not at_line_start or rest not in {b"", b"--"}:
                self._count_false_delimiter()
                continue
            if opened is not None:
                yield opened, max(opened, _before_line_break(self.raw, found))
            opened, position = line_end + 1, line_end
            if rest == b"--":
                return
        if opened is not None and opened < end:
            yield opened, end

    def _count_false_delimiter(self) -> None:
        self.false_delimiters += 1
        if self.false_delimiters > MAX_FALSE_DELIMITERS:
            raise MessageError("the message is full of what is nearly a MIME delimiter")


def _before_line_break(raw: bytes, position: int) -> int:
    """The line break before a delimiter belongs to the delimiter."""
    if raw.endswith(b"\r\n", 0, position):
        return position - 2
    return position - 1


def _fields(header: bytes) -> Iterator[tuple[str, bytes]]:
    name: str = ""
    value: list[bytes] = []
    for line in header.split(b"\n"):
        text = line.rstrip(b"\r")
        if text[:1] in {b" ", b"\t"}:
            value.append(text.strip())
        elif match := _FIELD.match(text):
            if name:
                yield name, b" ".join(value)
            name, value = match[1].decode("ascii").lower(), [match[2].strip()]
    if name:
        yield name, b" ".join(value)


def _parameters(value: bytes) -> tuple[str, dict[str, str]]:
    """Split ``type/subtype; name=value`` (RFC 2045 with RFC 2231); "" for what is no type."""
    if not value:
        return "", {}
    if len(value) > MAX_PARAMETERS:
        raise MessageError(f"a header field of {len(value)} bytes has parameters")
    fields = _Fields()
    fields["Content-Type"] = value.decode("latin-1")
    content_type = fields.get_content_type() if b"/" in value.split(b";")[0] else ""
    found: dict[str, str] = {}
    for name, parameter in fields.get_params(failobj=[])[1:]:
        found.setdefault(name.lower(), _parameter(parameter))
    return content_type, found


def _parameter(value: str | tuple[str | None, str | None, str]) -> str:
    """Decode a parameter; one that names its charset (RFC 2231) comes as three."""
    if isinstance(value, str):
        return value
    charset, _, text = value
    return charsets.decode(text.encode("latin-1", "replace"), charset or "")


def _decoded(data: bytes, encoding: bytes) -> bytes:
    """Undo a Content-Transfer-Encoding (RFC 2045, 6); damage costs no more than it must."""
    match encoding.strip().lower():
        case b"quoted-printable":
            return binascii.a2b_qp(data)
        case b"base64":
            symbols = data.translate(None, _NOT_BASE64)
            whole = len(symbols) - (1 if len(symbols) % 4 == 1 else 0)
            return binascii.a2b_base64(symbols[:whole] + b"=" * (-whole % 4))
        case _:
            return data
