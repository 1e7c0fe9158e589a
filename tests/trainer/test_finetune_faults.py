"""What goes wrong in a training: no memory, no disk, no number, a damaged checkpoint."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from trainer import checkpoint as files
from trainer.errors import CheckpointError, DivergedError, OutOfMemoryError
from trainer.examples import Example
from trainer.finetune import FinetuneSettings, finetune
from trainer.rosa import RosaConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor, nn

    from trainer.base_model import LanguageModel

    Make = Callable[..., LanguageModel]

SETTINGS = FinetuneSettings(
    rosa=RosaConfig(rank=4, density=0.02), epochs=2, batch=4, row=200, checkpoint_seconds=0
)
LORA = dataclasses.replace(SETTINGS, rosa=RosaConfig(rank=4, density=0))


def mails(*sizes: int) -> list[Example]:
    """Return mails of so many tokens."""
    dice = random.Random(3)
    return [
        Example(str(i), tuple(dice.randrange(3, 250) for _ in range(n)), 6, 8)
        for i, n in enumerate(sizes)
    ]


MAILS = mails(30, 42, 25, 38, 31, 40, 28, 35)


@contextmanager
def room_for(model: nn.Module, tokens: int) -> Iterator[list[int]]:
    """Let a model fail as torch does where memory lacks, above so many tokens in a pass."""
    passes: list[int] = []

    def fill(_model: nn.Module, _args: object, given: dict[str, Tensor]) -> None:
        passes.append(given["input_ids"].numel())
        if passes[-1] > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with model.register_forward_pre_hook(fill, with_kwargs=True):
        yield passes


def test_where_memory_lacks_the_step_is_done_again_in_smaller_rows(make_tiny: Make) -> None:
    """The training comes to what it comes to with smaller rows from the start, bit for bit."""
    lm = make_tiny()
    with room_for(lm.model, 80) as passes:
        found = finetune(lm, MAILS, LORA)
    assert found.row == 67  # of a batch of 135 or 134 tokens, halved
    assert max(passes[8:]) <= 80
    expected = finetune(make_tiny(), MAILS, dataclasses.replace(LORA, row=67))
    assert found.losses == expected.losses


def test_the_mask_too_is_chosen_by_as_many_mails_as_fit(make_tiny: Make) -> None:
    """Where the whole batch does not fit, fewer of its mails choose the mask."""
    lm = make_tiny()
    with room_for(lm.model, 80):
        done = finetune(lm, MAILS, SETTINGS)
    assert any(bool(one.any()) for n, one in done.rosa.tensors().items() if n.endswith("values"))


def test_what_cannot_fit_is_told_and_can_be_gone_on_with(make_tiny: Make, tmp_path: Path) -> None:
    """Not even one mail fits: the error says which, and with more memory the training goes on."""
    file, some = tmp_path / "c.safetensors", mails(90, 30, 30, 30, 30)
    settings = dataclasses.replace(LORA, batch=1, epochs=3)
    whole = finetune(make_tiny(), some, settings)
    lm = make_tiny()
    before = {name: one.clone() for name, one in lm.model.state_dict().items()}
    with room_for(lm.model, 60), pytest.raises(OutOfMemoryError) as fault:
        finetune(lm, some, settings, checkpoint=file)
    assert fault.value.tokens == 90
    assert fault.value.row < 90
    after = lm.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    resumed = finetune(make_tiny(), some, settings, checkpoint=file)
    assert 0 < resumed.resumed < 6
    assert resumed.losses == whole.losses


def test_a_process_without_memory_goes_on_in_smaller_rows() -> None:
    """Under a real limit of its address space a training shrinks its rows and ends."""
    script = """
        import resource
        from dataclasses import replace
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM
        from trainer.base_model import LanguageModel
        from trainer.examples import Example
        from trainer.finetune import FinetuneSettings, finetune
        from trainer.rosa import RosaConfig

        shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=259, num_attention_heads=4, **shape)).eval()
        model.requires_grad_(False)
        lm = LanguageModel(model, None, "", "0" * 64, torch.device("cpu"), torch.float32, 1024)
        mails = [Example(str(i), tuple(range(3, 203)), 100, 110) for i in range(64)]
        settings = FinetuneSettings(rosa=RosaConfig(rank=4, density=0), epochs=1, batch=64)
        finetune(lm, mails[:1], settings).rosa.unload()  # what is loaded late is there now
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + 100 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        print(finetune(lm, mails, replace(settings, row=12800)).row)
    """
    child = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(child, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stderr
    assert 200 <= int(done.stdout) < 12800


def flipped(data: bytes, place: int) -> bytes:
    """Return bytes with one bit of one of them turned."""
    return data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the length, the names, the notes, the sum or a tensor: it is said to be damaged."""
    file = tmp_path / "c.safetensors"
    tensors = {"a": torch.arange(30.0), "b": torch.arange(5, dtype=torch.int32)}
    files.write(file, tensors, {"step": 3})
    stored = files.read(file)
    assert stored is not None
    assert stored[1] == {"step": 3}
    assert all(torch.equal(stored[0][name], tensors[name]) for name in tensors)
    whole = file.read_bytes()
    for place in range(0, len(whole), 2):
        file.write_bytes(flipped(whole, place))
        assert files.read(file) is None, place
    assert "damaged" in caplog.text
    for end in (0, 7, 40, len(whole) - 1):
        file.write_bytes(whole[:end])
        assert files.read(file) is None


