"""How well an adapter learns a person's voice from an mbox of sent mail.

    .venv/bin/python tests/bench/voice.py --mbox sent.mbox --address jen@example.org [--epochs 5]

Syncs the mbox twice and trains on it, by the commands that an owner would type, in a folder that is
removed at the end. Prints what was read and left out, the perplexity of the owner's own words in
the newest fifth of the mails (never trained on, never retrieved), and the ratio to the base model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml


def main() -> None:
    """Run the bench once and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mbox", type=Path)
    options.add_argument("--address", default="owner@example.org")
    options.add_argument("--name", default="")
    options.add_argument("--epochs", type=int, default=5)
    options.add_argument("--method", choices=("rosa", "lora", "full"), default="rosa")
    chosen = options.parse_args()
    if chosen.mbox is None:
        print("skipped: lacks an mbox of sent mail; name one with --mbox and --address")
        return
    with tempfile.TemporaryDirectory(prefix="panza-bench-") as folder:
        config = Path(folder) / "panza.yaml"
        account = {
            "name": "bench",
            "address": chosen.address,
            "full_name": chosen.name,
            "archives": [str(chosen.mbox.absolute())],
        }
        training = {"epochs": chosen.epochs, "method": chosen.method}
        content = {"data": folder, "accounts": [account], "training": training}
        config.write_text(yaml.safe_dump(content), encoding="utf-8")
        for sync in ("first sync", "second sync"):
            report(sync, panza(config, "sync"), "new", "read", "total", "left_out", "seconds")
        trained = panza(config, "train")
        keys = ("examples", "held_out", "left_out", "instructions", "seconds", "promoted")
        report("training", trained, *keys)
        print(f"  peak memory: {trained['peak_memory_bytes'] / 2**30:.2f} GiB")
    base = trained["scores"]["base"]["perplexity"]
    for column, score in trained["scores"].items():
        if score:
            value = score["perplexity"]
            print(f"{column:>10}: perplexity {value:7.2f}, {value / base:.3f} of the base model's")


def panza(config: Path, command: str) -> dict[str, Any]:
    """Run one command and return its JSON."""
    words = [sys.executable, "-m", "daemon", "--config", str(config), "--json", command]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)  # noqa: S603
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def report(name: str, result: dict[str, Any], *keys: str) -> None:
    """Print some of a command's results."""
    print(f"{name}: " + ", ".join(f"{key} {result[key]}" for key in keys))


if __name__ == "__main__":
    main()
