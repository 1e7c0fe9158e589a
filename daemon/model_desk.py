"""What needs the models in memory: writing and embedding, one job after the other."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from daemon import config as configuration
from daemon import protocol
from daemon.accounts import chosen
from daemon.notify import notify
from daemon.store import Store

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from daemon.models import Models
    from daemon.progress import Progress


class Desk:
    """Does the jobs of one thread; nothing here may be called from two.

    Configuration and adapter are looked at anew for each draft, so a training or a change of
    panza.yaml counts from the next draft on.

    Args:
        file: The configuration file, None for the usual places.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._models: Models | None = None

    def do(
        self,
        request: protocol.Write | protocol.Embed,
        progress: Progress,
        stopped: threading.Event,
    ) -> dict[str, Any]:
        """Do one job; return its result.

        Args:
            request: The job.
            progress: Told how far it is, before anything else that it is begun.
            stopped: Set when nobody wants the result any more.

        Raises:
            daemon.errors.GpuLostError: This process is of no further use.
            Exception: Whatever the job meets.
        """
        progress("loading the model", 0, None)
        # Here, for it imports torch: that takes seconds, and the process shall be ready before.
        from daemon.models import Models, translated

        self._models = self._models or Models()
        try:
            with translated():
                if isinstance(request, protocol.Embed):
                    return _embed(self._models, request)
                return self._write(self._models, request, progress, stopped)
        except MemoryError:
            self.forget()
            raise

    def forget(self) -> None:
        """Give the models' memory back."""
        if self._models:
            self._models.forget()

    def _write(
        self,
        models: Models,
        request: protocol.Write,
        progress: Progress,
        stopped: threading.Event,
    ) -> dict[str, Any]:
        from daemon.writer import Writer

        config = configuration.load(self._file)
        account = chosen(config, request.account)
        pieces = 0

        def stream(_piece: str) -> None:
            nonlocal pieces
            pieces += 1
            if stopped.is_set():
                raise InterruptedError
            progress("writing", pieces, None)

        with Store(config.folder(account), read_only=True) as store:
            writer = Writer(config, account, store, models=models)
            # A unit that hides the GPU hides it without a word.
            notify(f"STATUS=writes with {writer.adapter} on {writer.lm.device}")
            return protocol.draft_fields(writer.write(request.brief, stream))


def _embed(models: Models, request: protocol.Embed) -> dict[str, Any]:
    embedder = models.embedder()
    vectors = embedder.embed(request.texts)
    coded = [base64.b64encode(one.tobytes()).decode("ascii") for one in vectors]
    return {"hash": embedder.hash, "vectors": coded}
