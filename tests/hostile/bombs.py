"""Messages that are made to hurt whoever reads them.

    for name, make in BOMBS.items():
        raw = make(STRANGER)  # a message from this author

Each is small beside the harm that it has done to some mail program: time or memory that grows with
the square of the size, recursion, charsets that expand, patterns that backtrack. All are invented.
"""

from __future__ import annotations

import base64
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

OWNER = "Jen Doe <jen@example.org>"
STRANGER = "Eve <eve@example.net>"

BOMBS: dict[str, Callable[[str], bytes]] = {}

PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n"
HTML = b"Content-Type: text/html; charset=utf-8\r\n"


def head(author: str, subject: bytes = b"A question") -> bytes:
    """Return the header of a message, without the blank line behind it."""
    name = b"<%d@example.net>" % random.Random(subject).getrandbits(64)
    return (
        f"From: {author}\r\nTo: Jen <jen@example.org>\r\n".encode()
        + b"Date: Fri, 3 May 2024 10:00:00 +0200\r\nMessage-ID: "
        + name
        + b"\r\nSubject: "
        + subject
        + b"\r\n"
    )


def _bomb(name: str, rest: Callable[[], bytes], subject: bytes = b"") -> None:
    """Add a message: the usual header, and what ``rest`` makes."""
    BOMBS[name] = lambda author: head(author, subject or name.encode()) + rest()


def _text(name: str, content: Callable[[], bytes], *, fields: bytes = PLAIN) -> None:
    """Add a message of one text."""
    _bomb(name, lambda: fields + b"\r\n" + content())


def _nested(levels: int, kind: bytes = b"mixed") -> bytes:
    opened = b"".join(
        b'Content-Type: multipart/%s; boundary="b%d"\r\n\r\n--b%d\r\n' % (kind, i, i)
        for i in range(levels)
    )
    return opened + PLAIN + b"\r\nhello\r\n"


def _messages_in_messages(levels: int) -> bytes:
    inner = b"From: a@example.net\r\nSubject: x\r\n"
    return b"".join(inner + b"Content-Type: message/rfc822\r\n\r\n" for _ in range(levels)) + inner


# --- structure --------------------------------------------------------------------------------

_bomb("200 levels of multipart", lambda: _nested(200))
_bomb("3000 levels of multipart", lambda: _nested(3000))
_bomb("25 levels of alternatives", lambda: _nested(25, b"alternative"))
_bomb("3000 messages in messages", lambda: _messages_in_messages(3000)[48:])
_bomb(
    "100,000 tiny parts",
    lambda: b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n\r\nx\r\n" * 100_000,
)
_bomb(
    "999 parts with a header each",
    lambda: (
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n"
        + (b"--a\r\n" + b"X-Y: z\r\n" * 200 + b"\r\nhello\r\n") * 999
    ),
)
_bomb(
    "two million almost boundaries",
    lambda: b"Content-Type: multipart/mixed; boundary=-\r\n\r\n" + b"-" * 2_000_000,
)
_bomb(
    "a line break before each almost boundary",
    lambda: b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a x\r\n" * 300_000,
)
_bomb(
    "a boundary of 15,000 characters",
    lambda: (
        b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n" % (b"ab" * 7500)
        + b"--"
        + b"ab" * 500_000
    ),
)
_bomb(
    "an empty boundary",
    lambda: b'Content-Type: multipart/mixed; boundary=""\r\n\r\n' + b"--\r\n" * 300_000,
)
_bomb(
    "20 MB that never begin a part",
    lambda: b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"\n-" * 10_000_000,
)
_bomb(
    "a message of 20 MB in base64",
    lambda: (
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(b"From: a@example.net\r\n\r\n" + b"hello\r\n" * 2_000_000)
    ),
)
_bomb(
    "1000 invitations",
    lambda: (
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n"
        + b"--a\r\nContent-Type: text/calendar; method=REQUEST\r\n\r\nBEGIN:VCALENDAR\r\n" * 990
    ),
)
_bomb(
    "990 texts in one message",
    lambda: (
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n"
        + b"--a\r\nContent-Type: text/plain\r\n\r\nOn 3 May 2024 a@b.example wrote:\r\n" * 990
    ),
)
_bomb(
    "990 pages in one message",
    lambda: (
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n"
        + b"--a\r\nContent-Type: text/html\r\n\r\n<table><tr><td>x<blockquote>y\r\n" * 990
    ),
)

