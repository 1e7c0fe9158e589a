"""A real llama.cpp over a GGUF file: what it reads in a text, and what it thinks comes next."""

from __future__ import annotations

import json
import urllib.request
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MISSING = "" if find_spec("xllamacpp") else "the package xllamacpp: pip install xllamacpp"


class LlamaCpp:
    """llama.cpp in this process, answering on loopback as its own server does."""

    def __init__(self, file: Path, *, context: int = 256) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx = context
        params.n_parallel = 1
        params.n_gpu_layers = 0
        params.warmup = False
        params.verbosity = -1
        for cpu in (params.cpuparams, params.cpuparams_batch):
            cpu.n_threads = 1
        self._server = xllamacpp.Server(params)

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Return the tokens of a text; ``special`` adds what the model wants before and behind."""
        answer = self._ask("/tokenize", {"content": text, "add_special": special})
        return [int(token) for token in answer["tokens"]]

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of some tokens."""
        return str(self._ask("/detokenize", {"tokens": list(tokens)})["content"])

    def write(self, prompt: Sequence[int], count: int) -> list[int]:
        """Return the likeliest tokens behind a prompt, each with those before it."""
        wanted = {"prompt": list(prompt), "n_predict": count, "temperature": 0}
        answer = self._ask("/completion", wanted | {"return_tokens": True})
        return [int(token) for token in answer["tokens"]]

    def log_probabilities(
        self, prompt: Sequence[int], token: int, count: int, vocabulary: int
    ) -> torch.Tensor:
        """Return what it thinks of all tokens behind a prompt and behind each of some more tokens.

        Args:
            prompt: The tokens to begin with.
            token: What it is made to write behind them, again and again.
            count: How often, plus one.
            vocabulary: How many tokens the model knows.

        Returns:
            Natural logarithms, of shape (count, vocabulary).
        """
        wanted = {
            "prompt": list(prompt),
            "n_predict": count,
            "temperature": 0,
            "n_probs": vocabulary,  # of the model's own logits, before the next line
            "logit_bias": [[token, 1000.0]],
        }
        steps = self._ask("/completion", wanted)["completion_probabilities"]
        assert [step["id"] for step in steps] == [token] * count
        table = torch.empty(count, vocabulary)
        for row, step in zip(table, steps, strict=True):
            ids = torch.tensor([one["id"] for one in step["top_logprobs"]])
            row[ids] = torch.tensor([float(one["logprob"]) for one in step["top_logprobs"]])
        return table

    def _ask(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - loopback
            self._server.listening_address + path,
            json.dumps(question).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
        return found
