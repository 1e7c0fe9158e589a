"""The command line: what was typed becomes a call, and its outcome text or JSON.

What a command prints for its user goes to standard output; progress, notes and faults go to
standard error. Whatever a command needs is imported when it is called, so that `panza status` and
`panza check` start at once.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daemon import arguments
from daemon.errors import FAILED, advice

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command came to.

    Attributes:
        data: What ``--json`` prints; None for a command that has printed all there is itself.
        text: What is printed without ``--json``.
        exit_code: What the process ends with.
        notes: Sentences for standard error.
    """

    data: dict[str, Any] | None
    text: str = ""
    exit_code: int = 0
    notes: Sequence[str] = field(default=())


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        words: What stands behind ``panza``; what the process was called with by default.
    """
    options = arguments.parser().parse_args(words)
    # On a machine that others use too, threads that spin while they wait for each other make a
    # training several times slower than threads that sleep. libgomp reads this once, with torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(
        level=logging.INFO if options.debug else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    try:
        outcome = _handler(options)(options)
        _print(outcome, as_json=options.json)
    except BrokenPipeError:
        # The reader of our output, `head` for example, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place that tells faults
        return _fault(error, options)
    return outcome.exit_code


def _handler(options: argparse.Namespace) -> Callable[[argparse.Namespace], Outcome]:
    module = importlib.import_module(options.module)
    handler: Callable[[argparse.Namespace], Outcome] = getattr(module, options.command)
    return handler


def _print(outcome: Outcome, *, as_json: bool) -> None:
    for note in outcome.notes:
        print(note, file=sys.stderr)
    if outcome.data is None:
        return
    if as_json:
        print(json.dumps(outcome.data, ensure_ascii=False, default=str))
    elif outcome.text:
        print(outcome.text)
    sys.stdout.flush()


def _fault(error: BaseException, options: argparse.Namespace) -> int:
    if options.debug:
        traceback.print_exception(error)
    told = advice(error)
    if options.json:
        print(told.json())
    print(f"panza: {told}", file=sys.stderr)
    return told.exit_code
