"""From MIME parts to one text: choice of parts, charsets, flowed text, HTML, paragraphs."""

# ruff: noqa: RUF001 - letters and marks of many scripts are meant as they stand

import base64
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import body, charsets, markup, mime, paragraphs
from connectors.base import MessageError


def message(content_type: str, content: str | bytes, *fields: str) -> mime.Part:
    """Build a message of one part."""
    raw = content if isinstance(content, bytes) else content.encode()
    header = "\n".join((f"Content-Type: {content_type}", *fields))
    return mime.read(header.encode() + b"\n\n" + raw)


def multipart(kind: str, *parts: str) -> mime.Part:
    """Build a multipart message of parts that bring their own header."""
    inner = "".join(f"\n--XX\n{part}" for part in parts)
    return message(f'multipart/{kind}; boundary="XX"', f"preamble{inner}\n--XX--\nepilogue")


PLAIN = "Content-Type: text/plain\n\nPlain words."
HTML = "Content-Type: text/html\n\n<p>Marked words.</p>"
FILE = 'Content-Type: text/plain\nContent-Disposition: attachment; filename="a.txt"\n\nFile.'


def test_plain_text_is_preferred() -> None:
    """Of alternatives the plain text is read, wherever it stands."""
    assert body.read(multipart("alternative", PLAIN, HTML)).text == "Plain words."
    assert body.read(multipart("alternative", HTML, PLAIN)).text == "Plain words."


def test_html_stands_in_for_a_blank_plain_text() -> None:
    """A plain text without a word is no text."""
    blank = "Content-Type: text/plain\n\n \n"
    assert body.read(multipart("alternative", blank, HTML)).text.strip() == "Marked words."


def test_html_only() -> None:
    """Mail that is HTML only gives its text, and no line break in it is a wrap."""
    found = body.read(message("text/html; charset=utf-8", "<p>Grüß dich,</p><p>bis bald</p>"))
    assert found.text.strip() == "Grüß dich,\n\nbis bald"
    assert not found.wrapped


def test_attachments_are_no_text() -> None:
    """Files beside the text are left out, also those that are text."""
    named = 'Content-Type: text/plain; name="b.txt"\n\nFile.'
    assert body.read(multipart("mixed", PLAIN, FILE, named)).text == "Plain words."
    assert body.read(multipart("mixed", FILE)).text == ""


def test_texts_around_an_attachment_are_joined() -> None:
    """Apple Mail writes on below an attachment; both texts count."""
    image = "Content-Type: image/png\n\nPNG"
    found = body.read(multipart("mixed", PLAIN, image, PLAIN.replace("Plain", "More")))
    assert found.text == "Plain words.\n\nMore words."


def test_signed_mail() -> None:
    """Of signed mail the first part is the text; of OpenPGP in the text the armour goes."""
    signature = "Content-Type: text/plain\n\nsignature"
    assert body.read(multipart("signed", PLAIN, signature)).text == "Plain words."
    armoured = (
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nHello\n- -- \nJen\n"
        "-----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n"
    )
    assert body.read(message("text/plain", armoured)).text.strip() == "Hello\n-- \nJen"


def test_encrypted_mail_has_no_text() -> None:
    """What is encrypted is not taken for words."""
    armoured = "-----BEGIN PGP MESSAGE-----\n\nhQ==\n-----END PGP MESSAGE-----\n"
    assert body.read(message("text/plain", armoured)).text.strip() == ""
    assert body.read(multipart("encrypted", PLAIN)).text == ""


def test_transfer_encodings() -> None:
    """Base64 and quoted-printable are undone, also damaged ones."""
    encoded = base64.encodebytes("Grüße".encode()).decode()
    cte = "Content-Transfer-Encoding: {}".format
    kind = "text/plain; charset=utf-8"
    assert body.read(message(kind, encoded, cte("base64"))).text == "Grüße"
    assert body.read(message(kind, "Gr=C3=BC=\n=C3=9Fe", cte("Quoted-Printable"))).text == "Grüße"
    assert body.read(message(kind, "SGFsbG8*\n!", cte("base64"))).text == "Hallo"
    assert body.read(message(kind, "Hallo", cte("x-unheard-of"))).text == "Hallo"