# --- header -----------------------------------------------------------------------------------

_bomb("100,000 header fields", lambda: b"".join(b"X-%d: y\r\n" % i for i in range(100_000)))
_bomb("20,000 header fields", lambda: b"X: y\r\n" * 20_000 + b"\r\nhello")
_bomb("a field of 60,000 lines", lambda: b"X-Long: y\r\n" + b" y\r\n" * 60_000 + b"\r\nhello")
_bomb("a header of 10 MB", lambda: b"X-Long: " + b"y" * 10_000_000)
_bomb("lines that are no fields", lambda: b"no field at all\r\n" * 14_000 + b"\r\nhello")
_bomb("colons", lambda: b": : : :\r\n" * 25_000 + b"\r\nhello")
_bomb("only carriage returns", lambda: b"X: y\r" * 200_000)
_bomb("NULs", lambda: b"X\x00Y: \x00\r\n" * 10_000 + b"\r\n" + b"\x00" * 500_000)
_bomb("200 kB of encoded words", lambda: b"\r\nhello", b" ".join([b"=?utf-8?q?a?="] * 14_000))
_bomb("an encoded word of 200 kB", lambda: b"\r\nhello", b"=?utf-8?b?%b?=" % (b"4oKs" * 50_000))
_bomb("encoded words that end nowhere", lambda: b"\r\nhello", b"=?utf-8?q?" * 20_000)
_bomb("question marks", lambda: b"\r\nhello", b"=?" + b"?" * 200_000)
_bomb("80,000 times Re", lambda: b"\r\nhello", b"Re:" * 80_000)
_bomb("forwarded and answered in turn", lambda: b"\r\nhello", b"Fwd: AW[12]: " * 18_000)
_bomb("blanks for a subject", lambda: b"\r\nhello", b"Re" + b" " * 200_000 + b"x")
_bomb(
    "words in every charset",
    lambda: b"\r\nhello",
    b" ".join(
        b"=?%b?q?=41=FF+AGE-=1B$B?=" % name.encode()
        for name in ("punycode", "idna", "utf-7", "unicode-escape", "zlib", "rot13", "hz", "no")
        * 1000
    ),
)
_bomb(
    "60,000 recipients", lambda: b"Cc: " + b", ".join(b"a%d@b.example" % i for i in range(60_000))
)
_bomb(
    "10,000 recipients", lambda: b"Cc: " + b", ".join(b"a%d@b.example" % i for i in range(10_000))
)
_bomb("comments in comments", lambda: b"Cc: a@b.example " + b"(" * 60_000 + b"\r\n\r\nhello")
_bomb("comments that are closed", lambda: b"Cc: " + b"(" * 30_000 + b")" * 30_000 + b"\r\n\r\nx")
_bomb("angle brackets", lambda: b"Reply-To: " + b"<" * 60_000 + b"\r\n\r\nhello")
_bomb("quotes and backslashes", lambda: b'Reply-To: "' + b'\\"' * 30_000 + b"\r\n\r\nhello")
_bomb("groups in groups", lambda: b"Reply-To: " + b"a:" * 30_000 + b";" * 3000 + b"\r\n\r\nhello")
_bomb("routes", lambda: b"Reply-To: <" + b"@a," * 20_000 + b":x@y.example>\r\n\r\nhello")
_bomb("dots", lambda: b"Reply-To: " + b"a." * 30_000 + b"@" + b"b." * 3000 + b"\r\n\r\nhello")
_bomb("at signs", lambda: b"Reply-To: " + b"a@" * 30_000 + b"b\r\n\r\nhello")
_bomb("commas", lambda: b"Reply-To: " + b"," * 60_000 + b"\r\n\r\nhello")
_bomb(
    "a name of marks",
    lambda: (
        b"Reply-To: " + ("e" + "\u0301\u0323" * 12_000).encode() + b" <x@y.example>\r\n\r\nhello"
    ),
)
_bomb("a domain of 60 kB", lambda: b"Reply-To: x@" + "ü".encode() * 25_000 + b"\r\n\r\nhello")
_bomb("a domain of one letter each", lambda: b"Reply-To: x@" + b"u." * 25_000 + b"\r\n\r\nhello")
_bomb("200 kB of references", lambda: b"References: " + b"<a@b>" * 40_000 + b"\r\n\r\nhello")
_bomb("references that are not closed", lambda: b"References: " + b"<" * 200_000 + b"\r\n\r\nhello")
_bomb("an answer to 200 kB", lambda: b"In-Reply-To: <" + b"a" * 200_000 + b">\r\n\r\nhello")
_bomb("a year of 200,000 digits", lambda: b"Date: 1 May " + b"9" * 200_000 + b"\r\n\r\nhello")
_bomb("list after list", lambda: b"Precedence: " + b"(" * 100_000 + b"\r\n\r\nhello")
_bomb(
    "10,000 parameters",
    lambda: b"Content-Type: text/plain" + b"".join(b"; a%d=b" % i for i in range(10_000)) + b"\r\n",
)
_bomb(
    "16 kB of parameters",
    lambda: b"Content-Type: text/plain" + b";a=b" * 4000 + b"\r\n\r\nhello",
)
_bomb(
    "a parameter in 1000 pieces",
    lambda: (
        b"Content-Type: text/plain"
        + b"".join(b"; charset*%d*=%%41" % i for i in range(999))
        + b"\r\n\r\nhello"
    ),
)
_bomb(
    "a parameter in pieces of which one is far away",
    lambda: b"Content-Type: text/plain; name*0=a; name*999999999=b\r\n\r\nhello",
)
_bomb(
    "a parameter in a charset of its own",
    lambda: b"Content-Type: text/plain; name*=punycode'x'%41%ff\r\n\r\nhello",
)
_bomb(
    "a parameter's quote that is not closed",
    lambda: b'Content-Disposition: inline; filename="' + b'\\"; ' * 4000 + b"\r\n\r\nhello",
)
_bomb(
    "1000 received fields",
    lambda: b"Received: from a (b [127.0.0.1]) by c with d; e\r\n" * 4000 + b"\r\nhello",
)

