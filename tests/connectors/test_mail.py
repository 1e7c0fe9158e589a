"""From the bytes of a message to a `Mail`, also from hostile bytes."""

import base64
import subprocess
import sys
import time
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import mime
from connectors.base import MessageError
from connectors.language import identify
from connectors.mail import Address, Mail, parse

RECEIVED = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
FIELDS = {
    "From": "Jen Doe <jen@example.org>",
    "To": "Bob Ross <bob@example.org>, =?utf-8?q?Zo=C3=AB?= <zoe@example.org>",
    "Date": "Mon, 3 Apr 2023 10:12:00 +0200",
    "Subject": "=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
    "Message-ID": "<one@example.org>",
    "Content-Type": "text/plain; charset=utf-8",
}
TEXT = """Hi Bob,

thank you for the order. The two bowls are glazed and will be fired on
Tuesday, so you can have them by the end of the week.

Best regards,
Jen
-- 
Jen Doe, Potter

On Sun, Apr 2, 2023 at 9:00 AM Bob Ross <bob@example.org> wrote:
> When can I have
> the bowls?
"""  # noqa: W291  # a signature's dashes end in a space


def raw(text: str | bytes = TEXT, **fields: str | None) -> bytes:
    """Build a message; a field set to None is left out, ``_`` stands for a hyphen."""
    changed = {name.replace("_", "-"): value for name, value in fields.items()}
    header = "".join(
        f"{name}: {value}\n" for name, value in {**FIELDS, **changed}.items() if value is not None
    )
    body = text if isinstance(text, bytes) else text.encode()
    return header.encode() + b"\n" + body


def test_all_attributes() -> None:
    """A common reply gives every attribute, its own words cleaned and unwrapped."""
    mail = parse(raw(In_Reply_To="<b@example.org>", References="<a@example.org> <b@example.org>"))
    assert mail == Mail(
        message_id="one@example.org",
        content_hash=mail.content_hash,
        sender=Address("Jen Doe", "jen@example.org"),
        to=(Address("Bob Ross", "bob@example.org"), Address("Zoë", "zoe@example.org")),
        cc=(),
        date=datetime(2023, 4, 3, 10, 12, tzinfo=timezone(timedelta(hours=2))),
        subject="Grüße",
        in_reply_to="b@example.org",
        references=("a@example.org", "b@example.org"),
        text="Hi Bob,\n\nthank you for the order. The two bowls are glazed and will be fired on "
        "Tuesday, so you can have them by the end of the week.\n\nBest regards,\nJen",
        answered="When can I have\nthe bowls?",
        automatic=False,
        quoting="below",
        heading="On Sun, Apr 2, 2023 at 9:00 AM Bob Ross <bob@example.org> wrote:",
    )


def test_line_ends_make_no_difference() -> None:
    """A message with CRLF line ends equals the one with LF."""
    assert parse(raw().replace(b"\n", b"\r\n")) == parse(raw())


def test_missing_fields() -> None:
    """Without header fields there is still a mail: no sender, no id, the epoch."""
    mail = parse(b"\nJust words.\n")
    assert (mail.sender, mail.to, mail.cc, mail.message_id) == (None, (), (), "")
    assert (mail.subject, mail.in_reply_to, mail.references) == ("", "", ())
    assert mail.date == datetime(1970, 1, 1, tzinfo=UTC)
    assert mail.text == "Just words."


@pytest.mark.parametrize(
    "date", [None, "", "yesterday", "32 Foo 2023 99:99", "Mon, 3 Apr 1899 10:12:00 +0200", "\0"]
)
def test_missing_or_broken_date(date: str | None) -> None:
    """Where Date says no time, the folder's counts; one without a zone is UTC."""
    assert parse(raw(Date=date), received=RECEIVED).date == RECEIVED
    assert parse(raw(Date=date), received=RECEIVED.replace(tzinfo=None)).date == RECEIVED
    assert parse(raw(Date=date)).date == datetime(1970, 1, 1, tzinfo=UTC)


