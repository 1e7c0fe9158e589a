"""What a draft may not hold."""

from __future__ import annotations

import pytest

from daemon.guards import Guard, key, links


def guard(*words: str, earlier: tuple[str, ...] = ()) -> Guard:
    """Return a guard for an owner who wrote this, and earlier that."""
    return Guard(words, lambda wanted: [text for text in earlier if wanted in text])


def test_links_that_nobody_gave_are_taken_out() -> None:
    """Streamed or whole, a draft keeps the links that may stay and loses the others."""
    text = "See https://ok.example/x, or http://bad.example/?q=secret. And www.bad.example!"
    clean = "See https://ok.example/x, or [link removed]. And [link removed]!"
    assert guard("https://ok.example/x").clean(text) == clean
    for size in (1, 3, 7, 50):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        streamed = guard("https://ok.example/x")
        assert "".join([*map(streamed.feed, pieces), streamed.end()]) == clean


@pytest.mark.parametrize(
    "link",
    [
        *("https://bad.example/a", "HTTP://BAD.EXAMPLE", "ftp://bad", "//bad.example/pixel.gif"),
        *("www.bad.example", "bad.example/p?q=secret", "bad.example:8080/", "bad.com", "bad.de"),
        *("xn--bd-xka.example", "bad\u3002com", "b\u0430d.com", "1.bad.example", "bad.museum/x"),
        *("javascript:alert(1)", "data:text/html;base64,eA", "mailto:x@bad.example", "tel:+43123"),
        *("x@bad.example", "x.y+secret@mail.bad.example", "tg://resolve?domain=bad"),
    ],
)
def test_every_form_that_clients_make_a_link_of(link: str) -> None:
    """Whatever a mail client would make clickable is taken out, alone or in marks around it."""
    for form in ("{}", "({})", "<{}>", "[here]({})", "![]({})", "[1]: {}", '"{}"', "see:{}", "{}."):
        cleaned = guard().clean(f"Look: {form.format(link)} ok")
        assert "bad" not in cleaned.replace("[link removed]", "").lower(), cleaned
        assert "removed]" in cleaned
        assert "+43" not in cleaned
        assert cleaned.startswith("Look: ")
        assert cleaned.endswith(" ok")


@pytest.mark.parametrize(
    "text",
    [
        "I come at 10.30, i.e. in the morning (e.g. by tram no. 3.5) or at 4 p.m.",
        "Siehe z.B. Seite 3.Danach St.Gallen, Prof.Berg und Dr.Holm.",
        "The figures: 1.234,56 and 2.5, version 1.2.3 of the plan...and so on.",
        "a < b and 3 <4, love <3, I said: no. Re: the offer. Tel: 0316 12345. Note:this",
        "Dear <your name>, <see below>",
    ],
)
def test_plain_words_stay(text: str) -> None:
    """Figures, abbreviations, a missing blank and angle brackets are no links and no tags."""
    assert guard().clean(text) == text


def test_a_link_counts_as_a_whole() -> None:
    """Neither the beginning of a given link nor one that goes on behind it was given."""
    given = "Use https://ok.example/room/12."
    for link in (
        "https://ok.example",
        "https://ok.example/room/1",
        "https://ok.example/room/12?s=1",
    ):
        assert guard(given).clean(link) == "[link removed]"
    for link in ("https://ok.example/room/12", "ok.example/room/12/", "http://OK.example/room/12"):
        assert guard(given).clean(link) == link


def test_what_the_owner_wrote_before_stays() -> None:
    """A link or an address in one of her mails may stand in a draft; half of one may not."""
    mine = guard(earlier=("My shop: https://shop.example/jen and jen@shop.example.",))
    assert (
        mine.clean("At shop.example/jen, jen@shop.example")
        == "At shop.example/jen, jen@shop.example"
    )
    assert mine.clean("At shop.example/je") == "At [link removed]"
    assert mine.clean("en@shop.example") == "[address removed]"


def test_whom_the_draft_is_for_may_be_named() -> None:
    """The addresses of recipients and owner may stand in the text."""
    one = Guard((), lambda _: [], ["Stew@example.com"])
    assert one.clean("I have stew@example.com, not stu@example.com") == (
        "I have stew@example.com, not [address removed]"
    )


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("<b>Hi</b> there", "Hi there"),
        ('<a href="https://bad.example">here</a>', "here"),
        ("<img src=x onerror=y>", ""),
        ("<scr<script>ipt>x", "x"),
        ("<!-- hidden -->seen", "seen"),
        ("<img src=//bad.example", " src=//[link removed]"),
        ("pass\u200bword \u202egnp.exe \U000e0041", "password gnp.exe "),
    ],
)
def test_no_html_and_nothing_unseen(text: str, clean: str) -> None:
    """Tags, comments and characters that are not seen are taken out, also one within another."""
    assert guard().clean(text) == clean


def test_the_owners_own_tags_stay() -> None:
    """A tag that she wrote herself is what she writes about."""
    assert guard("Ask Ana to close the <div> tag").clean("Close the <div>, no <p>") == (
        "Close the <div>, no "
    )


def test_a_tag_is_not_shown_in_halves() -> None:
    """Streamed in small pieces, a tag with blanks in it is taken out as a whole."""
    streamed = guard()
    text = 'Hi <a class="x" href="y">there</a> you'
    assert "".join([*map(streamed.feed, text), streamed.end()]) == "Hi there you"


def test_equal_links_have_equal_keys() -> None:
    """Scheme, www and the case of a host make no other link; its path does."""
    assert key("https://www.A.example/x/") == key("a.example/x")
    assert key("a.example/X") != key("a.example/x")
    assert links("See a.example/x, (b.example).") == ["a.example/x", "b.example"]


@pytest.mark.parametrize("piece", ["a.", "a@", "<", "<a ", "x:", "://", "www.", "[", "%", "-"])
def test_no_text_takes_long(piece: str) -> None:
    """Text that is made to be searched for long is searched once: each character a few times."""
    assert isinstance(guard().clean(piece * 4000), str)
