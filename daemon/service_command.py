"""The command `panza service`: Panza as a service of systemd, installed and uninstalled."""

from __future__ import annotations

import os
import pwd
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from daemon import config_file, installing, units
from daemon.cli import Outcome
from daemon.errors import UnfitError
from daemon.units import Installation

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from daemon.config import Config

_SYSTEM_CONFIG = Path("/etc/panza/panza.yaml")
_HOMES = tuple(map(Path, ("/home", "/root", "/run/user")))  # what ProtectHome=yes hides


def service(options: Namespace) -> Outcome:
    """Install or uninstall the service."""
    return _install(options) if options.action == "install" else _uninstall(options)


def _install(options: Namespace) -> Outcome:
    manager = installing.Manager(user=options.user)
    start = not (options.no_start or options.prefix)
    path = _config_file(options)
    config = config_file.read(_below(options.prefix, path))
    _require_rights(options)
    installation = Installation(
        command=_command(),
        config_file=path,
        config=config,
        user=options.user,
        systemd=manager.version(),
        namespaces=options.user and not options.prefix and manager.gives_namespaces(),
        root=options.prefix or Path("/"),
    )
    if not options.user:
        _require_visible(installation.command)
    changes = installing.write(_folder(options), units.rendered(installation))
    if options.user and not options.prefix:
        _make_writable_folders(config)
    if start:
        manager.start(changed=bool(changes))
    data = {
        "written": changes.written,
        "unchanged": changes.unchanged,
        "removed": changes.removed,
        "started": start,
    }
    lines = [f"{word:<10}{path}" for word in list(data)[:3] for path in getattr(changes, word)]
    return Outcome(
        data, "\n".join((*lines, _next(options, start=start))), notes=[*_notes(installation)]
    )


def _uninstall(options: Namespace) -> Outcome:
    _require_rights(options)
    folder = _folder(options)
    manager = installing.Manager(user=options.user)
    there = (folder / units.MAIL).exists()
    running = there and not (options.no_start or options.prefix)
    if running:
        manager.stop()
    removed = installing.remove(folder)
    if running:
        manager.call("daemon-reload")
    kept = [*_kept(options)]
    lines = [f"removed   {path}" for path in removed] or ["nothing was installed"]
    lines += [f"stays     {what}" for what in kept]
    return Outcome({"removed": removed, "kept": kept}, "\n".join(lines))


def _folder(options: Namespace) -> Path:
    if options.user:
        base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        return _below(options.prefix, Path(base).expanduser().absolute() / "systemd/user")
    return _below(options.prefix, Path("/etc/systemd/system"))


def _config_file(options: Namespace) -> Path:
    """Return the configuration that the service is to have, as the service sees its path."""
    if options.config:
        return Path(os.path.abspath(options.config))  # noqa: PTH100 - links stay links
    return config_file.places()[1] if options.user else _SYSTEM_CONFIG


def _below(prefix: Path | None, path: Path) -> Path:
    return prefix / path.relative_to("/") if prefix else path


def _command() -> Path:
    command = Path(sysconfig.get_path("scripts")) / "panza"
    if not command.is_file():
        raise UnfitError(
            f"There is no {command}.", "Install Panza into a virtual environment of its own."
        )
    return command


def _require_rights(options: Namespace) -> None:
    if os.geteuid() and not (options.user or options.prefix):
        raise UnfitError(
            "A service of the whole system is installed by root.",
            "Use sudo, or `panza service install --user` for a service of your own.",
        )


def _require_visible(command: Path) -> None:
    """Refuse an installation that the service could not see, as it sees no homes."""
    parts = (command, Path(__file__), Path(sys.executable), Path(sys.base_prefix))
    for part in (place for each in parts for place in (each, each.resolve())):
        if any(part.is_relative_to(home) for home in _HOMES):
            raise UnfitError(
                f"{part} is in a home, and the service sees no homes.",
                "Install Panza elsewhere with the system's Python, for example with `python3 -m "
                "venv /opt/panza`; or install it with --user, as a service of your own.",
            )


def _make_writable_folders(config: Config) -> None:
    # The unit of the model process opens these two, so they have to be there when it starts.
    for folder in (config.data, config.cache):
        folder.mkdir(0o700, parents=True, exist_ok=True)


def _next(options: Namespace, *, start: bool) -> str:
    user = "--user " if options.user else ""
    if options.prefix:
        return "Nothing was started."
    if not start:
        return f"To start it: systemctl {user}enable --now {units.SOCKET} {units.MAIL}"
    return f"It runs. To look at it: systemctl {user}status panza; journalctl {user}-u panza"


def _notes(installation: Installation) -> Iterator[str]:
    """Yield what the owner still has to do, or should know."""
    user, config = installation.user, installation.config
    for name, path in units.missing_credentials(installation).items():
        yield f"The credential {name} is not stored yet: {_how_to_store(name, path, user=user)}"
    if user:
        if not installation.namespaces:
            yield (
                "The model process gets no namespaces of its own here: only its filter of system "
                "calls keeps it from the network."
            )
        owner = pwd.getpwuid(os.getuid()).pw_name
        if installation.root == Path("/") and not Path("/var/lib/systemd/linger", owner).exists():
            yield f"It runs while you are logged in; for always: loginctl enable-linger {owner}"
        return
    if config.data != units.STATE:
        yield (
            f"The service keeps its data in {units.STATE}. With `data: {units.STATE}` in "
            f"{installation.config_file} `panza status` looks there as well."
        )
    for where, reason in _out_of_reach(config):
        yield f"{where}: {reason}"
    if closed := _closed(installation.root, installation.config_file):
        yield f"The service's user, panza, may not read {closed}: chmod o+rX {closed}"


def _how_to_store(name: str, path: Path, *, user: bool) -> str:
    if user:
        return f"(umask 077; mkdir -p {path.parent}; systemd-ask-password -n > {path}), and again."
    return (
        f"mkdir -p -m 700 {path.parent}; systemd-ask-password -n | "
        f"systemd-creds encrypt --name={name} - {path}; systemctl restart panza"
    )


def _out_of_reach(config: Config) -> Iterator[tuple[str, str]]:
    """Yield each key whose value a service of the system cannot reach, and why."""
    paths = [("model.name", Path(config.model.name))]
    for number, account in enumerate(config.accounts):
        at = f"accounts[{number}]"
        paths += [(f"{at}.archives", archive) for archive in account.archives]
        if account.maildir:
            paths.append((f"{at}.maildir", account.maildir))
        for where, secret in units.secrets(account):
            if secret.file:
                paths.append((f"{at}.{where}.file", secret.file))
            if secret.keyring:
                yield f"{at}.{where}", "a keyring belongs to a session; use a credential"
    for where, path in paths:
        if any(path.is_relative_to(home) for home in _HOMES):
            yield where, "the service sees no homes; panza.service says how a drop-in opens one"


def _closed(root: Path, path: Path) -> Path | None:
    """Return what keeps others than root from reading a file, or None."""
    for place in (path, *path.parents):
        mode = _below(root, place).stat().st_mode
        if not mode & (0o001 if place != path else 0o004):
            return place
    return None


def _kept(options: Namespace) -> Iterator[str]:
    yield f"the configuration {_config_file(options)}"
    if options.user:
        yield "mails, index and adapters, where `data` in it says"
        yield "the credentials ~/.config/credstore/panza.*"
    else:
        yield f"mails, index and adapters in {units.STATE}"
        yield "converted models in /var/cache/panza"
        yield "the credentials /etc/credstore/panza.* and /etc/credstore.encrypted/panza.*"