# --- charsets and encodings -------------------------------------------------------------------

for _name in (
    *("utf-7", "utf-16", "utf-32", "utf-16-be", "hz", "iso-2022-jp", "iso-2022-kr", "gb18030"),
    *("big5hkscs", "euc-jp", "unicode-escape", "raw-unicode-escape", "punycode", "idna", "zlib"),
    *("bz2", "base64", "rot13", "hex", "undefined", "mbcs", "unknown-8bit", "cp65001"),
):
    _text(
        f"a megabyte of {_name}",
        lambda: b"+AGE-\x1b$B%b~{<:Ky2;~}\xff\xfe\xa4\xd5" * 36_000,
        fields=b"Content-Type: text/plain; charset=%b\r\n" % _name.encode(),
    )
_text("bytes of no charset", lambda: bytes(range(128, 256)) * 8000, fields=b"")
_bomb(
    "4 MB of random bytes",
    lambda: b"Content-Type: text/plain; charset=x\r\n\r\n" + random.Random(1).randbytes(4_000_000),
)
_text(
    "soft line breaks",
    lambda: b"=\r\n" * 600_000,
    fields=b"Content-Transfer-Encoding: quoted-printable\r\n",
)
_text(
    "equals signs",
    lambda: b"=" * 3_000_000,
    fields=b"Content-Transfer-Encoding: quoted-printable\r\n",
)
_text(
    "base64 that is none",
    lambda: b"A=\r\n-_=*" * 300_000,
    fields=b"Content-Transfer-Encoding: base64\r\n",
)
_text(
    "line breaks in base64",
    lambda: b"\r\n" * 3_000_000,
    fields=b"Content-Transfer-Encoding: base64\r\n",
)
_text(
    "an unknown encoding",
    lambda: b"hello",
    fields=b"Content-Transfer-Encoding: %b\r\n" % (b"x" * 9000),
)

