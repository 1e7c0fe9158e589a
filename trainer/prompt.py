"""The one prompt builder: for training, evaluation and writing alike."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from trainer.corpus import unmarked
from trainer.errors import InstructionTooLongError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

_HEADING = 64  # tokens that the heading of a part, and the lines between, may take beside it
# In a chat format's template: Llama 2's "[INST]" and "<<SYS>>" are no special tokens.
_MARK = re.compile(r"<\|[^|<>\s]+\|>|\[/?[A-Z_]{3,}\]|<</?[A-Z]+>>")


@dataclass(frozen=True, slots=True)
class Ask:
    """All that a draft is written from.

    Attributes:
        instruction: What the owner wants written, in her words.
        to: The names of the recipients, as the owner would greet them; "" if not known.
        register: To whom she writes there, in what language and how long, as far as it is known.
        subject: The subject where it is given (a reply, or the owner's wish), else "".
        thread: The text that is answered, "" for a new mail.
        retrieved: Texts of the owner's own earlier mails, nearest first.
        profile: What the owner says of herself in panza.yaml.
        owner: The owner's full name.
    """

    instruction: str
    to: str = ""
    register: str = ""
    subject: str = ""
    thread: str = ""
    retrieved: tuple[str, ...] = ()
    profile: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """How many tokens a prompt and each part of it may take; the instruction is never cut.

    Where the whole is short, thread, profile and earlier mails give way in the opposite order.

    Attributes:
        whole: For the prompt; None where the model's context is not the limit.
        thread: For the text that is answered; its beginning stays, where the newest words stand.
        profile: For what the owner says of herself; its beginning stays.
        retrieved: For the earlier mails together; the nearest stay, whole or not at all.
    """

    whole: int | None = None
    thread: int = 320
    profile: int = 256
    retrieved: int = 320


def encode(tokenizer: PreTrainedTokenizerBase, ask: Ask, budget: Budget | None = None) -> list[int]:
    """Return the token ids of the prompt, up to where the draft's subject begins.

    The prompt ends with ``Subject:`` as the model's first word; a draft goes on with
    `encode_subject` and `encode_text`. Each of the three parts is tokenised on its own, so that
    the model is asked in exactly the tokens it was trained on.

    Raises:
        InstructionTooLongError: With nothing but the instruction the prompt has more tokens than
            the budget's whole.
    """
    limits = budget or Budget()
    if limits.whole is not None:
        limits = _fitted(tokenizer, ask, limits, limits.whole)
    return _encoded(tokenizer, ask, limits)


def _fitted(tokenizer: PreTrainedTokenizerBase, ask: Ask, budget: Budget, whole: int) -> Budget:
    """Return a budget whose parts fit into the whole beside the instruction."""

    def size(**cut: int) -> int:
        return len(_encoded(tokenizer, ask, replace(budget, **cut)))

    for part in ("retrieved", "profile", "thread"):
        over = size() - whole
        if over <= 0:
            return budget
        used = size() - size(**{part: 0})
        budget = replace(budget, **{part: max(0, used - over - _HEADING)})
    if size() > whole:
        instruction = len(_ids(tokenizer, ask.instruction))
        raise InstructionTooLongError(instruction, max(0, whole - size() + instruction))
    return budget


def _encoded(tokenizer: PreTrainedTokenizerBase, ask: Ask, budget: Budget) -> list[int]:
    messages = _messages(tokenizer, ask, budget)
    return _ids(tokenizer, render(tokenizer, messages)) + _ids(tokenizer, "Subject:")


def render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    """Return a conversation in the model's own chat format, up to where the model answers.

    A model that has no chat format, or none with a system role, is told the same in one piece.
    Whoever writes the format's own marks into a mail writes plain characters: they are broken by a
    space, so that no mail can end the owner's turn and begin one of its own.
    """
    messages = [one | {"content": _plain(tokenizer, one["content"])} for one in messages]
    folded = "\n\n".join(message["content"] for message in messages)
    if getattr(tokenizer, "chat_template", None) is None:
        return f"{folded}\n\n"
    try:
        rendered = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
    except TemplateError:
        alone = [{"role": "user", "content": folded}]
        rendered = tokenizer.apply_chat_template(alone, tokenize=False, add_generation_prompt=True)
    return str(rendered)


def encode_subject(tokenizer: PreTrainedTokenizerBase, subject: str) -> list[int]:
    """Return the token ids of a draft's subject, up to where its text begins."""
    return _plain_ids(tokenizer, f" {subject}\n\n")


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the token ids of a draft's text, without the token that ends it."""
    return _plain_ids(tokenizer, text)


def spans(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[int, int]]:
    """Return where each token of a text begins and ends, in characters."""
    if tokenizer.is_fast:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(found["offset_mapping"])
    # A tokenizer in Python does not tell: what stands between blanks is told as one place.
    words = re.finditer(r"\s*\S+", text)
    return [word.span() for word in words for _ in _ids(tokenizer, word[0])]


def parse_draft(written: str, subject: str = "") -> tuple[str, str]:
    """Split what the model wrote after the prompt into subject and text.

    A subject that it found itself is that of a new mail: it has no mark of an answer.

    Args:
        written: All that was written after `encode`'s tokens, or, where ``subject`` is given,
            after `encode_subject`'s.
        subject: The subject that was given to the model, "" if it had to find one.
    """
    if subject:
        return subject, written.strip()
    head, _, text = written.strip("\n ").partition("\n")
    return unmarked(" ".join(head.split())), text.strip()


def _messages(tokenizer: PreTrainedTokenizerBase, ask: Ask, budget: Budget) -> list[dict[str, str]]:
    owner = ask.owner or "the owner"
    about = f"You are {owner} and write your own e-mail, in your own voice."
    if profile := _cut(tokenizer, ask.profile.strip(), budget.profile):
        about = f"{about}\n{profile}"
    parts = []
    if earlier := _fitting(tokenizer, ask.retrieved, budget.retrieved):
        parts.append("\n---\n".join(["E-mails you wrote before:", *earlier, ""]))
    if thread := _cut(tokenizer, ask.thread.strip(), budget.thread):
        parts.append(f"You answer this e-mail:\n---\n{thread}\n---")
    if ask.to or ask.register:
        register = f" ({ask.register})" if ask.register else ""
        parts.append(f"To: {ask.to}{register}")
    parts.append(f"Write this e-mail: {ask.instruction.strip()}")
    return [
        {"role": "system", "content": about},
        {"role": "user", "content": "\n".join(parts)},
    ]


def _fitting(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int) -> list[str]:
    chosen: list[str] = []
    for text in (_plain(tokenizer, text) for text in texts):
        limit -= len(_ids(tokenizer, text))
        if limit < 0:
            break
        chosen.append(text.strip())
    return chosen


def _marks(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return what a chat format is made of: special tokens, and marks that are plain text to it."""
    special = {str(one) for one in tokenizer.added_tokens_decoder.values() if one.special}
    template = getattr(tokenizer, "chat_template", None)
    named = _MARK.findall(template) if isinstance(template, str) else []
    found = {*special, *tokenizer.all_special_tokens, *named}
    return sorted((mark for mark in found if len(mark.strip()) > 1), key=len, reverse=True)


def _plain(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Return a text in which no mark of the chat format is left."""
    for mark in _marks(tokenizer):
        text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text


def _cut(tokenizer: PreTrainedTokenizerBase, text: str, limit: int) -> str:
    text = _plain(tokenizer, text)
    # A token is at least one character: the slice keeps a text of megabytes cheap.
    ids = _ids(tokenizer, text[: limit * 16])
    return (
        text
        if len(ids) <= limit and len(text) <= limit * 16
        else str(tokenizer.decode(ids[:limit]))
    )


def _plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokenise what somebody wrote: a special token's name in it is plain characters."""
    return _ids(tokenizer, _plain(tokenizer, text))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
