"""Several processes train one adapter, under torchrun on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from trainer.examples import Example
from trainer.finetune import FinetuneSettings, finetune
from trainer.ranks import Ranks
from trainer.rosa import RosaConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.base_model import LanguageModel

# Without dropout, which each process draws for itself, the number of processes changes nothing.
SETTINGS = FinetuneSettings(
    rosa=RosaConfig(rank=4, density=0.02, dropout=0.0),
    epochs=3,
    batch=4,
    row=60,
    patience=3,
    checkpoint_seconds=0,
)
SIZES = (30, 42, 25, 38, 31, 40, 28, 35, 50)  # the last batch of an epoch is of one mail
HELD = (33, 29, 41)

_WORKER = """
    import json, os, signal, sys
    from dataclasses import replace
    from pathlib import Path
    import torch
    from safetensors.torch import load_file
    from transformers import LlamaConfig, LlamaForCausalLM
    from trainer.base_model import LanguageModel
    from trainer.examples import Example
    from trainer.finetune import FinetuneSettings, finetune
    from trainer.ranks import joined
    from trainer.rosa import RosaConfig

    folder, kill_at = Path(sys.argv[1]), int(sys.argv[2])
    given = json.loads((folder / "given.json").read_text())
    settings = FinetuneSettings(**{**given["settings"], "rosa": RosaConfig(**given["rosa"])})
    mails = [Example("", tuple(t), 6, 8) for t in given["mails"]]
    held = [Example("", tuple(t), 6, 8) for t in given["held"]]

    def model():
        made = LlamaForCausalLM(LlamaConfig.from_dict(given["config"])).double().eval()
        made.load_state_dict(load_file(folder / "base.safetensors"), strict=False)
        made.tie_weights()
        made.requires_grad_(False)
        return LanguageModel(made, None, "", "0" * 64, torch.device("cpu"), torch.float64, 1024)

    def kill(done, total):
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def run(name, **options):
        done = finetune(model(), mails, settings, hold_out=held, **options)
        file = folder / f"{name}-{os.environ['RANK']}"
        done.rosa.save(file.with_suffix(".safetensors"))
        about = [done.losses, done.hold_out, done.resumed, done.epoch]
        file.with_suffix(".json").write_text(json.dumps(about))

    with joined():
        if kill_at:
            run("whole")
        run("resumed", checkpoint=folder / "c.safetensors", progress=kill)
"""


def mails(*sizes: int) -> list[Example]:
    """Return mails of so many tokens."""
    dice = torch.Generator().manual_seed(4)
    return [
        Example("", tuple(torch.randint(3, 250, (n,), generator=dice).tolist()), 6, 8)
        for n in sizes
    ]


def torchrun(folder: Path, *, kill_at: int) -> int:
    """Train in two processes, which end at a step; return torchrun's exit code."""
    script = folder / "worker.py"
    script.write_text(textwrap.dedent(_WORKER), encoding="utf-8")
    place = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", *place]
    return subprocess.run(  # noqa: S603 - ours
        [*command, str(script), str(folder), str(kill_at)], check=False
    ).returncode


def prepared(lm: LanguageModel, folder: Path) -> None:
    """Write what the processes need."""
    plain = {
        name: getattr(SETTINGS, name)
        for name in ("epochs", "batch", "row", "patience", "checkpoint_seconds")
    }
    rosa = {"rank": 4, "density": 0.02, "dropout": 0.0}
    given = {
        "settings": plain,
        "rosa": rosa,
        "config": lm.model.config.to_dict(),
        "mails": [one.tokens for one in mails(*SIZES)],
        "held": [one.tokens for one in mails(*HELD)],
    }
    (folder / "given.json").write_text(json.dumps(given), encoding="utf-8")
    lm.model.save_pretrained(folder / "base")
    (folder / "base" / "model.safetensors").rename(folder / "base.safetensors")


@pytest.mark.timeout(600)
def test_two_processes_train_what_one_does_and_go_on_after_a_kill(
    make_tiny: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    """The same losses to rounding, one mask, one adapter; killed and run again, bit for bit.

    In fp64: Adam makes large steps of what rounding leaves where a gradient is zero.
    """
    prepared(make_tiny(dtype=torch.float64), tmp_path)
    alone = finetune(make_tiny(dtype=torch.float64), mails(*SIZES), SETTINGS, hold_out=mails(*HELD))
    assert torchrun(tmp_path, kill_at=5) != 0
    assert not list(tmp_path.glob("resumed-*"))
    assert torchrun(tmp_path, kill_at=0) == 0
    about = {
        name: json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("whole-0", "whole-1", "resumed-0", "resumed-1")
    }
    losses, scores, _, epoch = about["whole-0"]
    assert losses == pytest.approx(alone.losses, rel=1e-9)
    assert scores == pytest.approx(alone.hold_out, rel=1e-9)
    assert epoch == alone.epoch
    assert about["resumed-0"][2] > 0
    assert all(one[:2] == [losses, scores] for one in about.values())
    adapters = [load_file(tmp_path / f"{name}.safetensors") for name in about]
    for name, tensor in adapters[0].items():
        assert all(torch.equal(other[name], tensor) for other in adapters[1:]), name
        expected = alone.rosa.tensors()[name]
        if name.endswith(".indices"):
            assert torch.equal(tensor, expected), name
        else:
            torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-9)


def test_one_process_alone_needs_nobody(make_tiny: Callable[..., LanguageModel]) -> None:
    """Without a process group nothing is exchanged, and the one process is the first."""
    ranks = Ranks(torch.device("cpu"))
    assert (ranks.rank, ranks.size, ranks.first) == (0, 1, True)
    assert ranks.sums(1.5, True) == [1.5, 1.0]  # noqa: FBT003 - a flag is summed as a number
    assert not ranks.any(flag=False)
    one = finetune(make_tiny(), mails(30), replace(SETTINGS, epochs=1))
    assert len(one.losses) == 1
