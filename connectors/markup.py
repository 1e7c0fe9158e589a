"""HTML mail to text.

The text comes out the way a plain-text mail would have it: what was quoted is marked with ``> ``,
so that one set of rules (`connectors.quotes`) tells the writer's own words from the others'.
Nothing is fetched, no link target or image becomes text.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from connectors import quotes

if TYPE_CHECKING:
    from lxml.html import HtmlElement

MAX_MARKUP = 2 * 2**20  # characters that are converted; libxml2 and inscriptis are linear in them
MAX_TAGS = 25_000
MAX_QUOTES = 1000

_LOOKS = 3  # places that are looked at for a header; Outlook on the web has it at the second

_DATA_URL = re.compile(r"""(["'])data:[^"']*\1""")
_XML_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_HIDDEN = re.compile(
    r"<(style|script|head|title)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.DOTALL | re.IGNORECASE
)
_SPACING = re.compile(r"padding[^;]*;?|margin[^;]*\d{3}[^;]*;?", re.IGNORECASE)
_BREAK = re.compile(r"<(?:br|p|div|tr|li|h[1-6]|blockquote)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")

# Where Outlook and its web and mobile editions begin the answered mail: all that follows is it.
_QUOTED_FROM_HERE = (
    "//*[contains(@id, 'divRplyFwdMsg') or contains(@id, 'appendonsend')"
    " or @id='mail-editor-reference-message-container'"
    " or @id='ms-outlook-mobile-body-separator-line'"
    " or (self::div and contains(@style, 'border-top:solid #E1E1E1'))"
    " or (self::div and contains(@style, 'border-top:solid #B5C4DF'))]"
)
_QUOTED = (
    "//blockquote[count(ancestor::blockquote) < 4]"
    " | //div[contains(concat(' ', @class, ' '), ' yahoo_quoted ')]"
)
# What the writer's client adds below each mail, by the marks of Gmail, Thunderbird, Outlook on the
# web, Proton and Yahoo. Gmail marks the answered mail's signature alike, which is quoted anyway.
_SIGNATURE = (
    "//*[contains(concat(' ', @class, ' '), ' gmail_signature ')"
    " or contains(concat(' ', @class, ' '), ' moz-signature ')"
    " or contains(@class, 'protonmail_signature_block') or @id='Signature' or @id='ymail_signature'"
    " or contains(concat(' ', @class, ' '), ' gmail_signature_prefix ')]"
)


def to_text(markup: str) -> str:
    """Convert an HTML document or fragment; broken markup gives what text can be saved.

    Raises:
        ValueError: The markup is longer than ``MAX_MARKUP`` without its inlined images, or has
            more than ``MAX_TAGS`` or ``MAX_QUOTES``.
    """
    markup = _XML_DECLARATION.sub("", _DATA_URL.sub('""', markup))
    if len(markup) > MAX_MARKUP:
        raise ValueError(f"HTML of {len(markup)} characters is too large to read")
    if (tags := markup.count("<")) > MAX_TAGS:
        raise ValueError(f"HTML of {tags} tags is too large to read")
    if (quotes := markup.lower().count("<blockquote")) > MAX_QUOTES:
        raise ValueError(f"HTML of {quotes} quotes is too large to read")
    # Imported here: they cost start-up time, and most mail has a plain text.
    from lxml.etree import LxmlError
    from lxml.html import document_fromstring

    try:
        tree = document_fromstring(markup)
        _drop_signatures(tree)
        _mark_what_follows(tree)
        _mark_quotes(tree)
        text = _render(tree)
    except (LxmlError, ValueError, RecursionError):
        return _crude(markup)
    return text if text.strip() else _crude(markup)


def _drop_signatures(tree: HtmlElement) -> None:
    for element in tree.xpath(_SIGNATURE):
        if element.getparent() is not None:
            element.drop_tree()


def _mark_what_follows(tree: HtmlElement) -> None:
    """Move the first such element, and all that comes after it, into one block quote.

    The header lines that the writer's client puts over the answered mail stay outside, as they do
    in plain text.
    """
    found = tree.xpath(_QUOTED_FROM_HERE)
    if not found or found[0].getparent() is None:
        return
    header = next(filter(_is_header, found[:_LOOKS]), None)
    first = found[0] if header is None else header
    moved = []
    element = first
    while element is not None and element.tag not in {"body", "html"}:
        after = list(element.itersiblings())
        moved += [element, *after] if element is found[0] and header is None else after
        element = element.getparent()
    quote = first.makeelement("blockquote", {"type": "cite"})
    if header is None:
        first.addprevious(quote)
    else:
        quote.text, header.tail = header.tail, None
        header.addnext(quote)
    for part in moved:
        quote.append(part)  # takes the text behind the element along


def _is_header(element: HtmlElement) -> bool:
    lines = _render(element).strip("\n").split("\n")
    return quotes.is_header(quotes.header_block(lines)[0], lines[0])


def _mark_quotes(tree: HtmlElement) -> None:
    """Replace each quote, up to four deep, by its text with ``> `` before each line."""
    for quote in reversed(tree.xpath(_QUOTED)):  # the innermost first
        if _indentation(quote):
            continue
        lines = _render(quote).strip("\n").split("\n")
        tail = quote.tail
        quote.clear()
        quote.tag, quote.tail = "pre", tail
        quote.text = "\n".join(f"> {line}".rstrip() for line in lines)


def _indentation(quote: HtmlElement) -> bool:
    """Editors indent the writer's own text with a borderless block quote."""
    style = quote.get("style", "").replace(" ", "").lower()
    return (
        "border:none" in style
        and "border-left" not in style
        and not quote.get("class")
        and quote.get("type") != "cite"
    )


def _render(tree: HtmlElement) -> str:
    from inscriptis import Inscriptis  # costs start-up time
    from inscriptis.css_profiles import CSS_PROFILES
    from inscriptis.model.config import ParserConfig

    for paragraph in tree.iter("p"):
        # Outlook's paragraphs are lines, and its empty ones are blank lines.
        if "MsoNormal" in paragraph.get("class", "") or "margin:0" in paragraph.get("style", ""):
            paragraph.tag = "div"
            if not paragraph.text_content().strip():
                paragraph.append(paragraph.makeelement("br"))
    for element in tree.xpath("descendant-or-self::*[@style]"):
        # What is indented by a million columns would be filled with blanks.
        element.set("style", _SPACING.sub("", element.get("style")))
    config = ParserConfig(css=CSS_PROFILES["strict"])
    return str(Inscriptis(tree, config).get_text())


def _crude(markup: str) -> str:
    """Drop the tags; for markup so damaged or so deeply nested that the parser gave up."""
    return html.unescape(_TAG.sub("", _BREAK.sub("\n", _HIDDEN.sub("", markup))))
