"""Writing with a model: one draft as it comes, or many texts in batches."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria

from trainer.lookup import looked_up
from trainer.prompt import Ask, Budget, encode, encode_subject, parse_draft, render
from trainer.repeats import repeats, settled, unrepeated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.base_model import LanguageModel

_LOOK = 16  # tokens between two looks for repetition
_HALF = "\ufffd"  # what a character is decoded as while some of its tokens are missing


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: 0 for always the likeliest.
        top_p: The share of probability that is sampled from.
        repetition: Divides the logits of tokens that were written before (CTRL, Keskar et al.,
            arXiv 1909.05858): above 1, small models do not go round in circles.
        max_tokens: The most tokens to write.
        seed: Makes a draft repeatable.
    """

    temperature: float = 0.3
    top_p: float = 0.9
    repetition: float = 1.05
    max_tokens: int = 400
    seed: int = 0

    def options(self) -> dict[str, Any]:
        """Return the arguments that transformers' ``generate`` takes for this."""
        if self.temperature == 0:
            chosen: dict[str, Any] = {"do_sample": False}
        else:
            chosen = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}
        return chosen | {
            "repetition_penalty": self.repetition,
            "max_new_tokens": self.max_tokens,
        }


def write(
    lm: LanguageModel,
    ask: Ask,
    sampling: Sampling | None = None,
    *,
    budget: Budget | None = None,
    stream: Callable[[str], None] | None = None,
) -> tuple[str, str]:
    """Write one draft; return its subject and its text.

    Args:
        lm: The model, with or without an adapter.
        ask: What to write from.
        sampling: How to choose tokens.
        budget: The prompt's budget.
        stream: Called with each piece of the draft as it is written: ``Subject:`` and the subject,
            an empty line, the text.
    """
    chosen = sampling or Sampling()
    if stream:
        stream(f"Subject: {ask.subject}\n\n" if ask.subject else "Subject:")
    written = _generate(lm, [_prompt(lm, ask, budget)], chosen, stream=stream)[0]
    subject, text = parse_draft(written, ask.subject)
    if subject and not text and not ask.subject:
        # A model that was not trained may stop behind the subject: given it, it goes on.
        if stream:
            stream("\n\n")
        given = replace(ask, subject=subject)
        written = _generate(lm, [_prompt(lm, given, budget)], chosen, stream=stream)[0]
        text = written.strip()
    return subject, text


