"""A large mail without its attachments (RFC 3501, BODYSTRUCTURE and sections).

Of a mail with photographs only its header fields and its texts are fetched, and a message is made
of them that is read as the original would be: each attachment is there, under its own type and
name, and empty. Messages that are attached come whole, for their text is context.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from connectors import mime
from connectors.base import MessageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_TEXTS: Final = frozenset({"text/plain", "text/html"})
_ATTACHED: Final = "message/rfc822"
_COMMAND: Final = 6000
"""The longest list of sections, in bytes, that leaves room in a command that every server takes."""

_DISPOSITION: Final = 9
"""Where a text part's disposition stands in its BODYSTRUCTURE."""


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a message as the server sees it.

    Attributes:
        number: For example ``2.1``; "" for the message itself.
        kind: For example ``text/plain``, in lower case.
        size: The bytes that are to be fetched of it, without its header fields.
        wanted: Whether its content is fetched.
        children: The parts of a multipart.
    """

    number: str
    kind: str
    size: int
    wanted: bool
    children: tuple[Section, ...] = ()

    def walk(self) -> Iterator[Section]:
        """Yield this part and all within it, outermost first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def total(self) -> int:
        """Return how many bytes of content are to be fetched in all."""
        return sum(part.size for part in self.walk() if part.wanted)

    def items(self) -> str | None:
        """Return what to fetch of the message, None where that is too long a list."""
        names = [name for part in self.walk() for name in _names(part)]
        items = " ".join(f"BODY.PEEK[{name}]" for name in names)
        return items if len(items) <= _COMMAND else None


def outline(structure: object) -> Section | None:
    """Return the parts of a message from its BODYSTRUCTURE, None where it makes no sense."""
    try:
        return _section(structure, "", mime.MAX_DEPTH)
    except (AttributeError, IndexError, TypeError, ValueError):
        return None


def rebuilt(message: Section, found: Mapping[bytes, Any]) -> bytes | None:
    """Return the message made of what was fetched of it.

    None where something is missing, or where `connectors.mime` does not see the parts that the
    server saw: then only the whole message will do.
    """
    try:
        raw = _written(message, found)
        kinds = [part.content_type for part in mime.read(raw).walk()]
    except (KeyError, MessageError):
        return None
    return raw if kinds == [part.kind for part in message.walk()] else None


def _section(structure: Any, number: str, depth: int) -> Section:  # noqa: ANN401 - nested tuples
    if depth < 0:
        raise ValueError("nested too deeply")
    if isinstance(structure[0], tuple):
        parts = list(takewhile(lambda one: isinstance(one, tuple), structure))
        kind = f"multipart/{_lower(structure[len(parts)])}"
        dot = f"{number}." if number else ""
        children = tuple(
            _section(part, f"{dot}{place}", depth - 1) for place, part in enumerate(parts, start=1)
        )
        return Section(number, kind, 0, wanted=False, children=children)
    kind = f"{_lower(structure[0])}/{_lower(structure[1])}"
    wanted = kind == _ATTACHED or (kind in _TEXTS and not _is_file(structure))
    return Section(number, kind, int(structure[6]), wanted)


def _is_file(structure: Sequence[Any]) -> bool:
    """Tell whether a text is a file that nobody reads with the mail; when in doubt it is not."""
    names = {_lower(name) for name in (structure[2] or ())[::2]}
    disposition = structure[_DISPOSITION] if len(structure) > _DISPOSITION else None
    if isinstance(disposition, tuple):
        fields = disposition[1] if len(disposition) > 1 else None
        names |= {f"of file: {_lower(name)}" for name in (fields or ())[::2]}
        if _lower(disposition[0]) == "attachment":
            return True
    return bool(names & {"name", "of file: filename"})


def _names(part: Section) -> Iterator[str]:
    yield f"{part.number}.MIME" if part.number else "HEADER"
    if part.wanted:
        yield part.number or "TEXT"


def _written(part: Section, found: Mapping[bytes, Any]) -> bytes:
    header_name, *content_name = _names(part)
    # A line without text ends a header; some servers leave it out, and some send it alone.
    header = _fetched(found, header_name).rstrip(b"\r\n")
    header = header + b"\r\n\r\n" if header else b"\r\n"
    if not part.children:
        return header + b"".join(_fetched(found, name) for name in content_name)
    boundary = mime.read(header).parameters["boundary"].rstrip().encode("latin-1", "replace")
    between = b"--" + boundary
    pieces = [between + b"\r\n" + _written(child, found) for child in part.children]
    return header + b"\r\n".join([*pieces, between + b"--\r\n"])


def _fetched(found: Mapping[bytes, Any], name: str) -> bytes:
    value = found[f"BODY[{name}]".encode()]
    return value if isinstance(value, bytes) else b""  # NIL stands for nothing


def _lower(word: bytes) -> str:
    return word.decode("ascii", "replace").lower()
