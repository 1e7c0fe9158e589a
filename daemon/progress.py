"""Progress on standard error, where somebody watches it."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import TaskID

_PACE = 1.0  # seconds


class Progress(Protocol):
    """Told how far a piece of work has come."""

    def __call__(self, what: str, done: int, total: int | None, /) -> None:
        """Say that ``done`` of ``total`` are done; ``total`` is None where it is not known."""


def silent(_what: str, _done: int, _total: int | None, /) -> None:
    """Show nothing."""


def paced(report: Progress, *, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Pass on what is new at once, and of one kind of work no more than a word a second."""
    said, at = "", 0.0

    def progress(what: str, done: int, total: int | None, /) -> None:
        nonlocal said, at
        if what != said or clock() - at >= _PACE:
            said, at = what, clock()
            report(what, done, total)

    return progress


@contextlib.contextmanager
def shown() -> Iterator[Progress]:
    """Show a bar for each kind of work while the block runs; nothing where no terminal is."""
    if not sys.stderr.isatty():
        yield silent
        return
    # Here and not above: rich takes a while to import, and is not needed where nobody watches.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:

        def report(what: str, done: int, total: int | None, /) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report