def test_a_damaged_checkpoint_costs_its_work_alone(
    make_tiny: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A training whose checkpoint has a flipped bit starts over, says so, and ends the same."""
    file = tmp_path / "c.safetensors"
    whole = finetune(make_tiny(), MAILS, SETTINGS, checkpoint=file)
    data = file.read_bytes()
    file.write_bytes(flipped(data, len(data) - 100))
    again = finetune(make_tiny(), MAILS, SETTINGS, checkpoint=file)
    assert again.resumed == 0
    assert again.losses == whole.losses
    assert "starts over" in caplog.text


def test_a_full_disk_is_told_and_the_former_checkpoint_stays(
    make_tiny: Make, tmp_path: Path
) -> None:
    """What cannot be written is not half written: the checkpoint before is still there, whole."""
    file = tmp_path / "c.safetensors"

    def stop(done: int, total: int) -> None:
        del total
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(make_tiny(), MAILS, SETTINGS, checkpoint=file, progress=stop)
    before = file.read_bytes()
    file.with_suffix(".writing").symlink_to("/dev/full")
    with pytest.raises(CheckpointError) as fault:
        finetune(make_tiny(), MAILS, SETTINGS, checkpoint=file)
    assert "No space left" in fault.value.reason
    assert file.read_bytes() == before
    resumed = finetune(make_tiny(), MAILS, SETTINGS, checkpoint=file)
    assert resumed.resumed == 2
    assert resumed.losses == finetune(make_tiny(), MAILS, SETTINGS).losses


def test_a_gradient_that_is_no_number_ends_the_training(make_tiny: Make, tmp_path: Path) -> None:
    """A finite loss with a NaN in its gradient changes nothing: neither adapter nor base model."""
    lm, file = make_tiny(), tmp_path / "c.safetensors"
    before = {name: one.clone() for name, one in lm.model.state_dict().items()}
    seen = 0

    def spoil(_norm: nn.Module, _given: object, out: Tensor) -> None:
        nonlocal seen
        if out.requires_grad:
            seen += 1
            if seen == 4:
                out.register_hook(lambda gradient: gradient * float("nan"))

    with lm.model.model.norm.register_forward_hook(spoil), pytest.raises(DivergedError) as fault:
        finetune(lm, MAILS, LORA, checkpoint=file)
    assert fault.value.step == 3
    assert not file.exists()
    after = lm.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_optimizer_too_can_lack_memory(make_tiny: Make) -> None:
    """Where there is no room for what the optimizer keeps, the same error says so."""
    lm = make_tiny()

    def fill(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    handle = register_optimizer_step_pre_hook(fill)
    try:
        with pytest.raises(OutOfMemoryError):
            finetune(lm, MAILS, LORA)
    finally:
        handle.remove()


def test_whole_modules_are_trained_with_fp32_masters(make_tiny: Make, tmp_path: Path) -> None:
    """Of a bf16 model, a module that is trained whole learns in fp32, and a resume is exact."""
    file = tmp_path / "c.safetensors"
    config = RosaConfig(rank=4, density=0.02, modules_to_save=("lm_head",))
    settings = dataclasses.replace(SETTINGS, rosa=config)

    def stop(done: int, total: int) -> None:
        del total
        if done == 2:
            raise KeyboardInterrupt

    whole = finetune(make_tiny(dtype=torch.bfloat16), MAILS, settings)
    with pytest.raises(KeyboardInterrupt):
        finetune(make_tiny(dtype=torch.bfloat16), MAILS, settings, checkpoint=file, progress=stop)
    resumed = finetune(make_tiny(dtype=torch.bfloat16), MAILS, settings, checkpoint=file)
    assert resumed.losses == whole.losses
    found, expected = resumed.rosa.tensors(), whole.rosa.tensors()
    (head,) = (name for name in expected if "lm_head" in name)
    assert expected[head].dtype is torch.float32
    assert not torch.equal(expected[head], expected[head].bfloat16().float())
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_long_gradient_is_shortened(make_tiny: Make) -> None:
    """With a limit of its length, a gradient above it is scaled, one below is left alone."""
    free = finetune(make_tiny(), MAILS, LORA)
    above = finetune(make_tiny(), MAILS, dataclasses.replace(LORA, max_norm=1e6))
    below = finetune(make_tiny(), MAILS, dataclasses.replace(LORA, max_norm=1e-9))
    assert above.losses == free.losses
    assert below.losses[0] == free.losses[0]
    assert below.losses != free.losses


def test_the_row_of_a_training_is_that_of_its_start(make_tiny: Make, tmp_path: Path) -> None:
    """Gone on with under another plan for memory, it keeps its rows and its result."""
    file = tmp_path / "c.safetensors"

    def stop(done: int, total: int) -> None:
        del total
        if done == 2:
            raise KeyboardInterrupt

    whole = finetune(make_tiny(), MAILS, SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        finetune(make_tiny(), MAILS, SETTINGS, checkpoint=file, progress=stop)
    other = dataclasses.replace(SETTINGS, row=50, recompute=True)
    resumed = finetune(make_tiny(), MAILS, other, checkpoint=file)
    assert (resumed.resumed, resumed.row) == (2, 200)
    assert resumed.losses == whole.losses


def test_recomputed_activations_change_no_bit(make_tiny: Make) -> None:
    """With dropout drawn again as it was, a training with recomputed layers is the same."""
    kept = finetune(make_tiny(), MAILS, SETTINGS)
    again = finetune(make_tiny(), MAILS, dataclasses.replace(SETTINGS, recompute=True))
    assert kept.losses == again.losses
