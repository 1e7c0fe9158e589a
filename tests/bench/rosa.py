"""Our RoSA on a CPU beside PEFT's LoRA and Super-Tuning, and beside plain matrix products.

    .venv/bin/python tests/bench/rosa.py [--pairs 5] [--precision auto] [--row 384]
        [--batch 8] [--mbox sent.mbox --address jen@example.org] [--padded]

All sides learn from the same mails, a batch each in turns, with the same optimizer and the loss at
the same tokens. Super-Tuning has our masks, so that it too is RoSA. A ratio of times is the median
of the pairs', by the clock and, since machines are busy, by the processor's seconds. `--padded`
adds PEFT's LoRA as PanzaMail uses it, each mail padded to 512 tokens, which takes long.

Memory is the peak of processes of their own; what the mask needs is counted, tensor by tensor.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # one side must not spin while another computes

import torch
from support.flops import Products, Work
from support.live import Live
from support.peers import (
    PADDED,
    RANK,
    Ours,
    PaddedPeer,
    Peer,
    copies_saved,
    give_masks,
    lora,
    supertuning,
)

from connectors.base import MessageError, Role
from connectors.mail import parse
from connectors.mbox import MboxConnector
from daemon.demo import mailbox
from daemon.material import own_mails
from daemon.sync import reason_to_leave_out
from trainer import base_model
from trainer.corpus import first_names, usable
from trainer.examples import Example, example
from trainer.extractive import habits, instruct
from trainer.prompt import Ask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from connectors.mail import Mail
    from trainer.base_model import LanguageModel

LIMIT = 512  # tokens of one mail with its prompt
Batch = list[Example]


def main() -> None:
    """Run the bench once and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--row", type=int, default=384, help="the most tokens in one row")
    parser.add_argument("--batch", type=int, default=8, help="mails in one step")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--mbox", type=Path)
    parser.add_argument("--address", default="owner@example.org")
    parser.add_argument("--padded", action="store_true")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--memory-of", choices=("ours", "lora"), help=argparse.SUPPRESS)
    chosen, _ = parser.parse_known_args()  # `make bench` gives the same words to all
    with TemporaryDirectory(prefix="panza-bench-") as folder:
        chosen.cache = chosen.cache or Path(folder)
        lm = base_model.load(
            chosen.model, cache=chosen.cache, precision=chosen.precision, device="cpu"
        )
        mails = examples(chosen, lm)
        batches = [
            [mails[i % len(mails)] for i in range(first, first + chosen.batch)]
            for first in range(0, chosen.batch * (chosen.pairs + 1), chosen.batch)
        ]
        if chosen.memory_of:
            print(json.dumps(peak_of(chosen.memory_of, lm, chosen.row, batches[:3])))
            return
        threads = torch.get_num_threads()
        print(f"{chosen.model}, {lm.precision}, rows of {chosen.row}, {threads} threads; ", end="")
        print(
            f"{len(mails)} mails, median {statistics.median(len(m.tokens) for m in mails)} tokens"
        )
        speed(chosen, lm, mails, batches)
        memory(chosen)


def examples(chosen: argparse.Namespace, lm: LanguageModel) -> Batch:
    """Return the mails to learn from: those of an mbox, or of the demo's mailbox."""
    if chosen.mbox:
        with MboxConnector(chosen.mbox) as mbox:
            raws = [message.raw for message in mbox.fetch(Role.SENT)]
        own = frozenset({chosen.address})
    else:
        persona = mailbox.load()
        raws = [one.raw for one in persona.messages() if one.folder == "sent"]
        own = frozenset({persona.address})
    read: list[Mail] = []
    for raw in raws:
        try:
            mail = parse(raw)
        except MessageError:
            continue
        if not reason_to_leave_out(mail, own):
            read.append(mail)
    sent, _ = usable(own_mails(read), newest=1000)
    known = habits(sent)
    end = int(lm.tokenizer.eos_token_id)
    return [
        example(
            lm.tokenizer,
            str(number),
            Ask(instruct(mail, known), to=first_names(mail.to)),
            mail.subject,
            mail.text,
            end=end,
            limit=LIMIT,
        )
        for number, mail in enumerate(sent)
    ]


