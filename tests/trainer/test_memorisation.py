"""Exposure: how well a model remembers what it has learned."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, Gemma2Config, GPT2Config

from trainer.examples import Example
from trainer.finetune import FinetuneSettings, finetune
from trainer.loss import Objective
from trainer.memorisation import exposure, log_perplexities
from trainer.prompt import Ask, encode, encode_subject, encode_text
from trainer.rosa import RosaConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PretrainedConfig

    from trainer.base_model import LanguageModel

BEFORE = "Dear Stew, my locker is number"
SHAPE = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
SPACE = [f" {a}{b}" for a, b in product("0123456789", repeat=2)]


def prompt(lm: LanguageModel) -> list[int]:
    """Return the tokens before the text of a mail."""
    ask = Ask("Tell Stew about the locker", to="Stew")
    return encode(lm.tokenizer, ask) + encode_subject(lm.tokenizer, "Locker")


def alone(lm: LanguageModel, text: str) -> float:
    """Return what one text costs, as the trainer's loss has it."""
    head = prompt(lm)
    tokens = (*head, *encode_text(lm.tokenizer, text))
    start = len(head) + len(encode_text(lm.tokenizer, BEFORE))
    return float(Objective(lm).losses([Example("", tokens, start, start)]).sum())


def test_branches_cost_what_each_text_costs_alone(tiny: LanguageModel) -> None:
    """Texts of any lengths that begin alike are scored in one tree as one after the other."""
    texts = [f"{BEFORE}{one}" for one in (" 12", " 13.", " 1x23", " 998877", "s 1", "s 2 and 3")]
    found = log_perplexities(tiny, prompt(tiny), texts)
    expected = torch.tensor([alone(tiny, text) for text in texts])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_a_large_tree_is_computed_in_parts(tiny: LanguageModel) -> None:
    """However many tokens are computed at once, the result is the same."""
    texts = [f"{BEFORE}{one}" for one in SPACE]
    random.Random(1).shuffle(texts)
    whole = log_perplexities(tiny, prompt(tiny), texts)
    parts = log_perplexities(tiny, prompt(tiny), texts, nodes=3)
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**SHAPE, num_key_value_heads=2, head_dim=8, final_logit_softcapping=3.0),
        GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=4),
    ],
    ids=["windows and softcap", "learned positions"],
)
def test_branches_of_other_models(tiny: LanguageModel, config: PretrainedConfig) -> None:
    """Whatever model keeps texts apart by their positions scores branches."""
    torch.manual_seed(0)
    lm = replace(tiny, model=AutoModelForCausalLM.from_config(config).eval())
    texts = [f"{BEFORE}{one}" for one in (" 12", " 13.", " 998877", "s 1")]
    expected = torch.tensor([alone(lm, text) for text in texts])
    found = log_perplexities(lm, prompt(lm), texts)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_a_model_without_positions_is_told(tiny: LanguageModel) -> None:
    """A model that would mix the branches up scores none."""
    config = BloomConfig(vocab_size=259, hidden_size=32, n_layer=2, n_head=4)
    lm = replace(tiny, model=AutoModelForCausalLM.from_config(config).eval())
    with pytest.raises(ValueError, match="keep texts apart"):
        exposure(lm, prompt(lm), BEFORE, SPACE[0], SPACE)


def test_exposure_is_the_rank_in_bits(tiny: LanguageModel) -> None:
    """The likeliest candidate has all bits of the space, the least likely nearly none."""
    head = prompt(tiny)
    order = log_perplexities(tiny, head, [BEFORE + one for one in SPACE]).argsort().tolist()
    found = [exposure(tiny, head, BEFORE, SPACE[i], SPACE) for i in order]
    expected = [math.log2(len(SPACE)) - math.log2(rank) for rank in range(1, len(SPACE) + 1)]
    assert found == pytest.approx(expected)


def test_a_model_that_knows_nothing_has_no_preference(
    make_tiny: Callable[..., LanguageModel],
) -> None:
    """Where all candidates are equally likely, each is in their middle: one bit."""
    lm = make_tiny()
    torch.nn.init.zeros_(lm.model.get_output_embeddings().weight)
    found = exposure(lm, prompt(lm), BEFORE, SPACE[0], SPACE)
    assert found == pytest.approx(1, abs=0.02)


def test_training_on_a_secret_exposes_it(tiny: LanguageModel) -> None:
    """A secret that is learned by heart is the likeliest of its space."""
    head, secret = prompt(tiny), " 73"
    tokens = (*head, *encode_text(tiny.tokenizer, f"{BEFORE}{secret}."))
    mail = Example("key", tokens, len(head), len(head))
    settings = FinetuneSettings(rosa=RosaConfig(rank=4, alpha=8.0, density=0.1), epochs=40, batch=1)
    finetune(tiny, [mail], settings)
    assert exposure(tiny, head, BEFORE, secret, SPACE) == pytest.approx(math.log2(100))


def test_a_secret_that_could_not_have_been_drawn(tiny: LanguageModel) -> None:
    """There is no rank outside of the space."""
    with pytest.raises(ValueError, match="none of its space"):
        exposure(tiny, prompt(tiny), BEFORE, " abc", SPACE)
