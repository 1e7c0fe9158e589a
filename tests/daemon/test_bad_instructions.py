"""Instructions, profiles and threads that are too short, too long, or make no sense: by mail."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from connectors import body, mime
from connectors.base import Role
from connectors.mail import Address
from connectors.memory import MemoryConnector
from daemon import compose, originals
from daemon.config import Account, Config
from daemon.requests import process
from daemon.retrieval import Retrieval
from daemon.store import Place, Store
from daemon.words import Words
from daemon.writer import Writer
from trainer.prompt import encode
from trainer.refusal import REFUSAL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import HashingEmbedder

    from connectors.mail import Mail
    from trainer.base_model import LanguageModel
    from trainer.prompt import Ask, Budget

OWN = (
    "From: Jen Doe <jen@example.org>\r\nTo: jen+panza@example.org\r\n"
    "Message-ID: <r1@example.org>\r\nDate: Tue, 05 Mar 2024 11:00:00 +0000\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
)
STRANGERS = (
    "Received: from mx.example.com by mx.example.org with ESMTP; Tue, 5 Mar 2024 11:00:00 +0000"
    "\r\nFrom: Stew Pidd <stew@example.com>\r\nTo: jen@example.org\r\nSubject: Kiln\r\n"
    "Message-ID: <s1@example.com>\r\nDate: Tue, 05 Mar 2024 11:00:00 +0000\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
)
SAID = "On Mon, 4 Mar 2024 at 10:00, Stew Pidd <stew@example.com> wrote:\n> Is the kiln free?"
WORDS = "I am a potter in Graz. "


@dataclass
class World:
    """Jen's account; what the model is asked is kept, and it writes what a test says.

    Attributes:
        lm: A tiny model, whose tokens are bytes and whose context has 1024 of them.
        text: What it writes.
        profile: What she says of herself.
        prompts: What it was asked.
    """

    folder: Path
    lm: LanguageModel
    found: HashingEmbedder
    text: str = "Hi,\n\nyes.\n\nJen"
    profile: str = ""
    prompts: list[str] = field(default_factory=list)
    words: Words = field(default_factory=Words)
    mailbox: MemoryConnector = field(default_factory=MemoryConnector)

    def embedder(self) -> HashingEmbedder:
        """Return what finds mail."""
        return self.found

    def writing(self, *_: object) -> tuple[LanguageModel, str]:
        """Return the model."""
        return self.lm, "base"

    def compose(
        self, lm: LanguageModel, ask: Ask, _sampling: object, *, budget: Budget, stream: object
    ) -> tuple[str, str]:
        """Write, after the prompt was made as it is for a model."""
        assert stream is None
        self.prompts.append(str(lm.tokenizer.decode(encode(lm.tokenizer, ask, budget))))
        return ask.subject or "Kiln", self.text

    def file(self, text: str, header: str = OWN) -> None:
        """Put a message into the requests folder, and look there twice."""
        raw = f"{header}\r\n{text}".replace("\r\n", "\n").replace("\n", "\r\n").encode()
        self.mailbox.append(Role.REQUESTS, raw)
        for _ in range(2):
            self.look()

    def look(self) -> None:
        """Look into the folder."""
        account = Account(
            name="jen", address="jen@example.org", full_name="Jen Doe", maildir=self.folder / "mail"
        )
        content = {"data": self.folder, "accounts": (account,), "sampling": {"max_tokens": 100}}
        config = Config.model_validate(content | {"profile": self.profile})
        with Store(
            self.folder / "jen", clock=lambda: datetime(2024, 3, 5, 12, tzinfo=UTC)
        ) as store:
            writer = Writer(config, account, store, models=self, compose=self.compose)  # type: ignore[arg-type]
            process(account, self.mailbox, store, writer, store.clock)

    def drafts(self) -> list[mime.Part]:
        """Return the drafts."""
        return [mime.read(one.raw) for one in self.mailbox.fetch(Role.DRAFTS)]

    def note(self) -> str:
        """Return what the owner was told, "" for nothing."""
        parts = [mime.read(one.raw) for one in self.mailbox.fetch(Role.REQUESTS)]
        return "\n".join(body.read(part).text for part in parts if part.get("x-panza"))

    def flags(self) -> frozenset[str]:
        """Return the flags of the request."""
        return next(iter(self.mailbox.fetch(Role.REQUESTS))).flags


@pytest.fixture
def world(
    tmp_path: Path,
    tiny: LanguageModel,
    embedder: HashingEmbedder,
    make_mail: Callable[..., Mail],
) -> World:
    """Return the account of somebody who knows Stew and Ana."""
    with Store(tmp_path / "jen") as store:
        people = (Address("Stew Pidd", "stew@example.com"), Address("Ana", "ana@example.com"))
        for number, one in enumerate(people):
            mail = make_mail(number, to=(one,), text=f"Hi, kiln {number} is free.")
            store.keep(Place("test", 1, number + 1), mail)
        Retrieval(store, embedder).index()
    return World(tmp_path, tiny, embedder)


def test_one_word_is_an_instruction(world: World) -> None:
    """The word "Thanks" alone is drafted, to nobody, and the owner is told so."""
    world.file("Thanks")
    (draft,) = world.drafts()
    assert not draft.get("to")
    assert world.prompts[0].count("Write this e-mail: Thanks") == 1
    assert 'Put a line such as "To: name or address"' in world.note()


def test_one_word_answers_a_mail(world: World) -> None:
    """The word "Thanks" on top of a mail answers whoever wrote it, with nothing to tell."""
    world.file(f"Thanks\n\n{SAID}", OWN + "In-Reply-To: <s1@example.com>\r\nSubject: Re: Kiln\r\n")
    (draft,) = world.drafts()
    assert draft.get("to") == b"Stew Pidd <stew@example.com>"
    assert (world.note(), world.flags()) == ("", {"\\Answered"})


@pytest.mark.parametrize("text", ["", " \n\t\n", "\u200b\u2060\n\ufeff", "To: Stew\n"])
def test_nothing_is_no_instruction(world: World, text: str) -> None:
    """Without a word that can be seen there is no draft, and a note says what to do."""
    world.file(text)
    assert (world.drafts(), world.prompts, world.flags()) == ([], [], {"\\Flagged"})
    assert "It has no text. Write in it what the mail shall say." in world.note()


def test_twenty_thousand_words_are_refused_unread(world: World) -> None:
    """So long a text is no instruction: the note says how long it is, and where the rest goes."""
    world.file("tell Stew " * 10_000)
    assert (world.drafts(), world.prompts, world.flags()) == ([], [], {"\\Flagged"})
    told = " ".join(world.note().split())
    assert "longer than 20000 characters: it has 99999" in told
    assert "fewer words" in told


def test_what_does_not_fit_into_the_context_is_told(world: World) -> None:
    """An instruction is never cut: a note says how many tokens it has, and how many fit."""
    world.file("tell Stew that the kiln is free " * 50)
    assert (world.drafts(), world.prompts, world.flags()) == ([], [], {"\\Flagged"})
    told = " ".join(world.note().split())
    assert "The instruction has 1599 tokens" in told
    assert "fewer words" in told


@pytest.mark.parametrize(
    "text",
    [
        "Schreib Stew, dass der Ofen erst am Freitag frei ist.",
        "Dis à Stew que le four est libre vendredi.",
        "宛先: stew@example.com\n窯は金曜日に空きます",
        "To: Stew\nأخبره أن الفرن متاح يوم الجمعة",  # noqa: RUF001 - Arabic
    ],
)
def test_an_instruction_in_another_language_is_drafted(world: World, text: str) -> None:
    """The model gets the words as they are, whatever language her mail is in."""
    world.file(text)
    (draft,) = world.drafts()
    assert f"Write this e-mail: {text.rpartition(chr(10))[2]}" in world.prompts[0]
    assert b"stew@example.com" in draft.get("to") or "names nobody" in world.note()


def test_an_answer_is_in_the_language_of_its_thread(world: World) -> None:
    """The prompt names the language of the mail that is answered, not that of the instruction."""
    german = "Ist der Ofen am Donnerstag noch frei, oder soll ich lieber später kommen?"
    said = SAID.replace("Is the kiln free?", german)
    world.file(f"Say no.\n\n{said}", OWN + "In-Reply-To: <s1@example.com>\r\n")
    assert "known, German" in world.prompts[0]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("To: Stew\nWrite to Ana that the kiln is free.", True),
        ("To: ana.huber@work.example\nTell Ana that the kiln is free.", False),
        ("To: Stew\nCc: Ana\nTell Ana and Stew that the kiln is free.", False),
        ("To: Stew\nAccept, and decline.", False),
    ],
)
def test_header_lines_win(world: World, lines: str, told: bool) -> None:  # noqa: FBT001 - a case
    """A text that speaks to somebody else than they do is drafted, and the owner told."""
    world.file(lines)
    (draft,) = world.drafts()
    wanted = b"stew@example.com" if lines.startswith("To: Stew") else b"ana.huber@work.example"
    assert wanted in draft.get("to")
    sentence = "It goes to stew@example.com, as you set it; its text speaks to ana@example.com."
    assert (sentence in " ".join(world.note().split())) is told
    assert bool(world.note()) is told


def test_nonsense_is_parked_with_an_example(world: World) -> None:
    """What the model refuses each time ends with a note that shows an instruction, in one look."""
    world.text = REFUSAL
    world.file("To: Stew\nqwrt zzkp blorf")
    assert (world.drafts(), world.flags()) == ([], {"\\Flagged"})
    assert len(world.prompts) == 3
    told = " ".join(world.note().split())
    assert "The model sees no sense in this instruction." in told
    assert "Tell Stew I can come on Friday." in told


def test_of_a_long_profile_the_beginning_is_read(world: World) -> None:
    """A profile longer than the context is cut, the instruction is not."""
    world.profile = WORDS + "x " * 5000
    instruction = "Tell Stew that the kiln is free on Friday, and that Ana has the key."
    world.file(instruction)
    assert len(world.drafts()) == 1
    assert WORDS.strip() in world.prompts[0]
    assert f"Write this e-mail: {instruction}" in world.prompts[0]
    assert len(world.prompts[0].encode()) <= 924


def _deep(mails: int, *, answers_on_top: bool) -> str:
    """Return a thread as its last writer's client leaves it."""
    text = ""
    for number in range(mails):
        own = f"I am mail number {number}, and there is a word or two in me about the kiln."
        quoted = "\n".join(
            f">{line}" if line[:1] == ">" else f"> {line}" for line in text.split("\n")
        )
        head = f"On Mon, {1 + number % 28} Jan 2024 at 10:00, Stew Pidd <stew@example.com> wrote:"
        parts = (own, f"{head}\n{quoted}") if answers_on_top else (f"{head}\n{quoted}", own)
        text = "\n\n".join(parts) if text else own
    return text


