"""The models in memory: an adapter writes merged into whole weights, or beside 4-bit ones."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
import torch
import yaml

from daemon import config as configuration
from daemon.models import Models
from daemon.training import adapters_folder
from trainer import base_model
from trainer.adapters import Manifest
from trainer.errors import AdapterError
from trainer.rosa import RosaConfig, get_rosa_model
from trainer.rosa.layer import RosaLayer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from daemon.config import Config
    from trainer.base_model import LanguageModel

PRECISIONS = [
    "fp32",
    pytest.param(
        "4bit",
        marks=pytest.mark.skipif(
            not find_spec("bitsandbytes"), reason="lacks the package bitsandbytes"
        ),
    ),
]


@pytest.fixture
def configured(
    tmp_path: Path, make_tiny: Callable[..., LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Config]:
    """Return a function that gives a configuration of a precision; there are adapters a and b."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lm = make_tiny(hidden=64, wide=128)
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")

    def configure(precision: str) -> Config:
        content = {
            "data": str(tmp_path / "data"),
            "accounts": [
                {
                    "name": "jen",
                    "address": "jen@example.org",
                    "full_name": "Jen Doe",
                    "archives": [str(tmp_path / "sent.mbox")],
                }
            ],
            "model": {"name": str(tmp_path / "model"), "precision": precision, "device": "cpu"},
        }
        file = tmp_path / "panza.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        return configuration.load(file)

    config = configure("fp32")
    registry = adapters_folder(config, config.accounts[0])
    base = base_model.load(str(tmp_path / "model"), cache=config.cache, device="cpu")
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        rosa = get_rosa_model(base.model, RosaConfig(rank=2, density=0))
        for parameter in rosa.lora_parameters().values():
            torch.nn.init.normal_(parameter, std=0.3)
        manifest = Manifest(name, "2026-01-01", base.name, base.hash, "rosa")
        registry.add(manifest, lambda file, rosa=rosa: rosa.save(file, base_hash=base.hash))
        rosa.unload()
    return configure


def answer(lm: LanguageModel) -> torch.Tensor:
    """Return a model's logits for the same tokens."""
    with torch.no_grad():
        out: torch.Tensor = lm.model(torch.arange(3, 30).view(1, -1)).logits
    return out


@pytest.mark.parametrize("precision", PRECISIONS)
def test_adapters_take_turns(configured: Callable[[str], Config], precision: str) -> None:
    """Each adapter, and none, answers as it does in models that were just loaded."""
    config = configured(precision)
    account = config.accounts[0]
    alone = {
        name: answer(Models().writing(config, account, name)[0]) for name in ("a", "b", "base")
    }
    assert not torch.equal(alone["a"], alone["b"])
    models = Models()
    for name in ("a", "a", "base", "b", "a"):
        lm, chosen = models.writing(config, account, name)
        assert chosen == name
        assert torch.equal(answer(lm), alone[name])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_adapter_is_merged_unless_the_weights_are_of_4_bits(
    configured: Callable[[str], Config], precision: str
) -> None:
    """Whole weights are read anew for another adapter; 4-bit ones stay, quantised once."""
    config = configured(precision)
    models, account = Models(), config.accounts[0]
    first, _ = models.writing(config, account, "a")
    beside = any(isinstance(module, RosaLayer) for module in first.model.modules())
    second, _ = models.writing(config, account, "b")
    assert beside == (precision == "4bit")
    assert (second is first) == (precision == "4bit")
    third, _ = models.writing(config, account, "base")
    assert not any(isinstance(module, RosaLayer) for module in third.model.modules())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_damaged_adapter_leaves_the_models_usable(
    configured: Callable[[str], Config], precision: str
) -> None:
    """The error names it, and the next request is served."""
    config = configured(precision)
    models, account = Models(), config.accounts[0]
    expected = answer(models.writing(config, account, "a")[0])
    file = adapters_folder(config, account).folder / "b" / "adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(AdapterError, match="'b'"):
        models.writing(config, account, "b")
    assert torch.equal(answer(models.writing(config, account, "a")[0]), expected)
