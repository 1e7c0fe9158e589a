"""How good drafts are: the base model, the same with five mails in its prompt, and the adapter.

    .venv/bin/python tests/bench/quality.py --mbox sent.mbox --address jen@example.org \
        --name "Jen Doe" [--seeds 3] [--epochs 5] [--emails 1000] [--keep FOLDER]

Syncs the mbox and trains on it once for each seed, by the code of `panza sync` and `panza train`
and with the settings of panza.yaml; instructions and embeddings are made once. All is then judged
as a training judges, but by every held-out mail, the newest fifth, which is never trained on and
never retrieved, and by the fifty instructions without sense and the fifty with sense of
`trainer.refusal`. Prints a table in Markdown, the mean over the seeds and the range, and which of
the aims are met.

With --keep the mailbox, the adapters and the figures stay in a folder: called again with the same,
only what is missing is done. --nonsense takes fewer of the hundred instructions, for a trial.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from daemon import accounts, config, sync, training
from daemon.columns import BASE, CANDIDATE, FEW_SHOT, SHOTS, Examiner, Trial
from daemon.material import Material, corpus
from daemon.progress import shown
from daemon.store import Store
from trainer.adapters import Registry
from trainer.corpus import split
from trainer.refusal import NONSENSE, SOUND
from trainer.style import Habits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daemon.config import Config
    from daemon.progress import Progress

_COLUMNS = {"base": "base model", "few_shot": "five mails in the prompt", "candidate": "adapter"}

Values = dict[str, dict[str, list[float]]]  # by column and score, one for each seed
Kept = dict[str, Any]


def main() -> None:
    """Run the bench and print its table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mbox", type=Path)
    options.add_argument("--address", default="owner@example.org")
    options.add_argument("--name", default="")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--epochs", type=int, default=5)
    options.add_argument("--emails", type=int, default=1000)
    options.add_argument("--nonsense", type=int, default=len(NONSENSE))
    options.add_argument("--keep", type=Path)
    chosen = options.parse_args()
    if chosen.mbox is None:
        print("skipped: lacks an mbox of sent mail; name one with --mbox and --address")
        return
    with ExitStack() as stack:
        folder = chosen.keep
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="panza-bench-")))
        settings = configured(folder.absolute(), chosen)
        with shown() as progress:
            trainings = [trained(settings, seed, progress) for seed in range(chosen.seeds)]
            columns = judged(settings, chosen.seeds, chosen.nonsense, progress)
    print(report(trainings, columns))