def test_multipart_without_its_boundary_is_text() -> None:
    """A multipart that says no boundary, or uses another one, is read as plain text."""
    assert body.read(message("multipart/mixed", "Hello")).text == "Hello"
    assert body.read(message("multipart/mixed; boundary=a", "--b\n\nHello")).text.endswith("Hello")


def test_attached_messages() -> None:
    """Attached messages come out as bytes and are no part of the text."""
    found = multipart("mixed", PLAIN, "Content-Type: message/rfc822\n\nSubject: x\n\nInner")
    assert body.read(found).text == "Plain words."
    assert list(body.attached(found)) == [b"Subject: x\n\nInner"]


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        ("utf-8", "Grüße – жук".encode(), "Grüße – жук"),
        ("uft-8", "Grüße".encode(), "Grüße"),
        ("UTF8", "Grüße".encode(), "Grüße"),
        ("", "Grüße".encode(), "Grüße"),
        ("us-ascii", "Grüße".encode(), "Grüße"),
        ("cp-850", "Grüße aus Köln".encode("cp850"), "Grüße aus Köln"),
        ("IBM850", "Grüße aus Köln".encode("cp850"), "Grüße aus Köln"),
        ("iso-8859-1", "Grüße – bald …".encode("cp1252"), "Grüße – bald …"),
        ("windows-1252", "Grüße".encode("cp1252"), "Grüße"),
        ("'iso-8859-2'", "Zażółć gęślą".encode("iso-8859-2"), "Zażółć gęślą"),
        ("gb2312", "你好，朋友".encode("gb18030"), "你好，朋友"),
        ("ks_c_5601-1987", "안녕하세요".encode("cp949"), "안녕하세요"),
        ("iso-2022-jp", "こんにちは".encode("iso-2022-jp"), "こんにちは"),
        ("koi8-r", "Привет".encode("koi8-r"), "Привет"),
        ("utf-8", "Grüße und viele Küsse über Köln".encode()[:-1] + b"\xc3", None),
    ],
)
def test_charsets(label: str, data: bytes, text: str | None) -> None:
    """Labels right, misspelled, missing and a little wrong all give the text."""
    found = charsets.decode(data, label)
    assert found == text if text is not None else found.startswith("Grüße und viele Küsse")


@pytest.mark.parametrize("label", ["unknown-8bit", "", "x-made-up", "utf-8", "zlib", "idna", "\0"])
def test_unlabelled_text_is_guessed(label: str) -> None:
    """Text in an old charset is guessed where no label helps."""
    text = "Schöne Grüße aus München, wir können uns über die Öfen unterhalten. Können Sie?"
    assert charsets.decode(text.encode("cp1252"), label) == text


@settings(deadline=None)  # the first call loads a library
@given(st.binary(), st.text(max_size=20))
def test_decoding_never_fails(data: bytes, label: str) -> None:
    """Any bytes under any label give text that can be stored."""
    charsets.decode(data, label).encode()


def test_text_is_cleaned() -> None:
    """What no reader sees is dropped, spaces are plain, accents are composed."""
    seen = "a\0b\u200b\u00ad\ufeff\r\nc\u00a0d\u202fe\U000e0041 e\u0301"
    assert charsets.clean(seen) == "ab\nc d e \u00e9"


def test_composing_is_linear() -> None:
    """A million combining marks on one letter take no time to speak of."""
    assert len(charsets.clean("a" + "\u0301\u0316" * 500_000)) > 900_000


FLOWED = "text/plain; charset=utf-8; format=flowed"


def test_flowed_lines_are_joined() -> None:
    """A line that ends in a space goes on in the next one (RFC 3676)."""
    found = body.read(message(FLOWED, "One \ntwo \nthree.\n\nNext\npara"))
    assert found == body.Body("One two three.\n\nNext\npara", wrapped=False)


