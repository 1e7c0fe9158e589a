"""`panza service` without a service manager: what it writes, keeps, removes and refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon import cli, config_file, installing, service_command, units
from daemon.errors import UnfitError

if TYPE_CHECKING:
    from collections.abc import Callable

    Service = Callable[..., tuple[int, str, str]]

CONFIG = """
data: /var/lib/panza
accounts:
  - name: work
    address: jen@example.org
    imap: {host: imap.example.org, password: {credential: imap}}
"""
HOME_CONFIG = """
accounts:
  - name: work
    address: jen@example.org
    imap: {host: imap.example.org, password: {keyring: mail}}
    archives: [/home/jen/Sent.mbox]
model: {name: /root/model}
"""
TEXTS = {units.MAIL: f"{units.MARK}a", units.GPU: f"{units.MARK}b"}


@pytest.fixture
def service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Service:
    """Return `panza service` below a folder, for a user: exit code, output, error output."""
    config = tmp_path / "etc/panza/panza.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG)

    def run(action: str, *words: str) -> tuple[int, str, str]:
        general = ["--config", "/etc/panza/panza.yaml"]
        code = cli.main([*general, "service", action, "--prefix", str(tmp_path), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_units_are_written_and_written_again(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same again changes nothing; a password that is stored changes what depends on it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/config")
    folder = tmp_path / "config/systemd/user"
    code, out, err = service("install", "--user", "--json")
    assert code == 0, err
    assert json.loads(out)["written"] == [str(folder / name) for name in units.UNITS]
    code, out, _ = service("install", "--user", "--json")
    said = json.loads(out)
    assert (said["written"], said["removed"], said["started"]) == ([], [], False)
    assert len(said["unchanged"]) == len(units.UNITS)
    store = tmp_path / "home/.config/credstore"
    store.mkdir(parents=True)
    (store / "panza.imap").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    code, out, _ = service("install", "--user", "--json")
    assert json.loads(out)["written"] == [str(folder / units.CREDENTIALS)]


def test_uninstalling_takes_the_units_and_nothing_else(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drop-ins of the owner stay, and the command says what else does."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/config")
    folder = tmp_path / "config/systemd/user"
    service("install", "--user")
    own = folder / "panza.service.d/override.conf"
    own.parent.mkdir()
    own.write_text("[Service]\nNice=3\n")
    code, out, _ = service("uninstall", "--user")
    assert code == 0
    assert "stays     the configuration /etc/panza/panza.yaml" in out
    assert [path for path in folder.rglob("*") if path.is_file()] == [own]
    assert "nothing was installed" in service("uninstall", "--user")[1]


def test_a_missing_configuration_is_refused(service: Service, tmp_path: Path) -> None:
    """Exit code 78, and no unit."""
    (tmp_path / "etc/panza/panza.yaml").unlink()
    code, out, err = service("install", "--user")
    assert (code, out) == (78, "")
    assert "No such file" in err
    assert not list(tmp_path.rglob("*.service"))


def test_a_faulty_configuration_is_refused(service: Service, tmp_path: Path) -> None:
    """Exit code 78, each fault by its path, and no unit."""
    (tmp_path / "etc/panza/panza.yaml").write_text(CONFIG + "retrieval: {emails: many}\n")
    code, _, err = service("install", "--user")
    assert code == 78
    assert 'retrieval.emails: expected an integer, got "many"' in err
    assert not list(tmp_path.rglob("*.service"))


def test_an_installation_in_a_home_is_refused() -> None:
    """The service of the system would not see it; the remedy says where to install."""
    with pytest.raises(UnfitError, match="sees no homes") as caught:
        service_command._require_visible(Path("/home/jen/venv/bin/panza"))
    assert "/opt/panza" in caught.value.remedy


def test_a_file_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    """Then nothing at all is written, and nothing removed."""
    (tmp_path / units.GPU).parent.mkdir()
    (tmp_path / units.GPU).write_text("[Service]\nPrivateDevices=no\n")
    with pytest.raises(UnfitError, match=r"gpu\.conf was not written by"):
        installing.write(tmp_path, TEXTS)
    assert not (tmp_path / units.MAIL).exists()
    assert installing.remove(tmp_path) == []


def test_a_file_that_is_no_longer_wanted_goes(tmp_path: Path) -> None:
    """With its folder, where nothing else is in it."""
    installing.write(tmp_path, TEXTS)
    changes = installing.write(tmp_path, {units.MAIL: TEXTS[units.MAIL]})
    assert (changes.written, changes.removed) == ([], [tmp_path / units.GPU])
    assert [path.name for path in tmp_path.iterdir()] == [units.MAIL]


def test_units_are_for_all_to_read(tmp_path: Path) -> None:
    """Whatever the umask of who installs them."""
    before = os.umask(0o077)
    try:
        installing.write(tmp_path, TEXTS)
    finally:
        os.umask(before)
    assert (tmp_path / units.MAIL).stat().st_mode & 0o777 == 0o644


def test_what_the_service_cannot_reach_is_told() -> None:
    """Homes and keyrings, each by the path of its key."""
    config = config_file.parse(HOME_CONFIG, Path("/etc/panza/panza.yaml"))
    found = dict(service_command._out_of_reach(config))
    assert sorted(found) == ["accounts[0].archives", "accounts[0].imap.password", "model.name"]
