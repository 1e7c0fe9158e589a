"""What the distribution holds, and that what is tested is what is installed."""

from __future__ import annotations

import importlib
import json
from importlib import metadata
from pathlib import Path

import pytest

DISTRIBUTION = "panza-mail-daemon"
PACKAGES = ["connectors", "daemon", "trainer"]
ROOT = Path(__file__).parents[2]


def is_editable() -> bool:
    """Tell whether the installed distribution only points at a source folder (PEP 610)."""
    origin = metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
    return bool(origin and json.loads(origin).get("dir_info", {}).get("editable"))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_names_belong_to_panza_alone(package: str) -> None:
    """No other distribution has put files into one of the three packages."""
    assert set(metadata.packages_distributions()[package]) == {DISTRIBUTION}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_tested_copy_is_the_installed_one(package: str) -> None:
    """Tests of an installed wheel import the wheel's files, not those of a source folder."""
    imported = Path(str(importlib.import_module(package).__file__))
    if is_editable():
        assert imported == ROOT / package / "__init__.py"
    else:
        recorded = metadata.distribution(DISTRIBUTION).locate_file(f"{package}/__init__.py")
        assert imported == Path(str(recorded))


def test_the_command_is_installed() -> None:
    """`panza` is the command line's `main`."""
    (script,) = metadata.distribution(DISTRIBUTION).entry_points.select(group="console_scripts")
    assert (script.name, script.value) == ("panza", "daemon.cli:main")


@pytest.mark.skipif(is_editable(), reason="an editable install has no data files")
def test_the_sample_configuration_is_installed() -> None:
    """panza.yaml comes with the wheel, word for word."""
    files = metadata.files(DISTRIBUTION) or []
    (sample,) = (file for file in files if file.name == "panza.yaml")
    assert sample.match("share/panza/panza.yaml")
    assert sample.read_text(encoding="utf-8") == (ROOT / "panza.yaml").read_text(encoding="utf-8")


@pytest.mark.skipif(is_editable(), reason="an editable install has no data files")
def test_the_units_are_installed() -> None:
    """Every file of systemd/ comes with the wheel, word for word."""
    source = ROOT / "systemd"
    shipped = {path.relative_to(source): path for path in source.rglob("*") if path.is_file()}
    assert len(shipped) == 9
    installed = [file for file in metadata.files(DISTRIBUTION) or [] if "systemd" in file.parts]
    assert len(installed) == len(shipped)
    for name, path in shipped.items():
        (file,) = (file for file in installed if file.match(f"share/panza/systemd/{name}"))
        assert file.read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


def test_every_constraint_is_one_version() -> None:
    """constraints.txt pins each package once and exactly, with no local build."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    assert all(len(pin) == 2 and "+" not in pin[1] for pin in pins)
    names = [name for name, _ in pins]
    assert names == sorted(set(names))
