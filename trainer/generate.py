"""Writing with a model: one draft as it comes, or many texts in batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from trainer.prompt import Ask, Budget, encode, encode_subject, parse_draft, render

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.base_model import LanguageModel


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
    pieces = _streamer(lm, stream) if stream else None
    if stream:
        stream(f"Subject: {ask.subject}\n\n" if ask.subject else "Subject:")
    written = _generate(lm, [_prompt(lm, ask, budget)], chosen, streamer=pieces)[0]
    subject, text = parse_draft(written, ask.subject)
    if subject and not text and not ask.subject:
        # A model that was not trained may stop behind the subject: given it, it goes on.
        if stream:
            stream("\n\n")
        given = replace(ask, subject=subject)
        written = _generate(lm, [_prompt(lm, given, budget)], chosen, streamer=pieces)[0]
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
    streamer: Any = None,  # noqa: ANN401  # transformers gives its streamers no common type
) -> list[str]:
    width = max(len(prompt) for prompt in prompts)
    end = int(lm.tokenizer.eos_token_id)
    pad = lm.tokenizer.pad_token_id
    fill = end if pad is None else int(pad)
    ids = torch.tensor([[fill] * (width - len(p)) + p for p in prompts], device=lm.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=lm.device)
    torch.manual_seed(sampling.seed)
    model: Any = lm.model
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        pad_token_id=fill,
        eos_token_id=end,
        streamer=streamer,
        **sampling.options(),
    )
    texts = lm.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
    return [str(text) for text in texts]


def _streamer(lm: LanguageModel, stream: Callable[[str], None]) -> Any:  # noqa: ANN401
    from transformers import TextStreamer

    class Pieces(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: FBT001, FBT002
            del stream_end
            stream(text)

    tokenizer: Any = lm.tokenizer
    return Pieces(tokenizer, skip_prompt=True, skip_special_tokens=True)