def test_date_without_zone_is_utc() -> None:
    """A Date with zone -0000 or none is aware all the same."""
    for date in ("Mon, 3 Apr 2023 10:12:00 -0000", "Mon, 3 Apr 2023 10:12:00"):
        assert parse(raw(Date=date)).date == datetime(2023, 4, 3, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        ("Plain", "Plain"),
        ("folded\n over  two", "folded over two"),
        ("=?utf-8?q?Gr=C3?= =?utf-8?q?=BC=C3=9Fe?=", "Grüße"),
        ("=?iso-8859-1?Q?Gr=FC=DFe?= aus =?x-made-up?b?R3Jheg==?=", "Grüße aus Graz"),
        ("Grüße, unkodiert", "Grüße, unkodiert"),
        ("=?utf-8?b?broken", "=?utf-8?b?broken"),
        ("=?utf-8?b?R3Jheg=?=", "Graz"),
        ("=?utf-8?q?a=0D=0ABcc:_x?=", "a Bcc: x"),
        ("a\0b", "ab"),
    ],
)
def test_subjects(value: str, subject: str) -> None:
    """Subjects are decoded to one line, whatever was done to them."""
    assert parse(raw(Subject=value)).subject == subject


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("jen@example.org", [("", "jen@example.org")]),
        ('"Doe, Jen" <jen@example.org>', [("Doe, Jen", "jen@example.org")]),
        ("=?utf-8?q?Doe=2C_Jen?= <jen@example.org>", [("Doe, Jen", "jen@example.org")]),
        ("undisclosed-recipients:;", []),
        (
            "Friends: a@example.org, B <b@example.org>;",
            [("", "a@example.org"), ("B", "b@example.org")],
        ),
        ("nobody", []),
        ("(" * 100_000, []),
        ("", []),
    ],
)
def test_mailboxes(value: str, expected: list[tuple[str, str]]) -> None:
    """Address fields give their mailboxes; groups are opened, nonsense is none."""
    assert parse(raw(To=value)).to == tuple(Address(*pair) for pair in expected)


def test_cc_and_bcc() -> None:
    """Cc and Bcc are told together, in order."""
    mail = parse(raw(Cc="a@example.org", Bcc="b@example.org"))
    assert [address.email for address in mail.cc] == ["a@example.org", "b@example.org"]


def test_message_ids() -> None:
    """Ids lose their brackets; the parent is the last reference where nothing else says it."""
    assert parse(raw(Message_ID="bare@example.org")).message_id == "bare@example.org"
    assert parse(raw(Message_ID="")).message_id == ""
    assert parse(raw(References="<a@x> junk <b@x><a@x>")).references == ("a@x", "b@x")
    assert parse(raw(References="<a@x> <b@x>")).in_reply_to == "b@x"
    many = " ".join(f"<{number}@x>" for number in range(500))
    references = parse(raw(References=many)).references
    assert (len(references), references[0], references[-1]) == (100, "0@x", "499@x")


def test_owner() -> None:
    """A mail is from an owner when the sender equals one of her addresses but for case."""
    mail = parse(raw(From="Jen <Jen@Example.org>"))
    assert mail.is_from(["other@example.org", "JEN@example.org"])
    assert not mail.is_from(["en@example.org", "jen@example.org.evil"])
    assert not parse(raw(From=None)).is_from(["", "jen@example.org"])


def test_content_hash() -> None:
    """The hash survives a new Message-ID, folder and wrapping, and nothing else."""
    same = parse(raw()).content_hash
    assert len(same) == 64
    assert parse(raw(Message_ID="<two@example.org>", X_Added="x")).content_hash == same
    assert parse(raw(From="JEN@example.org")).content_hash == same
    assert parse(raw(Date="Mon, 3 Apr 2023 08:12:00 +0000")).content_hash == same
    assert parse(raw(TEXT.replace("fired on\n", "fired\non "))).content_hash == same
    for fields in ({"Subject": "x"}, {"From": "x@y"}, {"Date": "Mon, 3 Apr 2023 10:13:00 +0200"}):
        assert parse(raw(**fields)).content_hash != same
    assert parse(raw(TEXT.replace("two", "three"))).content_hash != same
    undated = raw(Date=None)
    assert parse(undated, received=RECEIVED).content_hash == parse(undated).content_hash


