"""Speed and memory of the corpus: what a training makes of tens of thousands of sent mails.

    .venv/bin/python tests/bench/corpus.py [--mails 50000]

Invented mails go through `trainer.corpus.usable`, a quarter of them, a half and all; the time of a
processor for each should stay the same. One in ten is a copy of an earlier one with a word changed,
one in fifty holds a secret, one in a hundred is a copy to somebody else. At the end half of the
mails are one form that is filled in, half alike each time: what hashing by bands is slow at.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from support.letters import letters

from connectors.mail import parse
from trainer.corpus import SentMail, usable

if TYPE_CHECKING:
    from collections.abc import Sequence

_START = datetime(2015, 1, 1, tzinfo=UTC)


def main() -> None:
    """Run the bench once and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mails", type=int, default=50_000)
    count = options.parse_args().mails
    mails = invented(count)
    for size in (count // 4, count // 2, count):
        measure(f"{size} mails", mails[:size])
    for size in (count // 4, count // 2, count):
        measure(f"{size} mails, half of them forms", forms(mails[:size]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak memory of the process, the mails included: {peak} MiB")


def measure(name: str, mails: Sequence[SentMail]) -> None:
    """Print how long the corpus takes for these mails, and what it leaves out."""
    started, worked = time.perf_counter(), time.process_time()
    kept, left_out = usable(mails, newest=1000)
    seconds, busy = time.perf_counter() - started, time.process_time() - worked
    each = 1e6 * busy / len(mails)
    print(f"{name}: {seconds:.2f} s, {busy:.2f} s of a processor, {each:.0f} us each")
    print(
        f"  {len(kept)} kept, "
        + ", ".join(f"{number} {reason}" for reason, number in left_out.items()),
        flush=True,
    )


def invented(count: int) -> list[SentMail]:
    """Return mails that `support.letters` invents, some of them copied, mailed or with a secret."""
    chance = random.Random(7)
    found: list[SentMail] = []
    for number, raw in enumerate(letters(count)):
        read = parse(raw)
        mail = SentMail(
            key=read.content_hash,
            date=_START + timedelta(minutes=97 * number),
            to=tuple(one.name for one in read.to),
            subject=read.subject,
            text=read.text,
        )
        kind = chance.random()
        if kind < 0.1 and found:
            words = chance.choice(found).text.split(" ")
            words[chance.randrange(len(words))] = "otherwise"
            mail = replace(mail, text=" ".join(words))
        elif kind < 0.12:
            mail = replace(mail, text=f"{mail.text}\n\nThe door code is {number:04}.")
        elif kind < 0.13 and found:
            mail = replace(mail, text=found[-1].text, to=(f"Reader {number}",))
        found.append(mail)
    return found


def forms(mails: Sequence[SentMail]) -> list[SentMail]:
    """Return the mails, half of them replaced by one form that is filled in."""
    chance = random.Random(8)
    form = mails[0].text.split(" ")
    found = []
    for number, mail in enumerate(mails):
        filled = [f"word{chance.randrange(10**6)}" if not n % 8 else w for n, w in enumerate(form)]
        found.append(replace(mail, text=" ".join(filled)) if number % 2 else mail)
    return found


if __name__ == "__main__":
    main()
