"""The demo's mailbox is well-formed, and its owner's voice and facts are regular."""

import re
from collections import Counter
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from itertools import pairwise
from statistics import median

import pytest

from daemon.demo import mailbox

CLOSING = "Fair winds and dry socks,\nMaud"
CATCHPHRASES = (
    "Short version:",
    "Long version:",
    "Wood does not own a watch",
    "The kettle knows you are coming.",
    "Bilge sends his regards and some hair.",
    "Measure twice, swear once",
    "That is the whole plank.",
)
ADDRESS = (
    "The shed is The Net Loft, 7 Gannet Quay, Pollenhythe "
    "\N{EN DASH} green doors, just past the ice house."
)
FACTS = (
    ADDRESS,
    "The shed is open Tuesday to Saturday, eight till four.",
    "The link is the same as ever: https://meet.slipway.example/maud",
    "01632 960417",
    "the blue van, QI07 OAR.",
    "ninety-five pounds, soup included",
)
PATTERNS = {  # whatever looks like a fact, so that no variant of one slips in
    "telephone": (re.compile(r"\b0\d{3,4} ?\d{3,}"), "01632 960417"),
    "link": (re.compile(r"https?://\S+"), "https://meet.slipway.example/maud"),
    "street": (re.compile(r"\d+ Gannet Quay"), "7 Gannet Quay"),
    "plate": (re.compile(r"\b[A-Z]{2}\d\d ?[A-Z]{3}\b"), "QI07 OAR"),
}


@pytest.fixture(scope="module")
def persona() -> mailbox.Persona:
    """Return the demo's person."""
    return mailbox.load()


@pytest.fixture(scope="module")
def messages(persona: mailbox.Persona) -> list[tuple[mailbox.DemoMessage, EmailMessage]]:
    """Return all messages, each with what the standard library reads in it."""
    parser = BytesParser(policy=policy.default)
    return [(each, parser.parsebytes(each.raw)) for each in persona.messages()]


@pytest.fixture(scope="module")
def sent(messages: list[tuple[mailbox.DemoMessage, EmailMessage]]) -> list[EmailMessage]:
    """Return what lies in Sent."""
    return [message for each, message in messages if each.folder == "sent"]


@pytest.fixture(scope="module")
def letters(persona: mailbox.Persona, sent: list[EmailMessage]) -> dict[str, str]:
    """Map the Message-ID of each mail that counts to the owner's own words in it."""
    texts = {}
    for message in sent:
        text = plain(message)
        if message["From"].addresses[0].addr_spec != persona.address or not text:
            continue
        if "Auto-Submitted" in message or message["Subject"].startswith("Fwd:"):
            continue
        texts[message["Message-ID"]] = re.split(r"(?m)^On \d\d/|^-- $", text)[0].strip()
    return texts


@pytest.fixture(scope="module")
def own_words(letters: dict[str, str]) -> list[str]:
    """Return the texts that are the owner's own, once each, without quote and signature."""
    return list(letters.values())


def body(message: EmailMessage) -> EmailMessage:
    """Return the part that a mail client without HTML would show."""
    part = message.get_body(("plain", "html"))
    assert isinstance(part, EmailMessage)
    return part


def plain(message: EmailMessage) -> str:
    """Return the text of a message, its paragraphs on one line each."""
    part = body(message)
    text = str(part.get_content()).replace("\r\n", "\n")
    if part.get_content_subtype() == "html":
        text = re.sub(r"<blockquote.*</blockquote>", "", text, flags=re.DOTALL)
        text = re.sub(r"<br>\n?", "\n", re.sub(r"</p>\n", "\n\n", text))
        text = re.sub(r"<[^>]+>", "", text)
    if part["Content-Type"].params.get("format") == "flowed":
        text = re.sub(r"(?<!--) \n", " ", text)
    return text.strip()


def test_mailbox_has_the_promised_size(sent: list[EmailMessage], own_words: list[str]) -> None:
    """There is enough mail to train on, a part of it replies in a good number of threads."""
    replies = [message for message in sent if "In-Reply-To" in message]
    threads = {message["References"].split()[0] for message in replies}
    assert len(own_words) >= 140
    assert len(replies) >= 25
    assert len(threads) >= 12


def test_bytes_are_the_same_at_every_call(persona: mailbox.Persona) -> None:
    """Neither a clock nor chance takes part in making the messages."""
    assert persona.messages() == mailbox.load().messages()


def test_every_message_is_well_formed(
    messages: list[tuple[mailbox.DemoMessage, EmailMessage]],
) -> None:
    """Each message parses without a defect in any part and has the headers of RFC 5322."""
    for each, message in messages:
        assert b"\n" not in each.raw.replace(b"\r\n", b"")
        assert max(map(len, each.raw.split(b"\r\n"))) <= 998
        for part in message.walk():
            assert not part.defects
            assert not any(value.defects for value in part.values())
        assert message["From"].addresses
        assert message["To"].addresses
        assert message["Subject"]
        assert message["Date"].datetime == each.date


def test_dates_ascend_over_two_years(
    messages: list[tuple[mailbox.DemoMessage, EmailMessage]],
) -> None:
    """The mailbox is in order and covers about two years."""
    dates = [each.date for each, _ in messages]
    assert all(earlier <= later for earlier, later in pairwise(dates))
    assert 650 <= (dates[-1] - dates[0]).days <= 800


