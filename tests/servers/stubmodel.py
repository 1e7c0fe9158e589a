"""A stand-in for the model process: speaks its protocol, and writes the same words each time.

    with StubModel(folder) as model:
        ...  # PANZA_MODEL_SOCKET=model.path

For tests of what asks a model; those of the model process itself use the real one.
"""

from __future__ import annotations

import base64
import socketserver
import threading
from array import array
from typing import TYPE_CHECKING, Self

from daemon import protocol
from daemon.brief import Draft

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

VECTOR = base64.b64encode(array("f", [1.0, *[0.0] * 383]).tobytes()).decode()


class StubModel:
    """Answers on a Unix socket while the context lasts.

    Args:
        folder: Where the socket is made; its path must be short.

    Attributes:
        path: The socket.
        asked: The jobs that it was asked, in their order.
        held: Drafts are written and trainings done only while this is set.
        fault: What it answers to a training instead of a result, if anything.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "model.sock"
        self.asked: list[protocol.Request] = []
        self.held = threading.Event()
        self.held.set()
        self.fault: dict[str, object] | None = None
        self._server: _Server | None = None

    def answer(self, request: protocol.Request) -> bytes:
        """Return the last line that answers a request."""
        self.asked.append(request)
        if isinstance(request, protocol.Embed):
            vectors = [VECTOR] * len(request.texts)
            return protocol.line("result", {"hash": "stub", "vectors": vectors})
        if isinstance(request, protocol.Write):
            self.held.wait(60)
            draft = Draft(request.brief.subject or "Found", "Words of the stub.")
            return protocol.line("result", protocol.draft_fields(draft))
        if isinstance(request, protocol.Playback):
            return protocol.line("result", {"made": 0, "total": 0})
        self.held.wait(60)
        if self.fault:
            return protocol.line("error", self.fault)
        return protocol.line("result", {"adapter": "a", "promoted": True, "verdict": "in use"})

    def __enter__(self) -> Self:
        self._server = _Server(str(self.path), _Handler)
        self._server.model = self
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.held.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    model: StubModel

    def handle_error(self, _request: object, _address: object) -> None:
        """Keep quiet: whoever asked is gone, which is what some tests are about."""


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        """Answer the one request of a connection."""
        line = self.rfile.readline(protocol.MAX_LINE)
        if not line:
            return
        self.wfile.write(protocol.line("progress", ["at work", 0, None]))
        self.wfile.write(self.server.model.answer(protocol.request(line)))  # type: ignore[attr-defined]
