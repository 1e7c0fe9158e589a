"""The adapter registry: what was trained, which of it is in use, and the way back."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from trainer.errors import AdapterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from trainer.base_model import LanguageModel
    from trainer.rosa import RosaModel

_log = logging.getLogger(__name__)

WEIGHTS = "adapter.safetensors"
REPORT = "report.html"
_MANIFEST = "manifest.json"
_CURRENT = "current"
_PROMOTIONS = "promotions.json"
_UNFINISHED = ".unfinished-"
_WAY_OUT = "`panza adapters rollback` goes back to the one before, `panza train` makes a new one"


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
        intervals: The 95 % intervals of scores by column and score, each low and high.
        course: How the training went: what was estimated, what was measured, the hold-out's
            perplexity after each epoch, and the epoch that was kept.
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
    intervals: dict[str, Any] = field(default_factory=dict)
    course: dict[str, Any] = field(default_factory=dict)
    verdict: str = ""
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InUse:
    """What there is to write with.

    Attributes:
        adapter: The adapter in use, or the last good one before it; None for the base model alone.
        fault: Why it is not the one that was put in use, and the way out; "" where it is.
    """

    adapter: str | None
    fault: str = ""


class Registry:
    """The adapters of one account, in one folder.

    An adapter is written beside, synced and renamed: it is there whole or not at all. Which of them
    were put in use, one after the other, stands in ``promotions.json``, that is replaced
    atomically; the link ``current`` follows it, for people, and counts where that file is lost.
    Each file holds its own SHA-256 or has it in another, so that no flipped bit goes unnoticed.
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
        try:
            promotions = self._promotions()
        except AdapterError:
            return self._linked()
        return promotions[-1] if promotions else None

    def in_use(self, *, base_hash: str = "") -> InUse:
        """Return what there is to write with: where the adapter in use is not good, one before it.

        Args:
            base_hash: Of the base model; "" where it does not matter.
        """
        fault, known = "", [one for one in [self._linked()] if one]
        try:
            known = self._promotions()
        except AdapterError as error:
            fault = str(error)
        for adapter in dict.fromkeys(reversed(known)):
            try:
                self.weights(adapter, base_hash=base_hash)
            except AdapterError as error:
                fault = fault or str(error)
            else:
                return InUse(adapter, fault)
        return InUse(None, fault)

    def manifest(self, adapter: str) -> Manifest:
        """Return what is known of an adapter.

        Raises:
            AdapterError: There is none of this id, or its manifest is damaged.
        """
        if adapter not in self.ids():
            raise AdapterError(adapter, "there is none of this id; see: panza adapters list")
        try:
            found = Manifest(**_read_sealed(self.folder / adapter / _MANIFEST))
        except (OSError, ValueError, TypeError) as error:
            raise AdapterError(adapter, f"its manifest is damaged; {_WAY_OUT}") from error
        if found.id != adapter:
            raise AdapterError(adapter, f"its manifest is that of {found.id}; {_WAY_OUT}")
        return found

    def weights(self, adapter: str, *, base_hash: str = "") -> Path:
        """Return the file of an adapter's weights, checked against its manifest.

        Args:
            adapter: Its id.
            base_hash: Of the base model that it is wanted for; "" where it does not matter.

        Raises:
            AdapterError: It is missing, was changed since, or belongs to another base model.
        """
        manifest = self.manifest(adapter)
        if base_hash and manifest.base_hash != base_hash:
            raise AdapterError(
                adapter, f"it was trained on another base model ({manifest.base}); train again"
            )
        for name in manifest.files:
            # The report is for people: one that its reader has deleted takes no adapter along.
            if name != REPORT and not self._whole(manifest, name):
                raise AdapterError(adapter, f"{name} is missing or damaged; {_WAY_OUT}")
        return self.folder / adapter / WEIGHTS

    def report(self, adapter: str) -> Path | None:
        """Return the file of an adapter's report; None where there is none, or it was changed.

        Raises:
            AdapterError: As for `manifest`.
        """
        whole = self._whole(self.manifest(adapter), REPORT)
        return self.folder / adapter / REPORT if whole else None

    def load(self, adapter: str, lm: LanguageModel) -> RosaModel:
        """Put an adapter on the base model.

        Raises:
            AdapterError: As for `weights`; the base model is then as it was.
        """
        from trainer.rosa import load_rosa_model

        weights = self.weights(adapter, base_hash=lm.hash)
        try:
            return load_rosa_model(lm.model, weights, base_hash=lm.hash)
        except (ValueError, TypeError, KeyError) as error:
            raise AdapterError(adapter, f"it cannot be used: {error}; {_WAY_OUT}") from error

    def new_id(self, created: datetime, method: str) -> str:
        """Return an id that is not taken: the time, the method, and a number if need be."""
        stem = f"{created:%Y%m%d-%H%M%S}-{method}"
        taken = set(self.ids())
        names = (stem if n == 1 else f"{stem}-{n}" for n in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def add(
        self,
        manifest: Manifest,
        save: Callable[[Path], None],
        report: Callable[[Manifest], str] | None = None,
    ) -> Manifest:
        """Store an adapter without putting it in use; return its manifest with the files' hashes.

        Args:
            manifest: What it is; ``files`` is filled in here.
            save: Writes the weights to the path it is given.
            report: Makes the text of its report. Where that fails, the adapter is stored without
                one, for it has taken hours, and the log says so.

        Raises:
            OSError: It cannot be written; nothing is left behind that looks like an adapter.
        """
        _make_private(self.folder)
        for leftover in self.folder.glob(f"{_UNFINISHED}*"):
            _remove(leftover)
        beside = self.folder / f"{_UNFINISHED}{manifest.id}"
        beside.mkdir(mode=0o700)
        weights = beside / WEIGHTS
        save(weights)
        weights.chmod(0o600)
        files = {WEIGHTS: sha256(weights)}
        if text := _reported(manifest, report):
            _write_synced(beside / REPORT, text)
            files[REPORT] = sha256(beside / REPORT)
        complete = Manifest(**{**asdict(manifest), "files": files})
        _write_synced(beside / _MANIFEST, _sealed(asdict(complete)))
        _sync(weights)
        _sync(beside)
        beside.rename(self.folder / manifest.id)
        _sync(self.folder)
        return complete

    def promote(self, adapter: str) -> None:
        """Put an adapter in use.

        Raises:
            AdapterError: There is none of this id, or it is damaged.
        """
        self.weights(adapter)
        try:
            promotions = self._promotions()
        except AdapterError:
            promotions = [one for one in [self._linked()] if one in self.ids()]
        if promotions[-1:] != [adapter]:
            promotions.append(adapter)
        self._use(promotions)

    def rollback(self) -> str | None:
        """Put the adapter in use that was in use before; return its id, None for the base model.

        One that is gone or damaged is passed over.

        Raises:
            AdapterError: No adapter is in use, or it is not known what was before.
        """
        earlier = self._promotions()
        if not earlier:
            raise AdapterError("current", "no adapter is in use, so there is nothing to roll back")
        earlier.pop()
        while earlier and not self._good(earlier[-1]):
            earlier.pop()
        self._use(earlier)
        return self.current()

    def retain(self, count: int) -> list[str]:
        """Delete all but the newest adapters; the one in use and the one before it always stay.

        Args:
            count: How many of the newest to keep.

        Returns:
            The ids of those that were deleted; none where it is not known what was in use.
        """
        try:
            promotions = self._promotions()
        except AdapterError:
            return []
        good = [adapter for adapter in promotions if self._good(adapter)]
        kept = {*promotions[-2:], *good[-2:], *self.ids()[-count:]}
        gone = [adapter for adapter in self.ids() if adapter not in kept]
        for adapter in gone:
            # Renamed first: half of an adapter must not look like one.
            beside = self.folder / f"{_UNFINISHED}{adapter}"
            (self.folder / adapter).rename(beside)
            shutil.rmtree(beside)
        return gone

    def _whole(self, manifest: Manifest, name: str) -> bool:
        """Tell whether a file is there as it was written."""
        try:
            return sha256(self.folder / manifest.id / name) == manifest.files.get(name)
        except OSError:
            return False

    def _good(self, adapter: str) -> bool:
        try:
            self.weights(adapter)
        except AdapterError:
            return False
        return True

    def _linked(self) -> str | None:
        link = self.folder / _CURRENT
        return link.readlink().name if link.is_symlink() else None

    def _promotions(self) -> list[str]:
        """Return what was put in use, the adapter in use last.

        Raises:
            AdapterError: It is not known; the link is then all that tells of it.
        """
        file = self.folder / _PROMOTIONS
        if not file.exists() and not self._linked():
            return []
        try:
            return [str(adapter) for adapter in _read_sealed(file)["adapters"]]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise AdapterError(
                self._linked() or "current",
                f"{_PROMOTIONS} is missing or damaged, so what was in use before is not known; "
                "`panza adapters promote ID` puts one in use and begins it anew",
            ) from error

    def _use(self, promotions: list[str]) -> None:
        _write_synced(self.folder / _PROMOTIONS, _sealed({"adapters": promotions}))
        link, beside = self.folder / _CURRENT, self.folder / f"{_UNFINISHED}current"
        _remove(beside)
        if promotions:
            beside.symlink_to(promotions[-1], target_is_directory=True)
            if not link.is_symlink():
                _remove(link)
            beside.replace(link)
        else:
            _remove(link)
        _sync(self.folder)


def _reported(manifest: Manifest, report: Callable[[Manifest], str] | None) -> str:
    try:
        text = report(manifest) if report else ""
        text.encode()  # what cannot be written is as much its fault
    except Exception as error:  # noqa: BLE001 - whatever it is, the training counts for more
        # Its text may quote a mail.
        _log.warning("%s is kept without a report: %s", manifest.id, type(error).__name__)
        _log.debug("where:", exc_info=error)
        return ""
    return text


def _sealed(data: dict[str, Any]) -> str:
    """Return data as JSON that holds the SHA-256 of what else it holds."""
    digest = hashlib.sha256(json.dumps(data).encode()).hexdigest()
    return json.dumps({**data, "sha256": digest}, indent=2)


def _read_sealed(file: Path) -> dict[str, Any]:
    """Return what `_sealed` made.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not what was written.
    """
    text = file.read_text(encoding="utf-8")
    data = json.loads(text)
    if isinstance(data, dict):
        data.pop("sha256", None)
        if text == _sealed(data):
            return data
    raise ValueError(f"{file.name} does not have its checksum")


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write_synced(file: Path, text: str) -> None:
    beside = file.with_suffix(".writing")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
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
