"""RoSA on weights of 4 bits beside RoSA on whole ones: time of a step, memory, and writing.

    .venv/bin/python tests/bench/quantised.py [--pairs 5] [--tokens 512] [--write 24]

It takes the embedded model on one core, and counts the processor's seconds; each pair is the same
step in both precisions, one after the other, and what counts is the median of the pairs' ratios,
since machines are noisy. Memory is that of a process that does nothing else (its own pages, no
mapped files): what it held before the model was loaded is taken off. Writing is one mail, token by
token, with the adapter merged into whole weights and beside 4-bit ones, which is how Panza writes.

On a CPU 4 bits save memory and cost time. The bar is for a GPU, a step of at most 1.25 of bf16's,
and tests/bench/gpu.py measures that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

import torch

from daemon import kernel
from trainer import base_model
from trainer.rosa import RosaConfig, get_rosa_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.base_model import LanguageModel
    from trainer.rosa import RosaModel

VOCABULARY = 49000


def main() -> None:
    """Run the bench once and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=5)
    options.add_argument("--tokens", type=int, default=512)
    options.add_argument("--write", type=int, default=24)
    options.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)  # of a child of this one
    given = options.parse_args()
    if given.memory:
        print(json.dumps(memory(*given.memory, given.tokens)))
        return
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="panza-bench-") as cache:
        models = {one: _load(cache, one) for one in ("auto", "4bit")}
        whole = models["auto"].precision
        print(f"{given.tokens} tokens a step; whole weights and computing in {whole}")
        adapted = {one: stepper(lm, given.tokens) for one, lm in models.items()}
        steps = {one: step for one, (_, step) in adapted.items()}
        _compare("a step in 4 bits takes", steps, given.pairs)
        _compare_writing({one: rosa for one, (rosa, _) in adapted.items()}, given)
        del models, adapted, steps
        for precision in (whole, "4bit"):
            found = _child(cache, precision, given.tokens)
            figures = ", ".join(f"{name} {value:.0f} MB" for name, value in found.items())
            print(f"memory, {precision}: {figures}")


def _load(cache: str, precision: str) -> LanguageModel:
    return base_model.load("embedded", cache=Path(cache), precision=precision, device="cpu")


def stepper(lm: LanguageModel, tokens: int) -> tuple[RosaModel, Callable[[], None]]:
    """Return an adapter with masks of its own choice, and what makes one step with it."""
    rosa = get_rosa_model(lm.model, RosaConfig())
    rosa.base.train()
    row = torch.randint(3, VOCABULARY, (1, tokens), generator=torch.Generator().manual_seed(0))

    def backward() -> None:
        rosa.base(input_ids=row, labels=row).loss.backward()

    rosa.choose_masks(backward, [tokens])
    groups = [*rosa.lora_parameters().values(), *rosa.sparse_parameters().values()]
    optimizer = torch.optim.AdamW(groups, lr=1e-4)

    def step() -> None:
        backward()
        optimizer.step()
        optimizer.zero_grad()
        rosa.write()

    return rosa, step


def _compare_writing(adapted: dict[str, RosaModel], given: argparse.Namespace) -> None:
    prompt = torch.randint(3, VOCABULARY, (1, 100), generator=torch.Generator().manual_seed(1))
    tokens: int = given.write
    writers = {}
    for precision, rosa in adapted.items():
        rosa.base.eval()
        model = rosa.base if precision == "4bit" else rosa.merge_and_unload()

        def write(model: torch.nn.Module = model) -> None:
            model.generate(  # type: ignore[operator]  # transformers' mixin
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
            )

        writers[precision] = write
    seconds = _compare("writing in 4 bits takes", writers, given.pairs)
    for precision, found in seconds.items():
        print(f"  {precision}: {tokens / found:.1f} tokens/s, the prompt of 100 tokens included")


def _compare(what: str, runs: dict[str, Callable[[], None]], pairs: int) -> dict[str, float]:
    """Time runs in pairs after one to warm up; print the ratio, return the medians in seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for pair in range(pairs + 1):
        for name, run in runs.items():
            started = time.process_time()
            run()
            if pair:
                seconds[name].append(time.process_time() - started)
    ratios = sorted(b / a for a, b in zip(seconds["auto"], seconds["4bit"], strict=True))
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"{what} {statistics.median(ratios):.2f} of one with whole weights ({shown})")
    return {name: statistics.median(found) for name, found in seconds.items()}


def memory(cache: str, precision: str, tokens: int) -> dict[str, float]:
    """Return MB of this process's own pages: of the model loaded, at the peak of steps."""
    import peft  # noqa: F401 - what is imported is no part of it
    from transformers import BitsAndBytesConfig, LlamaForCausalLM  # noqa: F401

    before = _own()
    with _Watch() as loading:
        lm = _load(cache, precision)
    kernel.give_back_memory()  # as Panza does
    loaded = _own()
    with _Watch() as stepping:
        _, step = stepper(lm, tokens)
        for _ in range(2):
            step()
    return {
        "loading": (loading.most - before) / 1e6,
        "loaded": (loaded - before) / 1e6,
        "stepping": (stepping.most - before) / 1e6,
    }


class _Watch:
    """Notes the most memory within a block, looking a hundred times a second."""

    def __init__(self) -> None:
        self.most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            self.most = max(self.most, _own())


def _own() -> int:
    """Return the bytes of this process's pages that are no file's."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def _child(cache: str, precision: str, tokens: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--tokens", str(tokens), "--memory", cache, precision]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
