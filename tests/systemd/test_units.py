"""The units as text: valid, hardened, and made for the installation at hand."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from needs import need_command

from daemon import config_file, units
from daemon.errors import ConfigError, UnfitError
from daemon.units import Installation

if TYPE_CHECKING:
    from collections.abc import Callable

    Installed = Callable[..., Path]

CONFIG = """
data: /srv/panza
accounts:
  - name: work
    address: jen@example.org
    imap: {host: imap.example.org, password: {credential: imap}}
    smtp: {host: smtp.example.org, password: {credential: smtp}}
  - name: home
    address: jen@example.net
    imap: {host: imap.example.net, oauth: {token: {credential: token}}}
    smtp: {host: smtp.example.net, password: {credential: smtp}}
"""
LOOSEST = {units.MAIL: 1.0, units.MODEL: 0.5}


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """Return an installation for the system, with a command that can be executed."""
    command = tmp_path / "panza"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    config = config_file.parse(CONFIG, Path("/etc/panza/panza.yaml"))
    return Installation(
        command=command,
        config_file=Path("/etc/panza/panza.yaml"),
        config=config,
        user=False,
        systemd=252,
        root=tmp_path,
    )


def analyze(*words: str) -> str:
    """Run systemd-analyze and return all that it prints."""
    command = need_command("systemd-analyze", package="systemd")
    done = subprocess.run(  # noqa: S603
        [command, *words], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr


def written(folder: Path, texts: dict[str, str]) -> Path:
    """Write the files of an installation, and return their folder."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def with_gpu(installation: Installation) -> Installation:
    """Return the installation as of a machine that has a GPU."""
    (installation.root / "dev").mkdir()
    (installation.root / "dev/nvidiactl").touch()
    return installation


@pytest.mark.parametrize("unit", units.UNITS)
@pytest.mark.parametrize("machine", [replace, with_gpu])
def test_systemd_has_nothing_to_say_against_a_unit(
    tmp_path: Path,
    installation: Installation,
    unit: str,
    machine: Callable[[Installation], Installation],
) -> None:
    """`systemd-analyze verify`, which only warns of unknown words, prints nothing."""
    folder = written(tmp_path / "units", units.rendered(machine(installation)))
    assert analyze("verify", "--man=no", str(folder / unit)) == ""


