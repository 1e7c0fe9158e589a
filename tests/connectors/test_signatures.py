"""Signatures: announced by two dashes, and learned from one owner's mails."""

import random

import pytest

from connectors import signatures
from connectors.signatures import Signatures, cut, learn

BLOCK = "Jen Doe\nPottery in the Old Mill\nHauptplatz 3, 8010 Graz\n+43 316 123456"
TOPICS = ("the bowls", "Friday", "the kiln", "your visit", "the glaze", "the market", "clay")
CLOSINGS = ("Best,", "Best regards,", "Liebe Grüße,", "Cheers", "All my best,")


def mails(number: int, ending: str, *, seed: int = 1) -> list[str]:
    """Make mails on several topics, each with the ending."""
    choose = random.Random(seed)
    words = [f"Hi {choose.choice('ABCDEFGH')},\n\nthis is about " for _ in range(number)]
    return [
        f"{text}{choose.choice(TOPICS)} number {place}.\n\n{ending}"
        for place, text in enumerate(words)
    ]


@pytest.mark.parametrize("closing", CLOSINGS)
def test_signature_behind_closing_and_name(closing: str) -> None:
    """What stands behind closing and name is signature; closing and name stay."""
    texts = mails(20, f"{closing}\nJen\n\n{BLOCK}")
    found = learn(texts)
    assert found.blocks == (BLOCK,)
    assert found.strip(texts[0]) == texts[0].removesuffix(f"\n\n{BLOCK}")


@pytest.mark.parametrize("closing", [*CLOSINGS, "", "Thank you so much for your help!"])
@pytest.mark.parametrize("name", ["David", "David Ionescu", "J. van der Berg", "Anna und Bob"])
def test_closing_and_name_are_no_signature(closing: str, name: str) -> None:
    """A closing and a name that end every mail are the owner's style."""
    texts = mails(40, f"{closing}\n{name}".lstrip())
    assert learn(texts) == Signatures()


@pytest.mark.parametrize(
    "ending", ["Looking forward to hearing from you!", "See you soon", "Let me know.\n\nJen", "xx"]
)
def test_habitual_last_sentence_is_no_signature(ending: str) -> None:
    """A sentence that ends every mail is the owner's style."""
    assert learn(mails(40, ending)).blocks == ()


def test_full_name_is_the_name_where_no_other_is() -> None:
    """Where the signature's first line is what the owner signs with, it stays."""
    texts = mails(20, f"Best regards,\n{BLOCK}")
    found = learn(texts)
    assert found.strip(texts[0]).endswith("Best regards,\nJen Doe")


def test_closings_that_vary() -> None:
    """The signature is found behind closings that are different in each mail."""
    texts = [
        text
        for place, closing in enumerate(CLOSINGS)
        for text in mails(8, f"{closing}\nJen\n\n{BLOCK}", seed=place)
    ]
    found = learn(texts)
    assert all(not found.strip(text).endswith(BLOCK) for text in texts)
    assert all(found.strip(text).endswith("\nJen") for text in texts)


def test_names_that_vary() -> None:
    """The signature is found whole below names that are different in each mail."""
    names = ("Jen", "J", "Jenny", "Mama", "Jennifer")
    texts = [
        text
        for place, name in enumerate(names)
        for text in mails(8, f"Bye for now.\n\n{name}\n\n{BLOCK}", seed=place)
    ]
    assert learn(texts).blocks == (BLOCK,)


def test_two_signatures() -> None:
    """Two addresses with two signatures give two blocks, each with its share."""
    other = "Doe Consulting GmbH\nwww.doe.example"
    texts = mails(20, f"Best,\nJen\n\n{BLOCK}") + mails(20, f"Best,\nJen\n\n{other}", seed=2)
    assert learn(texts).blocks == (BLOCK, other)


def test_disclaimer() -> None:
    """A long paragraph repeated word for word is no style."""
    legal = "This message is confidential. " * 8
    found = learn(mails(20, f"Best,\nJen\n\n{legal}"))
    assert found.blocks == (legal.strip(),)


def test_share_and_number() -> None:
    """Below the share of mails, or with few mails, nothing is learned."""
    signed = f"Best,\nJen\n\n{BLOCK}"
    assert learn(mails(5, signed) + mails(20, "Jen", seed=2)).blocks == ()
    assert learn(mails(9, signed) + mails(20, "Jen", seed=2)).blocks == (BLOCK,)
    assert learn(mails(signatures.MIN_MAILS - 1, signed)).blocks == ()
    assert learn([]).blocks == ()
    assert learn([""] * 20).blocks == ()


def test_strip_leaves_other_mail_alone() -> None:
    """A text that ends otherwise is returned as it is; a text that is all signature is empty."""
    strip = learn(mails(20, f"Best,\nJen\n\n{BLOCK}")).strip
    assert strip("Hi,\n\nBest,\nJen\n") == "Hi,\n\nBest,\nJen\n"
    assert strip(f"{BLOCK}\n\nPS: and bring clay") == f"{BLOCK}\n\nPS: and bring clay"
    assert strip(BLOCK.replace("\n", "  \n\n")) == ""
    assert Signatures().strip(BLOCK) == BLOCK


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Hi\n\nJen\n-- \nJen Doe\n+43", "Hi\n\nJen"),
        ("Hi\n\nJen\n--\nJen Doe\n+43", "Hi\n\nJen"),
        ("-- \nJen Doe", ""),
        ("Hi\n-- \n" + "line\n" * 40, "Hi"),
        ("Hi\n--\n" + "line\n" * 40 + "end", "Hi\n--\n" + "line\n" * 40 + "end"),
        ("a -- b\n--c", "a -- b\n--c"),
        ("Hi\n\nSent from my iPhone", "Hi"),
        ("Hi\n\nSent from my iPhone\n\n", "Hi"),
        ("Hi\nVon meinem iPhone gesendet", "Hi"),
        ("Hi\nEnvoyé de mon iPhone", "Hi"),
        ("Hi\nInviato da iPhone", "Hi"),
        ("Hi\nGet Outlook for iOS", "Hi"),
        ("Hi\nSent with Proton Mail secure email.", "Hi"),
        ("Hi\nSent with [Proton Mail](https://proton.me/) secure email.", "Hi"),
        ("Get the new phone tomorrow", "Get the new phone tomorrow"),
        ("Von meinem Handy aus geht das nicht.", "Von meinem Handy aus geht das nicht."),
    ],
)
def test_cut(text: str, left: str) -> None:
    """What two dashes or a device announce is cut; dashes within words are not."""
    assert cut(text) == left
