"""The adapter registry: what was trained, which of it is in use, and the way back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from trainer.errors import AdapterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

WEIGHTS = "adapter.safetensors"
_MANIFEST = "manifest.json"
_CURRENT = "current"
_PROMOTIONS = "promotions.json"
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an adapter is and where it comes from.

    Attributes:
        id: Its name in the registry.
        created: When its training ended, ISO 8601.
        base: The base model's name.
        base_hash: The base model's hash; the adapter fits no other.
        method: ``rosa``, ``lora`` or ``full``.
        counts: Mails by use: trained, held out, left out by reason, instructions by source.
        settings: The settings of the training.
        scores: Scores by column: base, few_shot, current, candidate.
        verdict: Why it was promoted, or why it was kept aside.
        files: SHA-256 of each file beside the manifest, hex.
    """

    id: str
    created: str
    base: str
    base_hash: str
    method: str
    counts: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    verdict: str = ""
    files: dict[str, str] = field(default_factory=dict)


class Registry:
    """The adapters of one account, in one folder.

    An adapter is written beside, synced and renamed: it is there whole or not at all. ``current``
    is a link that is replaced atomically; nothing that was ever in use is removed here.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ids(self) -> list[str]:
        """Return the ids of all finished adapters, oldest first."""
        found = self.folder.glob(f"*/{_MANIFEST}") if self.folder.is_dir() else ()
        return sorted(
            p.parent.name
            for p in found
            if not p.parent.name.startswith(_UNFINISHED) and not p.parent.is_symlink()
        )

    def current(self) -> str | None:
        """Return the id of the adapter in use, None where the base model is in use alone."""
        link = self.folder / _CURRENT
        return link.readlink().name if link.is_symlink() else None

    def manifest(self, adapter: str) -> Manifest:
        """Return what is known of an adapter.

        Raises:
            AdapterError: There is none of this id, or its manifest is damaged.
        """
        if adapter not in self.ids():
            raise AdapterError(adapter, "there is none of this id; see: panza adapters list")
        try:
            text = (self.folder / adapter / _MANIFEST).read_text(encoding="utf-8")
            return Manifest(**json.loads(text))
        except (OSError, ValueError, TypeError) as error:
            raise AdapterError(adapter, f"its manifest cannot be read: {error}") from error

    def weights(self, adapter: str, *, base_hash: str) -> Path:
        """Return the file of an adapter's weights, checked against its manifest.

        Raises:
            AdapterError: It is missing, was changed since, or belongs to another base model.
        """
        manifest = self.manifest(adapter)
        if manifest.base_hash != base_hash:
            raise AdapterError(
                adapter, f"it was trained on another base model ({manifest.base}); train again"
            )
        for name, digest in manifest.files.items():
            file = self.folder / adapter / name
            if not file.is_file() or sha256(file) != digest:
                raise AdapterError(adapter, f"{name} is missing or damaged; roll back or train")
        return self.folder / adapter / WEIGHTS

    def new_id(self, created: datetime, method: str) -> str:
        """Return an id that is not taken: the time, the method, and a number if need be."""
        stem = f"{created:%Y%m%d-%H%M%S}-{method}"
        taken = set(self.ids())
        names = (stem if n == 1 else f"{stem}-{n}" for n in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def add(self, manifest: Manifest, save: Callable[[Path], None]) -> Manifest:
        """Store an adapter without putting it in use; return its manifest with the files' hashes.

        Args:
            manifest: What it is; ``files`` is filled in here.
            save: Writes the weights to the path it is given.

        Raises:
            OSError: It cannot be written; nothing is left behind that looks like an adapter.
        """
        _make_private(self.folder)
        for leftover in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(leftover)
        beside = self.folder / f"{_UNFINISHED}{manifest.id}"
        beside.mkdir(mode=0o700)
        weights = beside / WEIGHTS
        save(weights)
        weights.chmod(0o600)
        complete = Manifest(**{**asdict(manifest), "files": {WEIGHTS: sha256(weights)}})
        _write_synced(beside / _MANIFEST, json.dumps(asdict(complete), indent=2))
        _sync(weights)
        _sync(beside)
        beside.rename(self.folder / manifest.id)
        _sync(self.folder)
        return complete

    def promote(self, adapter: str) -> None:
        """Put an adapter in use.

        Raises:
            AdapterError: There is none of this id.
        """
        self.manifest(adapter)
        if adapter != self.current():
            self._use(adapter, [*self._promotions(), adapter])

    def rollback(self) -> str | None:
        """Put the adapter in use that was in use before; return its id, None for the base model.

        Raises:
            AdapterError: No adapter is in use.
        """
        if self.current() is None:
            raise AdapterError("current", "no adapter is in use, so there is nothing to roll back")
        earlier = self._promotions()[:-1]
        while earlier and earlier[-1] not in self.ids():
            earlier.pop()
        self._use(earlier[-1] if earlier else None, earlier)
        return self.current()

    def retain(self, count: int) -> list[str]:
        """Delete all but the newest adapters; the one in use and the one before it always stay.

        Args:
            count: How many of the newest to keep.

        Returns:
            The ids of those that were deleted.
        """
        kept = {self.current(), *self._promotions()[-2:], *self.ids()[-count:]}
        gone = [adapter for adapter in self.ids() if adapter not in kept]
        for adapter in gone:
            # Renamed first: half of an adapter must not look like one.
            beside = self.folder / f"{_UNFINISHED}{adapter}"
            (self.folder / adapter).rename(beside)
            shutil.rmtree(beside)
        return gone

    def _promotions(self) -> list[str]:
        file = self.folder / _PROMOTIONS
        if not file.is_file():
            return []
        return [str(adapter) for adapter in json.loads(file.read_text(encoding="utf-8"))]

    def _use(self, adapter: str | None, promotions: list[str]) -> None:
        link, beside = self.folder / _CURRENT, self.folder / f"{_UNFINISHED}current"
        beside.unlink(missing_ok=True)
        if adapter is None:
            link.unlink(missing_ok=True)
        else:
            beside.symlink_to(adapter, target_is_directory=True)
            beside.replace(link)
        _write_synced(self.folder / _PROMOTIONS, json.dumps(promotions))
        _sync(self.folder)


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write_synced(file: Path, text: str) -> None:
    beside = file.with_suffix(".writing")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(file)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
