"""Speed of a training step in bf16 and in fp32, on the embedded model and the demo's mails.

    .venv/bin/python tests/bench/step.py [--pairs 5]

Each pair is the same 16 mails in both precisions, one after the other; what counts is the median
of the pairs' ratios, since machines are noisy.
"""

from __future__ import annotations

import argparse
import statistics
import time
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from daemon.demo import mailbox
from trainer import base_model
from trainer.examples import example
from trainer.finetune import FinetuneSettings, finetune
from trainer.prompt import Ask
from trainer.rosa import RosaConfig

if TYPE_CHECKING:
    from trainer.base_model import LanguageModel

MAILS = 16


def main() -> None:
    """Run the bench once and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=5)
    pairs = options.parse_args().pairs
    with TemporaryDirectory(prefix="panza-bench-") as folder:
        speeds: dict[str, list[float]] = {"bf16": [], "fp32": []}
        for pair in range(pairs):
            for precision, found in speeds.items():
                lm = base_model.load("embedded", cache=Path(folder), precision=precision)
                found.append(speed(lm, pair))
    for precision, found in speeds.items():
        print(f"{precision}: {statistics.median(found):.0f} tokens/s")
    ratios = [a / b for a, b in zip(*speeds.values(), strict=True)]
    print(f"bf16 over fp32: {statistics.median(ratios):.2f}, from {sorted(ratios)}")


def speed(lm: LanguageModel, seed: int) -> float:
    """Return the tokens per second of one epoch over a few mails, mask and all."""
    sent = [one.raw for one in mailbox.load().messages() if one.folder == "sent"]
    texts = [message_from_bytes(raw, policy=default).get_body(("plain",)) for raw in sent]
    mails = [text.get_content() for text in texts if text is not None][:MAILS]
    end = int(lm.tokenizer.eos_token_id)
    examples = [
        example(lm.tokenizer, str(i), Ask("Write to Stew"), "Boards", text, end=end, limit=384)
        for i, text in enumerate(mails)
    ]
    settings = FinetuneSettings(rosa=RosaConfig(), epochs=1, seed=seed)
    started = time.monotonic()
    done = finetune(lm, examples, settings)
    return done.tokens / (time.monotonic() - started)


if __name__ == "__main__":
    main()
