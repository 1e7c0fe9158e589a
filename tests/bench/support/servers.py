"""The tests' private Dovecot, for benches."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[2]))

from conftest import Dovecot

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def running_dovecot() -> Iterator[Dovecot]:
    """Run a Dovecot with one user and no mail."""
    base = Path(tempfile.mkdtemp(prefix="panza-dovecot-"))
    server = Dovecot(base)
    try:
        base.chmod(0o755)
        server.prepare()
        server.start()
        server.maildir = base / "mail" / server.user / "Maildir"
        yield server
    finally:
        server.crash()
        shutil.rmtree(base, ignore_errors=True)
