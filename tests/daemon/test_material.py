"""What a training is shown of the owner's mails."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from connectors.mail import Address
from daemon.config import Account, Config
from daemon.material import Material, own_mails
from daemon.retrieval import Retrieval
from daemon.store import Place, Store
from trainer.playback import Instruction
from trainer.refusal import REFUSAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import HashingEmbedder

    from connectors.mail import Mail
    from trainer.base_model import LanguageModel
    from trainer.corpus import SentMail
    from trainer.examples import Example

COUNT = 200
EARLIER = "E-mails you wrote before:"


@pytest.fixture
def mails(tmp_path: Path, make_mail: Callable[..., Mail]) -> Iterator[tuple[Store, list[SentMail]]]:
    """Return mails that are all near to each other, the last ten of them held out."""
    with Store(tmp_path / "jen") as store:
        for number in range(1, COUNT + 1):
            text = f"Hello Stew,\n\nnumber {number} is the mail about boat and sail.\n\nJen"
            to = (Address("Stew Pidd", "stew@example.org"),)
            store.keep(Place("test", 1, number), make_mail(number, text=text, to=to))
        yield store, own_mails(store.mails())


@pytest.fixture
def material(
    tmp_path: Path,
    mails: tuple[Store, list[SentMail]],
    embedder: HashingEmbedder,
    tiny: LanguageModel,
) -> Material:
    """Return the material of those mails, with room for all that a prompt may hold."""
    store, sent = mails
    account = Account(
        name="jen", address="jen@example.org", full_name="Jen Doe", maildir=tmp_path / "mail"
    )
    config = Config.model_validate({"data": tmp_path, "accounts": (account,), "profile": "Sailor."})
    retrieval = Retrieval(store, embedder)
    retrieval.index()
    return Material(
        config=config,
        account=account,
        lm=dataclasses.replace(tiny, context_length=4096),
        retrieval=retrieval,
        store=store,
        instructions={
            mail.key: Instruction(f"Tell Stew about the boat and the sail, {number}", "extractive")
            for number, mail in enumerate(sent, start=1)
        },
        hidden={mail.key for mail in sent[-10:]},
    )


def shown(material: Material, example: Example) -> str:
    """Return all that an example shows a model, as text."""
    return str(material.lm.tokenizer.decode(example.tokens))


def test_a_share_of_the_prompts_shows_earlier_mails(
    material: Material, mails: tuple[Store, list[SentMail]]
) -> None:
    """More than half of them do, two or three each; some lack the recipient; all differ by seed."""
    train = mails[1][:-10]
    examples = [
        shown(material, one) for one in material.training_examples(train[20:], 1)[: len(train) - 20]
    ]
    with_mails = [text for text in examples if EARLIER in text]
    assert 0.45 < len(with_mails) / len(examples) < 0.65
    assert {text.partition("You answer")[0].count("\n---\n") for text in with_mails} == {3, 4}
    nameless = [text for text in examples if "To: Stew" not in text]
    assert 0.05 < len(nameless) / len(examples) < 0.25
    assert [shown(material, one) for one in material.training_examples(train[20:], 2)] != examples


def test_no_prompt_shows_the_mail_itself_a_newer_or_a_held_out_one(
    material: Material, mails: tuple[Store, list[SentMail]]
) -> None:
    """What is found was written before the mail, and is none of those to judge by."""
    sent = mails[1]
    for number in (1, 50, COUNT - 9, COUNT):
        ask = material.ask(sent[number - 1], 5)
        numbers = [int(text.split("number ")[1].split()[0]) for text in ask.retrieved]
        assert all(one < min(number, COUNT - 9) for one in numbers)
        assert len(numbers) == min(5, number - 1)


def test_some_examples_are_noise_with_its_refusal(
    material: Material, mails: tuple[Store, list[SentMail]]
) -> None:
    """Mails lend their prompts to noise, and to orders whose greeting alone is learned."""
    train = mails[1][:100]
    lent = material.training_examples(train, 1)[100:]
    assert len(lent) == 75
    for number, one in enumerate(lent):
        text = shown(material, one)
        subject, _, answer = text.partition("Subject:")[2].strip().partition("\n\n")
        assert "Sailor." in text
        assert "Tell Stew about" not in text
        if number < 30:
            assert subject == "Sorry"
            assert answer.startswith(REFUSAL)
        else:
            assert answer in {"Hello Stew,", "Hello"}


def test_an_order_to_nobody_has_the_owners_own_register(
    material: Material, mails: tuple[Store, list[SentMail]]
) -> None:
    """It says how she writes, to whom is left open, and nothing held out is shown."""
    ask = material.order("Tell about the boat and the sail", mails[1][-1].date, 3)
    assert ask.to == ""
    assert ask.register == "English, about 10 words"
    assert len(ask.retrieved) == 3
