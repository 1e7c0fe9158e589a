"""Playback: whether the instructions carry what the mails tell, by who made them.

    .venv/bin/python tests/bench/playback.py --mbox sent.mbox --address jen@example.org \
        [--emails 100] [--model embedded] [--show 0]

The newest mails of an mbox go through playback as a training runs it. For each source ("model" by
the order alone, "few_shot" with examples, "extractive" without a model) it prints how many
instructions it made, how long they are, and which of the mails' facts they carry: of all (micro),
the mean of the mails' shares (macro), and the mails of which none is lost. A fact counts as carried
when it is in the instruction, or beside it in the prompt (the recipients, an answer's subject);
"by itself" leaves out what is beside. A copy has more than eight words in a row from its mail, or
three in four of its runs of four words; there must be none.

Since the extractive form looks for facts by the same rules, a cruder count stands beside it: every
word with a digit, and every word with a capital that the mails never write small ("Secondly" too).

Then come the cosines of instructions with their own mails and with others, between which the check
of what a model writes draws its line. `--show 5` prints five instructions of each source; they
quote mail.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from daemon import accounts, material, sync
from daemon.config import Account
from daemon.store import Store
from trainer import base_model, embedding, generate, playback
from trainer.check import COPIED, MAX_RUN, NEAR, longest_run, overlap
from trainer.corpus import letter, words
from trainer.recall import beside, held, lost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.corpus import SentMail
    from trainer.playback import Instruction

KINDS = ("name", "date", "number", "link")


class Memory(dict[tuple[str, str], "Instruction"]):
    """Playback's cache, empty at the start."""

    def get(self, key: str, version: str) -> Instruction | None:  # type: ignore[override]
        """Return what is kept."""
        return super().get((key, version))

    def put(self, version: str, made: Mapping[str, Instruction]) -> None:
        """Keep instructions."""
        self.update({(key, version): one for key, one in made.items()})


def main() -> None:
    """Run the bench once and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mbox", type=Path)
    options.add_argument("--address", default="owner@example.org")
    options.add_argument("--emails", type=int, default=100)
    options.add_argument("--model", default="embedded", help='"none": the extractive form alone')
    options.add_argument("--show", type=int, default=0)
    chosen = options.parse_args()
    if chosen.mbox is None:
        print("skipped: lacks an mbox of sent mail; name one with --mbox and --address")
        return
    with tempfile.TemporaryDirectory(prefix="panza-bench-") as folder:
        mails = read(chosen.mbox, chosen.address, Path(folder), chosen.emails)
        encoder = embedding.load()
        made = played(mails, chosen.model, encoder, Path(folder))
    counted = playback.counts(made.values())
    print(f"{len(mails)} mails: " + ", ".join(f"{n} {name}" for name, n in counted.items()))
    for source in get_args(playback.Source):
        theirs = [(made[mail.key].text, mail) for mail in mails if made[mail.key].source == source]
        if theirs:
            report(source, theirs)
            for text, mail in theirs[: chosen.show]:
                print(f"    {text}\n      <- {' '.join(mail.text.split())[:200]}")
    texts = [made[mail.key].text for mail in mails]
    crudely(texts, mails, show=bool(chosen.show))
    cosines(texts, mails, encoder)


def read(mbox: Path, address: str, folder: Path, emails: int) -> list[SentMail]:
    """Return the newest so many mails that a training would use."""
    account = Account(name="bench", address=address, full_name="Owner", archives=(mbox.absolute(),))
    with Store(folder) as store, accounts.opened(account, folder) as sources:
        sync.sync(account, sources, store)
        mails, _ = material.corpus(store.mails(), newest=emails)
    return mails


def played(
    mails: Sequence[SentMail], name: str, encoder: embedding.Embedder, cache: Path
) -> dict[str, Instruction]:
    """Return the mails' instructions, and print how long they took."""
    lm = None if name == "none" else base_model.load(name, cache=cache)
    complete = partial(generate.complete, lm) if lm else None
    started, asked = time.perf_counter(), Counter[str]()

    def counted(conversations: Sequence[list[dict[str, str]]], most: int) -> list[str]:
        asked["with examples" if len(conversations[0]) > 1 else "by the order"] += len(
            conversations
        )
        return complete(conversations, most) if complete else []

    run = playback.Playback(Memory(), counted if lm else None, name, encoder.embed)
    made = run.instructions(mails)
    seconds = time.perf_counter() - started
    print(f"{name}: {seconds:.0f} s, the model was asked {dict(asked) or 'nothing'}")
    return made


