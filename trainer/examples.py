"""Examples in tokens, and the rows they are laid into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.prompt import Ask, Budget, encode, encode_subject, encode_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerBase

_REAL = 0.95  # of the positions of a padded row, at the least


@dataclass(frozen=True, slots=True)
class Example:
    """One mail as the model meets it: prompt, subject, text, end.

    Attributes:
        key: The mail's key.
        tokens: All token ids.
        learned: Index of the first token to learn: the subject's, or, where the prompt gave the
            subject, the text's.
        words: Index of the first token of the owner's own words; they end before the last token.
    """

    key: str
    tokens: tuple[int, ...]
    learned: int
    words: int


def example(
    tokenizer: PreTrainedTokenizerBase,
    key: str,
    ask: Ask,
    subject: str,
    text: str,
    *,
    end: int,
    limit: int,
    budget: Budget | None = None,
) -> Example:
    """Build the example for one mail.

    Args:
        tokenizer: The model's tokenizer.
        key: The mail's key.
        ask: What the mail is written from; with ``ask.subject`` the subject counts as given.
        subject: The mail's subject.
        text: The owner's own words.
        end: The token that ends a mail.
        limit: The most tokens an example may have; a longer text is cut, and then has no end.
        budget: The prompt's budget.
    """
    prompt = encode(tokenizer, ask, budget)
    head = encode_subject(tokenizer, subject)
    words = len(prompt) + len(head)
    tokens = [*prompt, *head, *encode_text(tokenizer, text), end]
    return Example(
        key=key,
        tokens=tuple(tokens[: max(limit, words + 1)]),
        learned=words if ask.subject else len(prompt),
        words=words,
    )


def pack(examples: Iterable[Example], limit: int) -> list[list[Example]]:
    """Lay examples into rows of at most ``limit`` tokens, first fit, in order.

    A row of several mails is one sequence to the model; positions that start again at 0 keep the
    mails from seeing each other. An example longer than ``limit`` has a row of its own.
    """
    rows: list[list[Example]] = []
    room: list[int] = []
    for one in examples:
        size = len(one.tokens)
        for i, free in enumerate(room):
            if size <= free:
                rows[i].append(one)
                room[i] -= size
                break
        else:
            rows.append([one])
            room.append(limit - size)
    return rows


def lines(examples: Iterable[Example], limit: int) -> list[list[Example]]:
    """Lay examples below each other, shortest first, for models that cannot tell mails apart.

    The lines of a row are padded to its longest one: together they have at most ``limit`` tokens,
    and at most a twentieth of them are padding.
    """
    rows: list[list[Example]] = []
    real = 0
    for one in sorted(examples, key=lambda one: len(one.tokens)):
        size = len(one.tokens)
        padded = size * (len(rows[-1]) + 1) if rows else 0
        if rows and padded <= limit and real + size >= _REAL * padded:
            rows[-1].append(one)
            real += size
        else:
            rows.append([one])
            real = size
    return rows
