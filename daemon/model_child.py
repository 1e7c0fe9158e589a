"""Long jobs in a process of their own: a training, a playback, an evaluation.

It has the lowest priority, so that drafts are written meanwhile, and what ends it, be it the lack
of memory or a fault of the GPU, ends nothing else. `daemon.model_job` is its other end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from daemon import protocol
from daemon.kernel import ending

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable
    from pathlib import Path

_GRACE = 1.5  # seconds for a training to reach the end of a step and keep what it has


async def run(
    request: protocol.Request, file: Path | None, say: Callable[[str, Any], None]
) -> tuple[str, Any]:
    """Do a job in a new process; cancelled, end it.

    Args:
        request: The job.
        file: The configuration file, None for the usual places.
        say: Takes each line of its answer but the last, as key and value.

    Returns:
        Key and value of the last line of the answer.
    """
    given = [str(file)] if file else []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "daemon.model_job", str(os.getpid()), *given),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=protocol.MAX_LINE,
        process_group=0,  # and no session, see `kernel.work_in_background`
    )
    try:
        return await _answered(process, request, say)
    finally:
        await _end(process)


async def _answered(
    process: Process, request: protocol.Request, say: Callable[[str, Any], None]
) -> tuple[str, Any]:
    if process.stdin is None or process.stdout is None:
        raise AssertionError("both are pipes")
    process.stdin.write(request.line())
    process.stdin.close()
    last: tuple[str, Any] | None = None
    async for line in process.stdout:
        if last:
            say(*last)
        last = protocol.answer(line) if line.endswith(b"\n") else None
    code = await process.wait()
    if last and last[0] in {"result", "error"}:
        return last
    return "died", ending(code)


async def _end(process: Process) -> None:
    """End the process with all that it may have started."""
    for number, seconds in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, None)):
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), seconds)