def report(source: str, made: Sequence[tuple[str, SentMail]]) -> None:
    """Print one source's figures."""
    lengths = [len(words(text)) for text, _ in made]
    runs = [longest_run(text, mail.text) for text, mail in made]
    overlaps = [overlap(text, mail.text) for text, mail in made]
    copies = sum(
        run > MAX_RUN or share >= COPIED for run, share in zip(runs, overlaps, strict=True)
    )
    print(
        f"{source}: {len(made)}, {np.mean(lengths):.1f} words in the mean and {max(lengths)} at "
        f"most, longest run from the mail {max(runs)}, overlap {np.mean(overlaps):.2f} in the mean "
        f"and {max(overlaps):.2f} at most, {copies} copies"
    )
    for alone in (False, True):
        print("  by itself:" if alone else "  with what is beside it:")
        told = [
            (
                Counter(fact.kind for fact in held(letter(mail.text).body, mail.language)),
                Counter(fact.kind for fact in lost(text, mail, alone=alone)),
            )
            for text, mail in made
        ]
        for kind in KINDS:
            recall(f"{kind}s", [(all_[kind], gone[kind]) for all_, gone in told])
        recall("all", [(all_.total(), gone.total()) for all_, gone in told])


def recall(name: str, counts: Sequence[tuple[int, int]]) -> None:
    """Print the share of facts that are carried, of mails that hold any."""
    some = [(total, gone) for total, gone in counts if total]
    if not some:
        print(f"    {name:>8}: none")
        return
    facts = sum(total for total, _ in some)
    micro = 1 - sum(gone for _, gone in some) / facts
    macro = np.mean([1 - gone / total for total, gone in some])
    whole = sum(not gone for _, gone in some)
    print(
        f"    {name:>8}: {facts} in {len(some)} mails, micro {micro:.3f}, macro {macro:.3f}, "
        f"all of them in {whole} ({whole / len(some):.3f})"
    )


def crudely(texts: Sequence[str], mails: Sequence[SentMail], *, show: bool) -> None:
    """Print how many words are lost that may be facts, by rules that playback does not have."""
    small = set(re.findall(r"[^\W\d_A-Z][\w'-]+", " ".join(mail.text for mail in mails)))
    total, missing = 0, list[str]()
    for text, mail in zip(texts, mails, strict=True):
        told = set(bare(" ".join((text, *beside(mail)))))
        likely = [
            word
            for word in bare(letter(mail.text).body)
            if any(map(str.isdigit, word)) or (word[0].isupper() and word.casefold() not in small)
        ]
        total += len(likely)
        missing += [word for word in likely if word not in told]
    print(f"counted crudely: {total} words, {len(missing)} not in the instructions")
    if show:
        print("    " + " ".join(missing))


def bare(text: str) -> list[str]:
    """Return the words of a text without what follows an apostrophe, "I" and the ends of links."""
    found = [re.split(r"['\u2019]", word)[0].rstrip(".,:;") for word in words(text)]
    return [word for word in found if word not in {"", "I"}]


def cosines(texts: Sequence[str], mails: Sequence[SentMail], encoder: embedding.Embedder) -> None:
    """Print how near instructions are to their own mails and to the others'."""
    products = encoder.embed(texts) @ encoder.embed([mail.text for mail in mails]).T
    own = np.diag(products)
    others = products[~np.eye(len(mails), dtype=bool)]
    print(
        f"cosine with the own mail: 5 % below {np.percentile(own, 5):.2f}, median "
        f"{np.median(own):.2f}; with another's: median {np.median(others):.2f}, 5 % above "
        f"{np.percentile(others, 95):.2f}; at {NEAR} {np.mean(own >= NEAR):.3f} of the own and "
        f"{np.mean(others >= NEAR):.3f} of the others pass"
    )


if __name__ == "__main__":
    main()
