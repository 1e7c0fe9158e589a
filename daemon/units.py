"""The units in ``systemd/``, made for one installation: its command, configuration and secrets.

They are shipped as they would stand on a machine with Panza in ``/opt/panza``, so that they can be
read, checked and copied as they are. Here the paths of this installation take the place of those.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.errors import ConfigError, UnfitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.config import Account, Config, Secret

MAIL, SOCKET, MODEL = UNITS = ("panza.service", "panza-model.socket", "panza-model.service")
CREDENTIALS = f"{MAIL}.d/credentials.conf"
BACKOFF = f"{MAIL}.d/backoff.conf"
GPU = f"{MODEL}.d/gpu.conf"
NAMESPACES = f"{MODEL}.d/namespaces.conf"
FILES = (*UNITS, CREDENTIALS, BACKOFF, GPU, NAMESPACES)
"""Every file that an installation can have, below the manager's folder for units."""

MARK = "# Written by `panza service install`.\n"
"""The first line of each of them; a file without it is somebody else's."""

STATE = Path("/var/lib/panza")
"""What StateDirectory=panza stands for in the system manager."""

_BACKOFF_SINCE = 254  # the version of systemd that brought RestartSteps=
_SHIPPED = ("/opt/panza/bin/panza", "/etc/panza/panza.yaml", "%h/.config/panza/panza.yaml")
_SHIPPED_WRITABLE = "%h/.local/share/panza %h/.cache/panza"


@dataclass(frozen=True, slots=True)
class Installation:
    """What the units are made for.

    Attributes:
        command: The ``panza`` that they start.
        config_file: The configuration that they name.
        config: What stands in it.
        user: For a user manager, instead of the system's.
        systemd: The version of systemd.
        namespaces: Whether a user manager can give a service namespaces of its own.
        root: Below which credentials and devices are looked for; elsewhere only for an image.
    """

    command: Path
    config_file: Path
    config: Config
    user: bool
    systemd: int
    namespaces: bool = False
    root: Path = Path("/")


def rendered(installation: Installation) -> dict[str, str]:
    """Return the text of each file, by its name below the manager's folder for units."""
    made = {name: _unit(name, installation) for name in UNITS}
    if lines := _credential_lines(installation):
        made[CREDENTIALS] = "".join(("[Service]\n", *(f"{line}\n" for line in lines)))
    if installation.systemd >= _BACKOFF_SINCE:
        made[BACKOFF] = _shipped("optional/backoff.conf")
    if _wants_gpu(installation):
        made[GPU] = _shipped("optional/gpu.conf")
    if installation.user and installation.namespaces:
        config = installation.config
        writable = f"{_word(config.data)} {_word(config.cache)}"
        text = _shipped("optional/namespaces.conf")
        made[NAMESPACES] = text.replace(_SHIPPED_WRITABLE, writable)
    return {name: MARK + text for name, text in made.items()}


def missing_credentials(installation: Installation) -> dict[str, Path]:
    """Return the credentials that the configuration names and nobody has stored yet.

    Returns:
        For each of them the file that is looked for.
    """
    return {
        name: _stores(installation)[0] / f"panza.{name}"
        for name in _credentials(installation)
        if _stored(name, installation) is None
    }


def secrets(account: Account) -> Iterator[tuple[str, Secret]]:
    """Yield where each secret of an account stands in the configuration, and the reference."""
    for key in ("imap", "smtp"):
        server = getattr(account, key)
        if server is not None:
            yield f"{key}.{'oauth.token' if server.oauth else 'password'}", server.secret


def _unit(name: str, installation: Installation) -> str:
    text = _shipped(f"user/{name}" if installation.user else name)
    command, *configs = _SHIPPED
    text = text.replace(command, _word(installation.command))
    for config in configs:
        # After a command's name a dollar would stand for a variable.
        text = text.replace(f"--config {config}", f"--config {_argument(installation.config_file)}")
    return text


def _shipped(name: str) -> str:
    """Return a file of ``systemd/``: of the source folder, or as the wheel has installed it."""
    beside = Path(__file__).parents[1] / "systemd" / name
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    for file in metadata.files("panza-mail-daemon") or ():
        if file.match(f"share/panza/systemd/{name}"):
            return Path(str(file.locate())).read_text(encoding="utf-8")
    raise UnfitError(
        f"This installation of Panza lacks the unit {name}.",
        "Install Panza again, from its wheel or its source folder.",
    )


def _credential_lines(installation: Installation) -> list[str]:
    lines = []
    for name in _credentials(installation):
        stored = _stored(name, installation)
        if installation.user:
            # A user manager takes only full paths, and does not start where the file is missing.
            if stored:
                lines.append(f"LoadCredential={name}:{_word(stored)}")
        else:
            # Looked for in the system's stores when the service starts; not there is no error.
            plain = stored is not None and stored.parent.name == "credstore"
            kind = "LoadCredential" if plain else "LoadCredentialEncrypted"
            lines.append(f"{kind}={name}:panza.{name}")
    return lines


def _credentials(installation: Installation) -> list[str]:
    """Return the names of the credentials that the configuration refers to, each once."""
    names: dict[str, None] = {}
    for number, account in enumerate(installation.config.accounts):
        for where, secret in secrets(account):
            if (name := secret.credential) is None:
                continue
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", name):
                fault = f"accounts[{number}].{where}.credential: expected letters, digits, . _ or -"
                raise ConfigError(installation.config_file, [fault])
            names[name] = None
    return list(names)


def _stored(name: str, installation: Installation) -> Path | None:
    found = (store / f"panza.{name}" for store in _stores(installation))
    return next((path for path in found if path.is_file()), None)


def _stores(installation: Installation) -> tuple[Path, ...]:
    if installation.user:
        return (Path("~/.config/credstore").expanduser(),)
    return (installation.root / "etc/credstore.encrypted", installation.root / "etc/credstore")


def _wants_gpu(installation: Installation) -> bool:
    # A user manager puts no limits on devices.
    device = installation.config.model.device
    there = (installation.root / "dev/nvidiactl").exists()
    return not installation.user and (device == "cuda" or (device == "auto" and there))


def _word(path: Path) -> str:
    """Return a path as one word of a unit (systemd.syntax(7), systemd.unit(5))."""
    text = str(path)
    if not text.isprintable():
        raise UnfitError(f"A unit cannot name the path {text!r}.", "Choose a path without it.")
    text = text.replace("%", "%%")
    if re.search(r"[\s\"'\\;]", text):
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def _argument(path: Path) -> str:
    return _word(path).replace("$", "$$")
