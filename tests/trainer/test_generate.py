"""Writing with a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.generate import Sampling, complete, write, write_many
from trainer.prompt import Ask, parse_draft

if TYPE_CHECKING:
    from trainer.base_model import LanguageModel

ASK = Ask("Tell Stew I can't make Thursday", subject="Re: boards")
HOT = Sampling(temperature=5.0, max_tokens=24)


def test_equal_seeds_give_equal_drafts(tiny: LanguageModel) -> None:
    """A draft can be had again by its seed; another seed gives another draft."""
    first = write(tiny, ASK, HOT)
    assert write(tiny, ASK, HOT) == first
    assert write(tiny, ASK, Sampling(temperature=5.0, max_tokens=24, seed=1)) != first


def test_a_given_subject_is_kept(tiny: LanguageModel) -> None:
    """A reply has the subject it was given, whatever the model would have written."""
    assert write(tiny, ASK, HOT)[0] == "Re: boards"


def test_what_is_streamed_is_what_is_written(tiny: LanguageModel) -> None:
    """The pieces together are the subject line, an empty line and the text."""
    for ask in (ASK, Ask("Tell Stew")):
        pieces: list[str] = []
        subject, text = write(tiny, ask, HOT, stream=pieces.append)
        head = f"Subject: {ask.subject}\n\n" if ask.subject else "Subject:"
        streamed = "".join(pieces)
        assert streamed.startswith(head)
        assert parse_draft(streamed.removeprefix(head), ask.subject) == (subject, text)


def test_a_batch_is_answered_in_the_order_asked(tiny: LanguageModel) -> None:
    """Batches sort by length; the answers come back in the order of the questions."""
    greedy = Sampling(temperature=0, max_tokens=12)
    asks = [Ask("x" * n, subject=f"S{n}") for n in (40, 3, 90, 17)]
    together = write_many(tiny, asks, greedy, batch=2)
    assert [subject for subject, _ in together] == ["S40", "S3", "S90", "S17"]
    assert len({text for _, text in together}) > 1 or together[0][1] == together[1][1]
    assert together == [write(tiny, ask, greedy) for ask in asks]


def test_conversations_are_completed_in_order(tiny: LanguageModel) -> None:
    """One answer for each conversation, each bounded in length."""
    asked = [[{"role": "user", "content": "a" * n}] for n in (9, 1, 30)]
    answers = complete(tiny, asked, 5)
    assert answers == [complete(tiny, [one], 5)[0] for one in asked]
    assert all(len(answer.encode()) <= 5 * 3 for answer in answers)