@pytest.mark.parametrize(
    ("name", "value", "automatic"),
    [
        ("Auto_Submitted", "auto-replied", True),
        ("Auto_Submitted", "auto-generated; owner=x", True),
        ("Auto_Submitted", "no", False),
        ("Auto_Submitted", "No (really)", False),
        ("Precedence", "bulk", True),
        ("Precedence", "List", True),
        ("Precedence", "first-class", False),
        ("List_Id", "<potters.example.org>", True),
        ("List_Unsubscribe", "<mailto:x@example.org>", True),
        ("X_Auto_Response_Suppress", "OOF, AutoReply", True),
        ("X_Auto_Response_Suppress", "None", False),
        ("X_Autoreply", "yes", True),
        ("Return_Path", "<>", True),
        ("Return_Path", "<jen@example.org>", False),
        ("From", "MAILER-DAEMON@example.org (Mail Delivery System)", True),
        ("From", "no-reply@example.org", True),
        ("From", "noreply+123@example.org", True),
        ("From", "donotreply@example.org", True),
        ("From", "Norah Reply <norah.reply@example.org>", False),
        ("Content_Type", "multipart/report; boundary=x", True),
        ("Content_Type", "text/calendar; method=REPLY", True),
        ("Content_Type", "text/calendar; method=REQUEST", False),
    ],
)
def test_automatic(name: str, value: str, *, automatic: bool) -> None:
    """Answering machines, lists, bounces and calendars are told from people."""
    assert parse(raw(**{name: value})).automatic is automatic


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Danke für die schnelle Antwort, wir sehen uns am Freitag in Graz.", "de"),
        ("Merci pour ta réponse, on se voit vendredi à la gare de Lyon.", "fr"),
        ("Thanks, see you there!", ""),
        ("今日はとても良い天気ですね。散歩に行きましょう。", "ja"),
        ("https://example.org/a/b one two https://example.org/c jen@example.org", ""),
        ("", ""),
    ],
)
def test_language(text: str, language: str) -> None:
    """The language is told from six words on."""
    assert identify(text) == language


def test_forwarded_as_attachment() -> None:
    """The words of an attached message are what is answered, never the writer's own."""
    inner = raw("Shall we meet?\n-- \nBob", Subject="Inner").decode()
    text = f"--X\n\nSee below.\n--X\nContent-Type: message/rfc822\n\n{inner}\n--X--\n"
    mail = parse(raw(text, Content_Type="multipart/mixed; boundary=X"))
    assert mail.text == "See below."
    assert mail.answered.startswith("Shall we meet?")
    assert mail.subject == "Grüße"


def test_html_reply() -> None:
    """An HTML-only reply gives own words and quoted words as a plain one does."""
    html = (
        "<div>Hi Bob,</div><div><br></div><div>yes.</div><div><br></div><div>Best,</div>"
        "<div>Jen</div><br><div class='gmail_quote'><div class='gmail_attr'>On Sun, Apr 2, 2023 "
        "at 9:00 AM Bob &lt;<a href='mailto:bob@example.org'>bob@example.org</a>&gt; wrote:<br>"
        "</div><blockquote class='gmail_quote'>When can I have the bowls?</blockquote></div>"
    )
    mail = parse(raw(html, Content_Type="text/html"))
    assert mail.text == "Hi Bob,\n\nyes.\n\nBest,\nJen"
    assert mail.answered == "When can I have the bowls?"


def test_large_attachment_is_not_decoded() -> None:
    """30 MB beside the text cost neither time nor memory."""
    attachment = base64.encodebytes(bytes(30 * 2**20))
    head = "--X\nContent-Type: text/plain\n\nHere it is.\n--X\nContent-Type: image/png\n"
    coding = "Content-Transfer-Encoding: base64\nContent-Disposition: attachment\n\n"
    text = (head + coding).encode() + attachment + b"\n--X--\n"
    message = raw(text, Content_Type="multipart/mixed; boundary=X")
    tracemalloc.start()
    started = time.perf_counter()
    assert parse(message).text == "Here it is."
    assert time.perf_counter() - started < 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 2**20


def nested(levels: int) -> bytes:
    """Build a multipart in a multipart, and so on."""
    lines = "".join(
        f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(levels)
    )
    return f"{lines}Content-Type: text/plain\n\nDeep.".encode()


def test_deep_nesting() -> None:
    """Parts are read down to the limit and refused beyond it."""
    assert parse(nested(mime.MAX_DEPTH)).text == "Deep."
    for levels in (mime.MAX_DEPTH + 1, 5_000):
        with pytest.raises(MessageError, match="levels deep"):
            parse(nested(levels))