def write_many(
    lm: LanguageModel,
    asks: Sequence[Ask],
    sampling: Sampling | None = None,
    *,
    budget: Budget | None = None,
    batch: int = 8,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[tuple[str, str]]:
    """Write a draft for each of many, several at a time; the drafts are in the order asked."""
    chosen = sampling or Sampling()
    prompts = [_prompt(lm, ask, budget) for ask in asks]
    written = _in_batches(lm, prompts, chosen, batch, progress)
    drafts = [parse_draft(text, ask.subject) for text, ask in zip(written, asks, strict=True)]
    stopped = {
        i: replace(asks[i], subject=subject)
        for i, (subject, text) in enumerate(drafts)
        if subject and not text and not asks[i].subject
    }
    if stopped:  # behind the subject, as in `write`
        again = write_many(lm, list(stopped.values()), sampling, budget=budget, batch=batch)
        for i, draft in zip(stopped, again, strict=True):
            drafts[i] = draft
    return drafts


def complete(
    lm: LanguageModel,
    conversations: Sequence[list[dict[str, str]]],
    max_new_tokens: int,
    *,
    batch: int = 16,
) -> list[str]:
    """Answer each conversation with the model's likeliest words, several at a time."""
    prompts = [
        list(lm.tokenizer(render(lm.tokenizer, one), add_special_tokens=False)["input_ids"])
        for one in conversations
    ]
    greedy = Sampling(temperature=0, repetition=1, max_tokens=max_new_tokens)
    return _in_batches(lm, prompts, greedy, batch, lambda _done, _total: None)


def _prompt(lm: LanguageModel, ask: Ask, budget: Budget | None) -> list[int]:
    prompt = encode(lm.tokenizer, ask, budget)
    return prompt + encode_subject(lm.tokenizer, ask.subject) if ask.subject else prompt


def _in_batches(
    lm: LanguageModel,
    prompts: Sequence[list[int]],
    sampling: Sampling,
    batch: int,
    progress: Callable[[int, int], None],
) -> list[str]:
    """Generate for all prompts; those of like length share a batch, so that little is padding."""
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    written = [""] * len(prompts)
    for start in range(0, len(order), batch):
        progress(start, len(order))
        chosen = order[start : start + batch]
        texts = _generate(lm, [prompts[i] for i in chosen], sampling)
        for i, text in zip(chosen, texts, strict=True):
            written[i] = text
    progress(len(order), len(order))
    return written


@torch.inference_mode()
def _generate(
    lm: LanguageModel,
    prompts: Sequence[list[int]],
    sampling: Sampling,
    *,
    stream: Callable[[str], None] | None = None,
) -> list[str]:
    width = max(len(prompt) for prompt in prompts)
    end = int(lm.tokenizer.eos_token_id)
    pad = lm.tokenizer.pad_token_id
    fill = end if pad is None else int(pad)
    ids = torch.tensor([[fill] * (width - len(p)) + p for p in prompts], device=lm.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=lm.device)
    torch.manual_seed(sampling.seed)
    pieces = _Pieces(lm, stream) if stream else None
    loop = looked_up(sampling, streamer=pieces) if _can_look_up(lm, len(prompts)) else None
    model: Any = lm.model
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        pad_token_id=fill,
        eos_token_id=end,
        streamer=pieces,
        stopping_criteria=[_Repeating(lm, width)],
        custom_generate=loop,
        **sampling.options(),
    )
    return [unrepeated(text) for text in _texts(lm, out[:, width:])]


def _can_look_up(lm: LanguageModel, rows: int) -> bool:
    """Tell whether a pass for several tokens of one text is cheap.

    It is not in 4 bits, where several tokens have the weights unpacked first, as one has not. And
    of several texts each would go on from another place.
    """
    remembers = "past_key_values" in inspect.signature(lm.model.forward).parameters
    return rows == 1 and remembers and lm.precision != "4bit"


def _texts(lm: LanguageModel, tokens: torch.Tensor) -> list[str]:
    return [str(text) for text in lm.tokenizer.batch_decode(tokens, skip_special_tokens=True)]


class _Repeating(StoppingCriteria):
    """Ends a text that says over again what it said.

    Looked at every few tokens, for all of the text is decoded each time.
    """

    def __init__(self, lm: LanguageModel, width: int) -> None:
        self._lm, self._width = lm, width

    def __call__(self, input_ids: torch.Tensor, scores: object, **_others: object) -> torch.Tensor:
        del scores
        written = input_ids[:, self._width :]
        done = torch.zeros(len(written), dtype=torch.bool, device=input_ids.device)
        if written.shape[1] % _LOOK == 0:
            done[[repeats(text) for text in _texts(self._lm, written)]] = True
        return done


class _Pieces:
    """A streamer of ``generate``: hands on what is written, as far as it will stay as it is."""

    def __init__(self, lm: LanguageModel, stream: Callable[[str], None]) -> None:
        self._lm, self._stream = lm, stream
        self._tokens: list[int] | None = None
        self._told = 0

    def put(self, tokens: torch.Tensor) -> None:
        """Take the prompt, then what is written."""
        if self._tokens is None:
            self._tokens = []
            return
        self._tokens += tokens.flatten().tolist()
        text = self._text().rstrip(_HALF)
        self._tell(text[: settled(text)])

    def end(self) -> None:
        """Take it that nothing else comes."""
        self._tell(unrepeated(self._text()))

    def _text(self) -> str:
        return _texts(self._lm, torch.tensor([self._tokens or []]))[0]

    def _tell(self, text: str) -> None:
        if piece := text[self._told :]:
            self._told += len(piece)
            self._stream(piece)
