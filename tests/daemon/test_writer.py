"""The writer around a model that writes what a test has it write."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from connectors.mail import Address
from daemon.brief import Brief
from daemon.config import Account, Config
from daemon.errors import NotUnderstoodError
from daemon.retrieval import Retrieval
from daemon.store import Place, Store
from daemon.words import Words
from daemon.writer import Writer
from trainer.refusal import REFUSAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import HashingEmbedder

    from connectors.mail import Mail
    from trainer.generate import Sampling
    from trainer.prompt import Ask, Budget

STORY = (
    "the yard is to be sold in autumn because the bank will not wait any longer and that is what "
    "nobody but you and my brother knows"
)
BRIEF = Brief(
    instruction="Tell Ana that the boat is done on Friday",
    to=(Address("Ana", "ana@example.org"),),
    subject="",
    thread="",
    before=datetime(2024, 6, 1, tzinfo=UTC),
)


class _Tokenizer:
    """Four letters are a token, and so is each character of punctuation."""

    is_fast = True

    def __call__(self, text: str, **_: object) -> dict[str, list[tuple[int, int]]]:
        """Return where the tokens of a text stand."""
        return {"offset_mapping": [one.span() for one in re.finditer(r"\w{1,4}|[^\w\s]", text)]}


@dataclass
class Scripted:
    """Models that write one text after the other.

    Attributes:
        texts: What they write.
        subject: Above each of them.
        seeds: What each writing began with.
        given: What each was asked, and how.
    """

    found: HashingEmbedder
    texts: list[str] = field(default_factory=list)
    subject: str = "Boat"
    seeds: list[int] = field(default_factory=list)
    given: list[tuple[Ask, Sampling, Budget]] = field(default_factory=list)
    words: Words = field(default_factory=Words)

    def embedder(self) -> HashingEmbedder:
        """Return what finds mail."""
        return self.found

    def writing(self, *_: object) -> tuple[SimpleNamespace, str]:
        """Return what is asked of a model that is not called."""
        return SimpleNamespace(context_length=1000, tokenizer=_Tokenizer()), "base"

    def compose(
        self,
        _lm: object,
        ask: Ask,
        sampling: Sampling,
        *,
        budget: Budget,
        stream: Any = None,  # noqa: ANN401
    ) -> tuple[str, str]:
        """Write the next text, the last one again and again."""
        self.seeds.append(sampling.seed)
        self.given.append((ask, sampling, budget))
        text = self.texts[min(len(self.seeds), len(self.texts)) - 1]
        if stream:
            for word in f"Subject: Boat\n\n{text}".split(" "):
                stream(f"{word} ")
        return self.subject, text


@pytest.fixture
def models(embedder: HashingEmbedder) -> Scripted:
    """Return models without a text."""
    return Scripted(embedder)


@pytest.fixture
def writer(tmp_path: Path, models: Scripted, make_mail: Callable[..., Mail]) -> Iterator[Writer]:
    """Return the writer of an owner who has told Stew a story."""
    account = Account(
        name="jen", address="jen@example.org", full_name="Jen Doe", maildir=tmp_path / "mail"
    )
    sampling = {"temperature": 0.7, "max_tokens": 100}
    content = {"data": tmp_path, "accounts": (account,), "sampling": sampling}
    config = Config.model_validate(content)
    with Store(tmp_path / "jen") as store:
        store.keep(Place("test", 1, 1), make_mail(1, text=f"Dear Stew, {STORY}. Jen"))
        Retrieval(store, models.found).index()
        yield Writer(config, account, store, models=models, compose=models.compose)  # type: ignore[arg-type]


def test_a_copy_of_other_mail_is_written_again(writer: Writer, models: Scripted) -> None:
    """A draft that copies mail to somebody else is thrown away, and the next one is taken."""
    models.texts = [f"Hi Ana, {STORY}.", "Hi Ana, the boat is done."]
    assert writer.write(BRIEF).body == "Hi Ana, the boat is done."
    assert models.seeds == [0, 1]


def test_invisible_characters_hide_no_copy(writer: Writer, models: Scripted) -> None:
    """A copy with a zero-width space in each word is one: what is not seen is taken out first."""
    models.texts = ["Hi Ana, " + STORY.replace("e", "e\u200b"), "Hi Ana, it is done."]
    assert writer.write(BRIEF).body == "Hi Ana, it is done."


def test_a_subject_copies_nothing(writer: Writer, models: Scripted) -> None:
    """A model that writes its copy into the subject has it cut out there."""
    models.subject, models.texts = STORY, ["Hi Ana, it is done."]
    assert writer.write(BRIEF).subject == "[check: stood in a mail to somebody else]"


def test_what_is_copied_again_and_again_is_cut(writer: Writer, models: Scripted) -> None:
    """A model that copies each time has the passage cut out, and the rest stays."""
    models.texts = [f"Hi Ana, {STORY}. See you."]
    shown: list[str] = []
    body = writer.write(BRIEF, shown.append).body
    assert body == "Hi Ana, [check: stood in a mail to somebody else]. See you."
    assert models.seeds == [0, 1, 2]
    assert "".join(shown).count("written again") == 2


def test_facts_from_nowhere_are_marked_and_a_closing_stands_once(
    writer: Writer, models: Scripted
) -> None:
    """Times and names that nobody gave are marked, in the draft and below what is streamed."""
    models.texts = [
        "Hi Ana,\n\nIt is done on Friday at 9:30, says Peter.\n\nBest,\nJen\n\nBest,\nJen"
    ]
    shown: list[str] = []
    draft = writer.write(BRIEF, shown.append)
    assert draft.body == (
        "Hi Ana,\n\nIt is done on Friday at [check: 9:30], says [check: Peter].\n\nBest,\nJen"
    )
    assert "".join(shown).endswith("\n\n[check: 9:30]\n[check: Peter]")


def test_a_sound_draft_is_written_once_and_unchanged(writer: Writer, models: Scripted) -> None:
    """Where nothing is at fault, nothing is changed."""
    models.texts = ["Hi Ana,\n\nthe boat is done on Friday.\n\nBest,\nJen"]
    assert writer.write(BRIEF).body == models.texts[0]
    assert models.seeds == [0]


def test_a_refusal_is_no_draft(writer: Writer, models: Scripted) -> None:
    """A model that refuses each time is believed; one that refuses once is asked again."""
    models.texts = [REFUSAL, "Hi Ana,\n\nthe boat is done.\n\nJen"]
    assert writer.write(BRIEF).body == models.texts[1]
    models.texts, models.seeds = ["Sorry, but I don\u2019t get it."], []
    with pytest.raises(NotUnderstoodError):
        writer.write(BRIEF)
    assert models.seeds == [0, 1, 2]


def test_the_settings_and_the_context_reach_the_model(writer: Writer, models: Scripted) -> None:
    """Sampling is that of panza.yaml, and a draft has room behind the prompt."""
    models.texts = ["Hi Ana,\n\nthe boat is done.\n\nJen"]
    writer.write(BRIEF)
    ask, sampling, budget = models.given[0]
    assert (sampling.temperature, sampling.max_tokens, sampling.top_p) == (0.7, 100, 0.9)
    assert budget.whole == 900
    assert ask.register == "stranger, English"
