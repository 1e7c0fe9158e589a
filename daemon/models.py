"""The models in memory: one base model with at most one adapter, and the one that embeds."""

from __future__ import annotations

import contextlib
import gc
import logging
from typing import TYPE_CHECKING

import torch

from daemon import kernel
from daemon.errors import GpuLostError
from daemon.material import base_hash, load_base
from daemon.words import Words
from trainer import embedding
from trainer.adapters import Registry
from trainer.errors import AdapterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.config import Account, Config, Model
    from trainer.base_model import LanguageModel
    from trainer.rosa import RosaModel

_log = logging.getLogger(__name__)

BASE = "base"


class Models:
    """Loads what is asked for and keeps it, as long as it can be used again.

    An adapter is merged into the base model: beside it, it makes SmolLM2 write 14 tokens a second
    instead of 23 (two cores, measured). So another adapter, of another account or after a training,
    needs the base model read from the disk anew; there is never more than one in memory.

    Attributes:
        words: Which mails hold which words, of the stores that were searched.

    Nothing can be merged into weights of 4 bits. An adapter stays beside those, and is taken off
    for another one without reading and quantising them again.
    """

    def __init__(self) -> None:
        self.words = Words()
        self._embedder: embedding.Embedder | None = None
        self._lm: LanguageModel | None = None
        self._loaded: Model | None = None
        self._merged: Path | None = None
        self._beside: RosaModel | None = None

    def embedder(self) -> embedding.Embedder:
        """Return the model that embeds.

        Raises:
            trainer.errors.ModelMissingError: It is not on this machine.
        """
        if self._embedder is None:
            self._embedder = embedding.load()
        return self._embedder

    def writing(
        self, config: Config, account: Account, adapter: str = "current"
    ) -> tuple[LanguageModel, str]:
        """Return the base model with an adapter of an account in it, and the adapter's id.

        Args:
            config: The whole configuration, as it is now.
            account: Whose adapter.
            adapter: Its id, ``base`` for none, or ``current`` for the one that is in use now. Where
                that one is damaged or of another base model, the last good one before it writes.

        Raises:
            trainer.errors.ModelMissingError: The base model is not on this machine.
            trainer.errors.AdapterError: The adapter is missing, damaged or made for another model.
        """
        registry = Registry(config.folder(account) / "adapters")
        chosen = self._in_use(config, registry) if adapter == "current" else adapter
        wanted = None if chosen == BASE else registry.folder / chosen
        lm = self._base(config, wanted)
        if wanted and wanted != self._merged:
            self._lm = None  # what fails half way leaves no base model
            try:
                rosa = registry.load(chosen, lm)
            except AdapterError:
                self._lm = lm
                raise
            if lm.precision == "4bit":
                self._beside = rosa
            else:
                rosa.merge_and_unload()
            self._lm, self._merged = lm, wanted
        return lm, chosen

    def _in_use(self, config: Config, registry: Registry) -> str:
        current = registry.current()
        merged = self._loaded == config.model and self._merged
        if current is None or merged == registry.folder / current:
            return current or BASE
        found = registry.in_use(base_hash=base_hash(config))
        if found.fault:
            _log.warning("%s; %s writes", found.fault, found.adapter or "the base model")
        return found.adapter or BASE

    def forget(self) -> None:
        """Give the memory back."""
        self._embedder = None
        self.words.forget()
        self._drop()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _base(self, config: Config, wanted: Path | None) -> LanguageModel:
        """Return the base model with nothing or only the wanted adapter in it."""
        if self._beside and self._merged != wanted:
            self._beside.unload()
            self._beside = self._merged = None
        fits = self._loaded == config.model and self._merged in {None, wanted}
        if self._lm is None or not fits:
            self._drop()
            self._lm, self._loaded = load_base(config), config.model
        return self._lm

    def _drop(self) -> None:
        self._lm = self._loaded = self._merged = self._beside = None
        gc.collect()  # modules and their hooks refer to one another
        kernel.give_back_memory()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what torch raises of the machine into what can be told.

    Raises:
        MemoryError: The GPU has too little memory.
        GpuLostError: The GPU has failed.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise MemoryError from None
    except torch.AcceleratorError as error:
        raise GpuLostError from error
