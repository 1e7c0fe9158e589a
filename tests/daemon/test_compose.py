"""The bytes of drafts and notes."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import mime
from connectors.mail import Address, parse
from daemon import compose
from daemon.compose import Letter, Note
from daemon.guards import INVISIBLE

KEY = "0123456789abcdef" * 4
LETTER = Letter(
    key=KEY,
    date=datetime(2024, 3, 5, 14, 30, 12, 999, tzinfo=UTC),
    sender=Address("Jen Doe", "jen@example.org"),
    to=(Address("Stew Pidd", "stew@example.org"),),
    cc=(Address("", "ann@example.org"), Address("Berg, Anna", "berg@example.org")),
    subject="Re: Thursday",
    body="Hi Stew,\n\nThursday won't work. Friday at 3?\n\nJen\n",
    in_reply_to="a2@example.org",
    references=("a1@example.org", "a2@example.org"),
    quoted="Can we meet on Thursday?\n\n> Earlier words",
    attribution="On 2024-03-04 at 10:00, Stew Pidd wrote:",
)


def test_a_draft_says_what_it_was_given() -> None:
    """Another parser reads every field and the text with the quoted mail below."""
    read = message_from_bytes(compose.draft(LETTER), policy=policy.default)
    assert str(read["Date"]) == "Tue, 05 Mar 2024 14:30:12 +0000"
    assert str(read["From"]) == "Jen Doe <jen@example.org>"
    assert str(read["To"]) == "Stew Pidd <stew@example.org>"
    assert [a.display_name for a in read["Cc"].addresses] == ["", "Berg, Anna"]
    assert str(read["Subject"]) == "Re: Thursday"
    assert str(read["In-Reply-To"]) == "<a2@example.org>"
    assert str(read["References"]) == "<a1@example.org> <a2@example.org>"
    assert read["User-Agent"] == "Panza"
    assert read.get_content_type() == "text/plain"
    assert read.get_content().replace("\r\n", "\n") == (
        "Hi Stew,\n\nThursday won't work. Friday at 3?\n\nJen\n\n"
        "On 2024-03-04 at 10:00, Stew Pidd wrote:\n"
        "> Can we meet on Thursday?\n>\n>> Earlier words\n"
    )


def test_the_same_letter_gives_the_same_bytes() -> None:
    """Drafts are recognised by their bytes, so composing draws on nothing but its input."""
    assert compose.draft(LETTER) == compose.draft(replace(LETTER))


def test_the_owners_own_words_come_back_from_a_draft() -> None:
    """Panza's parser tells the draft's own words from the quoted mail."""
    mail = parse(compose.draft(LETTER))
    assert mail.text == LETTER.body.strip()
    assert "Can we meet on Thursday?" in mail.answered


@pytest.mark.parametrize(
    ("sender", "domain"),
    [
        ("jen@example.org", "example.org"),
        ("jen@My-Pottery.Example", "mypottery.example"),
        ("jen@[192.0.2.1]", "192.0.2.1"),
        ("jen@---", "invalid"),
    ],
)
def test_message_ids_have_harmless_characters_only(sender: str, domain: str) -> None:
    """A draft's Message-ID follows from the key and is of [a-z0-9.@]."""
    found = compose.message_id(KEY, sender)
    assert found == f"panza.{KEY[:40]}@{domain}"
    assert re.fullmatch(r"[a-z0-9.@]+", found)
    assert not compose.is_note(found)


@pytest.mark.parametrize(
    ("subject", "answer"),
    [
        ("Thursday", "Re: Thursday"),
        ("Re: Thursday", "Re: Thursday"),
        ("RE: AW: Re[2]: Fwd: Thursday", "Re: Thursday"),
        ("Antw: WG: Thursday", "Re: Thursday"),
        ("回复\uff1aRe: 转发: 星期四", "Re: 星期四"),
        ("VB: PD: Antwort: Thursday", "Re: Thursday"),
        ("Regarding: Thursday", "Re: Regarding: Thursday"),
        ("", "Re:"),
    ],
)
def test_an_answer_has_one_re(subject: str, answer: str) -> None:
    """Marks of answers and forwards in other languages become a single Re:."""
    assert compose.reply_subject(subject) == answer