def speed(
    chosen: argparse.Namespace, lm: LanguageModel, mails: Batch, batches: list[Batch]
) -> None:
    """Print all that takes time, and what is counted."""
    work = Work(lm.model)
    ours = Ours(_copied(lm), chosen.row)
    names = list(ours.rosa.layers)
    supra = Peer(_copied(lm), chosen.row, supertuning(names))
    sides: dict[str, Ours | Peer] = {
        "our RoSA": ours,
        "our LoRA": Ours(_copied(lm), chosen.row, density=0),
        "PEFT LoRA": Peer(_copied(lm), chosen.row, lora(names)),
        "PEFT Super-Tuning": supra,
    }
    if chosen.padded:
        sides["padded PEFT LoRA"] = PaddedPeer(_copied(lm), chosen.row, lora(names))
    _, masking = _timed(ours.choose_masks, batches[0])
    give_masks(supra, ours)
    saved = {name: copies_saved(one, batches[0]) for name, one in sides.items()}
    times = Times(work, ours, batches[1:], lm.dtype)
    for batch in batches[1:]:
        times.products(batch)
        for name, side in sides.items():
            times.add(name, _timed(side.step, batch))

    times.ratio("our RoSA", "PEFT LoRA", "; bar 1.5")
    times.ratio("our RoSA", "PEFT Super-Tuning", "; bar 1.0")
    times.ratio("our LoRA", "PEFT LoRA")
    if chosen.padded:
        times.ratio("our RoSA", "padded PEFT LoRA")
    for name, side in sides.items():
        times.efficiency(name, saved[name], "; bar 0.6" if side is ours else "")
    step = statistics.median(times.busy["PEFT LoRA"])
    print(f"mask: {masking / step:.2f} steps of PEFT's LoRA; bar 3")
    _count_memory_of_mask(_copied(lm), chosen.row, batches[0])
    _count_positions(ours, mails, chosen)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "masks"
        ours.rosa.save_masks(file)
        entries = sum(one.numel() for one in ours.rosa.sparse_parameters().values())
        print(f"mask file: {file.stat().st_size / entries:.2f} bytes a non-zero; bar 6")


class Times:
    """The seconds of each side's steps, by the clock and of the processor.

    Attributes:
        wall: By side, those by the clock.
        busy: By side, those of the processor.
    """

    def __init__(self, work: Work, ours: Ours, batches: list[Batch], dtype: torch.dtype) -> None:
        self.wall: dict[str, list[float]] = {}
        self.busy: dict[str, list[float]] = {}
        self._work, self._batches = work, batches
        row = ours.objective.rows(batches[0], ours.state.row)[0]
        learned = sum(len(one.tokens) - one.learned for one in row)
        self._products = Products(work, sum(len(one.tokens) for one in row), learned, dtype)

    def add(self, name: str, seconds: tuple[float, float]) -> None:
        """Note a step."""
        self.wall.setdefault(name, []).append(seconds[0])
        self.busy.setdefault(name, []).append(seconds[1])

    def products(self, batch: Batch) -> None:
        """Note the time in which plain products would do what a step of RoSA has to."""
        useful = self._work.of(batch, rank=RANK, sparse=True)
        wall, busy = self._products.rates()
        self.add("torch.mm", (useful / wall, useful / busy))

    def ratio(self, one: str, other: str, bar: str = "") -> None:
        """Print how long one's steps take in those of another."""
        parts = []
        for seconds in (self.busy, self.wall):
            pairs = [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]
            of_medians = statistics.median(seconds[one]) / statistics.median(seconds[other])
            parts.append(f"{statistics.median(pairs):.2f} (of medians {of_medians:.2f})")
        print(f"{one} / {other}: {parts[0]}, by the clock {parts[1]}{bar}")

    def efficiency(self, name: str, saved: int, bar: str) -> None:
        """Print what a side's steps have to compute, a second, as a share of plain products."""
        sparse = "LoRA" not in name
        shares = []
        for seconds in (self.busy, self.wall):
            each = zip(self._batches, seconds[name], seconds["torch.mm"], strict=True)
            shares.append(
                statistics.median(
                    self._work.of(batch, rank=RANK, sparse=sparse)
                    / self._work.of(batch, rank=RANK, sparse=True)
                    * products
                    / step
                    for batch, step, products in each
                )
            )
        tokens = [sum(len(one.tokens) for one in batch) for batch in self._batches]
        rate = statistics.median(n / s for n, s in zip(tokens, self.wall[name], strict=True))
        print(
            f"{name}: {shares[0]:.2f} of torch.mm's FLOP/s, by the clock {shares[1]:.2f}{bar}; "
            f"{rate:.0f} tokens/s; tensors of W's size saved for backward: {saved}"
        )


