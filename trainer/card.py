"""What an exported model says of itself: where it is from, and how it is asked for a draft."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
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
_PRIVATE = "**Private: it has learned from its owner's mail and can repeat it.**"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an exported model is from.

    Attributes:
        base: The base model's name, without the folders that it lies in.
        base_hash: Its hash.
        adapter: The adapter's id, None for the base model alone.
    """

    base: str
    base_hash: str
    adapter: str | None

    @property
    def title(self) -> str:
        """A name for the exported model."""
        return f"{self.base} with Panza's adapter {self.adapter}" if self.adapter else self.base

    def json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


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
    told = _PRIVATE if origin.adapter else "It is the base model alone, without an adapter."
    return f"""\
---
library_name: transformers
pipeline_tag: text-generation
---

# {origin.title}

Written by `panza export`. {told}

| | |
|---|---|
| base model | {origin.base}, SHA-256 {origin.base_hash} |
| adapter | {origin.adapter or "none"} |

## How to ask for a draft

{prompt_format(tokenizer)}
"""
