"""How messages come over IMAP: in few commands, large ones without attachments, none forgotten."""

from __future__ import annotations

import re
from email.message import EmailMessage
from random import Random
from typing import TYPE_CHECKING

import pytest
from faultproxy import FaultProxy
from scripted import Talk, scripted

from connectors import body, mime
from connectors.base import LARGEST, Cursor, RefusedError, Role
from connectors.imap import ImapConnector, ImapSettings
from connectors.imap_reading import SPARING
from connectors.mail import parse
from connectors.raw import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from dovecot import Dovecot
    from imapclient import IMAPClient

    from connectors.base import Message
    from daemon.demo.server import DemoServer

    Emptied = Callable[..., AbstractContextManager[IMAPClient]]

_LARGE = "x" * 76 + "\n"


def letter(number: int, size: int = 0) -> bytes:
    """Return a mail of about this size."""
    head = (
        f"From: Jen Doe <jen@example.org>\r\nTo: stew@example.org\r\nSubject: Mail {number}\r\n"
        f"Message-ID: <{number}@example.org>\r\n\r\n"
    )
    line = f"Until Thursday {number}, and not a day later.\r\n"
    return (head + line * (1 + size // len(line))).encode()


def settings(server: Dovecot | FaultProxy | DemoServer) -> ImapSettings:
    """Return how to reach a server in clear."""
    return ImapSettings(
        server.host, server.user, server.password, port=server.port, security="none", timeout=20
    )


def deliver(server: Dovecot, messages: Sequence[bytes]) -> None:
    """Let these messages arrive in Sent, which exists and is empty."""
    sent = server.mailbox("Sent")
    for number, raw in enumerate(messages):
        (sent / "cur" / f"{1_700_000_000 + number}.{number}.host,S={len(raw)}:2,").write_bytes(raw)
    server.give_away(sent)


# Round trips


def test_a_first_thousand_and_nothing_new(dovecot: Dovecot, emptied: Emptied) -> None:
    """A thousand mails of 4 kB take at most 20 round trips, login included; no news takes two."""
    with emptied(dovecot, "Sent", "Drafts", "Archive"):
        deliver(dovecot, [letter(number, 4000) for number in range(1000)])
        with FaultProxy(dovecot) as proxy, ImapConnector(settings(proxy)) as connector:
            state = connector.state(Role.SENT)
            uids = [message.uid for message in connector.fetch(Role.SENT)]
            assert len(uids) == state.messages == 1000
            assert proxy.round_trips <= 20
            proxy.forget()
            cursor = Cursor(connector.state(Role.SENT).uidvalidity, uids[-1])
            assert list(connector.fetch(Role.SENT, cursor)) == []
            assert proxy.round_trips <= 2


def test_nothing_is_asked_twice(dovecot: Dovecot, emptied: Emptied) -> None:
    """One look at the folders serves all roles, and the capabilities are asked once at most."""
    with emptied(dovecot, "Sent", "Drafts", "Panza requests"), FaultProxy(dovecot) as proxy:
        with ImapConnector(settings(proxy)) as connector:
            for role in Role:
                assert connector.state(role).messages == 0
                connector.ensure(role)
        assert proxy.count("LIST") == 1
        assert proxy.count("CAPABILITY", "NAMESPACE") == 0
        assert proxy.count("EXAMINE") == 3


def test_message_ids_of_a_folder_take_one_command(dovecot: Dovecot, emptied: Emptied) -> None:
    """However many there are, up to some thousands; and only those asked for."""
    with emptied(dovecot, "Sent"), FaultProxy(dovecot) as proxy:
        deliver(dovecot, [letter(number) for number in range(300)])
        with ImapConnector(settings(proxy)) as connector:
            found = connector.message_ids(Role.SENT)
            assert list(found.values()) == [f"{number}@example.org" for number in range(300)]
            assert proxy.count("FETCH") == 1
            last = max(found)
            assert connector.message_ids(Role.SENT, last) == {last: "299@example.org"}


def test_one_message_does_not_cost_its_neighbours(dovecot: Dovecot, emptied: Emptied) -> None:
    """With a last UID nothing behind it is fetched."""
    with emptied(dovecot, "Sent") as client:
        for number in range(5):
            client.append("Sent", letter(number))
        with ImapConnector(settings(dovecot)) as connector:
            uids = list(connector.message_ids(Role.SENT))
            cursor = Cursor(connector.state(Role.SENT).uidvalidity, uids[1])
            (one,) = connector.fetch(Role.SENT, cursor, last=uids[2])
            assert one.uid == uids[2]
            assert list(connector.fetch(Role.SENT, cursor, last=uids[1])) == []


# Large mails without their attachments


def mail(*, html: bool = False, number: int = 1) -> EmailMessage:
    """Return a mail with text to which attachments can be added."""
    message = EmailMessage()
    message["From"] = "Jen Doe <jen@example.org>"
    message["To"] = "Stew <stew@example.org>"
    message["Subject"] = "Fotos vom Brennofen - größer"
    message["Date"] = "Mon, 06 Jan 2025 10:00:00 +0100"
    message["Message-ID"] = f"<{number}@example.org>"
    message.set_content("Hi Stew,\n\nhier sind die Fotos. Groß genug?\n\nJen\n")
    if html:
        message.add_alternative("<p>Hi Stew,</p><p>hier sind die Fotos.</p>", subtype="html")
    return message


def photographs() -> EmailMessage:
    """Plain text and two pictures."""
    message = mail()
    for name in ("kiln.jpg", "größer.jpg"):
        data = Random(name).randbytes(150_000)
        message.add_attachment(data, maintype="image", subtype="jpeg", filename=name)
    return message


def page_with_picture() -> EmailMessage:
    """Alternatives, of which the second has a picture inside, and a file behind."""
    message = mail(html=True)
    page = message.get_payload()[1]  # type: ignore[index,union-attr]
    page.add_related(Random(1).randbytes(200_000), "image", "png", cid="<a@b>")  # type: ignore[union-attr,call-arg,arg-type]
    message.add_attachment(b"%PDF" + Random(2).randbytes(99_000), "application", "pdf")
    return message


def log_file() -> EmailMessage:
    """A text that is a file, which nobody reads with the mail."""
    message = mail()
    message.add_attachment(_LARGE * 4000, filename="kiln.log")
    return message


def forward() -> EmailMessage:
    """A mail attached to a mail, and a large file."""
    message = mail()
    message.add_attachment(mail(html=True, number=2))
    message.add_attachment(Random(3).randbytes(300_000), "application", "zip", filename="a.zip")
    return message


def signed() -> EmailMessage:
    """A signed mail whose first part is all that is read."""
    message = mail()
    del message["Content-Transfer-Encoding"]
    message.replace_header("Content-Type", 'multipart/signed; boundary="s"')
    inner = photographs()
    for name in ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version"):
        del inner[name]
    signature = "Content-Type: application/pgp-signature\n\n-----BEGIN PGP SIGNATURE-----\n"
    message.set_payload(f"--s\n{inner.as_string()}\n--s\n{signature}--s--\n")
    return message


def without_types() -> EmailMessage:
    """Parts that do not say what they are, and one that says it badly."""
    message = mail()
    message.replace_header("Content-Type", 'multipart/mixed; boundary="a b"')
    del message["Content-Transfer-Encoding"]
    pieces = [
        "\n\nUntil Thursday.\n",
        "\nContent-Type: application/octet-stream\n\n" + _LARGE * 3000,
        "\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nJen\n",
    ]
    message.set_payload("".join(f"--a b{piece}" for piece in pieces) + "--a b--\n")
    return message


def only_a_file() -> EmailMessage:
    """A mail that is nothing but a scan."""
    message = mail()
    message.clear_content()
    message.set_content(Random(4).randbytes(200_000), "application", "pdf", filename="scan.pdf")
    return message


SHAPES = [photographs, page_with_picture, log_file, forward, signed, without_types, only_a_file]


@pytest.fixture
def both(dovecot: Dovecot, emptied: Emptied) -> Iterator[Callable[[bytes], tuple[bytes, Message]]]:
    """Return a function that stores a mail in Sent, and gives its bytes and what is fetched."""
    with emptied(dovecot, "Sent") as client, ImapConnector(settings(dovecot)) as connector:

        def through(raw: bytes) -> tuple[bytes, Message]:
            cursor = Cursor(
                connector.state(Role.SENT).uidvalidity, connector.state(Role.SENT).uidnext - 1
            )
            client.append("Sent", canonical(raw))
            (message,) = connector.fetch(Role.SENT, cursor)
            return canonical(raw), message

        yield through


def names(raw: bytes) -> list[tuple[str, str]]:
    """Return type and name of each part."""
    found = []
    for part in mime.read(raw).walk():
        name = re.search(rb"filename\*?=[^;\r\n]*", part.get("content-disposition"))
        found.append((part.content_type, name.group().decode() if name else ""))
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_a_large_sent_mail_reads_as_the_original(
    shape: Callable[[], EmailMessage], both: Callable[[bytes], tuple[bytes, Message]]
) -> None:
    """The same words, parts and names come over the line, and attachments do not."""
    raw, message = both(shape().as_bytes())
    assert len(raw) > SPARING
    assert not message.complete
    assert len(message.raw) < len(raw) / 10
    assert parse(message.raw) == parse(raw)
    assert names(message.raw) == names(raw)
    attached = list(body.attached(mime.read(raw)))
    assert list(body.attached(mime.read(message.raw))) == attached


@pytest.mark.parametrize("seed", range(40))
def test_any_nesting_reads_as_the_original(
    seed: int, both: Callable[[bytes], tuple[bytes, Message]]
) -> None:
    """Whatever parts lie within parts, what is read of the mail is the same."""
    random = Random(seed)

    def part(depth: int) -> str:
        kind = random.choice(["mixed", "alternative", "related", "digest", "", "", "", ""])
        if kind and depth < 4:
            mark = f"{random.choice(['=_', 'b ', '--'])}{random.randrange(10**6)}"
            inner = "".join(f"--{mark}\n{part(depth + 1)}\n" for _ in range(random.randrange(1, 4)))
            head = f'Content-Type: multipart/{kind}; boundary="{mark}"'
            return f"{head}\n\npreamble\n{inner}--{mark}--\n"
        text = random.choice(["Until Thursday.\n", "", "Jen\n\n\n", "-- \nJen\n"])
        return random.choice(
            [
                f"Content-Type: text/plain; charset=utf-8\n\n{text}",
                f"\n{text}",
                f"Content-Type: text/html\nContent-Disposition: inline\n\n<p>{text}</p>",
                f"Content-Type: text/plain; name=a.txt\n\n{text}",
                f"Content-Type: TEXT/PLAIN\nContent-Disposition: attachment\n\n{text}",
                "Content-Type: message/rfc822\n\nSubject: inner\nFrom: a@example.org\n\nHello.\n",
                f"Content-Type: application/x-large\n\n{_LARGE * 2000}",
                f"Content-Type: nonsense\n\n{text}",
            ]
        )

    head = "From: jen@example.org\nTo: stew@example.org\nSubject: nested\nMIME-Version: 1.0\n"
    filler = f"--outer\nContent-Type: image/png\n\n{_LARGE * 2000}\n--outer--\n"
    written = f"{head}Content-Type: multipart/mixed; boundary=outer\n\n--outer\n{part(0)}\n{filler}"
    raw, message = both(written.encode())
    assert parse(message.raw) == parse(raw)
    assert [p.content_type for p in mime.read(message.raw).walk()] == [
        p.content_type for p in mime.read(raw).walk()
    ]


def test_the_embedded_server_gives_the_same(demo_server: DemoServer, emptied: Emptied) -> None:
    """Another server's view of the parts leads to the same words."""
    with emptied(demo_server, "Sent") as client, ImapConnector(settings(demo_server)) as connector:
        for shape in SHAPES:
            client.append("Sent", canonical(shape().as_bytes()))
        found = list(connector.fetch(Role.SENT))
        for shape, message in zip(SHAPES, found, strict=True):
            assert parse(message.raw) == parse(shape().as_bytes())


def test_mails_alike_are_fetched_together(dovecot: Dovecot, emptied: Emptied) -> None:
    """Twenty mails with photographs take three commands, small ones between them one more."""
    with emptied(dovecot, "Sent") as client, FaultProxy(dovecot) as proxy:
        for number in range(40):
            raw = letter(number) if number % 2 else canonical(photographs().as_bytes())
            client.append("Sent", raw)
        with ImapConnector(settings(proxy)) as connector:
            found = list(connector.fetch(Role.SENT))
        assert [message.complete for message in found] == [False, True] * 20
        assert [message.uid for message in found] == sorted(message.uid for message in found)
        assert proxy.count("FETCH") == 4


def test_requests_and_drafts_come_whole(dovecot: Dovecot, emptied: Emptied) -> None:
    """What may carry the mail to answer, and what is compared byte by byte, is not cut."""
    raw = canonical(photographs().as_bytes())
    folders = {Role.DRAFTS: "Drafts", Role.REQUESTS: "Panza requests"}
    with (
        emptied(dovecot, *folders.values()) as client,
        ImapConnector(settings(dovecot)) as connector,
    ):
        for role, name in folders.items():
            client.append(name, raw)
            (message,) = connector.fetch(role)
            assert message.complete
            assert message.raw == raw


def test_a_long_text_comes_whole(both: Callable[[bytes], tuple[bytes, Message]]) -> None:
    """Where the text itself is what is large there is nothing to leave out."""
    raw, message = both(letter(1, 300_000))
    assert message.complete
    assert message.raw == raw


def test_a_huge_attachment_costs_no_text(both: Callable[[bytes], tuple[bytes, Message]]) -> None:
    """A mail above the largest that is handed out whole still comes with all its parts."""
    message = mail()
    message.add_attachment(Random(5).randbytes(LARGEST), "video", "mp4", filename="kiln.mp4")
    message.add_attachment("And one more thing.\n", disposition="inline")
    raw, found = both(message.as_bytes())
    assert len(raw) > LARGEST
    assert parse(found.raw) == parse(raw)
    assert "one more thing" in parse(found.raw).text


# Servers that see parts otherwise, or give less than they should


_TWO_PARTS = (
    '(("TEXT" "PLAIN" NIL NIL NIL "7BIT" 5 1)'
    '("IMAGE" "PNG" ("NAME" "a.png") NIL NIL "BASE64" 400000) "MIXED" ("BOUNDARY" "b"))'
)
_HEADER = 'Subject: x\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
_IMAGE = "Content-Type: image/png; name=a.png\r\n\r\n"
_WHOLE = f"{_HEADER}--b\r\n\r\nHello\r\n--b\r\n{_IMAGE}AAAA\r\n--b--\r\n"


def large_mail(structure: str, sections: dict[str, str]) -> dict[str, object]:
    """Return what a server says of one large mail."""

    def literal(text: str) -> str:
        return f"{{{len(text)}}}\r\n{text}"

    told = " ".join(f"BODY[{name}] {literal(text)}" for name, text in sections.items())
    return {
        "EXAMINE": "* 1 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n* OK [UIDNEXT 9] x\r\n",
        r"UID FETCH .*SIZE": "* 1 FETCH (UID 8 RFC822.SIZE 500000)\r\n",
        r"UID FETCH .*BODYSTRUCTURE": f"* 1 FETCH (UID 8 FLAGS () BODYSTRUCTURE {structure})\r\n",
        r"UID FETCH .*BODY.PEEK\[\]": f"* 1 FETCH (UID 8 FLAGS () BODY[] {literal(_WHOLE)})\r\n",
        r"UID FETCH .*HEADER": f"* 1 FETCH (UID 8 {told})\r\n",
    }


def test_what_the_parts_are_made_of() -> None:
    """Header fields and texts as the server has them, empty attachments, the folder's marks."""
    sections = {"HEADER": _HEADER, "1.MIME": "\r\n", "1": "Hello", "2.MIME": _IMAGE}
    with scripted(large_mail(_TWO_PARTS, sections)) as connector:
        (message,) = connector.fetch(Role.SENT)
    assert message.raw.decode() == _WHOLE.replace("AAAA", "")
    assert not message.complete


@pytest.mark.parametrize(
    ("structure", "sections"),
    [
        ("NIL", {}),
        ("(NIL)", {}),
        ('("TEXT")', {}),
        (f"({'(' * 50}{')' * 50})", {}),
        (_TWO_PARTS, {}),
        (_TWO_PARTS, {"HEADER": _HEADER, "1.MIME": "\r\n", "1": "Hello"}),
        (_TWO_PARTS, {"HEADER": "Subject: x\r\n\r\n", "1.MIME": "", "1": "a", "2.MIME": _IMAGE}),
        (_TWO_PARTS, {"HEADER": _HEADER, "1.MIME": "\r\n", "1": "--b\r\n", "2.MIME": _IMAGE}),
        (_TWO_PARTS, {"HEADER": _HEADER, "1.MIME": "\r\n", "1": "a", "2.MIME": "\r\n"}),
    ],
    ids=["nil", "no tuple", "short", "deep", "none", "one missing", "boundary", "inside", "type"],
)
def test_where_parts_make_no_sense_the_whole_comes(
    structure: str, sections: dict[str, str]
) -> None:
    """A server whose view of the parts is not ours is asked for all of the message."""
    with scripted(large_mail(structure, sections)) as connector:
        (message,) = connector.fetch(Role.SENT)
    assert message.raw.decode() == _WHOLE
    assert message.complete


@pytest.mark.parametrize("item", ["BODYSTRUCTURE", "HEADER"])
def test_where_parts_are_refused_the_whole_comes(item: str) -> None:
    """So is one that cannot take a message apart."""
    odd = large_mail(_TWO_PARTS, {})
    with scripted({rf"UID FETCH .*{item}": "NO cannot parse it", **odd}) as connector:
        (message,) = connector.fetch(Role.SENT)
    assert message.raw.decode() == _WHOLE


def test_nesting_beyond_all_measure() -> None:
    """A structure deeper than Python can follow costs the structure and no more."""
    odd = large_mail("(" * 3000 + ")" * 3000, {})
    with scripted(odd) as connector:
        (message,) = connector.fetch(Role.SENT)
    assert message.raw.decode() == _WHOLE


def numbered(talk: Talk, *, refused: frozenset[int], seen: list[str]) -> None:
    """Answer for messages 1 to 40, some of which are refused to whoever asks for them."""
    seen.append(talk.command)
    match = re.match(r"UID FETCH (\S+) \((.*)\)", talk.command)
    assert match
    uids: set[int] = set()
    for piece in match[1].split(","):
        first, _, last = piece.partition(":")
        uids |= set(range(int(first), 41 if last == "*" else int(last or first) + 1))
    if "SIZE" in match[2]:
        talk.say(*(f"* {uid} FETCH (UID {uid} RFC822.SIZE 3)" for uid in sorted(uids)))
    elif uids & refused:
        talk.say(f"{talk.tag} NO [CANNOT] not this one")
        return
    else:
        for uid in sorted(uids):
            talk.say(f"* {uid} FETCH (UID {uid} FLAGS () BODY[] {{3}}", f"{uid:03})")
    talk.say(f"{talk.tag} OK done")


def test_a_refused_message_costs_few_commands() -> None:
    """Those that the server will not give are found by halving, and passed over."""
    seen: list[str] = []
    refused = frozenset({7, 31})
    odd = {
        "EXAMINE": "* 40 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n* OK [UIDNEXT 41] x\r\n",
        "UID FETCH": lambda talk: numbered(talk, refused=refused, seen=seen),
    }
    with scripted(odd) as connector:
        found = [message.uid for message in connector.fetch(Role.SENT)]
    assert found == [uid for uid in range(1, 41) if uid not in refused]
    assert len(seen) < 26


def test_the_only_new_message_may_be_refused() -> None:
    """One that is refused for ever does not stop a folder for ever."""
    odd = {r"UID FETCH .*BODY": "NO [CANNOT] broken"}
    with scripted(odd) as connector:
        assert list(connector.fetch(Role.SENT, Cursor(5, 3))) == []
        with pytest.raises(RefusedError):  # both of two: that is no accident
            list(connector.fetch(Role.SENT))


def test_flags_told_unasked_are_nobody_elses() -> None:
    """Flags of message number 8 do not become those of the message with UID 8."""
    odd = {
        r"UID FETCH .*BODY": (
            "* 1 FETCH (UID 3 FLAGS () BODY[] {3}\r\none)\r\n"
            "* 2 FETCH (UID 8 FLAGS () BODY[] {3}\r\ntwo)\r\n"
            "* 8 FETCH (FLAGS (\\Deleted))\r\n"
        )
    }
    with scripted(odd) as connector:
        assert [message.flags for message in connector.fetch(Role.SENT)] == [set(), set()]


def test_a_list_that_ends_too_early() -> None:
    """Where a server lists fewer messages than it says it has, it is asked by their numbers."""
    odd = {
        "EXAMINE": "* 3 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n* OK [UIDNEXT 10] x\r\n",
        "FETCH 1:3": (
            "* 1 FETCH (UID 3 RFC822.SIZE 3)\r\n* 2 FETCH (UID 8 RFC822.SIZE 3)\r\n"
            "* 3 FETCH (UID 9 RFC822.SIZE 3)\r\n"
        ),
        r"UID FETCH .*BODY": "".join(
            f"* {n} FETCH (UID {uid} BODY[] {{3}}\r\none)\r\n"
            for n, uid in ((1, 3), (2, 8), (3, 9))
        ),
    }
    with scripted(odd) as connector:
        assert [message.uid for message in connector.fetch(Role.SENT)] == [3, 8, 9]


def test_a_message_that_vanished_meanwhile() -> None:
    """One that is listed and not given is passed over, and the rest is not."""
    odd = {
        r"UID FETCH .*BODY": (
            "* 2 FETCH (UID 8 BODY[] {3}\r\ntwo)\r\n* 1 FETCH (UID 3 BODY[] NIL)\r\n"
        )
    }
    with scripted(odd) as connector:
        assert [message.uid for message in connector.fetch(Role.SENT)] == [8]
