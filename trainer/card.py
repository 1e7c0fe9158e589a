"""What an exported model says of itself: where it is from, and how it is asked for a draft."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from trainer.generate import Sampling
from trainer.prompt import Ask, encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_EXAMPLE = Ask(
    instruction="Tell Stew I cannot make Thursday, offer Friday at 3",
    to="Stew",
    retrieved=("An earlier e-mail of yours that fits, whole.",),
    profile="What panza.yaml says under profile.",
    owner="Your Full Name",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an exported model is from.

    Attributes:
        base: The base model's name.
        base_hash: Its hash.
        adapter: The adapter's id, ``base`` for none.
    """

    base: str
    base_hash: str
    adapter: str

    @property
    def title(self) -> str:
        """A name for the exported model."""
        base = PurePath(self.base).name.removesuffix(".gguf")
        return base if self.adapter == "base" else f"{base} with Panza's adapter {self.adapter}"

    def json(self) -> str:
        """Return it as JSON; of a base model's path, only the last part."""
        return json.dumps(asdict(self) | {"base": PurePath(self.base).name}, indent=2)


def prompt_format(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return how the model is asked for a draft, with an example in its own chat format."""
    prompt = tokenizer.decode(encode(tokenizer, _EXAMPLE))
    sampling = Sampling()
    return f"""\
The model was trained on prompts of exactly this form, and writes on behind `Subject:`: a space, the
subject, an empty line, the text. To give it the subject, put that and the empty line behind the
prompt. `E-mails you wrote before:` and `To:` may be left out; an e-mail that is to be answered
stands before `To:`, as `You answer this e-mail:`, a line `---`, the e-mail, a line `---`.

````
{prompt}
````

Panza samples with temperature {sampling.temperature}, top-p {sampling.top_p} and a repetition \
penalty of {sampling.repetition} over the whole text."""


def model_card(origin: Origin, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the README of an exported folder."""
    return f"""\
---
library_name: transformers
pipeline_tag: text-generation
---

# {origin.title}

Written by `panza export`. **Private: it has learned from its owner's mail and can repeat it.**

| | |
|---|---|
| base model | {PurePath(origin.base).name}, SHA-256 {origin.base_hash} |
| adapter | {origin.adapter}, merged into the weights |

## How to ask for a draft

{prompt_format(tokenizer)}
"""
