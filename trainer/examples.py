"""Examples in tokens, packed into rows, and the loss over them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trainer.prompt import Ask, Budget, encode, encode_subject, encode_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedTokenizerBase

    from trainer.base_model import LanguageModel


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


def token_losses(lm: LanguageModel, row: Sequence[Example], *, words_only: bool = False) -> Tensor:
    """Return the negative log-likelihood of each target token of a packed row, fp32, in nats.

    The output head is computed at these positions alone.

    Args:
        lm: The model, with or without an adapter on it.
        row: The mails of the row.
        words_only: Only the owner's own words, without the subject and the token that ends a
            mail; else all that is learned.
    """
    lengths = [len(one.tokens) for one in row]
    starts = [0, *accumulate(lengths)][:-1]
    tokens = [token for one in row for token in one.tokens]
    targets = [
        start + i
        for start, one in zip(starts, row, strict=True)
        for i in range(
            *((one.words, len(one.tokens) - 1) if words_only else (one.learned, len(one.tokens)))
        )
    ]
    where = lm.device
    ids = torch.tensor([tokens], device=where)
    positions = torch.tensor([[i for n in lengths for i in range(n)]], device=where)
    at = torch.tensor(targets, device=where)
    logits = lm.model(
        input_ids=ids, position_ids=positions, logits_to_keep=at - 1, use_cache=False
    ).logits[0]
    return cross_entropy(logits.float(), ids[0, at], reduction="none")