def test_flowed_delsp() -> None:
    """With DelSp=yes the space that marks the break goes."""
    assert body.read(message(f"{FLOWED}; delsp=YES", "long \nword")).text == "longword"


def test_flowed_quotes_signature_and_stuffing() -> None:
    """Quotes flow at their own depth, ``-- `` never flows, stuffed spaces go."""
    text = "> a \n> b\n>> c \n> d\nown \n-- \nJen\n From\n >not quoted"
    assert body.read(message(FLOWED, text)).text == (
        "> a b\n>> c \n> d\nown \n-- \nJen\nFrom\n >not quoted"
    )


def test_flowed_in_name_only() -> None:
    """Text that declares the format and breaks hard counts as wrapped."""
    assert body.read(message(FLOWED, "One\ntwo")).wrapped


def test_html_quotes_are_marked() -> None:
    """Block quotes become lines behind ``>``, nested ones behind more."""
    text = markup.to_text(
        '<div>Yes.</div><div class="gmail_quote"><div class="gmail_attr">Bob wrote:</div>'
        '<blockquote class="gmail_quote">Well?<blockquote>Older</blockquote></blockquote></div>'
        "<div>Jen</div>"
    )
    assert text.split("\n") == ["Yes.", "Bob wrote:", "> Well?", "> > Older", "Jen"]


def test_html_indentation_is_no_quote() -> None:
    """The borderless block quote with which editors indent is the writer's own."""
    text = markup.to_text(
        '<blockquote style="margin:0 0 0 40px;border:none;padding:0px">Mine</blockquote>'
    )
    assert text.strip() == "Mine"


@pytest.mark.parametrize(
    "start",
    [
        '<div id="appendonsend"></div><hr><div id="divRplyFwdMsg">',
        '<hr><div id="divRplyFwdMsg" dir="ltr">',
        '<div><div style="border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0cm 0cm 0cm">',
        '<div id="mail-editor-reference-message-container">',
    ],
)
def test_outlook_marks_where_the_answered_mail_begins(start: str) -> None:
    """All that follows Outlook's mark is quoted, in whatever language its header is."""
    text = markup.to_text(
        f"<html><body><div><p class=MsoNormal>Yes.</p>{start}<b>Lähettäjä:</b> Bob</div></div>"
        "<div>Well?</div></body></html>"
    )
    assert [line for line in text.split("\n") if line and line[:1] != ">"] == ["Yes."]
    assert "> Well?" in text


def test_outlook_paragraphs_are_lines() -> None:
    """Outlook's paragraphs are single lines, and its empty ones blank lines."""
    text = markup.to_text(
        "<p class=MsoNormal>Hi Bob,<o:p></o:p></p><p class=MsoNormal><o:p>&nbsp;</o:p></p>"
        "<p class=MsoNormal>Yes.</p><p class=MsoNormal>Best,</p><p class=MsoNormal>Jen</p>"
    )
    assert charsets.clean(text).strip() == "Hi Bob,\n\nYes.\nBest,\nJen"


def test_html_signatures_and_links() -> None:
    """What the client adds below goes; links leave their words and not their targets."""
    text = markup.to_text(
        '<p>See <a href="https://track.example/x">this</a><img src="cid:1" alt="x">.</p>'
        '<div class="gmail_signature">Jen Doe, Potter</div><style>p {}</style>'
    )
    assert text.strip() == "See this."


@pytest.mark.parametrize(
    "broken",
    ["", "<", "<p", "<div>" * 20_000 + "deep", "<!-- open", "no tags & none", "<table><td>x"],
)
def test_broken_html(broken: str) -> None:
    """Broken or deeply nested markup gives what text can be saved."""
    words = re.sub(r"<!--.*|<[^>]*>|<p$|<$", "", broken).strip()
    assert words in markup.to_text(broken)


