"""Our RoSA beside the official peft-rosa: quality, speed, memory, files.

    .venv/bin/python tests/bench/official.py --python ENV/bin/python \
        --mbox sent.mbox --address jen@example.org [--seeds 3] [--sides ours peft-rosa lora]

Both train on the same mails in the same order, with the same loss, optimizer, rates, rank, density
and number of tokens, and are judged by the perplexity of the owner's own words in the newest fifth
of the mails. They take turns, a step each, in two processes: the ratio of their times holds on a
busy machine too, and that of the processor's seconds holds best. `lora` is our LoRA with at least
as many trained parameters as RoSA has, `sparse` our S alone with as many.

Each side chooses its mask as it is meant to: peft-rosa by its schedule ``wl16`` and by one batch of
gradients, a mail at a time, as PanzaMail does it, ours by `trainer.finetune`.

What peft-rosa needs and does (commit 810da6a): a CPU only in fp32, since spops adds S to W in fp32
there; eager attention and a dropout above 0 in its mask step, since its hooks write zeros over the
inputs that they have read. Layers that share an input, q, k and v, and gate and up, read these
zeros: the masks of q, k and gate are the first entries of these matrices.

The other environment, without a GPU (peft-rosa and spops as cloned from github.com/IST-DASLab; the
versions are the newest that peft-rosa runs with):

    python3.11 -m venv ENV
    ENV/bin/pip install torch==2.13.0 "numpy<2" transformers==4.38.2 accelerate==0.27.2 scipy \
        bitsandbytes==0.45.5 "setuptools<81" wheel ninja pybind11
    SPOPS_FORCE_CPU_ONLY=1 ENV/bin/pip install --no-build-isolation ./spops
    ENV/bin/pip install --no-deps -e ./peft-rosa
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from support.contest import Job, Mail

from connectors.base import MessageError, Role
from connectors.mail import Mail as Read
from connectors.mail import parse
from connectors.mbox import MboxConnector
from daemon.material import own_mails
from daemon.sync import reason_to_leave_out
from trainer import base_model
from trainer.corpus import SentMail, first_names, split, usable
from trainer.examples import example
from trainer.extractive import habits, instruct
from trainer.prompt import Ask

if TYPE_CHECKING:
    from trainer.base_model import LanguageModel

SUPPORT = Path(__file__).parent / "support"
LIMIT = 512  # tokens of one mail with its prompt, as PanzaMail has it
WARM = 3  # first steps whose times do not count


def main() -> None:
    """Run the bench and print its figures."""
    chosen = options().parse_args()
    if chosen.mbox is None or chosen.python is None:
        print("skipped: lacks an mbox of sent mail (--mbox) or a Python with peft-rosa (--python)")
        return
    os.environ["OMP_NUM_THREADS"] = str(chosen.threads)
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # one side must not spin while the other computes
    found: dict[str, list[Side]] = {name: [] for name in chosen.sides}
    with TemporaryDirectory(prefix="panza-bench-") as folder:
        cache = Path(folder)
        lm = base_model.load(chosen.model, cache=cache, precision="fp32", device="cpu")
        model = base_model.resolve(chosen.model, cache=cache)
        train, held_out = mails(chosen, lm)
        tokens = sum(len(mail.tokens) for mail in train) * chosen.epochs
        print(f"{len(train)} mails, {tokens} tokens in {chosen.epochs} epochs; ", end="")
        print(f"{len(held_out)} held out; {chosen.precision}, {chosen.threads} threads", flush=True)
        layers = shapes(lm)
        del lm
        for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
            job = Job(
                model=str(model),
                folder="",
                train=train,
                held_out=held_out,
                steps=order(len(train), chosen, seed),
                rank=8,
                alpha=16,
                dropout=chosen.dropout,
                density=0.01,
                precision=chosen.precision,
                lora_rate=chosen.lora_rate,
                sparse_rate=chosen.sparse_rate,
                warmup=8,
                epochs=chosen.epochs,
                batch=chosen.batch,
                seed=seed,
                micro=chosen.micro,
                mask_warmup=chosen.mask_warmup,
            )
            sides = [Side(name, chosen.python, shaped(name, job, layers), cache) for name in found]
            take_turns(sides)
            for side in sides:
                found[side.name].append(side)
                print(side.line(sides[0]), flush=True)
    for name, sides in found.items():
        values = [side.event("done")["perplexity"] for side in sides]
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        print(f"{name}: perplexity {statistics.mean(values):.3f}{spread}")


def options() -> argparse.ArgumentParser:
    """Return what the command line understands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", help="the Python of the environment with peft-rosa")
    parser.add_argument("--mbox", type=Path)
    parser.add_argument("--address", default="owner@example.org")
    parser.add_argument("--name", default="")
    parser.add_argument("--model", default="embedded")
    names = ("ours", "peft-rosa", "lora", "sparse")
    parser.add_argument("--sides", nargs="+", choices=names, default=names[:2])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--mails", type=int, default=1000, help="the newest so many")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--micro", type=int, default=8, help="mails that peft-rosa pads to a batch")
    parser.add_argument("--mask-warmup", type=int, default=16, help="steps of peft-rosa's")
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--lora-rate", type=float, default=2e-3)
    parser.add_argument("--sparse-rate", type=float, default=1e-3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser


@dataclass(slots=True)
class Side:
    """One side in its own process.

    Attributes:
        name: Which.
        events: What its turns came to.
    """

    name: str
    python: str
    job: Job
    folder: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        place = self.folder / f"{self.name}-{self.job.seed}"
        place.mkdir()
        file = place / "job.json"
        replace(self.job, folder=str(place)).write(file)
        official = self.name == "peft-rosa"
        script = SUPPORT / ("contest_peft_rosa.py" if official else "contest_ours.py")
        self.process = subprocess.Popen(  # noqa: S603 - the Python that the caller named
            [self.python if official else sys.executable, str(script), str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(place / "stderr").open("w", encoding="utf-8"),
            text=True,
        )
        self.listen()

    def turn(self) -> bool:
        """Let it go on to its next event; return whether there is more to come."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.listen()
        if self.events[-1]["event"] == "done":
            self.process.communicate()
            return False
        return True

    def listen(self) -> None:
        """Wait for its next event."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            log = Path(self.folder / f"{self.name}-{self.job.seed}" / "stderr")
            sys.exit(f"{self.name} has ended: {log.read_text(encoding='utf-8')[-2000:]}")
        self.events.append(json.loads(line))

    def event(self, name: str) -> dict[str, Any]:
        """Return its one event of a name, {} if it had none."""
        return next((event for event in self.events if event["event"] == name), {})

    def steps(self, what: str) -> list[float]:
        """Return the seconds, or the processor's, of each step but the first few."""
        return [event[what] for event in self.events if event["event"] == "step"][WARM:]

    def line(self, other: Side) -> str:
        """Return its figures, its times also as a share of another side's."""
        done, mask = self.event("done"), self.event("mask")
        counted = [len(self.job.train[i].tokens) for step in self.job.steps[WARM:] for i in step]
        parts = [
            f"{self.name}, seed {self.job.seed}: base {self.event('base')['perplexity']:.3f}",
            f"first loss {done['losses'][0]:.4f}",
            f"perplexity {done['perplexity']:.3f}",
            f"{sum(counted) / sum(self.steps('seconds')):.0f} tokens/s",
            *(f"{what} x{self.ratio(other, what):.2f}" for what in ("seconds", "cpu")),
            f"peak {done['memory'] / 2**20:.0f} MiB",
            f"adapter {done['bytes'] / 2**20:.2f} MiB",
        ]
        if mask:
            share = mask["mask"] / mask["lora"]
            parts.append(f"mask {mask['mask']:.1f} s of a processor = {share:.2f} LoRA steps")
            parts.append(f"{mask['memory'] / 2**20:+.0f} MiB, file {mask['bytes'] / 2**20:.2f} MiB")
        return "; ".join(parts)

    def ratio(self, other: Side, what: str) -> float:
        """Return the median of the ratios of its steps to another side's."""
        pairs = zip(self.steps(what), other.steps(what), strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def take_turns(sides: list[Side]) -> None:
    """Let the sides go on in turns until all are done."""
    going = list(sides)
    while going:
        going = [side for side in going if side.turn()]


def mails(chosen: argparse.Namespace, lm: LanguageModel) -> tuple[list[Mail], list[Mail]]:
    """Return the mails to learn from and those to be judged by, in tokens."""
    read, _ = usable(own_mails(list(sent(chosen.mbox, chosen.address))), newest=chosen.mails)
    known = habits(read)
    parts = split(read)

    def tokens(mail: SentMail) -> Mail:
        ask = Ask(instruct(mail, known), to=first_names(mail.to), owner=chosen.name)
        end = int(lm.tokenizer.eos_token_id)
        made = example(lm.tokenizer, "", ask, mail.subject, mail.text, end=end, limit=LIMIT)
        return Mail(list(made.tokens), made.learned, made.words)

    return [tokens(mail) for mail in parts.train], [tokens(mail) for mail in parts.held_out]


def sent(file: Path, address: str) -> list[Read]:
    """Return the mails of an mbox that the owner wrote herself."""
    found = []
    with MboxConnector(file) as mbox:
        for message in mbox.fetch(Role.SENT):
            try:
                mail = parse(message.raw, received=message.received)
            except MessageError:
                continue
            if not reason_to_leave_out(mail, frozenset({address})):
                found.append(mail)
    return found


def order(count: int, chosen: argparse.Namespace, seed: int) -> list[list[int]]:
    """Return the mails of each step: every epoch a new order, as `trainer.finetune` draws it."""
    dice = torch.Generator().manual_seed(seed)
    steps = []
    for _ in range(chosen.epochs):
        drawn = torch.randperm(count, generator=dice).tolist()
        steps += [drawn[i : i + chosen.batch] for i in range(0, count, chosen.batch)]
    return steps


def shapes(lm: LanguageModel) -> list[torch.Size]:
    """Return the shapes of the weights that are adapted."""
    head = lm.model.get_output_embeddings()
    linear = [one for one in lm.model.modules() if isinstance(one, torch.nn.Linear)]
    return [one.weight.shape for one in linear if one is not head]


def shaped(name: str, job: Job, layers: list[torch.Size]) -> Job:
    """Return a side's job; LoRA and S alone train as many parameters as RoSA, or a few more."""
    low, all_ = sum(a + b for a, b in layers), sum(a * b for a, b in layers)
    count = job.rank * low + sum(int(job.density * a * b) for a, b in layers)
    if name == "lora":
        rank = -(-count // low)
        return replace(job, rank=rank, alpha=job.alpha * rank / job.rank, density=0.0)
    return replace(job, rank=0, density=count / all_) if name == "sparse" else job


if __name__ == "__main__":
    main()