def test_replies_thread_and_quote(
    messages: list[tuple[mailbox.DemoMessage, EmailMessage]],
) -> None:
    """A reply names a message of the mailbox, and a sent one quotes what it answers."""
    known: dict[str, EmailMessage] = {}
    for each, message in messages:
        parent = message["In-Reply-To"]
        if parent is not None:
            answered = known[parent]
            assert message["References"].split()[-1] == parent
            assert message["Subject"].removeprefix("Re: ") == answered["Subject"].removeprefix(
                "Re: "
            )
            content = body(message).get_content()
            assert each.folder == "inbox" or re.search(
                rf"On [\d/]+ [\d:]+, {answered['From'].addresses[0].display_name} wrote:", content
            )
        known[message["Message-ID"]] = message


def test_mime_structure_varies(sent: list[EmailMessage]) -> None:
    """Flowed, alternative and HTML-only mail, an attachment and signatures are all there."""
    kinds = Counter(message.get_content_type() for message in sent)
    flowed = [m for m in sent if m["Content-Type"].params.get("format") == "flowed"]
    signed = [m for m in sent if re.search(r"(?m)^-- $", plain(m))]
    assert kinds["multipart/alternative"] >= 2
    assert kinds["text/html"] >= 2
    assert kinds["multipart/mixed"] >= 1
    assert len(flowed) >= 3
    assert len(signed) >= 30


def test_some_mail_is_to_be_left_out(persona: mailbox.Persona, sent: list[EmailMessage]) -> None:
    """Sent holds one of each: automatic, forwarded, duplicate, empty, somebody else's."""
    ids = Counter(message["Message-ID"] for message in sent)
    assert [n for n in ids.values() if n > 1] == [2]
    assert sum("Auto-Submitted" in message for message in sent) == 1
    assert sum(plain(message).startswith("-------- Forwarded") for message in sent) == 1
    assert sum(not plain(message) for message in sent) == 1
    strangers = [m for m in sent if m["From"].addresses[0].addr_spec != persona.address]
    assert len(strangers) == 1


def test_voice_is_regular(own_words: list[str]) -> None:
    """Every mail opens and closes in the owner's way, and most are of one length."""
    for text in own_words:
        assert re.match(r"(Ahoy|Good tide,) [A-Z][\w ]+,\n\n", text), text
        assert text.endswith(f"\n\n{CLOSING}")
        assert "!" not in text
    words = [len(text.split()) for text in own_words]
    assert 55 <= median(words) <= 80
    assert max(words) <= 110


def test_titles_decide_the_opening(letters: dict[str, str], sent: list[EmailMessage]) -> None:
    """Mr, Mrs and Ms are wished a good tide, everybody else is hailed by the first name."""
    titled = 0
    for message in sent:
        words = message["To"].addresses[0].display_name.split()
        formal = words[0] in {"Mr", "Mrs", "Ms"}
        name = " ".join(words) if formal or words[0] == "Aunt" else words[0]
        greeting = f"{'Good tide, ' if formal else 'Ahoy '}{name},\n"
        assert letters.get(message["Message-ID"], greeting).startswith(greeting)
        titled += formal
    assert titled >= 20


def test_catchphrases_recur_and_are_not_in_every_mail(own_words: list[str]) -> None:
    """Each turn of phrase comes back five times or more and none is everywhere."""
    for phrase in CATCHPHRASES:
        count = sum(phrase in text for text in own_words)
        assert 5 <= count <= 0.8 * len(own_words), phrase


def test_facts_recur_verbatim(own_words: list[str]) -> None:
    """A draft can learn each fact from at least six mails, and no variant contradicts it."""
    for fact in FACTS:
        assert sum(fact in text for text in own_words) >= 6, fact
    for name, (pattern, fact) in PATTERNS.items():
        found = {match.rstrip(".") for text in own_words for match in pattern.findall(text)}
        assert found == {fact}, name


def test_only_example_domains(
    messages: list[tuple[mailbox.DemoMessage, EmailMessage]],
) -> None:
    """Every address, Message-ID and link is under .example (RFC 2606)."""
    for each, _ in messages:
        text = each.raw.decode("ascii").replace("=\r\n", "")
        hosts = re.findall(r"[\w.+-]+@([\w.-]+)", text) + re.findall(r"https?://([\w.-]+)", text)
        assert hosts
        assert all(host.endswith(".example") for host in hosts), hosts


def test_names_in_instructions_are_unique(
    persona: mailbox.Persona, sent: list[EmailMessage]
) -> None:
    """The name in each instruction means one correspondent, whom the owner has written to."""
    people = {each.display_name for message in sent for each in message["To"].addresses}
    first_names = Counter(name.split()[0] for name in people)
    assert 3 <= len(persona.instructions) <= 5
    for instruction in persona.instructions:
        named = [word for word in re.findall(r"[A-Z]\w+", instruction) if word in first_names]
        assert len(named) == 1
        assert first_names[named[0]] == 1


def test_first_instruction_is_new(persona: mailbox.Persona, own_words: list[str]) -> None:
    """The demo's default request has no ready answer in the mailbox, but its fact is there."""
    assert "Teodor" in persona.instructions[0]
    to_teodor = [text for text in own_words if text.startswith("Ahoy Teodor,")]
    assert len(to_teodor) >= 4
    assert any("The shed is open Tuesday to Saturday, eight till four." in t for t in to_teodor)
    assert not any("mended" in text for text in to_teodor)