# --- text -------------------------------------------------------------------------------------

_text("one line of a megabyte", lambda: b"word " * 200_000)
_text("one word of a megabyte", lambda: b"w" * 1_000_000)
_text("blanks", lambda: b" " * 1_000_000 + b"x")
_text("blanks and words", lambda: (b" " * 50 + b"x") * 20_000)
_text("empty lines", lambda: b"\r\n" * 500_000 + b"hello")
_text("carriage returns", lambda: b"\r" * 1_000_000 + b"hello")
_text("line separators", lambda: "\u2028".encode() * 300_000 + b"hello")
_text("greater-than signs", lambda: b">" * 1_000_000)
_text("quotes ever deeper", lambda: b"".join(b">" * i + b" x\n" for i in range(1400)))
_text("quotes in turn", lambda: b"> a\nb\n" * 160_000)
_text("lines of an mbox", lambda: b">>>>From here\n" * 70_000)
_text(
    "flowed, without an end",
    lambda: b"word \n" * 170_000,
    fields=b"Content-Type: text/plain; format=flowed; delsp=yes\r\n",
)
_text(
    "flowed, ever deeper",
    lambda: b"".join(b">" * (i % 300) + b"x \n" for i in range(6500)),
    fields=b"Content-Type: text/plain; format=flowed\r\n",
)
_text(
    "40,000 announcements", lambda: b"On 3 May 2024 at 10:00, Bob <b@b.example> wrote:\n" * 20_000
)
_text(
    "40,000 lines that end in a colon", lambda: b"2024 2024 2024 a@a.example a@ <a@a :\n" * 25_000
)
_text("an announcement of a megabyte", lambda: b"On 2024 " * 120_000 + b"wrote:\n> x")
_text(
    "announcements in all languages at once",
    lambda: (
        (
            "Dnia 2024 den på d. 2024 skrev em 2024 escreveu le 2024 a écrit пишет "
            "el 2024 escribi\u00f3 <a@b <a@b 2024 wrote schrieb:\n"
        ).encode()
        * 6000
    ),
)
_text("years and brackets", lambda: (b"2024 <a@" * 48 + b":\n> x\n") * 2500)
_text("header lines", lambda: b"From: a@b.example\nDate: 3.5.2024\nTo: x\n" * 24_000)
_text("header lines without an end", lambda: b"From: a@b.example\n" * 55_000)
_text("separators", lambda: b"-----Original Message-----\n" * 37_000)
_text("rules", lambda: b"_____\n" * 160_000)
_text("underscores and titles", lambda: b"-" * 190 + b"original message" + b"-" * 700_000)
_text("signatures", lambda: b"-- \nJen\n" * 120_000)
_text("dashes", lambda: b"--\n" * 330_000)
_text("devices", lambda: b"Sent from my iPhone\n" * 50_000)
_text("a device of a megabyte", lambda: b"hello\n\nSent from my " + b"phone " * 170_000)
_text("fences", lambda: b"```\n" * 250_000)
_text("items", lambda: b"- x\n 1) y\n" * 100_000)
_text("code", lambda: b"if (x) { a = b(c(d; }\n" * 45_000)
_text("columns", lambda: b"a    b\tc\n" * 110_000)
_text("statements", lambda: b"(" * 500_000 + b"=" * 400_000 + b";\nx")
_text("stops", lambda: b".!?)" * 250_000 + b" x")
_text("closings", lambda: b"Best regards,\nJen\n" * 60_000)
_text("closings in a row", lambda: b"with many thanks all my best " * 36_000)
_text("addresses", lambda: b"http://example.net/" + b"a/" * 450_000 + b"\n x")
_text("wrapped lines", lambda: (b"word " * 14 + b"and\n") * 13_000)
_text("armour", lambda: b"-----BEGIN PGP MESSAGE-----\n" * 36_000)
_text(
    "signed armour", lambda: b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: x\n\n" + b"- -\n" * 240_000
)
_text("marks on a letter", lambda: b"e" + "\u0301\u0323".encode() * 240_000)
_text("marks of each kind", lambda: "".join(map(chr, range(0x300, 0x370))).encode() * 4000)
_text("letters that grow", lambda: "\ufdfa\u0390\u1f82".encode() * 100_000)
_text("Hangul in pieces", lambda: "\u1112\u1161\u11ab".encode() * 110_000)
_text("bidirectional marks", lambda: "\u202e\u2066\u2069\u200f x".encode() * 70_000)
_text("surrogates", lambda: b"\xed\xa0\xbd\xed\xb8\x80 \xed\xa0\x80" * 100_000)
_text("a text that nobody sees", lambda: "\U000e0041".encode() * 240_000 + b"hello")
_text("capital letters that change length", lambda: "\u0130\u00df\ufb03".encode() * 140_000)
_text("a text of 5 MB", lambda: b"Tell Stew that I shall come.\r\n" * 170_000)
_text("recipients on top", lambda: b"To: " + b"a, " * 300_000 + b"\n\nhello")
_text("a recipient on top", lambda: b"To: " + b"a" * 900_000 + b"\n\nhello")
_text("an address on top", lambda: b"To: " + b"<a.a@" * 180_000 + b"\n\nhello")
_text("addresses on top", lambda: b"Cc: " + b"a@b.example;" * 75_000 + b"\n\nhello")
_text("quotes on top", lambda: b'To: "' + b'a"b' * 300_000 + b"\n\nhello")
_text("blanks on top", lambda: b"Cc: x" + b" " * 900_000 + b"y\n\nhello")
_text("a subject on top", lambda: b"Subject: " + b"Re: " * 200_000 + b"\n\nTell Stew yes.")
_text("lines on top", lambda: b"To: stew@example.net\n" * 45_000 + b"\nhello")
_text("names in a row", lambda: b"Tell " + b"Stew and " * 2000 + b"Anna that I come.")
_text("nothing but capitals", lambda: b"Tell " + b"Aa " * 6500)
_text(
    "a quoted header that names everybody",
    lambda: (
        b"Yes.\n\n-----Original Message-----\nFrom: "
        + b"a@b.example, " * 40_000
        + b"\nSent: 3 May 2024\nTo: x\nSubject: y\n\nhello"
    ),
)

