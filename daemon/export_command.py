"""The command `panza export`: base model and adapter as one model, for use without Panza."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.cli import Outcome
from daemon.commands import account_of
from daemon.errors import UsageError
from daemon.progress import shown
from trainer.adapters import Registry
from trainer.target import Target

if TYPE_CHECKING:
    from argparse import Namespace

    from daemon.config import Config
    from trainer.gguf_export import Type
    from trainer.merging import Source

_BASE = "base"
_FOLDER = "safetensors"
_PRIVATE = "It has learned from your mail and can repeat it: keep it as you keep your mail."


def export(options: Namespace) -> Outcome:
    """Write the base model with an adapter merged in, as a folder or as a GGUF file."""
    started = time.monotonic()
    config, _, folder = account_of(options)
    target = Target(
        options.target,
        replace=options.force,
        off_limits=(folder.parent, config.cache, *_read_only(config)),
    )
    if options.type and not target.is_file:
        raise UsageError("--type is about .gguf files; a folder keeps the types of the base model")
    kind: Type = options.type or "q8_0"
    registry = Registry(folder / "adapters")
    adapter = (registry.current() or _BASE) if options.adapter == "current" else options.adapter
    if adapter != _BASE:
        registry.manifest(adapter)  # a wrong id is told before the base model is looked for
    with shown() as progress:
        progress("reading the base model", 0, None)
        source = _source(config, registry, adapter)

        def report(done: int, total: int) -> None:
            progress("writing tensors", done, total)

        if target.is_file:
            from trainer.gguf_export import export_gguf

            size = export_gguf(source, target, kind=kind, progress=report)
        else:
            from trainer.export import export_folder

            size = export_folder(source, target, report)
    data = {
        "path": str(target.path),
        "bytes": size,
        "adapter": adapter,
        "type": kind if target.is_file else _FOLDER,
        "seconds": round(time.monotonic() - started, 3),
    }
    text = f"{target.path}: {adapter}, {data['type']}, {size / 1e6:.0f} MB, {data['seconds']:.0f} s"
    return Outcome(data, text, notes=[] if adapter == _BASE else [_PRIVATE])


def _source(config: Config, registry: Registry, adapter: str) -> Source:
    """Find base model and adapter.

    Raises:
        trainer.errors.ModelMissingError: The base model is not on this machine.
        trainer.errors.AdapterError: The adapter is missing, damaged or made for another model.
    """
    from trainer.base_model import gguf_file, resolve, weights_hash
    from trainer.card import Origin
    from trainer.merging import Source

    name = config.model.name
    folder = resolve(name, cache=config.cache)
    base_hash = weights_hash(folder, cache=config.cache)
    gguf = gguf_file(name)
    known_as = gguf.stem if gguf else Path(name).name
    if adapter == _BASE:
        return Source(Origin(known_as, base_hash, None), folder, gguf)
    weights = registry.weights(adapter, base_hash=base_hash)
    return Source(Origin(known_as, base_hash, adapter), folder, gguf, weights)


def _read_only(config: Config) -> list[Path]:
    """Return where the base model lies, if it is named by its path."""
    path = Path(config.model.name).expanduser()
    return [path] if path.exists() else []
