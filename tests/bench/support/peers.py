"""Our trainer and PEFT's tuners on the same mails, with the same loss and the same optimizer."""

from __future__ import annotations

import warnings
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, SupertuningConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainer.attention import mail_by_mail
from trainer.examples import pack
from trainer.finetune import FinetuneSettings
from trainer.loss import Objective
from trainer.ranks import Ranks
from trainer.rosa import RosaConfig, get_rosa_model
from trainer.step import State, Stepper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peft import PeftConfig

    from trainer.base_model import LanguageModel
    from trainer.examples import Example

RANK, ALPHA, DROPOUT, DENSITY = 8, 16, 0.05, 0.01
_RATE = 1e-4
PADDED = 512  # tokens to which PanzaMail pads each mail


class Ours:
    """Steps of our own loop."""

    def __init__(
        self, lm: LanguageModel, row: int, *, density: float = DENSITY, recompute: bool = False
    ) -> None:
        config = RosaConfig(rank=RANK, alpha=ALPHA, dropout=DROPOUT, density=density)
        self.settings = FinetuneSettings(rosa=config, row=row, recompute=recompute, mask_warmup=0)
        self.rosa = get_rosa_model(lm.model, config)
        self.objective = Objective(lm)
        self.state = State(row, recompute=recompute)
        self.stepper = Stepper(
            rosa=self.rosa,
            objective=self.objective,
            settings=self.settings,
            state=self.state,
            ranks=Ranks(lm.device),
            total=1000,
            tell=lambda: None,
        )
        self.rosa.base.train()

    def choose_masks(self, mails: Sequence[Example]) -> None:
        """Choose the masks by the gradient of these mails, as a training does."""
        self.state.started = False
        with mail_by_mail(self.rosa.base):
            self.stepper.start([mails])
            self.stepper.recompute(on=False)

    def step(self, mails: Sequence[Example]) -> None:
        """Learn from one batch."""
        with mail_by_mail(self.rosa.base):
            self.stepper.step(mails)


class Peer:
    """Steps of a tuner of PEFT's with its own forward: packed rows, the loss at its targets only.

    PEFT's tuners see what ours sees: rows whose mails transformers keeps apart by their positions.
    """

    def __init__(self, lm: LanguageModel, row: int, config: PeftConfig) -> None:
        self.row, self.device = row, lm.device
        with warnings.catch_warnings():
            # PEFT 0.21 reads an attribute that transformers 5 has renamed, and still serves.
            warnings.simplefilter("ignore", FutureWarning)
            self.model = get_peft_model(lm.model, config)
        self.model.train()
        self.optimizer: torch.optim.Optimizer | None = None

    def step(self, mails: Sequence[Example]) -> None:
        """Learn from one batch."""
        if self.optimizer is None:
            trained = [one for one in self.model.parameters() if one.requires_grad]
            self.optimizer = torch.optim.AdamW(trained, lr=_RATE, weight_decay=0.0, fused=True)
        count = sum(len(one.tokens) - one.learned for one in mails)
        for row in pack(mails, self.row):
            (self.loss(row) / count).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def loss(self, row: Sequence[Example]) -> Tensor:
        """Return the summed loss of a row."""
        sizes = [len(one.tokens) for one in row]
        starts = [0, *accumulate(sizes)]
        at = [
            start + i
            for start, one in zip(starts, row, strict=False)
            for i in range(one.learned, len(one.tokens))
        ]
        ids = torch.tensor([[token for one in row for token in one.tokens]], device=self.device)
        targets = torch.tensor(at, device=self.device)
        logits = self.model(
            input_ids=ids,
            position_ids=torch.tensor([[i for n in sizes for i in range(n)]], device=self.device),
            logits_to_keep=targets - 1,
            use_cache=False,
        ).logits[0]
        return cross_entropy(logits.float(), ids[0, targets], reduction="sum")


class PaddedPeer(Peer):
    """The same, used plainly: each mail padded to 512 tokens, the loss by transformers itself."""

    def loss(self, row: Sequence[Example]) -> Tensor:
        """Return the summed loss of a row's mails, each in a line of its own."""
        shape = (len(row), PADDED)
        ids = torch.zeros(shape, dtype=torch.long)
        labels, seen = torch.full(shape, -100), torch.zeros(shape, dtype=torch.long)
        for line, one in enumerate(row):
            size = min(len(one.tokens), PADDED)
            ids[line, :size] = torch.tensor(one.tokens[:size])
            labels[line, one.learned : size] = ids[line, one.learned : size]
            seen[line, :size] = 1
        loss: Tensor = self.model(
            input_ids=ids, attention_mask=seen, labels=labels, use_cache=False
        ).loss
        return loss * (labels[:, 1:] != -100).sum()


def lora(names: Sequence[str]) -> LoraConfig:
    """Return PEFT's LoRA of our settings on the same layers."""
    return LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=DROPOUT, target_modules=list(names))


def supertuning(names: Sequence[str]) -> SupertuningConfig:
    """Return PEFT's Super-Tuning with a low-rank half, of our settings on the same layers."""
    return SupertuningConfig(
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=DROPOUT,
        sparsity=1 - DENSITY,
        target_modules=list(names),
    )


def give_masks(peer: Peer, ours: Ours) -> None:
    """Put our masks in place of Super-Tuning's, which makes it RoSA too; values begin at zero."""
    for name, layer in ours.rosa.layers.items():
        module = peer.model.base_model.model.get_submodule(name)
        indices = layer.rosa_indices["default"].detach().clone()
        module.supertuning_indices["default"] = indices
        module.supertuning_values["default"] = nn.Parameter(torch.zeros(indices.shape))
    peer.optimizer = None


def copies_saved(side: Ours | Peer, mails: Sequence[Example]) -> int:
    """Return how many tensors of some W's size autograd saves in a step, W itself aside."""
    model = side.rosa.base if isinstance(side, Ours) else side.model
    own = {one.untyped_storage().data_ptr() for one in model.parameters()}
    sizes = {
        tuple(one.shape) for n, one in model.named_parameters() if n.endswith("base_layer.weight")
    }
    sizes |= {(columns, rows) for rows, columns in sizes} | {(r * c,) for r, c in sizes}
    found = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal found
        same = tensor.untyped_storage().data_ptr() in own
        found += not same and tensor.dtype.is_floating_point and tuple(tensor.shape) in sizes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        side.step(mails)
    return found
