"""Several tokens in one pass, guessed from the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from trainer.generate import Sampling, write
from trainer.lookup import Lookup, draw, looked_up
from trainer.prompt import Ask

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from trainer.base_model import LanguageModel

PROMPT = list(b"The boat is in the shed. Where is the boat? The boat is")
GREEDY = Sampling(temperature=0, repetition=1.0, max_tokens=90)
WARM = Sampling(temperature=0.05, repetition=1.0, max_tokens=90, seed=3)
NONE = 10**6  # a token that no model has


def written(
    model: PreTrainedModel, sampling: Sampling, guessed: int | None, end: int = NONE
) -> tuple[list[int], int]:
    """Return what a model writes, and in how many passes; without `guessed` by transformers."""
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    hook = model.register_forward_hook(count)
    ids = torch.tensor([PROMPT])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        eos_token_id=end,
        pad_token_id=0,
        custom_generate=None if guessed is None else looked_up(sampling, guessed=guessed),
        **sampling.options(),
    )
    hook.remove()
    return out[0, len(PROMPT) :].tolist(), passes


def sliding(window: int) -> PreTrainedModel:
    """Return a tiny model whose layers see so many tokens."""
    torch.manual_seed(1)
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=259,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            sliding_window=window,
            initializer_range=0.15,
        )
    ).eval()


@pytest.mark.parametrize("repetition", [1.0, 1.05])
def test_the_likeliest_tokens_are_those_of_plain_generate(
    tiny: LanguageModel, repetition: float
) -> None:
    """Token by token what transformers writes, in fewer passes."""
    greedy = Sampling(temperature=0, repetition=repetition, max_tokens=90)
    plain, _ = written(tiny.model, greedy, None)
    assert written(tiny.model, greedy, 0) == (plain, 90)
    for guessed in (1, 7):
        tokens, passes = written(tiny.model, greedy, guessed)
        assert tokens == plain
        assert passes < 90


def test_a_sampled_draft_does_not_depend_on_guesses(tiny: LanguageModel) -> None:
    """With its seed it is the same token by token, in fewer passes; another seed, another draft."""
    plain, passes = written(tiny.model, WARM, 0)
    assert passes == len(plain) == 90
    for guessed in (1, 3, 7):
        tokens, passes = written(tiny.model, WARM, guessed)
        assert tokens == plain
        assert passes < 90
    other = Sampling(temperature=0.05, repetition=1.0, max_tokens=90, seed=2)
    assert written(tiny.model, other, 7)[0] != plain


def test_a_window_that_slides_is_wound_back() -> None:
    """What a wrong guess pushed out of a model's window is there again for the next token."""
    model = sliding(16)
    plain, _ = written(model, GREEDY, None)
    tokens, passes = written(model, GREEDY, 7)
    assert tokens == plain
    assert passes < 90


def test_nothing_comes_behind_the_end(tiny: LanguageModel) -> None:
    """A text ends with its end token, wherever in a guess that stands."""
    plain, _ = written(tiny.model, GREEDY, None)
    for end in sorted(set(plain[20:]))[::5]:
        expected, _ = written(tiny.model, GREEDY, None, end)
        assert written(tiny.model, GREEDY, 7, end)[0] == expected
        assert expected.count(end) == 1


def test_a_model_that_cannot_wind_back_writes_as_ever(tiny: LanguageModel) -> None:
    """A state space model keeps no keys of single tokens; transformers writes with it."""
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=259, hidden_size=16, state_size=4, num_hidden_layers=1)
    tiny.model = MambaForCausalLM(config).eval()
    hot = Sampling(temperature=5.0, max_tokens=12)
    ask = Ask("Tell Stew", subject="Re: boards")
    assert write(tiny, ask, hot) == write(tiny, ask, hot)
    assert write(tiny, ask, hot)[1]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=1.0, top_p=0.5, repetition=1.3),
        Sampling(temperature=2.0, top_p=1.0, repetition=1.0),
    ],
)
def test_tokens_are_drawn_as_transformers_draws_them(sampling: Sampling) -> None:
    """Over all random numbers, each token comes as often as transformers' processors say."""
    torch.manual_seed(0)
    logits = torch.randn(1, 259) * 3
    before = torch.randint(0, 259, (1, 60))
    processors = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(sampling.repetition),
            TemperatureLogitsWarper(sampling.temperature),
            TopKLogitsWarper(50),
            TopPLogitsWarper(sampling.top_p),
        ]
    )
    expected = processors(before, logits.clone()).softmax(-1)[0]
    seen = torch.zeros(1, 259, dtype=torch.bool).index_fill(1, before[0], 1)
    count = 20_000
    noise = (torch.arange(count) + 0.5) / count
    drawn = draw(logits.expand(count, -1), seen.expand(count, -1), noise, sampling)
    shares = torch.bincount(drawn, minlength=259) / count
    assert (shares - expected).abs().max() < 2 / count
    assert not shares[expected == 0].any()


def test_the_latest_of_the_longest_passages_goes_on() -> None:
    """A guess is what followed where most of the last tokens stood before."""
    text = Lookup([1, 2, 3, 4, 9, 2, 3, 5, 9, 1, 2, 3])
    assert text.guess(2) == [4, 9]
    text.add([5])
    assert text.guess(3) == [9, 1, 2]
    text.add([7])
    assert text.guess(3) == []


def test_a_text_that_goes_in_circles_is_guessed_to_go_on() -> None:
    """A guess may be longer than what is there to take it from."""
    assert Lookup([8, 1, 2, 1, 2, 1]).guess(5) == [2, 1, 2, 1, 2]


def test_after_wrong_guesses_more_must_have_stood_before() -> None:
    """Where guesses fail there are fewer, until one is right."""
    text = Lookup([1, 2, 3, 4, 5, 1, 2, 3])
    assert text.guess(2) == [4, 5]
    text.judge(0)
    assert text.guess(2) == []
    text.add([4])
    assert text.guess(2) == [5, 1]
    text.judge(2)
    text.add([6, 2, 3, 4])
    assert text.guess(2) == [6, 2]
