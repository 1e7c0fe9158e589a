"""The grammar of Authentication-Results, as servers write it and as forgers would like it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import mime
from daemon import authres
from daemon.authres import Result

RFC = (
    "foo.example.net (foobar) 1 (baz); dkim (Because I like it) / 1 (One yay) = (wait for it) fail"
    " policy (A dot can go here) . (like that) expired (this surprised me)"
    " = (as I wasn't expecting it) 1362471462"
)
GMAIL = (
    'mx.google.com; dkim=pass header.i=@example.org header.s=mail header.b="Ab/dEfGh"; spf=pass'
    " (google.com: domain of jen@example.org designates 192.0.2.7 as permitted sender)"
    " smtp.mailfrom=jen@example.org; dmarc=pass (p=REJECT sp=REJECT dis=NONE)"
    " header.from=example.org"
)


@pytest.mark.parametrize(
    ("value", "server", "results"),
    [
        ("example.org; none", "example.org", []),
        ("example.org 1 ; none", "example.org", []),
        ('"example.org" (a host) 1; none', "example.org", []),
        ("example.org", "example.org", []),
        (
            "example.org; spf=pass smtp.mailfrom=example.net",
            "example.org",
            [Result("spf", "pass", {"smtp.mailfrom": "example.net"})],
        ),
        (  # RFC 8601, appendix B.7: comments everywhere
            RFC,
            "foo.example.net",
            [Result("dkim", "fail", {"policy.expired": "1362471462"})],
        ),
        (
            GMAIL,
            "mx.google.com",
            [
                Result(
                    "dkim",
                    "pass",
                    {
                        "header.i": "@example.org",
                        "header.s": "mail",
                        "header.b": "Ab/dEfGh",
                    },
                ),
                Result("spf", "pass", {"smtp.mailfrom": "jen@example.org"}),
                Result("dmarc", "pass", {"header.from": "example.org"}),
            ],
        ),
        (
            'mx; DKIM=Pass header.b=a/b+c== reason="no (comment) ; here" action=none;',
            "mx",
            [
                Result(
                    "dkim",
                    "pass",
                    {
                        "header.b": "a/b+c==",
                        "reason": "no (comment) ; here",
                        "action": "none",
                    },
                )
            ],
        ),
        (
            'mx; spf=pass smtp.mailfrom="a b; dmarc=pass"@example.net',
            "mx",
            [Result("spf", "pass", {"smtp.mailfrom": '"a b; dmarc=pass"@example.net'})],
        ),
        (
            "mx; spf=pass (a \\) dmarc=pass \\( b) smtp.helo=x",
            "mx",
            [Result("spf", "pass", {"smtp.helo": "x"})],
        ),
    ],
)
def test_what_the_grammar_allows_is_read(value: str, server: str, results: list[Result]) -> None:
    """Comments, quoted strings, versions, and a semicolon too many are understood."""
    found = authres.parse(value.encode())
    assert found is not None
    assert found.server == server
    assert list(found.results) == results


@pytest.mark.parametrize(
    "value",
    [
        "",
        ";",
        "; dmarc=pass",
        "dmarc=pass header.from=example.org",
        "spf=pass (sender IP is 192.0.2.7) smtp.mailfrom=example.com; dmarc=pass",
        "mx 2; dmarc=pass",
        "mx dmarc=pass",
        "mx; dmarc",
        "mx; dmarc=",
        "mx; dmarc pass",
        "mx; =pass",
        "mx; none; dmarc=pass",
        "mx; dmarc=pass; none",
        "mx; dmarc=pass header.from=a header.from=b",
        "mx; dmarc=pass header.=a",
        "mx; dmarc=pass header.from",
        "mx; dmarc=pass, dkim=pass",
        "mx; dmarc=pass (open",
        "mx; dmarc=pass close)",
        'mx; dmarc=pass header.from="open',
        'mx; dmarc=pass header.from="a"b',
        "mx; dmarc=pass\0",
        "mx; dmarc=pass header.from=ex\u00e4mple.org",
        "mx, evil; dmarc=pass",
        "mx " + "(" * 50 + ")" * 50 + "; dmarc=pass",
        "mx; dmarc=pass" + " " * 20_000,
    ],
)
def test_what_breaks_the_grammar_says_nothing(value: str) -> None:
    """A field that could be read in two ways is not read at all."""
    assert authres.parse(value.encode()) is None


@given(st.text(alphabet='ab1.=;:/@()"\\ \t\r\n-_', max_size=200))
def test_reading_never_fails(text: str) -> None:
    """Whatever stands there: a result or none, and no error."""
    found = authres.parse(f"mx; {text}".encode())
    assert found is None or found.server == "mx"


@pytest.mark.parametrize(
    "value",
    ["(" * 16_000, "mx; " + "a=b " * 4_000, "mx; " + "a=b;" * 4_000, 'mx; a="' + "\\" * 16_000],
)
def test_reading_takes_no_time(value: str) -> None:
    """Hostile fields cost no more than their length."""
    begun = time.monotonic()
    authres.parse(value.encode())
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    ("signed", "own", "together"),
    [
        ("example.org", "example.org", True),
        ("mail.example.org", "example.org", True),
        ("example.org", "cs.example.org", True),
        ("example.co.uk", "mail.example.co.uk", True),
        ("example.com", "example.org", False),
        ("badexample.org", "example.org", False),
        ("example.org.evil.com", "example.org", False),
        ("org", "example.org", False),
        ("co.uk", "example.co.uk", False),
        ("com.au", "example.com.au", False),
        ("", "example.org", False),
        ("example.org", "", False),
        ("", "", False),
    ],
)
def test_a_signature_speaks_for_its_own_domain(signed: str, own: str, *, together: bool) -> None:
    """The same domain or one within the other, but nothing below a registry's name."""
    assert authres.aligned(signed, own) is together


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("Example.ORG.", "example.org"),
        ("m\u00fcnchen.example", "xn--mnchen-3ya.example"),
        ("", ""),
        ("a b", ""),
        ("a..b", ""),
        ("a" * 64, ""),
        ("[192.0.2.1]", ""),
    ],
)
def test_a_domain_has_one_spelling(name: str, spelling: str) -> None:
    """Case, a dot at the end and letters of other scripts make no difference."""
    assert authres.domain(name) == spelling


