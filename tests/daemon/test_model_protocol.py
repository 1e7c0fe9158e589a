"""The lines between mail process and model process: what is read, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connectors.mail import Address
from daemon import protocol
from daemon.brief import Brief, Draft, Source
from daemon.protocol import Embed, Evaluate, Playback, ProtocolError, Train, Write

BRIEF = Brief(
    instruction="Sag Stew, daß ich spät komme",
    to=(Address("Stew", "stew@example.org"), Address("", "anna@example.org")),
    subject="Re: Boards",
    thread="Line\u2028separators, tabs\t and\r\nends of lines\n",
    before=datetime(2024, 5, 1, 9, 30, tzinfo=UTC),
    in_reply_to="m1@example.org",
    seed=7,
)


@pytest.mark.parametrize(
    "request_",
    [
        Write(account="jen", brief=BRIEF),
        Embed(texts=("one", "", "a\nb")),
        Playback(account="jen"),
        Playback(account="jen", emails=3),
        Train(account="jen", method="lora", epochs=2),
        Evaluate(account="jen", mail=Path("/sent.mbox")),
    ],
)
def test_a_request_is_one_line_and_comes_back_as_it_was(request_: protocol.Request) -> None:
    """Whatever stands in a request, it is one line, and reading it gives the request."""
    line = request_.line()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert protocol.request(line) == request_


def test_the_longest_thread_fits_into_a_line() -> None:
    """A thread of 50,000 characters has room, whichever they are."""
    for letter in ("a", "\n", "\x01", "\U0001f600", "\ud800"):
        brief = Brief(letter * 20_000, (), "", letter * 50_000, BRIEF.before)
        line = Write(account="jen", brief=brief).line()
        assert len(line) < protocol.MAX_LINE / 2
        read = protocol.request(line)
        assert isinstance(read, Write)
        assert len(read.brief.thread) == 50_000


def test_a_draft_comes_back_as_it_was() -> None:
    """The result of a write job is the draft."""
    draft = Draft("Re: Boards", "Hi Stew,\n\nyes.\n\nJen", "a1", (Source("m@example.org", 0.5),))
    key, value = protocol.answer(protocol.line("result", protocol.draft_fields(draft)))
    assert key == "result"
    assert protocol.draft(value) == draft


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "expected a JSON object"),
        (b"EHLO example.org\r\n", "expected a JSON object"),
        (b"[1]\n", "expected a JSON object"),
        (b"[" * 200_000, "expected a JSON object"),
        (b"\xff\xfe\n", "expected a JSON object"),
        (b'{"do": "embed", "texts": []}\n', "version 1"),
        (b'{"panza": 2, "do": "embed", "texts": []}\n', "restart both processes"),
        (b'{"panza": 1}\n', "there is no job"),
        (b'{"panza": 1, "do": "sing"}\n', "write, embed, playback, train, evaluate"),
        (b'{"panza": 1, "do": ["write"]}\n', "there is no job"),
        (b'{"panza": 1, "do": "write", "account": "jen"}\n', "brief: Field required"),
        (b'{"panza": 1, "do": "embed", "texts": [3]}\n', "texts.0: Input should be"),
        (b'{"panza": 1, "do": "train", "account": "a", "epochs": 0}\n', "epochs: "),
        (b'{"panza": 1, "do": "train", "account": "a", "rank": 4}\n', "rank: Extra inputs"),
    ],
)
def test_what_is_no_request_is_told(line: bytes, said: str) -> None:
    """Another version, an unknown job and each wrong field are named."""
    with pytest.raises(ProtocolError, match=said):
        protocol.request(line)


def test_no_fault_shows_mail() -> None:
    """What is said about a faulty request shows nothing of what stands in it."""
    data = json.loads(Write(account="jen", brief=BRIEF).line())
    data["brief"]["seed"] = "Kreditkarte"
    data["brief"]["to"] = "stew@example.org"
    with pytest.raises(ProtocolError) as caught:
        protocol.request(json.dumps(data).encode())
    said = str(caught.value)
    assert "brief.seed" in said
    assert not any(word in said for word in ("Kreditkarte", "stew@", "daß", "Boards"))


@pytest.mark.parametrize("line", [b"{}", b'{"result": {}, "error": {}}', b"[]", b'{"resul'])
def test_what_is_no_answer_is_told(line: bytes) -> None:
    """A line of an answer has one key."""
    with pytest.raises(ProtocolError):
        protocol.answer(line)


@pytest.mark.parametrize("fields", [{}, {"subject": 3, "body": ""}, [], None])
def test_what_is_no_draft_is_told(fields: object) -> None:
    """A draft has its fields."""
    with pytest.raises(ProtocolError):
        protocol.draft(fields)
