"""The text of a message: which parts it is, decoded, with soft line breaks undone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from connectors import charsets, markup
from connectors.base import MessageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from connectors.mime import Part

MAX_TEXT = 2**20  # characters of a plain text; more than that nobody wrote
MAX_LINES = 20_000  # of a plain text


@dataclass(frozen=True, slots=True)
class Body:
    """What a reader would see of a message.

    Attributes:
        text: The text with LF line ends; quotes are marked with ``>``.
        wrapped: Whether its lines may have been broken only to fit a width; if not, each line
            break is the writer's.
    """

    text: str
    wrapped: bool


_known: WeakKeyDictionary[Part, Body] = WeakKeyDictionary()


def read(message: Part) -> Body:
    """Return the text of a message: plain text where there is some, else its HTML.

    Attachments are never decoded. A message without text gives an empty one. The same message is
    decoded once, however often this is asked.

    Raises:
        MessageError: The text is too large to read.
    """
    if (known := _known.get(message)) is not None:
        return known
    _known[message] = found = _join(_bodies(message))
    return found


def attached(message: Part) -> Iterator[bytes]:
    """Yield the messages that are attached as ``message/rfc822``, in order."""
    for part in message.walk():
        if part.content_type == "message/rfc822":
            yield part.message()


def unflow(text: str, *, delsp: bool = False) -> Body:
    """Join the soft line breaks of ``format=flowed`` text (RFC 3676).

    Some clients declare the format and wrap hard all the same; text without one soft break
    therefore counts as wrapped.

    Args:
        text: The decoded text, LF line ends.
        delsp: Whether the space that marks a soft break is to be deleted (``DelSp=yes``).
    """
    lines: list[list[str]] = []
    soft, depth_before, found = False, 0, False
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip(">"))
        content = line[depth:].removeprefix(" ")
        signature = content == "-- "
        if not soft or depth != depth_before or signature:
            # A stuffed ">" is the writer's own and must not look like a quote.
            stuffed = " " * (depth == 0 and content.startswith(">"))
            lines.append([">" * depth + " " if depth else stuffed])
        soft, depth_before = content.endswith(" ") and not signature, depth
        found = found or soft
        lines[-1].append(content[:-1] if soft and delsp else content)
    return Body("\n".join("".join(pieces) for pieces in lines), wrapped=not found)


def _bodies(part: Part) -> Iterator[Body]:
    """Yield the texts of a part in reading order."""
    kind = part.content_type
    if kind == "multipart/alternative":
        yield from _best(part.children)
    elif kind in {"multipart/signed", "multipart/related"}:
        yield from (body for child in part.children[:1] for body in _bodies(child))
    elif kind.startswith("multipart/") and kind != "multipart/encrypted":
        yield from (body for child in part.children for body in _bodies(child))
    elif kind in {"text/plain", "text/html"} and not part.attachment:
        yield _plain(part) if kind == "text/plain" else _html(part)


def _best(alternatives: Iterable[Part]) -> Iterator[Body]:
    """Yield the first alternative that has plain text, else the last that has any."""
    html: list[Part] = []
    for part in alternatives:
        if any(inner.content_type == "text/html" for inner in part.walk()):
            html.append(part)
            continue
        bodies = list(_bodies(part))
        if _join(bodies).text.strip():
            yield from bodies
            return
    if html:
        yield from _bodies(html[-1])


def _join(bodies: Iterable[Body]) -> Body:
    found = [body for body in bodies if body.text.strip()]
    text = "\n\n".join(body.text.strip("\n") for body in found)
    return Body(text, wrapped=any(body.wrapped for body in found))


def _plain(part: Part) -> Body:
    text = _without_armour(_decode(part))
    if len(text) > MAX_TEXT:
        raise MessageError(f"a text of {len(text)} characters is too large to read")
    if (lines := text.count("\n")) > MAX_LINES:
        raise MessageError(f"a text of {lines} lines is too large to read")
    if part.parameters.get("format", "").lower() == "flowed":
        return unflow(text, delsp=part.parameters.get("delsp", "").lower() == "yes")
    return Body(text, wrapped=True)


def _html(part: Part) -> Body:
    try:
        return Body(markup.to_text(_decode(part)), wrapped=False)
    except ValueError as error:
        raise MessageError(str(error)) from error


def _decode(part: Part) -> str:
    return charsets.decode(part.content(), part.parameters.get("charset", ""))


def _without_armour(text: str) -> str:
    """Take off OpenPGP's armour (RFC 9580, 6 and 7); what is encrypted is no text."""
    before, begin, rest = text.partition("-----BEGIN PGP MESSAGE-----\n")
    if begin:
        return before + rest.partition("-----END PGP MESSAGE-----")[2]
    before, begin, rest = text.partition("-----BEGIN PGP SIGNED MESSAGE-----\n")
    if not begin:
        return text
    signed, _, rest = rest.partition("\n-----BEGIN PGP SIGNATURE-----")
    words = signed.partition("\n\n")[2]  # behind the armour's own header lines
    return before + re.sub(r"(?m)^- ", "", words) + rest.partition("-----END PGP SIGNATURE-----")[2]
