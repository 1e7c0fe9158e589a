"""A text that says over again what it said is ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from trainer.generate import Sampling, write, write_many
from trainer.prompt import Ask
from trainer.repeats import repeats, settled, unrepeated

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.base_model import LanguageModel

BOARDS = (
    "The boards are in the shed by the club house. The key hangs on a nail behind the blue door"
)
SAID = f"Hi Stew,\n\n{BOARDS}."
GERMAN = "Die Bretter liegen im Schuppen hinter dem Haus. Der Schlüssel hängt an der blauen Tür."
CHINESE = "船板在棚子里,钥匙挂在蓝色的门后面,请在星期天之前把它们带回来。" * 5
LINE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
ASK = Ask("Tell Stew", subject="Re: boards")
GREEDY = Sampling(temperature=0, repetition=1.0, max_tokens=400)


def going_round(make_tiny: Callable[..., LanguageModel]) -> LanguageModel:
    """Return a model that writes one line again and again: each token has one that follows."""
    lm = make_tiny(hidden=264, deep=1)
    model: Any = lm.model
    follows = [*lm.tokenizer(f"{LINE}\n", add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        layer = model.model.layers[0]
        for weight in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
            weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(259, 264))
        model.lm_head.weight.zero_()
        for token, following in zip(follows, follows[1:] + follows[:1], strict=True):
            model.lm_head.weight[following, token] = 1.0
    return lm


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        (
            f"{SAID} {BOARDS}. The",
            SAID,
        ),
        (f"{SAID}\n\n{SAID}\n", SAID),
        (f"{GERMAN} {GERMAN.upper()} ", GERMAN),
        (CHINESE, CHINESE[: len(CHINESE) // 5]),
        ("- no wind\n- rain\n" * 8, "- no wind\n- rain"),
    ],
)
def test_sentences_that_are_said_again_are_cut_off(text: str, stays: str) -> None:
    """What stands at the end and stood before is cut off, in any language; all else stays."""
    assert repeats(text)
    assert unrepeated(text) == stays


@pytest.mark.parametrize(
    "text",
    [
        SAID,
        f"{SAID}\n\nThanks,\nJen",
        f"{SAID} The key hangs on a nail behind the blue door.",
        f"{SAID} {BOARDS}, too.\n",
        "- done\n- done\n- done\n- done\n",
        "",
    ],
)
def test_a_text_that_goes_on_is_left_alone(text: str) -> None:
    """A sentence said twice, a list of equal words and a repetition that ends are the writer's."""
    assert unrepeated(text) == text


@pytest.mark.parametrize(
    "text",
    [
        f"{SAID} {BOARDS}. The boards",
        f"{SAID}\n{BOARDS}, too.\nJen",
        CHINESE,
    ],
)
def test_what_is_settled_stays(text: str) -> None:
    """What was told of a text while it was written is the beginning of what is left of it."""
    for length in range(len(text)):
        told = text[: settled(text[:length])].rstrip()
        assert unrepeated(text).startswith(told)


def test_a_model_that_goes_round_is_stopped(make_tiny: Callable[..., LanguageModel]) -> None:
    """It writes its line once, far from the last token, and no repetition is streamed."""
    lm = going_round(make_tiny)
    last: list[int] = []
    lm.model.register_forward_pre_hook(
        lambda _module, _args, words: last.append(int(words["past_key_values"].get_seq_length())),
        with_kwargs=True,
    )
    pieces: list[str] = []
    assert write(lm, ASK, GREEDY, stream=pieces.append) == ("Re: boards", LINE)
    assert "".join(pieces).strip() == f"Subject: Re: boards\n\n{LINE}"
    assert max(last) - min(last) < 400
    assert write_many(lm, [ASK, ASK], GREEDY) == [("Re: boards", LINE)] * 2
