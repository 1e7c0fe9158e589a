"""Fixtures of the daemon's tests."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from connectors.mail import Address, Mail
from daemon.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

START = datetime(2024, 1, 1, 9, tzinfo=UTC)


class HashingEmbedder:
    """Texts that share words have near vectors; counts what it was asked."""

    def __init__(self, name: str = "hashing") -> None:
        self.hash = name
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the normalised sum of one pseudo-random direction for each word."""
        self.asked += texts
        return np.stack([self._one(text) for text in texts])

    def _one(self, text: str) -> NDArray[np.float32]:
        vector = np.full(384, 1e-3, dtype=np.float32)
        for word in re.findall(r"\w+", text.casefold()):
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
            vector += np.random.default_rng(seed).standard_normal(384).astype(np.float32)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture
def embedder() -> HashingEmbedder:
    """Return a small deterministic embedder."""
    return HashingEmbedder()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return an empty store, open for writing."""
    with Store(tmp_path / "account") as opened:
        yield opened


@pytest.fixture(scope="session")
def make_mail() -> Callable[..., Mail]:
    """Return a maker of mails as the parser gives them; each number is another mail."""

    def make(number: int = 0, **changes: object) -> Mail:
        fields: dict[str, object] = {
            "message_id": f"m{number}@example.org",
            "content_hash": hashlib.sha256(f"mail {number}".encode()).hexdigest(),
            "sender": Address("Jen Doe", "jen@example.org"),
            "to": (Address("Stew", "stew@example.org"),),
            "cc": (),
            "date": START + timedelta(days=number),
            "subject": f"Subject {number}",
            "in_reply_to": "",
            "references": (),
            "text": f"Hello Stew, this is mail number {number}. Jen",
            "answered": "",
            "automatic": False,
        }
        return Mail(**{**fields, **changes})  # type: ignore[arg-type]

    return make
