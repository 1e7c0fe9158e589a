"""Whose words are whose: exact hits of our cleaning and of other libraries' on the same replies.

    python3 -m venv /tmp/peers
    /tmp/peers/bin/pip install quotequail mail-parser-reply talon
    .venv/bin/python tests/bench/cleaning.py --peers /tmp/peers/bin/python

The replies are those of tests/connectors/replies.yaml that have a plain text. A hit is the
writer's own words and nothing else, white space aside; for the libraries what stands below two
dashes is cut as well, for most of them leave that to others. Without ``--peers``, or for a library
that is not installed there, only the others stand in the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from connectors.mail import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

_REPLIES = Path(__file__).parents[1] / "connectors/replies.yaml"
_PARSERS = Path(__file__).parent / "support/reply_parsers.py"


def main() -> None:
    """Run the bench once and print its table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--peers", help="the Python of an environment that has the libraries")
    options.add_argument("--errors", action="store_true", help="print what each got wrong")
    chosen = options.parse_args()
    known = yaml.safe_load(_REPLIES.read_text(encoding="utf-8"))
    cases = [case for case in known if "text" in case]
    texts = [case["text"] for case in cases]
    started = time.perf_counter()
    answers = {"Panza": list(map(ours, texts))}
    seconds = time.perf_counter() - started
    if chosen.peers:
        answers |= theirs(chosen.peers, texts)
    hits = {
        name: [same(case["own"], said) for case, said in zip(cases, said_by, strict=True)]
        for name, said_by in answers.items()
    }
    table([case["group"] for case in cases], hits)
    print(f"\nPanza: {len(cases) / seconds:.0f} replies a second, headers and MIME included")
    for name, right in hits.items() if chosen.errors else ():
        wrong = [f"{c['group']}: {c['name']}" for c, r in zip(cases, right, strict=True) if not r]
        print(f"\n{name}: {len(wrong)} errors", *wrong, sep="\n  ")


def ours(text: str) -> str:
    """Return what Panza takes for the writer's own words."""
    return parse(f"Content-Type: text/plain; charset=utf-8\n\n{text}".encode()).text


def theirs(python: str, texts: Sequence[str]) -> dict[str, list[str]]:
    """Return what the libraries take for it, two dashes and what is below cut off."""
    done = subprocess.run(  # noqa: S603 - the environment that was named on the command line
        [python, str(_PARSERS)],
        input=json.dumps(list(texts)),
        stdout=subprocess.PIPE,
        check=True,
        encoding="utf-8",
    )
    said: dict[str, list[str]] = json.loads(done.stdout)
    return {
        name: [f"\n{own}".partition("\n-- \n")[0] for own in owns] for name, owns in said.items()
    }


def same(wanted: str, said: str) -> bool:
    """Tell whether two texts are one, white space aside."""
    return wanted.split() == said.split()


def table(groups: Sequence[str], hits: dict[str, list[bool]]) -> None:
    """Print exact hits by group and by library."""
    width = max(map(len, hits))
    names = list(dict.fromkeys(groups))
    print(" " * width, *(f"{name:>10}" for name in names), f"{'all':>10}")
    for library, right in hits.items():
        placed = list(zip(groups, right, strict=True))
        cells = [f"{placed.count((name, True))}/{groups.count(name)}" for name in names]
        cells.append(f"{sum(right)}/{len(right)}")
        print(f"{library:{width}}", *(f"{cell:>10}" for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
