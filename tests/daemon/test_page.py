"""Pages that load nothing, and how that is told of one that another process wrote."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from daemon.page import document, element, harmless

STYLE = "p { color: red; }"


def page(text: str = "Hello") -> str:
    """Return a page with one paragraph."""
    return document("A page", STYLE, [element("p", text, class_="quiet")])


class Texts(HTMLParser):
    """Collects the elements and the text of a page as a reader gets them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        del attrs
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text += data


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "</p><style>p{background:url(http://x.example)}</style>",
        "a & b &amp; &lt;c&gt; \"d\" 'e'",
        "]]><!-- --><?php ?>",
    ],
)
def test_whatever_a_text_holds_stays_text(text: str) -> None:
    """It is read as it was written, and makes no element."""
    made = page(text)
    reader = Texts()
    reader.feed(made)
    assert text in reader.text
    assert reader.tags == ["html", "head", *["meta"] * 4, "title", "style", "body", "p"]
    assert harmless(made, STYLE)


def test_what_is_not_seen_or_cannot_be_written_is_left_out() -> None:
    """Control characters, marks of direction and half surrogates are in no page."""
    assert '<p class="quiet">abcd\ne</p>' in page("a\x00b\u202ec\ud800d\r\ne")


def test_a_page_names_its_charset_and_forbids_all_loading() -> None:
    """The policy stands before anything that it could be for."""
    head = page().partition("<title>")[0]
    assert '<meta charset="utf-8">' in head
    assert "Content-Security-Policy" in head
    assert "default-src 'none'; style-src 'unsafe-inline'" in head


@pytest.mark.parametrize(
    "bad",
    [
        '<img src="http://x.example/?secret">',
        '<p background="http://x.example">x</p>',
        '<p style="background:url(//x.example)">x</p>',
        '<p onclick="x()">x</p>',
        '<a href="http://x.example">x</a>',
        "<script>x()</script>",
        "<svg><image href='http://x.example'></image></svg>",
        "<svg><style>@import 'http://x.example'</style></svg>",
        "<style>@import 'http://x.example';</style>",
        '<meta http-equiv="refresh" content="0; url=http://x.example">',
        '<p name="x">x</p>',
        '<iframe srcdoc="x"></iframe>',
        "<base>",
        "<!-- [if mso]><img src=x><![endif] -->",
        "<![CDATA[<img src=x>]]>",
        "<?xml-stylesheet href='x'?>",
        "<IMG SRC=x>",
        "<p/onclick=x>x</p>",
        "<p>x",
        "<",
        "&nbsp;",
        "<title><img src=x></title>",
        "<textarea></textarea><plaintext>",
    ],
)
def test_a_page_with_anything_else_in_it_is_not_harmless(bad: str) -> None:
    """Nothing that fetches, runs or is read in two ways comes through, wherever it stands."""
    good = page()
    for place in ("<p ", "</body>", "<title>", "</html>"):
        assert not harmless(good.replace(place, bad + place, 1), STYLE), place


def test_a_page_with_another_style_is_not_harmless() -> None:
    """A rule can fetch as well as an element."""
    assert not harmless(page(), "p { color: blue; }")
    assert not harmless(page().replace("red", "url(http://x.example)"), STYLE)


def test_what_is_no_page_is_not_harmless() -> None:
    """Neither nothing, nor a text, nor half of a page."""
    assert harmless(page(), STYLE)
    for text in ("", "Hello", page()[:-20], page() * 2, page() + "x"):
        assert not harmless(text, STYLE)
