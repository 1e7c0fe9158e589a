"""HTML pages that load nothing: built from elements, and checked before anybody shows them.

A page is a tree of `xml.etree.ElementTree`, so every text is escaped by the one who writes it down
and none can be forgotten, as in templates; and it needs no package for it. `harmless` reads a page
that another process wrote: it may hold no element, attribute or rule by which a mail client would
fetch or run anything, whatever stands in its text.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from daemon.guards import INVISIBLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    Child = str | ET.Element | None

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_ELEMENTS = frozenset(
    {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "footer"),
        *("h1", "h2", "h3", "p", "div", "span", "strong", "small", "code", "ul", "li"),
        *("dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th", "td"),
        *("blockquote", "figure", "figcaption", "svg", "path", "circle", "text"),
    }
)
_ATTRIBUTES = frozenset(
    {
        *("lang", "dir", "class", "scope", "colspan", "role", "aria-label", "aria-hidden"),
        *("viewBox", "d", "cx", "cy", "r", "x", "y", "text-anchor"),
        *("charset", "name", "content", "http-equiv"),
    }
)
_CASED = {"viewbox": "viewBox"}
_METAS = (
    {"charset": "utf-8"},
    {"http-equiv": "Content-Security-Policy", "content": POLICY},
    {"name": "viewport", "content": "width=device-width, initial-scale=1"},
    {"name": "color-scheme", "content": "light dark"},
)


def element(tag: str, *children: Child, **attributes: str | float) -> ET.Element:
    """Return an element; of its children None is left out.

    Args:
        tag: Its name.
        children: Texts, which are escaped, and elements.
        attributes: ``class_`` stands for class, ``aria_label`` for aria-label.
    """
    given = {name.rstrip("_").replace("_", "-"): str(one) for name, one in attributes.items()}
    made = ET.Element(tag, given)
    last: ET.Element | None = None
    for child in children:
        if isinstance(child, ET.Element):
            made.append(child)
            last = child
        elif child and last is None:
            made.text = (made.text or "") + _clean(child)
        elif child and last is not None:
            last.tail = (last.tail or "") + _clean(child)
    return made


def document(title: str, style: str, body: Iterable[Child], lang: str = "en") -> str:
    """Return a whole page, which needs nothing but itself."""
    head = element("head", *(ET.Element("meta", one) for one in _METAS), element("title", title))
    # As it is: no text of others is in it, and a style is not escaped.
    ET.SubElement(head, "style").text = style
    return _written(element("html", head, element("body", *body), lang=lang))


def with_section(page: str, heading: str, lines: Iterable[str]) -> str:
    """Return a page with one more section, above its footer or at its end."""
    items = (element("li", line) for line in lines)
    section = element("section", element("h2", heading), element("ul", *items))
    before = "<footer>" if "<footer>" in page else "</body>"
    added = ET.tostring(section, encoding="unicode", method="html")
    return page.replace(before, added + before, 1)


def harmless(page: str, style: str) -> bool:
    """Tell whether a page is one that `document` can have made, with no other style than this.

    It is taken apart, built again of what may be in it, and has to be the same then: so there is
    nothing in it that one program reads as text and another as an element.
    """
    reader = _Reader(style)
    try:
        reader.feed(page)
        reader.close()
    except _StrangeError:
        return False
    return _written(reader.root) == page


def _written(root: ET.Element) -> str:
    return f"<!doctype html>\n{ET.tostring(root, encoding='unicode', method='html')}\n"


class _StrangeError(Exception):
    """A page holds what `document` never writes."""


class _Reader(HTMLParser):
    """Reads what `document` writes, and nothing else, into a tree."""

    def __init__(self, style: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = ET.Element("none")
        self._style = style
        self._open: list[ET.Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {_CASED.get(name, name): value or "" for name, value in attrs}
        if tag not in _ELEMENTS or not given.keys() <= _ATTRIBUTES:
            raise _StrangeError
        made = ET.Element(tag, given)
        if tag == "meta":
            if given not in _METAS:
                raise _StrangeError
        elif given.keys() & {"content", "http-equiv", "name", "charset"}:
            raise _StrangeError
        if self._open:
            self._open[-1].append(made)
        else:
            self.root = made
        if tag != "meta":
            self._open.append(made)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop().tag != tag:
            raise _StrangeError

    def handle_data(self, data: str) -> None:
        if not self._open:
            return  # a line feed at either end, or it is missed where the page is built again
        parent = self._open[-1]
        if parent.tag == "style" and data != self._style:
            raise _StrangeError
        if len(parent):
            parent[-1].tail = (parent[-1].tail or "") + data
        else:
            parent.text = (parent.text or "") + data


def _clean(text: str) -> str:
    return INVISIBLE.sub("", _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
