"""Messages as people write them, hostile ones, and random changes to both."""

from __future__ import annotations

import base64
import random
from email.header import Header
from typing import TYPE_CHECKING

from bombs import BOMBS, HTML, OWNER, PLAIN, STRANGER, head

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOSTILE = 0.2  # the share of mutations that start from a hostile message
_CUT = 2**16  # bytes that are taken of one

_PIECES = (
    b"\r\n", b"\n", b"\r", b"\x00", b"> ", b"\n\n", b"--", b"=", b"=?utf-8?q?=C3=A4?=", b'"', b"(",
    b"<", b">", b";", b"\\", b":", b",", b"@", b"&#x41;", b"<div>", b"</div>", b"<blockquote>",
    b"<!--", b"\xff\xfe", b"\xed\xa0\x80", "\u202e\u0301\ufeff".encode(), b"\x1b$B", b"+AGE-",
    b"Content-Type: multipart/mixed; boundary=x\r\n", b"\r\n--x\r\n",
    b"Content-Type: text/html\r\n", b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"charset=utf-16", b"format=flowed; delsp=yes", b"From: Jen Doe <jen@example.org>\r\n",
    b"On Fri, 3 May 2024 at 10:00, Bob <b@b.example> wrote:\n", b"-----Original Message-----\n",
    b"From: a\nSent: 3.5.2024\nTo: b\nSubject: c\n", b"-- \n", b"To: stew@example.net\n", b"Re: ",
    b"9" * 400, b"a" * 2000, b" " * 500, b"\t",
)  # fmt: skip


def good_messages() -> list[bytes]:
    """Return messages as people write them, of the owner and of others."""
    page = (
        b'<html><body><p>See you <b>soon</b>.</p><blockquote type="cite"><p>When?</p></blockquote>'
        b"</body></html>"
    )
    edge = b'Content-Type: multipart/alternative; boundary="=_x"\r\n\r\n--=_x\r\n'
    both = edge + PLAIN + b"\r\nSee you soon.\r\n--=_x\r\n" + HTML + b"\r\n" + page
    answer = (
        b"In-Reply-To: <one@example.net>\r\nReferences: <nil@example.net> <one@example.net>\r\n"
        b"Content-Type: text/plain; charset=utf-8; format=flowed\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\nThursday is fine with me, \r\n"
        b"and I bring the boards.\r\n\r\nJen\r\n\r\nOn 2 May 2024 at 10:00, Stew "
        b"<stew@example.net> wrote:\r\n> Can you come on Thursday?\r\n> St\xc3\xa9phane\r\n"
        b"-- \r\nJen Doe\r\n"
    )
    attached = (
        b"Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n" + PLAIN + b"\r\n"
        b"Say yes.\r\n--y\r\nContent-Type: message/rfc822\r\n\r\n"
        + head(STRANGER, b"Glaze")
        + b"\r\nShall I order?\r\n--y\r\nContent-Type: image/png; name=a.png\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--y--\r\n"
    )
    encoded = b"Content-Transfer-Encoding: base64\r\n" + PLAIN + b"\r\n"
    encoded += base64.encodebytes("Bis morgen, Grüße, Jen".encode())
    top = PLAIN + b"\r\nTo: Stew\r\nSubject: Boards\r\n\r\nTell Stew that I come on Friday.\r\n"
    contents = (both, answer, attached, encoded, top, PLAIN + b"\r\nTell Anna yes.\r\n")
    subject = Header("Grüße aus Graz", "utf-8").encode().encode()
    return [head(author, subject) + content for author in (OWNER, STRANGER) for content in contents]


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Yield that many messages, each a good or a hostile one with up to forty changes."""
    chance = random.Random(seed)
    good = good_messages()
    hostile = list(BOMBS.values())
    for _ in range(count):
        raw = chance.choice(good)
        if chance.random() < _HOSTILE:
            raw = chance.choice(hostile)(chance.choice((OWNER, STRANGER)))[:_CUT]
        yield _mutated(bytearray(raw), good, chance)


def _mutated(raw: bytearray, others: list[bytes], chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 40)):
        start = chance.randrange(len(raw) + 1)
        end = min(len(raw), start + chance.randint(1, 200))
        match chance.randrange(7):
            case 0:
                raw[start:end] = chance.randbytes(end - start)
            case 1:
                del raw[start:end]
            case 2:
                raw[start:start] = raw[start:end] * chance.randint(1, 50)
            case 3:
                other = chance.choice(others)
                raw[start:start] = other[chance.randrange(len(other)) :][:300]
            case 4:
                raw[start:start] = chance.choice(_PIECES) * chance.choice((1, 1, 1, 2, 300))
            case _:
                raw[start:start] = chance.choice(_PIECES)
    return bytes(raw)