def test_large_html_is_refused() -> None:
    """Markup past the limit is refused; images inlined in it do not count."""
    image = f'<img src="data:image/png;base64,{"A" * markup.MAX_MARKUP}"><p>Hi</p>'
    assert markup.to_text(image).strip() == "Hi"
    with pytest.raises(MessageError):
        body.read(message("text/html", "<p>a</p>" * (markup.MAX_MARKUP // 8 + 1)))


def test_large_text_is_refused() -> None:
    """A plain text that nobody can have written is refused."""
    with pytest.raises(MessageError, match="too large"):
        body.read(message("text/plain", "a" * (body.MAX_TEXT + 1)))


WRAPPED = """Dear Anna,

thank you for the order. The two bowls are glazed and will be fired on Tuesday, so you
can have them on Friday. I shall bring them along when I come to
Vienna, which saves us the post.

Best regards,
Jen"""


def test_hard_wrapped_text_is_unwrapped() -> None:
    """Lines broken to fit a width become one; greeting, closing and name stay apart."""
    assert paragraphs.unwrap(WRAPPED) == (
        "Dear Anna,\n\nthank you for the order. The two bowls are glazed and will be fired on "
        "Tuesday, so you can have them on Friday. I shall bring them along when I come to Vienna,"
        " which saves us the post.\n\nBest regards,\nJen"
    )


KEPT = {
    "closing": "See you on Friday then, I am looking forward to it a lot and so are the kids\n"
    "Best,\nDavid",
    "long closing": "With many thanks for everything you did and with my best regards,\nDavid",
    "list": "- two bowls of the larger kind with the blue glaze that we talked about\n"
    "- one jug of the larger kind with the green glaze that we never talked about",
    "numbers": "1. two bowls of the larger kind with the blue glaze that we talked about\n"
    "2) one jug of the larger kind with the green glaze that we never talked about",
    "address": "Studio Doe\nHauptplatz 3\n8010 Graz\nAustria",
    "labels": "Where: the studio in the old mill behind the station, ring at the door of Doe\n"
    "When: on Friday at ten",
    "code": "    for pot in kiln:\n        glaze(pot)\n        fire(pot, degrees=1240, hours=12)\n"
    "    return kiln",
    "statements": "int main(void) { puts(a_long_enough_line_to_look_as_if_wrapped(1, 2));\nx = 1;",
    "fence": "```\nthis line is long enough to be taken for one of a paragraph\n\n\nnext\n```",
    "table": "pots       12    of the larger kind with the blue glaze that we\nbowls      30    of",
    "links": "Here are the pictures that I have promised to send to you for so long now:\n"
    "https://example.org/pictures\nTell me which",
    "sentences": "The kiln is cold now and everything in it came out well.\nCome and see it!",
    "smiley": "I would be very happy indeed if you came by to see them some day :-)\nBring Bob",
    "verse": "roses are red\nviolets are blue\nclay is grey",
}


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT.keys())
def test_meant_line_breaks_are_kept(text: str) -> None:
    """Lists, addresses, code, tables, links and closings keep their lines."""
    assert paragraphs.unwrap(text) == text


def test_list_items_are_unwrapped_each() -> None:
    """A wrapped list item becomes one line, and no item swallows the next one."""
    text = (
        "   1. A general pass to slightly compress the document and make it more\n"
        "   readable, perhaps.\n   2. The summary could be expanded a bit, as an\n"
        "      introduction."
    )
    assert paragraphs.unwrap(text) == (
        "   1. A general pass to slightly compress the document and make it more readable, "
        "perhaps.\n   2. The summary could be expanded a bit, as an introduction."
    )


def test_scripts_without_spaces_are_joined_without() -> None:
    """Japanese lines are joined without a space."""
    line = "今日はとても良い天気ですので散歩に行きたいと思いますが" * 3
    assert paragraphs.unwrap(f"{line}\nお願い") == f"{line}お願い"


@given(st.text())
def test_unwrapping_loses_no_word(text: str) -> None:
    """Unwrapping changes white space only."""
    assert "".join(paragraphs.unwrap(text).split()) == "".join(text.split())
