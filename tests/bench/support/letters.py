"""Invented sent mail for benches: as many mails as wanted, the same ones for the same seed.

One in three answers a quoted mail, one in four carries HTML beside its text or alone, one in
fifteen an attachment; subjects and texts have letters beyond ASCII, and both transfer encodings.
"""

from __future__ import annotations

import base64
import quopri
import random
from datetime import UTC, datetime, timedelta
from email.header import Header
from email.utils import format_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER = "jen@example.org"

_WORDS = (  # noqa: SIM905
    "about after again almost along already also although always another answer anything around "
    "because before behind board boxes bring called carry clay clean close coffee colour corner "
    "could course delivery dinner dishes early enough evening every expect figure finish first "
    "forward friend garden glaze great group handle happy having heard hour house idea invoice "
    "keep kiln kitchen large later letter light little longer lunch maybe measure meeting minute "
    "money month morning moved needs never nothing number offer often order other outside paint "
    "paper perhaps phone place plate please price quick quite rather reach ready really repair "
    "right round sample shelf short should shop side since small something soon sorry sound still "
    "studio summer table thank their there thing think though thought three through time today "
    "together tomorrow train trip until visit wait walk water week where which while window "
    "without work would write year yellow yesterday"
).split()
_GERMAN = (  # noqa: SIM905
    "aber abends alle anders arbeiten auch besser bitte brauchen danke dass dazu denn doch drei "
    "eigentlich einfach erst etwas fahren fertig freue ganz gern gestern gleich größer haben heute "
    "ihr immer jetzt kann kaum keine kommen leider länger machen melde mich mit morgen nachher "
    "natürlich nicht noch nächste oder passt rechnung schaue schicke schon schöne sehr sicher "
    "sollten später treffen über unter vielleicht von vorher warten wegen wenn werden wieder "
    "wochenende würde zeit zusammen zwischen"
).split()
_NAMES = ("Stew", "Amelie", "Björn", "Chloé", "Dana", "Emil", "Fay", "Gustav", "Hana", "Igor")
_FIRST = datetime(2015, 1, 1, 8, tzinfo=UTC)


def letters(count: int, seed: int = 0, first: int = 0) -> Iterator[bytes]:
    """Yield mails of the owner's with CRLF line ends, numbered from ``first`` on."""
    for number in range(first, first + count):
        yield _Letter(number, random.Random(f"{seed} {number}")).raw()


class _Letter:
    def __init__(self, number: int, chance: random.Random) -> None:
        self.number, self.chance = number, chance
        self.german = chance.random() < 0.2
        self.friend = chance.choice(_NAMES)
        self.date = _FIRST + timedelta(minutes=97 * number)

    def raw(self) -> bytes:
        answer = self.chance.random() < 0.35
        subject = f"{'Re: ' * answer}{self._some(3).capitalize()} · {self.number}"
        address = f"{self.friend.lower().encode('ascii', 'ignore').decode()}@example.net"
        fields = [
            f"Date: {format_datetime(self.date)}",
            f"From: Jen Doe <{OWNER}>",
            f"To: {Header(self.friend).encode()} <{address}>",
            f"Subject: {Header(subject, 'utf-8').encode()}",
            f"Message-ID: <{self.number}.{self.chance.getrandbits(48):x}@example.org>",
            "MIME-Version: 1.0",
            "User-Agent: Mozilla Thunderbird",
        ]
        if answer:
            thread = [f"<{self.number}.{i}@example.net>" for i in range(self.chance.randint(1, 6))]
            fields.append("References: " + "\r\n ".join(thread))
            fields.append(f"In-Reply-To: {thread[-1]}")
        head, body = self._content(self._text(answer=answer))
        return ("\r\n".join(fields) + "\r\n" + head).encode() + b"\r\n\r\n" + body

    def _content(self, text: str) -> tuple[str, bytes]:
        kind = self.chance.random()
        if kind < 0.70:
            return self._plain(text)
        if kind < 0.90:
            parts = [self._plain(text), self._html(text)]
            return self._multipart("alternative", parts)
        if kind < 0.94:
            return self._html(text)
        return self._multipart("mixed", [self._plain(text), self._attachment()])

    def _plain(self, text: str) -> tuple[str, bytes]:
        data = text.replace("\n", "\r\n").encode()
        match self.chance.randrange(4):
            case 0:
                head = 'text/plain; charset="UTF-8"\r\nContent-Transfer-Encoding: quoted-printable'
                data = quopri.encodestring(text.encode()).replace(b"\n", b"\r\n")
            case 1:
                head = "text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64"
                data = base64.encodebytes(data).replace(b"\n", b"\r\n")
            case _:
                head = "text/plain; charset=utf-8; format=flowed\r\nContent-Transfer-Encoding: 8bit"
        return f"Content-Type: {head}", data

    def _html(self, text: str) -> tuple[str, bytes]:
        own, _, quoted = text.partition("\n> ")
        lines = "".join(f"<div>{line or '<br>'}</div>" for line in own.split("\n"))
        if quoted:
            lines += f"<blockquote type='cite'>{quoted.replace('> ', '')}</blockquote>"
        page = f'<html><head><meta charset="utf-8"></head><body dir="ltr">{lines}</body></html>'
        head = "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit"
        return head, page.replace("\n", "\r\n").encode()

    def _attachment(self) -> tuple[str, bytes]:
        head = (
            "Content-Type: image/jpeg; name=glaze.jpg\r\nContent-Transfer-Encoding: base64\r\n"
            "Content-Disposition: attachment; filename=glaze.jpg"
        )
        data = self.chance.randbytes(self.chance.randint(500, 8000))
        return head, base64.encodebytes(data).replace(b"\n", b"\r\n")

    def _multipart(self, kind: str, parts: list[tuple[str, bytes]]) -> tuple[str, bytes]:
        edge = f"----=_{self.number}_{self.chance.getrandbits(64):x}"
        body = b"".join(
            f"--{edge}\r\n{head}\r\n\r\n".encode() + data + b"\r\n" for head, data in parts
        )
        head = f'Content-Type: multipart/{kind};\r\n boundary="{edge}"'
        return head, body + f"--{edge}--\r\n".encode()

    def _text(self, *, answer: bool) -> str:
        hello = f"{'Hallo' if self.german else 'Hi'} {self.friend},"
        paragraphs = [self._paragraph() for _ in range(self.chance.randint(1, 4))]
        closing = "Liebe Grüße" if self.german else "Best wishes,"
        text = "\n\n".join([hello, *paragraphs, f"{closing}\nJen"])
        if self.chance.random() < 0.3:
            text += "\n\n-- \nJen Doe, Pottery\nwww.example.org"
        if answer:
            quoted = "\n".join(f"> {self._paragraph()}" for _ in range(self.chance.randint(1, 3)))
            quoted = quoted.replace("\n", "\n> ").replace("> > ", "> ")
            when = self.date - timedelta(hours=3)
            text += f"\n\nOn {when:%a, %d %b %Y at %H:%M}, {self.friend} <s@example.net> wrote:\n"
            text += quoted
        return text + "\n"

    def _paragraph(self) -> str:
        sentences = [
            self._some(self.chance.randint(5, 14)).capitalize() + self.chance.choice(".....?!")
            for _ in range(self.chance.randint(2, 5))
        ]
        lines, line = [], ""
        for word in " ".join(sentences).split():
            if len(line) + len(word) > 71:
                lines.append(line)
                line = ""
            line = f"{line} {word}".strip()
        return "\n".join([*lines, line])

    def _some(self, count: int) -> str:
        return " ".join(self.chance.choices(_GERMAN if self.german else _WORDS, k=count))
