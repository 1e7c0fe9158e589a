"""The official peft-rosa's side of tests/bench/official.py, for a Python that has it.

A mask is made and used as PanzaMail's scripts do it: LoRA alone for some steps, one batch of
gradients a mail at a time, the mask written to a file, and the end of the process; a second
process loads the model and the mask and trains.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from contest import Job, Mail, Wire, forget_peak, peak, size
from peft import get_peft_model
from peft.tuners.rosa import RosaConfig, RosaScheduler
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def main() -> None:
    """Do the job in the file that the first argument names."""
    job = Job.read(Path(sys.argv[1]))
    mask = Path(job.folder) / "mask"
    if sys.argv[2:] == ["mask"]:
        choose_mask(job, mask)
        return
    wire = Wire()
    wire.turn("ready")
    with torch.inference_mode():
        wire.turn("base", perplexity=perplexity(base(job), job.held_out))
    if job.density:
        told = subprocess.run([sys.executable, *sys.argv, "mask"], stdout=-1, check=True).stdout  # noqa: S603
        wire.turn("mask", **json.loads(told.splitlines()[-1]))
    train(job, wire, mask)


def choose_mask(job: Job, file: Path) -> None:
    """Run the first of the two processes; print what its mask took."""
    run = Run(job, schedule=f"wl{job.mask_warmup}", mask_save_path=str(file))
    laps = [time.process_time()]
    for step in range(job.mask_warmup):
        run.step(step, micro=1)
        laps.append(time.process_time())
        if step == 0:
            forget_peak()
    usual = peak()
    forget_peak()
    # SystemExit is how peft-rosa ends a training that was to find a mask.
    with suppress(SystemExit):
        run.step(job.mask_warmup, micro=1)
    laps.append(time.process_time())
    *lora, seconds = [after - before for before, after in pairwise(laps)]
    told = {
        "mask": seconds,
        "lora": statistics.median(lora[1:] or lora),
        "memory": peak() - usual,
        "bytes": file.stat().st_size,
    }
    sys.stdout.write(json.dumps(told) + "\n")


def train(job: Job, wire: Wire, mask: Path) -> None:
    """Run the second of the two processes, a turn for each step."""
    schedule = {"schedule": "default", "mask_load_path": str(mask)}
    run = Run(job, **(schedule if job.density else {"schedule": "lora_only"}))
    wire.turn("begin")
    losses = []
    for step in range(len(job.steps)):
        losses.append(run.step(step, micro=job.micro))
        wire.turn("step")
        if step == 0:
            forget_peak()
    memory = peak()
    adapter = Path(job.folder) / "adapter"
    run.model.save_pretrained(adapter)
    run.model.eval()
    with torch.inference_mode():
        found = perplexity(run.model, job.held_out)
    wire.turn("done", perplexity=found, memory=memory, bytes=size(adapter), losses=losses)


class Run:
    """A model with a fresh RoSA adapter, its optimizer and its schedule."""

    def __init__(self, job: Job, **settings: Any) -> None:  # noqa: ANN401 - peft-rosa's own
        torch.manual_seed(job.seed)
        config = RosaConfig(
            task_type="CAUSAL_LM",
            r=job.rank,
            d=job.density,
            lora_alpha=job.alpha,
            lora_dropout=job.dropout,
            target_modules="all-linear",
            rosa_dtype=job.precision,
            grad_acc_mode="mean_squared",
            terminate_after_mask_generation="mask_save_path" in settings,
            **settings,
        )
        self.job = job
        # Its hooks write zeros over what they have read, which only this attention survives.
        attention = "eager" if "mask_save_path" in settings else "sdpa"
        self.model = get_peft_model(base(job, attention), config).train()
        self.scheduler = RosaScheduler(self.model)
        named = [(name, one) for name, one in self.model.named_parameters() if "rosa_" in name]
        parts = (
            ([one for name, one in named if "rosa_spa" not in name], job.lora_rate),
            ([one for name, one in named if "rosa_spa" in name], job.sparse_rate),
        )
        groups = [{"params": part, "lr": rate, "base": rate} for part, rate in parts if part]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), weight_decay=0.0)

    def step(self, step: int, micro: int) -> float:
        """Take an optimizer step on the mean loss over the targets of a batch; return the loss."""
        self.scheduler._on_step_begin()
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * self.job.rise_and_fall(step)
        batch = [self.job.train[i] for i in self.job.steps[step % len(self.job.steps)]]
        count = sum(len(mail.tokens) - mail.learned for mail in batch)
        total = 0.0
        for first in range(0, len(batch), micro):
            found = losses(self.model, batch[first : first + micro]).sum() / count
            found.backward()
            total += found.item()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler._on_step_end()
        return total


def base(job: Job, attention: str = "sdpa") -> AutoModelForCausalLM:
    """Return the base model; its configuration may be of a later transformers."""
    config = AutoConfig.from_pretrained(job.model, attn_implementation=attention)
    config.rope_theta = getattr(config, "rope_parameters", vars(config))["rope_theta"]
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[job.precision]
    return AutoModelForCausalLM.from_pretrained(
        job.model, config=config, torch_dtype=dtype, local_files_only=True
    )


def losses(model: AutoModelForCausalLM, mails: Sequence[Mail], *, words: bool = False) -> Tensor:
    """Return the loss of each target token of some mails, padded to the longest."""
    longest = max(len(mail.tokens) for mail in mails)
    ids = torch.zeros(len(mails), longest, dtype=torch.long)
    there, targets = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, mail in enumerate(mails):
        first, last = (mail.words, -1) if words else (mail.learned, None)
        ids[row, : len(mail.tokens)] = torch.tensor(mail.tokens)
        there[row, : len(mail.tokens)] = 1
        targets[row, : len(mail.tokens)][first:last] = torch.tensor(mail.tokens[first:last])
    logits = model(input_ids=ids, attention_mask=there).logits[:, :-1].float()
    return cross_entropy(
        logits.reshape(-1, logits.shape[-1]), targets[:, 1:].reshape(-1), reduction="none"
    )


def perplexity(model: AutoModelForCausalLM, mails: Sequence[Mail]) -> float:
    """Return the perplexity of the owner's own words."""
    total = sum(float(losses(model, [mail], words=True).double().sum()) for mail in mails)
    return math.exp(total / sum(len(mail.tokens) - 1 - mail.words for mail in mails))


if __name__ == "__main__":
    main()
