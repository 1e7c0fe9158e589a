"""The adapter registry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from trainer.adapters import WEIGHTS, Manifest, Registry
from trainer.errors import AdapterError

if TYPE_CHECKING:
    from pathlib import Path

HASH = "ab" * 32
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry whose folder is not there yet."""
    return Registry(tmp_path / "adapters")


def add(registry: Registry) -> str:
    """Store an adapter that holds its own id."""
    name = registry.new_id(NOW, "rosa")
    manifest = Manifest(name, NOW.isoformat(), "embedded", HASH, "rosa")
    return registry.add(manifest, lambda file: file.write_bytes(name.encode()) and None).id


def test_an_empty_registry_is_empty(registry: Registry) -> None:
    """Before the first training nothing is there and nothing is in use."""
    assert registry.ids() == []
    assert registry.current() is None


def test_ids_are_the_time_and_never_taken_twice(registry: Registry) -> None:
    """Two trainings that end in one second have two ids, in order."""
    ids = [add(registry), add(registry), add(registry)]
    assert ids == ["20260102-030405-rosa", "20260102-030405-rosa-2", "20260102-030405-rosa-3"]
    assert registry.ids() == ids


def test_an_added_adapter_is_not_in_use_until_promoted(registry: Registry) -> None:
    """Adding stores; promoting puts in use."""
    one = add(registry)
    assert registry.current() is None
    registry.promote(one)
    assert registry.current() == one
    assert registry.weights(one, base_hash=HASH).read_bytes() == one.encode()


def test_rollback_goes_back_one_promotion_at_a_time(registry: Registry) -> None:
    """Each rollback returns to what was in use before, at last to the base model."""
    one, two = add(registry), add(registry)
    for adapter in (one, two, two):
        registry.promote(adapter)
    assert registry.rollback() == one
    assert registry.rollback() is None
    with pytest.raises(AdapterError, match="nothing to roll back"):
        registry.rollback()


def test_an_adapter_that_is_not_finished_is_not_there(registry: Registry) -> None:
    """A training killed while it writes leaves nothing that could be used; the next cleans up."""

    def die(file: Path) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        registry.add(Manifest("x", "", "embedded", HASH, "rosa"), die)
    assert registry.ids() == []
    with pytest.raises(AdapterError):
        registry.promote("x")
    add(registry)
    assert len(list(registry.folder.iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"20260102-030405-rosb"])
def test_a_flipped_bit_is_noticed(registry: Registry, damage: bytes) -> None:
    """Weights that are not those of the manifest are refused by name."""
    one = add(registry)
    (registry.folder / one / WEIGHTS).write_bytes(damage)
    with pytest.raises(AdapterError, match=WEIGHTS):
        registry.weights(one, base_hash=HASH)


def test_a_missing_file_is_noticed(registry: Registry) -> None:
    """Weights that are gone are refused, not loaded from elsewhere."""
    one = add(registry)
    (registry.folder / one / WEIGHTS).unlink()
    with pytest.raises(AdapterError, match="missing"):
        registry.weights(one, base_hash=HASH)


def test_another_base_model_is_refused(registry: Registry) -> None:
    """An adapter fits the base model it was trained on, by hash, and no other."""
    one = add(registry)
    with pytest.raises(AdapterError, match="another base model"):
        registry.weights(one, base_hash="cd" * 32)


def test_a_damaged_manifest_is_told(registry: Registry) -> None:
    """A manifest that is no JSON names its adapter."""
    one = add(registry)
    (registry.folder / one / "manifest.json").write_text("{")
    with pytest.raises(AdapterError, match=one):
        registry.manifest(one)


def test_all_is_private(registry: Registry) -> None:
    """Folders are for the owner alone, and so are the files in them."""
    one = add(registry)
    registry.promote(one)
    assert registry.folder.stat().st_mode & 0o777 == 0o700
    assert (registry.folder / one).stat().st_mode & 0o777 == 0o700
    files = [p for p in registry.folder.rglob("*") if p.is_file() and not p.is_symlink()]
    assert {p.stat().st_mode & 0o777 for p in files} == {0o600}


def test_old_adapters_go_and_those_that_matter_stay(registry: Registry) -> None:
    """Of many adapters the newest stay, and so do the one in use and the one before it."""
    ids = [add(registry) for _ in range(6)]
    for adapter in (ids[0], ids[1], ids[2]):
        registry.promote(adapter)
    assert registry.retain(2) == [ids[0], ids[3]]
    assert registry.ids() == [ids[1], ids[2], ids[4], ids[5]]
    assert registry.current() == ids[2]
    assert registry.rollback() == ids[1]
    assert registry.retain(2) == [ids[2]]