@pytest.mark.parametrize(
    ("top", "counts"),
    [
        ("", True),
        ("Return-Path: <a@b>\nX-Spam: no\nARC-Seal: i=1\n", True),
        ("Received: from a by mx.example.org with ESMTPS id 1; now\n", True),
        ("Received: from a by mx.example.org (by evil.example) with LMTP; now\n", True),
        ("Received: from a by imap.example.org with lmtp id 1\n", True),
        ("Received: by 2002:a05:6a10:8a0b:: with SMTP id 1\n", True),
        ("Received: from a by 10.1.2.3 with ESMTP id 1\n", True),
        ("Received: from a by [IPv6:fd00::1] with ESMTP id 1\n", True),
        ("Received: from a by jens-own.example with ESMTP id 1\n", True),
        ("Received: from a by mx.example.com with ESMTPS id 1\n", False),
        ("Received: from a by 8.8.8.8 with ESMTPS id 1\n", False),
        ("Received: from a by mx.example.org by mx.example.com with ESMTP\n", False),
        ("Received: from a by mx.example.org with ESMTPSA id 1\n", False),
        ("Received: from a by mx.example.org with HTTP id 1\n", False),
        ("Received: by mx.example.org (Postfix, from userid 1000) id 1\n", False),
        ("Received: (qmail 1 invoked by uid 89)\n", False),
        ("Received: from a\n", False),
        ("DKIM-Signature: d=example.org\n", False),
        ("Subject: x\n", False),
        ("Authentication-Results: mx.example.com; none\n", False),
        ("Authentication-Results: mx.example.org; none; broken\n", False),
    ],
)
def test_only_the_servers_own_trace_stands_above(top: str, *, counts: bool) -> None:
    """Below what another place, another user or the writer added, the field may be anybody's."""
    raw = f"{top}Authentication-Results: MX.example.org; dmarc=pass\nFrom: a@b\n\n".encode()
    found = authres.topmost(mime.read(raw), "mx.example.org", ["jens-own.example"])
    assert (found is not None) is counts


def test_a_message_without_the_field_has_no_results() -> None:
    """Nothing is taken for something."""
    assert authres.topmost(mime.read(b"From: a@b\n\n"), "mx.example.org", ["example.org"]) is None
    assert authres.topmost(mime.read(b"Received: by mx with SMTP\n\n"), "mx", []) is None