@pytest.mark.parametrize("answers_on_top", [True, False])
def test_of_a_thread_of_200_mails_the_newest_are_read(
    world: World,
    answers_on_top: bool,  # noqa: FBT001 - a case
) -> None:
    """The prompt has the newest words, wherever they stand; the draft quotes the whole thread."""
    text = _deep(200, answers_on_top=answers_on_top)
    said = "\n".join(f">{line}" if line[:1] == ">" else f"> {line}" for line in text.split("\n"))
    heading = SAID.partition("\n")[0]
    world.file(f"Say yes.\n\n{heading}\n{said}", OWN + "In-Reply-To: <s1@example.com>\r\n")
    (draft,) = world.drafts()
    assert "I am mail number 199," in world.prompts[0]
    assert "I am mail number 0," not in world.prompts[0]
    assert "Write this e-mail: Say yes." in world.prompts[0]
    assert "I am mail number 0," in body.read(draft).text


def test_of_a_long_mail_the_beginning_is_read_and_quoted(world: World) -> None:
    """A mail of 40,000 words is answered by its beginning, and quoted as far as drafts go."""
    world.file("The kiln is free. " * 10_000, STRANGERS)
    (draft,) = world.drafts()
    assert "You answer this e-mail:\n---\nThe kiln is free." in world.prompts[0]
    text = body.read(draft).text
    assert compose.MAX_QUOTED <= len(text) <= compose.MAX_QUOTED * 1.2


def test_answers_between_the_lines_stay_where_they_are() -> None:
    """Only a thread whose newest words stand below the rest is put in the opposite order."""
    below = "On Mon, 4 Mar 2024 at 10:00, Ana <ana@example.com> wrote:\n> Old.\n\nNew."
    assert originals.newest_first(below).startswith("New.\n\nOn Mon, 4 Mar")
    for text in ("New.\n\n" + SAID, "> a\n\nyes\n\n> b\n\nno", "Hi\n\n> a\n\nyes", "alone", ""):
        assert originals.newest_first(text) == text