def _copied(lm: LanguageModel) -> LanguageModel:
    again = copy.copy(lm)
    again.model = copy.deepcopy(lm.model)
    return again


def _timed(step: Callable[[Batch], None], batch: Batch) -> tuple[float, float]:
    begun = time.perf_counter(), time.process_time()
    step(batch)
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def _count_memory_of_mask(lm: LanguageModel, row: int, batch: Batch) -> None:
    """Print how much more lives while a mask is chosen than in a step, in largest gradients."""
    ours = Ours(lm, row)
    with Live() as masking:
        ours.choose_masks(batch)
    ours.step(batch)
    with Live() as stepping:
        ours.step(batch)
    largest = max(one.in_features * one.out_features for one in ours.rosa.layers.values()) * 4
    more = (masking.peak - stepping.peak) / largest
    print(
        f"memory while the mask is chosen: {masking.peak / 2**20:.0f} MiB of tensors, in a step "
        f"{stepping.peak / 2**20:.0f}: {more:+.1f} fp32 gradients of the largest layer; bar 1"
    )


def _count_positions(ours: Ours, mails: Batch, chosen: argparse.Namespace) -> None:
    """Print how much of what is computed is mail: packed, padded to the longest, and to 512."""
    real = sum(len(one.tokens) for one in mails)
    computed, longest = 0, 0
    for first in range(0, len(mails), chosen.batch):
        batch = mails[first : first + chosen.batch]
        rows = ours.objective.rows(batch, chosen.row)
        computed += sum(sum(ours.objective.lengths(row)) for row in rows)
        longest += len(batch) * max(len(one.tokens) for one in batch)
    print(
        f"real of computed positions: {real / computed:.3f}; bar 0.95 (padded to the longest of a "
        f"batch {real / longest:.2f}, to {PADDED} {real / PADDED / len(mails):.2f})"
    )


def memory(chosen: argparse.Namespace) -> None:
    """Print the peaks of two processes, ours with its mask and PEFT's LoRA."""
    peaks = {}
    for side in ("ours", "lora"):
        words = [sys.executable, __file__, "--memory-of", side, "--cache", str(chosen.cache)]
        words += ["--model", chosen.model, "--precision", chosen.precision]
        words += ["--row", str(chosen.row), "--batch", str(chosen.batch)]
        if chosen.mbox:
            words += ["--mbox", str(chosen.mbox), "--address", chosen.address]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
        peaks[side] = json.loads(done.stdout.splitlines()[-1])
    ratio = peaks["ours"] / peaks["lora"]
    print(
        f"peak memory: our RoSA {peaks['ours'] / 2**20:.0f} MiB, PEFT's LoRA "
        f"{peaks['lora'] / 2**20:.0f}: {ratio:.2f}; bar 1.15"
    )


def peak_of(side: str, lm: LanguageModel, row: int, batches: Sequence[Batch]) -> int:
    """Train a little and return the largest resident set that this process ever had, in bytes."""
    if side == "ours":
        ours = Ours(lm, row)
        ours.choose_masks(batches[0])
        step = ours.step
    else:
        head = lm.model.get_output_embeddings()
        linear = [n for n, m in lm.model.named_modules() if isinstance(m, torch.nn.Linear)]
        names = [n for n in linear if lm.model.get_submodule(n) is not head]
        step = Peer(lm, row, lora(names)).step
    for batch in batches:
        step(batch)
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
