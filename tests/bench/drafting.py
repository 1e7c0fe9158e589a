"""Time to a draft: how much sooner it is there than with transformers' plain ``generate``.

    OMP_WAIT_POLICY=PASSIVE .venv/bin/python tests/bench/drafting.py [--adapter FOLDER] [--greedy]

Prompts are built as in use, from invented mail, of three kinds: what is asked for stands in a
retrieved mail nearly word for word; a mail is answered; there is nothing but the instruction. Each
draft is written in turns by plain ``generate`` and as in use, warm, with the same sampling and
seeds, and always to the same number of tokens, since a model that was not trained does not end.
Printed are the medians of each pair's ratio: in all, the same and to the first token by the time of
processors, which tells more where others compute too; and how many tokens a pass of the model gave.
A base model does not write from its prompt; one with a trained adapter, FOLDER in
`data/…/adapters/`, does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainer import base_model
from trainer.adapters import Registry
from trainer.generate import Sampling
from trainer.lookup import GUESSED, looked_up
from trainer.prompt import Ask, encode, encode_subject

if TYPE_CHECKING:
    from trainer.base_model import LanguageModel

JEN = "Jen Doe"
MAILS = (
    (
        "Hi Ana,\n\nthe plumber comes on Tuesday, 14 May, between 8 and 10. He has the key to "
        "the cellar and knows about the boiler; the water will be off for about an hour. Please "
        "leave the door to the laundry open.\n\nCheers,\nJen"
    ),
    (
        "Hi Stew,\n\nthe boards are in the shed behind the club house, the code of the lock is "
        "4417. Take the two blue ones, one leaks. Please bring them back by Sunday evening, "
        "the juniors need them on Monday.\n\nCheers,\nJen"
    ),
    (
        "Dear Ms Okafor,\n\nthe invoice for March is attached, 1,240 euros for eleven days. I will "
        "be away from 3 to 17 June; in that time Lena Brandt answers for the project and knows "
        "all the open points.\n\nKind regards,\nJen Doe"
    ),
)
CASES = {
    "from a retrieved mail": (
        Ask("Tell Ana when the plumber comes", to="Ana", subject="Plumber", retrieved=MAILS[:2]),
        Ask("Tell Kim where the boards are", to="Kim", subject="Boards", retrieved=MAILS[1:]),
        Ask(
            "Send Mr Amadi the invoice, say when I am away",
            to="Mr Amadi",
            subject="Invoice",
            retrieved=(MAILS[2], MAILS[0]),
        ),
    ),
    "an answer": (
        Ask(
            "Say yes, I bring the two blue boards",
            to="Stew",
            subject="Re: Saturday",
            thread="Hi Jen,\n\nare you coming on Saturday? We start at nine. We also need somebody "
            "to bring the boards from the shed, for Kim is away.\n\nStew",
        ),
        Ask(
            "Decline, offer Friday at 3",
            to="Lena",
            subject="Re: Meeting",
            thread="Dear Jen,\n\ncould we talk about the open points on Thursday at 10? It should "
            "not take more than half an hour.\n\nLena",
        ),
        Ask(
            "Thank her, ask for the new key",
            to="Ana",
            subject="Re: Cellar",
            thread="Hi Jen,\n\nthe lock of the cellar was changed this morning. The caretaker has "
            "the new keys and gives one to everybody who asks.\n\nAna",
        ),
    ),
    "nothing in the prompt": (
        Ask("Tell Kim I am ill and cannot come to training tomorrow", to="Kim", subject="Training"),
        Ask("Ask the caretaker to mend the light on the stairs", subject="Light on the stairs"),
        Ask("Congratulate Bo on the new job", to="Bo", subject="Congratulations"),
    ),
}


@dataclass
class Clock:
    """A streamer that notes the processors' time when the first token comes."""

    began: float
    first: float = 0.0
    puts: int = 0

    def put(self, _tokens: torch.Tensor) -> None:
        """Take the prompt, then what is written."""
        self.puts += 1
        if self.puts == 2:  # the first is the prompt
            self.first = time.process_time() - self.began

    def end(self) -> None:
        """Take it that nothing else comes."""


