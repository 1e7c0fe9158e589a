"""The adapter registry."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from trainer.adapters import REPORT, WEIGHTS, InUse, Manifest, Registry
from trainer.errors import AdapterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.base_model import LanguageModel

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


FLIPS = 200


def flipped(file: Path, *, count: int = FLIPS) -> Iterator[int]:
    """Flip one bit of a file at a time, another one each time; give its place, then put it back."""
    whole = file.read_bytes()
    dice = random.Random(file.name)
    for bit in dice.sample(range(8 * len(whole)), min(count, 8 * len(whole))):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        yield bit
    file.write_bytes(whole)


def test_a_bit_flipped_anywhere_in_an_adapter_brings_back_the_one_before(
    registry: Registry,
) -> None:
    """No flip in weights or manifest goes unnoticed, and the last good adapter is used."""
    one, two = add(registry), add(registry)
    registry.promote(one)
    registry.promote(two)
    for name in (WEIGHTS, "manifest.json"):
        for bit in flipped(registry.folder / two / name):
            with pytest.raises(AdapterError, match="rollback"):
                registry.weights(two, base_hash=HASH)
            found = registry.in_use(base_hash=HASH)
            assert found.adapter == one, bit
            assert "damaged" in found.fault
            assert two in found.fault
    assert registry.in_use(base_hash=HASH) == InUse(two)


def test_a_bit_flipped_in_the_list_of_promotions_changes_nothing_in_use(
    registry: Registry,
) -> None:
    """The link then tells what is in use; a rollback says why it cannot be, and nothing goes."""
    ids = [add(registry) for _ in range(3)]
    for adapter in ids:
        registry.promote(adapter)
    for _ in flipped(registry.folder / "promotions.json"):
        assert registry.current() == ids[2]
        found = registry.in_use(base_hash=HASH)
        assert found.adapter == ids[2]
        assert "panza adapters promote" in found.fault
        with pytest.raises(AdapterError, match=r"promotions\.json"):
            registry.rollback()
        assert registry.retain(1) == []
    next(flipped(registry.folder / "promotions.json"))
    registry.promote(ids[1])
    assert registry.in_use(base_hash=HASH) == InUse(ids[1])
    assert registry.rollback() == ids[2]


@pytest.mark.parametrize("damage", ["dangling", "gone", "a file", "a folder", "another"])
def test_a_damaged_link_changes_nothing(registry: Registry, damage: str) -> None:
    """What is in use stands in the list; the next promotion mends the link."""
    one, two = add(registry), add(registry)
    registry.promote(one)
    link = registry.folder / "current"
    link.unlink()
    if damage == "dangling":
        link.symlink_to("20260102-030405-rosb")
    elif damage == "another":
        link.symlink_to(two)
    elif damage == "a file":
        link.write_bytes(b"?")
    elif damage == "a folder":
        link.mkdir()
    assert registry.in_use(base_hash=HASH) == InUse(one)
    registry.promote(two)
    assert link.readlink().name == two
    assert registry.rollback() == one


def test_without_list_and_link_the_base_model_is_in_use(registry: Registry) -> None:
    """A list that is damaged beside a dangling link leaves the base model, and says so."""
    one = add(registry)
    registry.promote(one)
    (registry.folder / "promotions.json").write_text("[]")
    (registry.folder / "current").unlink()
    (registry.folder / "current").symlink_to("nothing")
    found = registry.in_use(base_hash=HASH)
    assert found.adapter is None
    assert "promotions.json" in found.fault


def test_an_adapter_of_another_base_model_is_not_used(registry: Registry) -> None:
    """After a change of the base model it alone writes, and what is wrong is told."""
    registry.promote(add(registry))
    found = registry.in_use(base_hash="cd" * 32)
    assert found.adapter is None
    assert "another base model" in found.fault
    assert "train again" in found.fault


def test_a_damaged_adapter_is_not_put_in_use(registry: Registry) -> None:
    """Neither a promotion nor a rollback puts in use what could not be used."""
    ids = [add(registry) for _ in range(3)]
    for adapter in ids:
        registry.promote(adapter)
    (registry.folder / ids[1] / WEIGHTS).write_bytes(b"x")
    with pytest.raises(AdapterError, match="damaged"):
        registry.promote(ids[1])
    assert registry.current() == ids[2]
    assert registry.rollback() == ids[0]


def test_a_promotion_that_was_killed_is_whole_or_not_there(registry: Registry) -> None:
    """Killed before the link was replaced, the promotion counts; what was left over goes."""
    one, two = add(registry), add(registry)
    registry.promote(one)
    registry.promote(two)
    link, beside = registry.folder / "current", registry.folder / ".unfinished-current"
    link.unlink()
    link.symlink_to(one)
    beside.symlink_to(two)
    assert registry.current() == two
    three = add(registry)
    assert not beside.is_symlink()
    registry.promote(three)
    assert registry.rollback() == two


def test_what_is_whole_and_no_adapter_is_told(
    registry: Registry, make_tiny: Callable[..., LanguageModel]
) -> None:
    """Weights that no model takes are a fault of the adapter; the base model stays as it was."""
    one = add(registry)
    lm = make_tiny()
    lm.hash = HASH
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    with pytest.raises(AdapterError, match="cannot be used") as caught:
        registry.load(one, lm)
    assert one in str(caught.value)
    after = lm.model.state_dict()
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)


def add_with(registry: Registry, report: Callable[[Manifest], str]) -> str:
    """Store an adapter with a report."""
    name = registry.new_id(NOW, "rosa")
    manifest = Manifest(name, NOW.isoformat(), "embedded", HASH, "rosa")
    return registry.add(manifest, lambda file: file.write_bytes(b"weights") and None, report).id


def test_a_report_lies_beside_the_weights(registry: Registry) -> None:
    """It is private, hashed in the manifest, and found again."""
    one = add_with(registry, lambda manifest: f"<p>of {manifest.id}, grün")
    file = registry.report(one)
    assert file == registry.folder / one / REPORT
    assert file.read_text(encoding="utf-8") == f"<p>of {one}, grün"
    assert file.stat().st_mode & 0o777 == 0o600
    assert set(registry.manifest(one).files) == {WEIGHTS, REPORT}


def test_an_adapter_without_a_report_has_none(registry: Registry) -> None:
    """Those that were trained before there were reports are as good as ever."""
    one = add(registry)
    assert registry.report(one) is None
    assert registry.weights(one).exists()


@pytest.mark.parametrize("fault", [ValueError("no"), MemoryError(), RecursionError()])
def test_a_report_that_cannot_be_made_loses_no_training(
    registry: Registry, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The adapter is stored without one, and the log tells of the kind of fault alone."""

    def fail(_manifest: Manifest) -> str:
        raise fault

    one = add_with(registry, fail)
    assert registry.weights(one).exists()
    assert registry.report(one) is None
    assert f"{one} is kept without a report: {type(fault).__name__}" in caplog.text


def test_a_report_that_cannot_be_written_is_as_one_that_cannot_be_made(registry: Registry) -> None:
    """Half a surrogate pair is no text in UTF-8."""
    assert registry.report(add_with(registry, lambda _: "\ud800")) is None


@pytest.mark.parametrize("change", ["delete", "damage"])
def test_a_report_that_is_gone_or_changed_takes_no_adapter_along(
    registry: Registry, change: str
) -> None:
    """It holds mail, so its reader may delete it; what was changed is not passed off as ours."""
    one = add_with(registry, lambda _: "<p>good")
    registry.promote(one)
    file = registry.folder / one / REPORT
    file.unlink() if change == "delete" else file.write_text("<p>bad")
    assert registry.report(one) is None
    assert registry.in_use() == InUse(one)
