"""Perplexity, mail by mail."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from trainer.evaluation import nats, perplexity, surprises
from trainer.examples import Example, example
from trainer.loss import Objective
from trainer.prompt import Ask, encode

if TYPE_CHECKING:
    from trainer.base_model import LanguageModel


def mails(*sizes: int) -> list[Example]:
    """Return mails of so many tokens: prompt of 4, subject of 2, the owner's words, the end."""
    return [
        Example(f"m{n}", tuple((7 * n + 3 * i) % 60 + 3 for i in range(size)), 4, 6)
        for n, size in enumerate(sizes)
    ]


def by_hand(lm: LanguageModel, mail: Example) -> float:
    """Return the nats of the owner's words of one mail, computed alone."""
    ids = torch.tensor([mail.tokens])
    with torch.no_grad():
        logs = lm.model(input_ids=ids).logits[0].log_softmax(-1)
    places = range(mail.words, len(mail.tokens) - 1)
    return -sum(float(logs[i - 1, mail.tokens[i]]) for i in places)


@pytest.mark.parametrize("row", [12, 512])
def test_each_mail_has_its_own_surprise(tiny: LanguageModel, row: int) -> None:
    """However mails are packed, each has the nats it has alone, in the order of the mails."""
    tiny.model.eval()
    all_of_them = mails(20, 9, 31, 8, 14)
    found = surprises(Objective(tiny), all_of_them, row)
    assert [one.tokens for one in found] == [13, 2, 24, 1, 7]
    for one, mail in zip(found, all_of_them, strict=True):
        assert one.nats == pytest.approx(by_hand(tiny, mail), rel=1e-4)


def test_perplexity_is_by_token_over_all_mails(tiny: LanguageModel) -> None:
    """A long mail weighs more than a short one, and the sum over mails is the whole."""
    tiny.model.eval()
    chosen = mails(20, 9, 31)
    total, count = nats(Objective(tiny), chosen, 512)
    score = perplexity(tiny, chosen)
    assert score.value == pytest.approx(math.exp(total / count))
    low, high = score.interval
    assert low <= score.value <= high


def test_without_words_there_is_no_perplexity(tiny: LanguageModel) -> None:
    """A hold-out whose mails are all prompt and subject is told."""
    with pytest.raises(ValueError, match="no words to score"):
        perplexity(tiny, mails(7))


def test_perplexity_is_that_of_the_owners_own_words(tiny: LanguageModel) -> None:
    """It is exp of the mean loss over the text's tokens alone, as computed by hand."""
    ask, text = Ask("Tell Stew"), "Ahoy Stew, no."
    one = example(tiny.tokenizer, "k", ask, "Boards", text, end=2, limit=1000)
    ids = torch.tensor([one.tokens])
    logits = tiny.model(input_ids=ids).logits[0].log_softmax(-1)
    words = range(one.words, len(one.tokens) - 1)
    assert len(words) == len(text)
    loss = -sum(logits[i - 1, one.tokens[i]].item() for i in words) / len(words)
    assert perplexity(tiny, [one]).value == pytest.approx(torch.tensor(loss).exp().item(), rel=1e-4)
    prompt = encode(tiny.tokenizer, ask)
    assert list(one.tokens[: len(prompt)]) == prompt


def test_perplexity_of_nothing_is_refused(tiny: LanguageModel) -> None:
    """Without words there is no score, rather than a perfect one."""
    with pytest.raises(ValueError, match="no words"):
        perplexity(tiny, [])
