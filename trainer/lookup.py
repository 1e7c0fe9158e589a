"""Writing several tokens in one pass, where a text repeats what stands in its prompt.

A draft from an earlier mail takes over whole passages of it. Where its last tokens stood before,
what followed them there is guessed to follow here too, and the model judges all of the guess in one
pass (prompt lookup, github.com/apoorvumang/prompt-lookup-decoding, a form of speculative decoding,
arXiv 2211.17192). On a CPU a pass for eight tokens costs 1.3 to 1.8 times one for a single token.

It changes nothing in what is written. Each place in a draft has a random number of its own, and the
token there follows from that and the tokens before; a guess only says for which tokens a pass is
worth making.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from trainer.generate import Sampling

GUESSED = 7  # with the token before them eight, which suits the kernels for small matrices
_LEAST = 3  # tokens that must have stood before; with two, guesses cost more where none is right
_LONGEST = 32  # of these, more are not compared
_WORTH = 2  # right ones in a guess that pay for its pass
_LIKELIEST = 50  # tokens to draw from at most, as transformers has it


class Lookup:
    """A text that is written, and guesses at how it goes on.

    After each guess that did not pay, more tokens must have stood before: where a text only seems
    to repeat itself, few passes are spent.

    Args:
        tokens: The prompt.
    """

    def __init__(self, tokens: Iterable[int]) -> None:
        self._tokens: list[int] = []
        self._ends: dict[tuple[int, ...], list[int]] = {}
        self._least = _LEAST
        self.add(tokens)

    def add(self, tokens: Iterable[int]) -> None:
        """Take note of what was written."""
        for token in tokens:
            self._tokens.append(token)
            last = tuple(self._tokens[-_LEAST:])
            self._ends.setdefault(last, []).append(len(self._tokens))

    def guess(self, most: int) -> list[int]:
        """Return so many tokens that may come next, or none.

        They are those after the longest passage that the text ends with and had before, the latest
        one of several. Where that reaches into its own repetition, it goes on in circles.
        """
        ends = self._ends.get(tuple(self._tokens[-_LEAST:]), [])[:-1]
        length, end = max(((self._alike(end), end) for end in ends), default=(0, 0))
        if length < self._least:
            return []
        period = len(self._tokens) - end
        return [self._tokens[end + i % period] for i in range(most)]

    def judge(self, right: int) -> None:
        """Learn how many tokens of a guess were right."""
        self._least = _LEAST if right >= _WORTH else self._least + 1

    def _alike(self, end: int) -> int:
        most = min(end, _LONGEST)
        return next(
            (n for n in range(most) if self._tokens[end - n - 1] != self._tokens[-n - 1]), most
        )


def looked_up(
    sampling: Sampling,
    *,
    guessed: int = GUESSED,
    streamer: Any = None,  # noqa: ANN401  # transformers gives its streamers no common type
) -> Callable[..., Tensor]:
    """Return a decoding loop for transformers' ``generate(custom_generate=…)``, for one prompt.

    The draft is the same for every number of guessed tokens, but for what a kernel's order of
    additions makes of two tokens that are equally likely.

    Args:
        sampling: How tokens are chosen. ``generate`` needs the length and no more.
        guessed: How many tokens are guessed at most; none in a model that cannot take back what it
            has read.
        streamer: Given what is written. ``generate`` gives it the prompt, but keeps it from a loop
            that is not its own.
    """

    def loop(
        model: Any,  # noqa: ANN401  # what generates is no type of its own in transformers
        input_ids: Tensor,
        *,
        past_key_values: Any,  # noqa: ANN401
        stopping_criteria: Callable[[Tensor, Any], Tensor],
        **_others: Any,  # noqa: ANN401
    ) -> Tensor:
        cache, fed = past_key_values, input_ids
        able = bool(cache.is_croppable)
        if able:
            cache.activate_past_recording()
        text = Lookup(input_ids[0].tolist())
        dice = torch.Generator().manual_seed(sampling.seed)
        noise = torch.rand(sampling.max_tokens, generator=dice).to(input_ids.device)
        started = stopped = False
        while not stopped:
            # The first token shall be there soon, so nothing is guessed behind the prompt. The last
            # needs no guess: a pass brings one token more.
            most = min(guessed, len(noise) - 1) if able and started else 0
            guess = text.guess(most)
            ahead = input_ids.new_tensor(guess)
            fed = torch.cat([fed, ahead[None]], 1)
            out = model(input_ids=fed, past_key_values=cache, logits_to_keep=len(guess) + 1)
            logits = out.logits[0, -len(guess) - 1 :].float()
            seen = _seen(input_ids[0], ahead, logits.shape[-1])
            drawn = draw(logits, seen, noise[: len(guess) + 1], sampling)
            wrong = (drawn[:-1] != ahead).nonzero()
            right = int(wrong[0]) if len(wrong) else len(guess)
            if guess:
                text.judge(right)
            if able:
                cache.crop(right - len(guess))
            new = 0
            while new <= right and not stopped:
                input_ids = torch.cat([input_ids, drawn[None, new : new + 1]], 1)
                stopped = bool(stopping_criteria(input_ids, None).all())
                new += 1
            text.add(drawn[:new].tolist())
            started = True
            fed, noise = drawn[None, right : right + 1], noise[new:]
            if streamer is not None:
                streamer.put(drawn[:new].cpu())
        if streamer is not None:
            streamer.end()
        return input_ids

    return loop


def draw(logits: Tensor, seen: Tensor, noise: Tensor, sampling: Sampling) -> Tensor:
    """Choose a token for each row, from the same distribution as transformers' ``generate``.

    Args:
        logits: What the model says, [rows, vocabulary], in fp32.
        seen: Which tokens stand before, [rows, vocabulary].
        noise: A number from 0 to 1 for each row, by which it is drawn.
        sampling: How to choose.
    """
    less = torch.where(logits < 0, logits * sampling.repetition, logits / sampling.repetition)
    scores = torch.where(seen, less, logits)
    if sampling.temperature == 0:
        return scores.argmax(-1)
    top = (scores / sampling.temperature).topk(min(_LIKELIEST, scores.shape[-1]))
    shares = top.values.softmax(-1)
    above = shares.cumsum(-1) - shares
    shares = shares.masked_fill(above >= sampling.top_p, 0)
    sums = shares.cumsum(-1)
    place = (sums <= noise[:, None] * sums[:, -1:]).sum(-1, keepdim=True)
    last = (shares > 0).sum(-1, keepdim=True) - 1
    return top.indices.gather(-1, place.minimum(last))[:, 0]


def _seen(before: Tensor, ahead: Tensor, vocabulary: int) -> Tensor:
    """Return which tokens stand before each of the places that a pass looks at."""
    rows = torch.zeros(len(ahead) + 1, vocabulary, dtype=torch.bool, device=before.device)
    rows[:, before] = True
    for place, token in enumerate(ahead):
        rows[place + 1 :, token] = True
    return rows
