"""Memory and time of an export, and whether llama.cpp goes on with it as transformers does.

    PYTHONPATH=tests/servers .venv/bin/python tests/bench/export.py [--layers 2] [--tokens 32]

First a model of random weights with the layers of Mistral 7B, so many of them, in bf16: an adapter
on it is exported as a folder and as a GGUF file, each in a process of its own. Memory is what it
takes beyond the files that it maps. Then the embedded model, whole, with a random adapter: the
likeliest tokens behind a prompt of Panza's, in llama.cpp and in transformers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

import torch
from adapters import random_adapter
from llamacpp import MISSING, LlamaCpp
from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig

from trainer.base_model import gguf_file, resolve
from trainer.card import Origin
from trainer.export import export_folder
from trainer.gguf_export import export_gguf
from trainer.merging import Source
from trainer.prompt import Ask, encode
from trainer.rosa import load_rosa_model
from trainer.target import Target

_MISTRAL = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "sliding_window": None,
}
_WAYS = ("folder", "f16", "q8_0")


def main() -> None:
    """Run the bench once and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--layers", type=int, default=2)
    options.add_argument("--tokens", type=int, default=32)
    options.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        measured(chosen.one[0], Path(chosen.one[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = resolve("embedded", cache=folder / "cache")
        large(folder, base, chosen.layers)
        for way in _WAYS:
            words = [sys.executable, __file__, "--one", way, name]
            subprocess.run(words, check=True)  # noqa: S603
        if MISSING:
            print(f"skipped: lacks {MISSING}")
            return
        compared(folder, base, chosen.tokens)


def large(folder: Path, base: Path, layers: int) -> None:
    """Save a model of random weights, with the tokenizer of `base`, and an adapter."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = MistralConfig(vocab_size=len(tokenizer), num_hidden_layers=layers, **_MISTRAL)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder / "large")
    tokenizer.save_pretrained(folder / "large")
    random_adapter(model, folder / "large.safetensors")
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{size / 1e6:.0f} M weights in {layers} layers", flush=True)


def measured(way: str, folder: Path) -> None:
    """Export once; print what it took."""
    origin = Origin("large", "0" * 64, "random")
    source = Source(origin, folder / "large", adapter=folder / "large.safetensors")
    AutoTokenizer.from_pretrained(source.folder)  # what is imported by now is not the export's
    before, wall, cpu = anonymous(), time.monotonic(), time.process_time()
    with Peak() as peak:
        if way == "folder":
            export_folder(source, Target(folder / "out", replace=True))
        else:
            target = Target(folder / "out.gguf", replace=True)
            export_gguf(source, target, kind="f16" if way == "f16" else "q8_0")
    above, wall = (peak.bytes - before) / 2**20, time.monotonic() - wall
    cpu = time.process_time() - cpu
    print(
        f"{way}: {above:.0f} MiB above the {before / 2**20:.0f} MiB before; "
        f"{wall:.1f} s, {cpu:.1f} s of processors",
        flush=True,
    )


class Peak:
    """The most memory that this process has while a block runs.

    Attributes:
        bytes: So many, files that are mapped not counted.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._watch.start()
        return self

    def __exit__(self, *details: object) -> None:
        """Stop looking."""
        self._ended.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            self.bytes = max(self.bytes, anonymous())


def anonymous() -> int:
    """Return the bytes of memory of this process, files that are mapped not counted."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


@torch.inference_mode()
def compared(folder: Path, base: Path, count: int) -> None:
    """Export the embedded model with a random adapter; print how far llama.cpp agrees."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapter = random_adapter(model, folder / "small.safetensors", scale=0.02)
    source = Source(Origin("embedded", "0" * 64, "random"), base, gguf_file("embedded"), adapter)
    model = load_rosa_model(model, adapter).merge_and_unload()
    prompt = encode(tokenizer, Ask("Tell Stew I can't make Thursday", to="Stew", owner="Jen Doe"))
    ids = torch.tensor([prompt])
    expected = model.generate(ids, max_new_tokens=count, do_sample=False)[0, len(prompt) :].tolist()
    for kind in ("f16", "q8_0"):
        file = folder / f"small-{kind}.gguf"
        export_gguf(source, Target(file, replace=False), kind=kind)
        llama = LlamaCpp(file)
        written = llama.write(prompt, count)
        pairs = enumerate(zip(written, expected, strict=False))
        same = next((i for i, (ours, theirs) in pairs if ours != theirs), len(expected))
        read = "the same" if llama.tokenize(tokenizer.decode(prompt)) == prompt else "OTHER"
        print(f"{kind}: {read} tokens of the prompt, then {same} of {len(expected)} alike")


if __name__ == "__main__":
    main()
