"""A training from where it is to its end: epochs, hold-out, checkpoints."""

from __future__ import annotations

import logging
import math
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainer import checkpoint as files
from trainer.attention import mail_by_mail
from trainer.errors import CheckpointError, DivergedError, OutOfMemoryError
from trainer.evaluation import nats
from trainer.loss import Objective
from trainer.ranks import Ranks
from trainer.rosa import get_rosa_model
from trainer.step import State, Stepper, lack_of_memory, seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from trainer.base_model import LanguageModel
    from trainer.examples import Example
    from trainer.finetune import FinetuneSettings

_log = logging.getLogger(__name__)

_SAVING = 20  # checkpoints take one part in so many of the time, at the most


class Run:
    """One training: its adapter, its steps, its checkpoint.

    Attributes:
        rosa: The model with the adapter on it.
        state: How far it is.
        resumed: The step it went on from.
        steps_per_epoch: How many steps an epoch has.
    """

    def __init__(
        self,
        lm: LanguageModel,
        examples: Sequence[Example],
        hold_out: Sequence[Example],
        settings: FinetuneSettings,
        *,
        checkpoint: Path | None,
        identity: str,
        progress: Callable[[int, int], None],
    ) -> None:
        self._hold_out, self._settings = hold_out, settings
        self._file, self._identity, self._progress = checkpoint, identity, progress
        self._batches = _schedule(examples, settings)
        self._ranks = Ranks(lm.device)
        self._broken_off = False
        self._best: dict[str, Tensor] = {}
        self._saved, self._saving = time.monotonic(), 0.0
        self.steps_per_epoch = math.ceil(len(examples) / settings.batch)
        self.state = State(settings.row, settings.recompute)
        seed(settings.seed)  # A is random: initialised here
        self.rosa = get_rosa_model(lm.model, settings.rosa)
        try:
            self._objective = Objective(lm)
            self.resumed = self._resume()
        except BaseException:
            self.rosa.unload()
            raise

    @property
    def best_epoch(self) -> int:
        """The epoch after which the hold-out's perplexity was lowest, from 1; 0 for none yet."""
        scores = self.state.scores
        return scores.index(min(scores)) + 1 if scores else 0

    @property
    def _ended(self) -> bool:
        scores = self.state.scores
        if scores and len(scores) - self.best_epoch >= self._settings.patience:
            return True
        return self.state.step == len(self._batches)

    def train(self) -> None:
        """Train to the end, and leave the adapter of the best epoch on the model.

        Raises:
            DivergedError: See `trainer.finetune.finetune`, as for the others. The adapter is off.
            OutOfMemoryError: Likewise.
            CheckpointError: Likewise.
        """
        self.rosa.base.train()
        try:
            with self._apart(), self._watched():
                self._train()
            self._take_best()
        except DivergedError:
            if self._file and self._ranks.first:
                self._file.unlink(missing_ok=True)
            self.rosa.unload()
            raise
        except BaseException as error:
            left_whole = self._broken_off or isinstance(error, OutOfMemoryError)
            if left_whole and self._stepper.whole:
                self._save_leaving()
            self.rosa.unload()
            raise
        finally:
            self._stepper.recompute(on=False)
            self.rosa.base.eval()
        self._progress(len(self._batches), len(self._batches))

    def _train(self) -> None:
        if not self.state.started:
            self._stepper.start(self._batches)
            self._save()
        self._judge()
        while not self._ended:
            self._tell()
            self._stepper.step(self._batches[self.state.step])
            self._judge()
            wait = max(self._settings.checkpoint_seconds, _SAVING * self._saving)
            if time.monotonic() - self._saved >= wait:
                self._save()
        self._save()

    def _tell(self) -> None:
        try:
            self._progress(self.state.step, len(self._batches))
        except BaseException:
            self._broken_off = True
            raise

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Tell progress at every decoder layer too, forward and backward.

        A step on a processor takes many seconds, and who is told to end has less than two.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        def watch(_layer: nn.Module, _given: object, out: Any) -> None:  # noqa: ANN401
            self._tell()
            states = out[0] if isinstance(out, tuple) else out
            if isinstance(states, Tensor) and states.requires_grad:
                states.register_hook(lambda _gradient: self._tell())

        with ExitStack() as hooks:
            if self.rosa.base.device.type == "cpu":
                for module in self.rosa.base.modules():
                    if isinstance(module, GradientCheckpointingLayer):
                        hooks.enter_context(module.register_forward_hook(watch))
            yield

    def _apart(self) -> AbstractContextManager[None]:
        return mail_by_mail(self.rosa.base) if self._objective.packs else nullcontext()

    # The hold-out

    def _judge(self) -> None:
        """Score the hold-out where an epoch has ended; keep the adapter if it is the best yet."""
        epoch, rest = divmod(self.state.step, self.steps_per_epoch)
        if not self._hold_out or rest or len(self.state.scores) >= epoch:
            return
        score = self._perplexity()
        if not math.isfinite(score):
            raise DivergedError(self.state.step)
        self.state.scores.append(score)
        if self.best_epoch < epoch:
            return
        if self._file is None:
            self._best = {name: one.clone() for name, one in self.rosa.tensors().items()}
        else:
            self._save()

    def _perplexity(self) -> float:
        ranks = self._ranks
        share = self._hold_out[ranks.rank :: ranks.size]
        self.rosa.base.eval()
        try:
            while True:
                total, count = 0.0, 0
                with lack_of_memory() as memory:
                    total, count = nats(
                        self._objective, share, self.state.row, lambda *_: self._tell()
                    )
                total, words, lacked = ranks.sums(total, count, memory.lacked)
                if not lacked:
                    return float(torch.tensor(total / words, dtype=torch.float64).exp())
                self._stepper.make_rows_smaller(self._hold_out)
        finally:
            self.rosa.base.train()

    def _take_best(self) -> None:
        """Put the best epoch's adapter in place of the last one's."""
        if self.best_epoch * self.steps_per_epoch in {0, self.state.step}:
            return
        if self._ranks.first:
            self.rosa.load_tensors(self._best)
        self._ranks.copy_first(one.data for one in self._stepper.trained().values())
        self.rosa.write()

    # The checkpoint

    def _save(self) -> None:
        """Write the checkpoint; what is the best adapter is from then on mapped from it."""
        if self._file is None or not self._ranks.first:
            return
        started = time.monotonic()
        notes = {"identity": self._identity, "state": asdict(self.state)}
        files.write(self._file, self._tensors(), notes)
        if self.best_epoch and (stored := files.read(self._file, check=False)):
            self._best = self._best_of(stored[0])
        self._saved = time.monotonic()
        self._saving = self._saved - started

    def _save_leaving(self) -> None:
        try:
            self._save()
        except CheckpointError as error:
            _log.warning("what was done since the last checkpoint is lost: %s", error)

    def _tensors(self) -> dict[str, Tensor]:
        found = {f"adapter.{name}": value for name, value in self.rosa.tensors().items()}
        for name, parameter in self._stepper.trained().items():
            for key, value in self._stepper.optimizer.state[parameter].items():
                found[f"optimizer.{name}.{key}"] = value
        if self.best_epoch * self.steps_per_epoch != self.state.step:  # else it is this one
            found |= {f"best.{name}": value for name, value in self._best.items()}
        return found

    def _best_of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        here = self.best_epoch * self.steps_per_epoch == self.state.step
        return _part(tensors, "adapter." if here else "best.")

    def _resume(self) -> int:
        """Bring the run to its checkpoint; return the step, 0 where there is none that fits."""
        stored = files.read(self._file) if self._file else None
        if stored and stored[1].get("identity") != self._identity:
            _log.info("the checkpoint belongs to another training, this one starts over")
            stored = None
        if self._ranks.any(stored is None):
            stored = None
        if stored:
            tensors, notes = stored
            self.state = State(**notes["state"])
            self.rosa.load_tensors(_part(tensors, "adapter."))
            self._best = self._best_of(tensors)
        self._stepper = Stepper(
            rosa=self.rosa,
            objective=self._objective,
            settings=self._settings,
            state=self.state,
            ranks=self._ranks,
            total=len(self._batches),
            tell=self._tell,
        )
        if stored:
            for name, parameter in self._stepper.trained().items():
                self._stepper.optimizer.state[parameter] = {
                    key: value.to(parameter.device, copy=True)
                    for key, value in _part(tensors, f"optimizer.{name}.").items()
                }
        self._ranks.copy_first(one.data for one in self._stepper.trained().values())
        return self.state.step


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _schedule(examples: Sequence[Example], settings: FinetuneSettings) -> list[list[Example]]:
    """Return the batch of each optimizer step: every epoch a new order, from the seed alone."""
    order = torch.Generator().manual_seed(settings.seed)
    steps = []
    for _ in range(settings.epochs):
        shuffled = torch.randperm(len(examples), generator=order).tolist()
        mails = [examples[i] for i in shuffled]
        steps += [mails[i : i + settings.batch] for i in range(0, len(mails), settings.batch)]
    return steps