# --- HTML -------------------------------------------------------------------------------------


def _page(name: str, content: Callable[[], str]) -> None:
    _text(name, lambda: content().encode(), fields=HTML)


for _tag in ("div", "blockquote", "table><tr><td", "ul><li", "b", "span", "font", "p", "a href=x"):
    _page(f"40,000 times {_tag} in itself", lambda tag=_tag: f"<{tag}>" * 40_000 + "hello")
    _page(
        f"40,000 times {_tag}, closed",
        lambda tag=_tag: f"<{tag}>x</{tag.split('>')[0].split()[0]}>" * 40_000,
    )
_page("an attribute of a megabyte", lambda: f"<div style='{'color:red;' * 100_000}'>hello</div>")
_page(
    "100,000 attributes", lambda: f"<div {' '.join(f'a{i}=b' for i in range(100_000))}>hello</div>"
)
_page("100,000 classes", lambda: f"<div class='{'gmail_quote ' * 100_000}'>hello</div>")
_page("a million entities", lambda: "&amp;" * 300_000 + "&#x110000;&#xd800;&#0;&nbsp;" * 10_000)
_page(
    "entities that double",
    lambda: (
        "<!DOCTYPE html [<!ENTITY a 'hello'>"
        + "".join(f"<!ENTITY {chr(98 + i)} '{f'&{chr(97 + i)};' * 10}'>" for i in range(12))
        + "]><p>&m;</p>"
    ),
)
_page(
    "an entity from elsewhere",
    lambda: (
        "<!DOCTYPE html [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><p>hello &x;</p>"
        "<img src='http://127.0.0.1:9/x'><link rel=stylesheet href='file:///etc/passwd'>"
    ),
)
_page("comments without an end", lambda: "<!--" * 250_000)
_page("styles without an end", lambda: "<style>" * 150_000)
_page("scripts", lambda: "<script>" + "</scrip" * 140_000)
_page("angle brackets in a page", lambda: "<" * 1_000_000)
_page("a tag without an end", lambda: "<p " + "a" * 1_000_000)
_page("line breaks in a page", lambda: "<br>" * 250_000)
_page("Outlook's paragraphs", lambda: "<p class=MsoNormal>&nbsp;</p>" * 34_000)
_page("Outlook's marks", lambda: "<div id=divRplyFwdMsg><b>From:</b> a</div>" * 25_000)
_page("Outlook's marks in each other", lambda: "<div id=appendonsend>" * 2000)
_page("signatures in a page", lambda: "<div class='gmail_signature'>x" * 33_000)
_page("quotes in a page", lambda: "<blockquote type=cite>x</blockquote>" * 27_000)
_page("quotes in quotes in a page", lambda: "<blockquote>x" * 1500 + "</blockquote>y" * 1500)
_page("a table of 100,000 cells", lambda: f"<table>{'<tr><td>x<td>y</tr>' * 50_000}</table>")
_page(
    "a wide cell above narrow ones",
    lambda: f"<table><tr><td>{'x' * 1_000_000}{'<tr><td>y' * 10_000}</table>",
)
_page("a row of 50,000 cells", lambda: f"<table><tr>{'<td>x' * 50_000}</table>")
_page(
    "cells that span", lambda: "<table><tr><td colspan=999999999 rowspan=999999999>x</table>" * 1000
)
_page("lists", lambda: f"<ol start=999999999>{'<li>x' * 100_000}</ol>")
_page(
    "indentation",
    lambda: "<div style='padding-left:999999999em;margin-top:999999999em'>x</div>" * 100,
)
_page("preformatted text", lambda: f"<pre>{' ' * 900_000}x</pre>")
_page("pictures in the page", lambda: "<img src='data:" * 70_000)
_page("NULs in a page", lambda: "<p>\x00</p>" * 100_000)
_page("a page of 5 MB", lambda: "<p>hello</p>" * 450_000)
_page("a declaration", lambda: "<?xml version='1.0' encoding='utf-16'?>" * 25_000)
_page("namespaces", lambda: "".join(f"<x{i}:y xmlns:x{i}='z'>" for i in range(20_000)))
_page("frames", lambda: "<frameset><iframe srcdoc='<p>x'>" * 30_000)
_page("mathematics", lambda: "<math><mi><svg><foreignObject>" * 20_000)
_page("forms", lambda: "<form><select><option>x<textarea>" * 30_000)

# --- whole messages ---------------------------------------------------------------------------

BOMBS["nothing"] = lambda _author: b""
BOMBS["a line break"] = lambda _author: b"\r\n"
BOMBS["all bytes"] = lambda author: head(author) + bytes(range(256)) * 1000
BOMBS["a header alone"] = lambda author: head(author)[:-2]
BOMBS["a body alone"] = lambda _author: b"\r\n\r\nhello"
BOMBS["an author of 250 kB"] = lambda author: head("x" * 250_000 + f" {author}") + b"\r\nhello"
BOMBS["an author of words"] = lambda author: (
    head(f"{'=?utf-8?q?a?= ' * 15_000}{author}") + b"\r\nhello"
)
BOMBS["an author in comments"] = lambda author: head(f"{'(' * 30_000}{author}") + b"\r\nhello"
BOMBS["100 authors"] = lambda author: head(", ".join([author] * 3000)) + b"\r\nhello"
BOMBS["panza everywhere"] = lambda author: (
    head(author) + b"X-Note: " + b"jen+panza" * 25_000 + b"@\r\n\r\nhello"
)
BOMBS["the owner's name everywhere"] = lambda author: (
    head(author) + b"X-Note: " + b"jen-" * 60_000 + b"\r\n\r\nhello"
)