@pytest.mark.parametrize(
    "hostile",
    ["x\r\nBcc: eve@example.com", "x\nBcc: eve@example.com", "x\x00\x0bBcc: y", "=?utf-8?q?x?="],
)
def test_nothing_breaks_out_of_a_header(hostile: str) -> None:
    """Line breaks, control characters and encoded words in a subject or a name stay text."""
    letter = replace(
        LETTER,
        subject=hostile,
        to=(Address(hostile, "stew@example.org"),),
        references=(f"{hostile} y", "ok@example.org"),
        in_reply_to=f"{hostile} y",
    )
    read = message_from_bytes(compose.draft(letter), policy=policy.default)
    assert "Bcc" not in read
    assert "In-Reply-To" not in read
    assert str(read["References"]) == "<ok@example.org>"
    shown = " ".join(hostile.replace("\x00", " ").replace("\x0b", " ").split())
    assert str(read["Subject"]) == shown
    assert read["To"].addresses[0].display_name == shown
    assert [a.addr_spec for a in read["To"].addresses] == ["stew@example.org"]


@pytest.mark.parametrize(
    ("email", "expected"),
    [
        ("stew@example.org", "stew@example.org"),
        ("stew@münchen.example", "stew@xn--mnchen-3ya.example"),
        ("jürgen@example.org", None),
        ("stew", None),
        ("stew@example.org\r\nBcc: x@y", None),
        ("a b@example.org", None),
        ("@example.org", None),
    ],
)
def test_only_plain_addresses_are_mailable(email: str, expected: str | None) -> None:
    """An address that a header cannot carry without SMTPUTF8 is told apart."""
    assert compose.mailable(email) == expected


def test_a_note_is_told_from_a_letter() -> None:
    """A note is marked as Panza's and as automatic, and stands in the request's thread."""
    about = "r1@example.org"
    raw = compose.note(
        Note(KEY, LETTER.date, Address("Jen Doe", "jen@example.org"), about, "No draft", "Why.")
    )
    part = mime.read(raw)
    assert compose.ours(part)
    mail = parse(raw)
    assert compose.is_note(mail.message_id)
    assert re.fullmatch(r"[a-z0-9.@]+", mail.message_id)
    assert mail.automatic
    assert mail.in_reply_to == about
    assert mail.text == "Why."


@given(
    body=st.text(max_size=400),
    subject=st.text(max_size=400),
    name=st.text(max_size=200),
    quoted=st.text(max_size=200),
)
def test_any_words_give_a_sound_message(body: str, subject: str, name: str, quoted: str) -> None:
    """Whatever is written: ASCII lines of lawful length with CRLF, no field more, no word lost.

    Characters that nobody sees, and that could hide something, are left out.
    """
    letter = replace(
        LETTER, body=body, subject=subject, to=(Address(name, "stew@example.org"),), quoted=quoted
    )
    raw = compose.draft(letter)
    assert raw.isascii()
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    assert not {13, 10} & set(raw.replace(b"\r\n", b""))
    part = mime.read(raw)
    names = [key for key, _ in part.fields]
    assert len(names) == len(set(names))
    assert set(names) <= {
        *("date", "from", "to", "cc", "subject", "message-id", "in-reply-to", "references"),
        *("user-agent", "x-panza", "mime-version", "content-type", "content-transfer-encoding"),
    }
    assert [a.email for a in parse(raw).to] == ["stew@example.org"]
    wanted = INVISIBLE.sub("", re.sub(r"[\s\x00-\x1f\x7f-\x9f]", "", body))
    assert re.sub(r"\s", "", part.content().decode()).startswith(wanted)
