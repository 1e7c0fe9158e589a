"""The process of one long job: `daemon.model_child` starts it, reads its lines and ends it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon import config as configuration
from daemon import kernel, offline, protocol
from daemon.accounts import chosen
from daemon.errors import GpuLostError, advice
from daemon.progress import paced
from daemon.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daemon.config import Account, Config
    from daemon.progress import Progress
    from daemon.store import Instruction
    from trainer.plan import Plan

    Say = Callable[[str, object], None]


_log = logging.getLogger(__name__)


class _EndedError(BaseException):
    """This process was told to end; like KeyboardInterrupt it is nobody's to handle."""


def main(arguments: list[str]) -> int:
    """Do the job that the first line of standard input asks for; return the exit code.

    Args:
        arguments: The id of the process that started this one, and the configuration file.
    """
    kernel.end_with_parent(signal.SIGKILL)
    if os.getppid() != int(arguments[0]):
        return 1  # it has ended already
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: ended.set())
    kernel.work_in_background()
    offline.enter()
    # What a library prints must not be taken for the protocol.
    lines = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def say(key: str, value: object) -> None:
        lines.write(protocol.line(key, value))

    file = Path(arguments[1]) if len(arguments) > 1 else None
    try:
        request = protocol.request(sys.stdin.buffer.readline())
        say("result", _done(request, configuration.load(file), say, ended))
    except (_EndedError, GpuLostError):
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, its advice is for the client
        _log.warning("the job failed: %s", type(error).__name__)
        say("error", asdict(advice(error)))
        return 1
    return 0


def _done(
    request: protocol.Request, config: Config, say: Say, ended: threading.Event
) -> dict[str, Any]:
    if isinstance(request, protocol.Write | protocol.Embed):
        raise protocol.ProtocolError(f"{request.do} is no job for a process of its own")
    account = chosen(config, request.account)
    progress = _telling(say, ended)
    progress("loading the model", 0, None)
    from daemon.models import translated

    with translated(), Store(config.folder(account), read_only=True) as store:
        if isinstance(request, protocol.Playback):
            return _play_back(config, store, request, say, progress)
        if isinstance(request, protocol.Train):
            return _train(config, account, store, request, progress)
        return _evaluate(config, account, store, request, progress)


def _play_back(
    config: Config, store: Store, request: protocol.Playback, say: Say, progress: Progress
) -> dict[str, Any]:
    from daemon import material

    made = 0

    def keep(version: str, batch: Mapping[str, Instruction]) -> None:
        nonlocal made
        made += len(batch)
        plain = {key: (one.text, one.source) for key, one in batch.items()}
        say("made", {"version": version, "instructions": plain})

    emails = request.emails or config.training.emails
    total = material.play_back_missing(config, store, emails, keep, progress)
    return {"made": made, "total": total}


def _train(
    config: Config, account: Account, store: Store, request: protocol.Train, progress: Progress
) -> dict[str, Any]:
    from daemon import training

    given = {"method": request.method, "emails": request.emails, "epochs": request.epochs}
    settled = training.overridden(config, given)

    def state(planned: Plan) -> None:
        progress(training.stated(planned), 0, None)

    return asdict(training.train(settled, account, store, progress=progress, state=state))


def _evaluate(
    config: Config, account: Account, store: Store, request: protocol.Evaluate, progress: Progress
) -> dict[str, Any]:
    from daemon import evaluating

    return asdict(
        evaluating.evaluate(
            config, account, store, adapter=request.adapter, mail=request.mail, progress=progress
        )
    )


def _telling(say: Say, ended: threading.Event) -> Progress:
    """Return what tells progress, and raises once this process shall end."""
    tell = paced(lambda *how_far: say("progress", how_far))

    def progress(what: str, done: int, total: int | None, /) -> None:
        if ended.is_set():
            raise _EndedError
        tell(what, done, total)

    return progress


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