def configured(folder: Path, chosen: argparse.Namespace) -> Config:
    """Write the bench's panza.yaml, and read it as any other."""
    content = {
        "data": str(folder),
        "accounts": [
            {
                "name": "bench",
                "address": chosen.address,
                "full_name": chosen.name,
                "archives": [str(chosen.mbox.absolute())],
            }
        ],
        # Drafts come later, and more of them.
        "training": {"epochs": chosen.epochs, "emails": chosen.emails, "drafts": 0},
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "panza.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return config.load(file)


def trained(settings: Config, seed: int, progress: Progress) -> Kept:
    """Return what `panza train` came to with a seed; its adapter is then in a folder of its own."""
    account = settings.accounts[0]
    home = settings.folder(account)

    def train() -> Kept:
        with Store(home) as store:
            with accounts.opened(account, home) as sources:
                sync.sync(account, sources, store, progress)
            done = training.train(settings, account, store, progress=progress, seed=seed)
        # Aside, so that the next seed begins with no adapter in use as well.
        training.adapters_folder(settings, account).folder.rename(home / f"adapters-{seed}")
        return asdict(done)

    return kept(home / f"training-{seed}.json", train)


def judged(settings: Config, seeds: int, nonsense: int, progress: Progress) -> list[Kept]:
    """Return the scores of the base model, of the same with five mails, and of each adapter."""
    account = settings.accounts[0]
    home = settings.folder(account)
    with Store(home) as store:
        mails, _ = corpus(store.mails(), newest=settings.training.emails)
        parts = split(mails)
        material = Material.prepared(
            settings, account, store, mails, held_out=parts.held_out, progress=progress
        )
        trial = Trial(parts.held_out, parts.held_out, NONSENSE[:nonsense], SOUND[:nonsense])
        examiner = Examiner(material, trial, Habits.of(parts.train), progress)

        def plain(name: str, emails: int) -> Kept:
            examples = material.examples(trial.mails, emails)
            return dict(examiner.column(name, examples, emails).figures())

        def adapted(seed: int) -> Kept:
            registry = Registry(home / f"adapters-{seed}")
            rosa = registry.load(registry.ids()[-1], material.lm)
            emails = settings.retrieval.emails
            examples = material.examples(trial.mails, emails)
            try:
                return dict(examiner.column(CANDIDATE, examples, emails, rosa).figures())
            finally:
                rosa.unload()

        return [
            kept(home / "base.json", lambda: plain(BASE, 0)),
            kept(home / "few-shot.json", lambda: plain(FEW_SHOT, SHOTS)),
            *(kept(home / f"seed-{seed}.json", partial(adapted, seed)) for seed in range(seeds)),
        ]


def kept(file: Path, make: Callable[[], Kept]) -> Kept:
    """Return what is in a file, made and written there where it is not."""
    if not file.exists():
        started = time.monotonic()
        made = make()
        file.write_text(json.dumps(made), encoding="utf-8")
        sys.stderr.write(f"{file.stem}: {time.monotonic() - started:.0f} s\n")
    found: Kept = json.loads(file.read_text(encoding="utf-8"))
    return found


# --- the table --------------------------------------------------------------------------------


def report(trainings: Sequence[Kept], columns: Sequence[Kept]) -> str:
    """Return the table of all seeds and the aims, as Markdown."""
    values: Values = {column: {} for column in _COLUMNS}
    for column, figures in zip(
        [BASE, FEW_SHOT, *[CANDIDATE] * len(trainings)], columns, strict=True
    ):
        for score, value in figures.items():
            values[column].setdefault(score, []).append(value)
    first = trainings[0]
    heading = (
        f"{first['examples']} mails to learn from, {first['held_out']} to judge by, "
        f"instructions {first['instructions']}, {len(trainings)} seeds"
    )
    lines = [
        heading,
        "",
        f"| | {' | '.join(_COLUMNS.values())} |",
        f"|---|{'---|' * len(_COLUMNS)}",
    ]
    for score in values[CANDIDATE]:
        cells = [told(values[column].get(score, [])) for column in _COLUMNS]
        lines.append(f"| {score} | {' | '.join(cells)} |")
    lines += ["", "| aim | | |", "|---|---|---|", *aims(values), ""]
    for seed, one in enumerate(trainings):
        memory = one["peak_memory_bytes"] / 2**30
        lines.append(
            f"- seed {seed}: epoch {one['epoch']} of {len(one['hold_out'])}, "
            f"{one['seconds']:.0f} s, {memory:.1f} GiB, {one['verdict']}"
        )
    return "\n".join(lines)


def told(values: Sequence[float]) -> str:
    """Return a mean, and the range where there is one."""
    if not values:
        return "-"
    low, high, mean = min(values), max(values), statistics.mean(values)
    return f"{mean:.3f}" if low == high else f"{mean:.3f} ({low:.3f} to {high:.3f})"


def aims(values: Values) -> list[str]:
    """Return a row for each aim: what it is, the mean, whether it is met by the mean."""
    ours = {score: statistics.mean(all_of_it) for score, all_of_it in values["candidate"].items()}
    base, shots = (
        {score: statistics.mean(all_of_it) for score, all_of_it in values[column].items()}
        for column in ("base", "few_shot")
    )
    rows: list[tuple[str, str, Callable[[float], bool]]] = [
        ("perplexity below the base model's", "perplexity", lambda x: x < base["perplexity"]),
        ("perplexity below few-shot's", "perplexity", lambda x: x < shots["perplexity"]),
        ("BLEU above both", "bleu", lambda x: x > max(base["bleu"], shots["bleu"])),
        ("ROUGE-L above both", "rouge_l", lambda x: x > max(base["rouge_l"], shots["rouge_l"])),
        ("closing match at least 0.8", "closing", lambda x: x >= 0.8),
        ("length ratio 0.8 to 1.25", "length_ratio", lambda x: 0.8 <= x <= 1.25),
        ("nonsense refused at least 0.8", "refused_nonsense", lambda x: x >= 0.8),
        ("sense refused at most 0.05", "refused_sense", lambda x: x <= 0.05),
        (
            "facts invented below few-shot's",
            "facts_invented",
            lambda x: x < shots["facts_invented"],
        ),
    ]
    return [
        f"| {name} | {ours[score]:.3f} | {'met' if holds(ours[score]) else '**missed**'} |"
        for name, score, holds in rows
    ]


if __name__ == "__main__":
    main()