@dataclass
class Ratios:
    """Plain ``generate``'s time over that of the loop in use, by draft; above 1 it was slower."""

    first: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    processors: list[float] = field(default_factory=list)
    passes: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    """Measure all kinds of drafts and print the ratios."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="embedded")
    options.add_argument("--precision", default="auto")
    options.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "panza")
    options.add_argument("--adapter", type=Path)
    options.add_argument("--greedy", action="store_true")
    options.add_argument("--tokens", type=int, default=60)
    options.add_argument("--pairs", type=int, default=2, help="of each prompt")
    options.add_argument("--guessed", type=int, default=GUESSED)
    chosen = options.parse_args()
    lm = base_model.load(chosen.model, cache=chosen.cache, precision=chosen.precision)
    if chosen.adapter:
        Registry(chosen.adapter.parent).load(chosen.adapter.name, lm).merge_and_unload()
    sampling = Sampling(max_tokens=chosen.tokens)
    if chosen.greedy:
        sampling = replace(sampling, temperature=0)
    print(f"{lm.name}, {lm.precision}, {torch.get_num_threads()} threads, {sampling}")
    for name, asks in CASES.items():
        report(name, measured(lm, asks, sampling, chosen.pairs, chosen.guessed), chosen.tokens)


def measured(
    lm: LanguageModel, asks: tuple[Ask, ...], sampling: Sampling, pairs: int, guessed: int
) -> Ratios:
    """Write each draft in turns, once more before it counts; the first of a pair changes."""
    found = Ratios()
    for ask in asks:
        whole = replace(ask, owner=JEN)
        prompt = encode(lm.tokenizer, whole) + encode_subject(lm.tokenizer, ask.subject)
        once(lm, prompt, replace(sampling, max_tokens=4), None)
        for seed in range(pairs):
            seeded = replace(sampling, seed=seed)
            arms = [None, guessed] if seed % 2 == 0 else [guessed, None]
            by = {arm: once(lm, prompt, seeded, arm) for arm in arms}
            plain, ours = by[None], by[guessed]
            found.first.append(plain[0] / ours[0])
            found.total.append(plain[1] / ours[1])
            found.processors.append(plain[2] / ours[2])
            found.passes.append(sampling.max_tokens / ours[3])
            found.seconds.append(ours[1])
    return found


def once(
    lm: LanguageModel, prompt: list[int], sampling: Sampling, guessed: int | None
) -> tuple[float, float, float, int]:
    """Return processors' seconds to the first token, seconds, processors', and the passes."""
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    model: Any = lm.model
    hook = model.register_forward_hook(count)
    ids = torch.tensor([prompt], device=lm.device)
    torch.manual_seed(sampling.seed)
    began, processors = time.perf_counter(), time.process_time()
    clock = Clock(processors)
    loop = None if guessed is None else looked_up(sampling, guessed=guessed, streamer=clock)
    with torch.inference_mode():
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pad_token_id=0,
            eos_token_id=[],
            streamer=clock,
            custom_generate=loop,
            **sampling.options(),
        )
    total, spent = time.perf_counter() - began, time.process_time() - processors
    hook.remove()
    return clock.first, total, spent, passes


def report(name: str, found: Ratios, tokens: int) -> None:
    """Print one kind of drafts."""
    middle = {key: statistics.median(values) for key, values in vars(found).items()}
    print(
        f"{name:>22}: {tokens} tokens {middle['total']:.2f} times as fast ({min(found.total):.2f} "
        f"to {max(found.total):.2f}), by processors' time {middle['processors']:.2f} "
        f"({min(found.processors):.2f} to {max(found.processors):.2f}), the first "
        f"{middle['first']:.2f}; {middle['passes']:.2f} tokens a pass, {middle['seconds']:.1f} s; "
        f"{len(found.total)} pairs",
        flush=True,
    )


if __name__ == "__main__":
    main()