@pytest.mark.parametrize("unit", units.UNITS)
def test_systemd_has_nothing_to_say_against_a_unit_of_a_user(
    tmp_path: Path, installation: Installation, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`systemd-analyze --user verify` prints nothing."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    texts = units.rendered(replace(installation, user=True, namespaces=True))
    folder = written(tmp_path / "units", texts)
    assert analyze("--user", "verify", "--man=no", str(folder / unit)) == ""


@pytest.mark.parametrize("unit", LOOSEST)
@pytest.mark.parametrize("machine", [replace, with_gpu])
def test_a_unit_is_exposed_no_more_than_it_has_to_be(
    tmp_path: Path,
    installation: Installation,
    unit: str,
    machine: Callable[[Installation], Installation],
) -> None:
    """`systemd-analyze security` finds at most 1.0 for the mail process, 0.5 for the model's."""
    folder = written(tmp_path / "units", units.rendered(machine(installation)))
    said = analyze("security", "--offline=true", "--no-pager", str(folder / unit))
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= LOOSEST[unit], said


def test_units_name_this_installation(installation: Installation) -> None:
    """Both services start this command with this configuration, and nothing of a default stays."""
    texts = units.rendered(replace(installation, config_file=Path("/srv/jen's/50% $a.yaml")))
    for name, words in ((units.MAIL, "run"), (units.MODEL, "model")):
        (start,) = re.findall(r"^ExecStart=(.*)$", texts[name], re.MULTILINE)
        assert start == f'{installation.command} --config "/srv/jen\'s/50%% $$a.yaml" {words}'
    assert not any("/etc/panza/panza.yaml" in text for text in texts.values())


def test_units_of_a_user_name_this_installation(installation: Installation) -> None:
    """The model process of a user may write where the data and the cache are, and nowhere else."""
    texts = units.rendered(replace(installation, user=True, namespaces=True))
    start = f"ExecStart={installation.command} --config /etc/panza/panza.yaml run\n"
    assert start in texts[units.MAIL]
    writable = f"ReadWritePaths=/srv/panza {installation.config.cache}\n"
    assert writable in texts[units.NAMESPACES]


def test_namespaces_are_asked_for_only_where_they_can_be_had(installation: Installation) -> None:
    """A user's service that asks for them in vain would not start; the system has them always."""
    of_user = replace(installation, user=True)
    assert units.NAMESPACES not in units.rendered(of_user)
    assert units.NAMESPACES in units.rendered(replace(of_user, namespaces=True))
    assert units.NAMESPACES not in units.rendered(replace(installation, namespaces=True))


def test_a_path_that_no_unit_can_name_is_refused(installation: Installation) -> None:
    """A line feed in a path would begin a line of the unit."""
    with pytest.raises(UnfitError, match="path"):
        units.rendered(replace(installation, config_file=Path("/srv/a\nExecStartPre=/b.yaml")))


def test_each_credential_is_handed_over_once(installation: Installation) -> None:
    """Those stored in clear are loaded as such; those encrypted or not there yet, as encrypted."""
    for store, name in (("credstore", "smtp"), ("credstore.encrypted", "imap")):
        (installation.root / "etc" / store).mkdir(parents=True, exist_ok=True)
        (installation.root / "etc" / store / f"panza.{name}").touch()
    assert units.rendered(installation)[units.CREDENTIALS].splitlines()[1:] == [
        "[Service]",
        "LoadCredentialEncrypted=imap:panza.imap",
        "LoadCredential=smtp:panza.smtp",
        "LoadCredentialEncrypted=token:panza.token",
    ]
    missing = units.missing_credentials(installation)
    assert missing == {"token": installation.root / "etc/credstore.encrypted/panza.token"}


def test_only_stored_credentials_are_handed_over_by_a_user_manager(
    tmp_path: Path, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not start a unit one of whose credentials is not there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    of_user = replace(installation, user=True)
    assert units.CREDENTIALS not in units.rendered(of_user)
    store = tmp_path / ".config/credstore"
    store.mkdir(parents=True)
    (store / "panza.smtp").touch()
    text = units.rendered(of_user)[units.CREDENTIALS]
    assert text.splitlines()[1:] == ["[Service]", f"LoadCredential=smtp:{store}/panza.smtp"]
    assert sorted(units.missing_credentials(of_user)) == ["imap", "token"]


def test_a_name_that_would_be_more_than_a_credential_is_refused(
    installation: Installation,
) -> None:
    """What stands behind `credential:` cannot write into the unit."""
    text = CONFIG.replace("{credential: imap}", '{credential: "a:/etc/shadow"}')
    config = config_file.parse(text, installation.config_file)
    with pytest.raises(ConfigError, match=r"accounts\[0\]\.imap\.password\.credential"):
        units.rendered(replace(installation, config=config))


@pytest.mark.parametrize(
    ("device", "has_gpu", "expected"),
    [("auto", False, False), ("auto", True, True), ("cuda", False, True), ("cpu", True, False)],
)
def test_the_devices_of_a_gpu_are_opened_where_there_is_one(
    installation: Installation, device: str, *, has_gpu: bool, expected: bool
) -> None:
    """`model.device` decides; auto opens them where the machine has such a GPU."""
    config = config_file.parse(f"{CONFIG}model: {{device: {device}}}", installation.config_file)
    made = replace(with_gpu(installation) if has_gpu else installation, config=config)
    assert (units.GPU in units.rendered(made)) == expected
    assert units.GPU not in units.rendered(replace(made, user=True))


def test_waits_between_restarts_grow_where_systemd_can_do_it(installation: Installation) -> None:
    """RestartSteps= came with systemd 254; an older one would warn of it at every start."""
    assert units.BACKOFF not in units.rendered(replace(installation, systemd=253))
    assert "RestartSteps=" in units.rendered(replace(installation, systemd=254))[units.BACKOFF]