HOSTILE = {
    "100,000 parts": raw("--X\n\n" * 100_000, Content_Type="multipart/mixed; boundary=X"),
    "delimiters in a line": raw("--X" * 500_000, Content_Type="multipart/mixed; boundary=X"),
    "huge field": raw(X_Large="x" * 300_000),
    "huge header": b"X: y\n" * 60_000 + b"\nHi",
    "no end of header": b"x" * 300_000,
    "huge Content-Type": raw(Content_Type="text/plain; " + "a=b;" * 10_000),
    "huge text": raw("word " * 300_000),
    "countless lines": raw("a\n" * 300_000),
    "countless tags": raw("<p>a" * 30_000, Content_Type="text/html"),
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE.keys())
def test_limits(message: bytes) -> None:
    """A message past a limit is refused at once, with a reason that quotes none of it."""
    started = time.perf_counter()
    with pytest.raises(MessageError) as refused:
        parse(message)
    assert time.perf_counter() - started < 2
    assert len(refused.value.reason) < 100


def test_message_size() -> None:
    """A message larger than servers take is refused unread."""
    with pytest.raises(MessageError, match="at most"):
        parse(bytes(mime.MAX_MESSAGE + 1))


ODD = {
    "empty": b"",
    "NUL": b"\0" * 1000,
    "NUL in words": raw("Hi\0 there"),
    "newlines": b"\n" * 1000,
    "large Subject": raw(Subject="=?utf-8?q?a?= " * 15_000),
    "large To": raw(To="a@b, " * 40_000),
    "folds": raw(Subject="x\n " * 50_000),
    "attached in attached": b"Content-Type: message/rfc822\n\n" * 10_000,
    "combining marks": raw("a" + "\u0301\u0316" * 100_000),
    "flowed": raw("a \n" * 20_000, Content_Type="text/plain; format=flowed"),
    "encoded boundary": raw("x", Content_Type="multipart/mixed; boundary*=utf-8''%ff"),
    "mbox separator": b"From jen@example.org Mon Apr  3\n" + raw("Hi there"),
}


@pytest.mark.parametrize("message", ODD.values(), ids=ODD.keys())
def test_odd_messages(message: bytes) -> None:
    """Odd messages are read in bounded time, and what comes out can be stored."""
    started = time.perf_counter()
    repr(parse(message)).encode()
    assert time.perf_counter() - started < 5


NAMES = (
    b"From",
    b"To",
    b"Date",
    b"Subject",
    b"Content-Type",
    b"References",
    b"Message-ID",
    b"Content-Transfer-Encoding",
    b"Content-Disposition",
    b"Precedence",
    b"",
)
VALUES = (
    b"multipart/mixed; boundary=X",
    b"multipart/alternative; boundary*0=X; boundary*1*=''%",
    b"text/html; charset=utf-7",
    b"text/plain; format=flowed; delsp=yes",
    b"message/rfc822",
    b"base64",
    b"quoted-printable",
    b"=?a?b?c?=",
    b"a <b@c>, (d",
    b"1 Jan 1",
)


def fields_and_text() -> st.SearchStrategy[bytes]:
    """Messages that look like mail and are wrong in places."""
    name = st.sampled_from(NAMES)
    value = st.one_of(st.binary(max_size=40), st.sampled_from(VALUES))
    field = st.tuples(name, value).map(lambda pair: pair[0] + b": " + pair[1])
    line = st.one_of(
        field,
        st.binary(max_size=60),
        st.sampled_from([b"", b"--X", b"--X--", b"> a", b"-- ", b"On 1.1.2023 a@b wrote:", b"<p>"]),
    )
    return st.lists(line, max_size=30).map(b"\n".join)


@settings(deadline=None)  # the first call loads a library
@given(st.one_of(st.binary(), fields_and_text()))
def test_any_bytes(data: bytes) -> None:
    """Any bytes give a mail that can be stored, or `MessageError`; never anything else."""
    try:
        mail = parse(data)
    except MessageError:
        return
    repr(mail).encode()
    assert mail.date.tzinfo is not None
    assert not {"\0", "\r"} & set(mail.text + mail.answered + mail.subject)


def test_import_is_light() -> None:
    """Importing the parser loads no library that costs start-up time."""
    program = (
        "import sys, connectors.mail\n"
        "heavy = {'numpy', 'torch', 'py3langid', 'lxml', 'inscriptis', 'charset_normalizer'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(  # noqa: S603  # this interpreter, with the program above
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
