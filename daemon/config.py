"""panza.yaml: its keys, their types, bounds and defaults.

The sample file ``panza.yaml`` explains every key to the owner; a test holds it to these classes.
Relative paths are relative to the configuration file; ``~`` is the home of who runs Panza.
"""

from __future__ import annotations

import ipaddress
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from daemon.cron import is_cron

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(value: object) -> object:
    match = re.fullmatch(r"(\d{1,6})([smhd])", value) if isinstance(value, str) else None
    if match:
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    if isinstance(value, timedelta):
        return value
    raise ValueError("expected a duration such as 30s, 10m or 2h")


def _between(low: timedelta, high: timedelta) -> AfterValidator:
    def check(value: timedelta) -> timedelta:
        if not low <= value <= high:
            raise ValueError(
                f"must be from {low.total_seconds():.0f}s to {high.total_seconds():.0f}s"
            )
        return value

    return AfterValidator(check)


def _located(path: Path, info: ValidationInfo) -> Path:
    if "\0" in str(path):
        raise ValueError("a path has no zero bytes")
    folder = (info.context or {}).get("folder", Path.cwd())
    try:
        return Path(os.path.abspath(folder / path.expanduser()))  # noqa: PTH100 - links stay links
    except RuntimeError:
        raise ValueError("there is no such user's home") from None


def _address(value: str) -> str:
    # Drafts are written from it, so it must be one that a header can carry: see compose.mailable.
    local_part, _, domain = value.rpartition("@")
    try:
        ascii_domain = domain.encode("idna").decode("ascii")
    except UnicodeError:
        ascii_domain = ""
    local_part_fits = re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+", local_part)
    if local_part_fits and re.fullmatch(r"[A-Za-z0-9.-]+", ascii_domain):
        return value
    raise ValueError("expected an address such as jen@example.org")


Duration = Annotated[timedelta, BeforeValidator(_duration)]
LocatedPath = Annotated[Path, AfterValidator(_located)]
EmailAddress = Annotated[str, AfterValidator(_address)]
Port = Annotated[int, Field(ge=1, le=65535)]
NonEmpty = Annotated[str, Field(min_length=1)]


class _Section(BaseModel):
    # hide_input: a traceback must not show what stands at a key; it may be a secret.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


# Rules that join several keys hang on the last of these keys, not on the section: pydantic runs a
# section's own rules only when no key of it has a fault, and all faults are to be told at once.
def _section_fault(message: str) -> PydanticCustomError:
    return PydanticCustomError("section", "{message}", {"message": message})


def _given(info: ValidationInfo, key: str) -> bool:
    # A key that is not in the data had a fault, so it was given.
    return info.data.get(key, "") is not None


class Secret(_Section):
    """Where a password or token is found; never the value itself.

    Attributes:
        command: A command whose first line of output it is, run without a shell.
        credential: A systemd credential: a file of this name in ``$CREDENTIALS_DIRECTORY``.
        env: An environment variable.
        keyring: A service in the desktop's keyring, looked up for the connection's user.
        file: A file whose first line it is.
    """

    command: NonEmpty | None = None
    credential: NonEmpty | None = None
    env: NonEmpty | None = None
    keyring: NonEmpty | None = None
    file: LocatedPath | None = Field(default=None, validate_default=True)
    _hidden: frozenset[str] = PrivateAttr(default=frozenset())

    @model_validator(mode="before")
    @classmethod
    def _no_plain_text(cls, value: object) -> object:
        if isinstance(value, str | int | float):
            raise ValueError(  # noqa: TRY004 - pydantic lets TypeErrors through
                "no secret stands in this file; name where it is found: "
                "{command: …}, {credential: …}, {env: …}, {keyring: …} or {file: …}"
            )
        return value

    @field_validator("file")
    @classmethod
    def _exactly_one(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        kinds = ("command", "credential", "env", "keyring")
        if sum(_given(info, kind) for kind in kinds) + (value is not None) != 1:
            raise _section_fault(f"expected exactly one of {', '.join((*kinds, 'file'))}")
        return value

    @property
    def reference(self) -> tuple[str, str]:
        """The kind of the reference, and where it points."""
        return next((kind, str(value)) for kind, value in self if value is not None)

    @property
    def hidden(self) -> frozenset[str]:
        """Environment variables that hold a secret of the configuration, which no child may see."""
        return self._hidden


class OAuth(_Section):
    """OAuth 2 instead of a password.

    Attributes:
        token: Where a fresh access token is found.
    """

    token: Secret


class _Server(_Section):
    host: NonEmpty
    security: Literal["tls", "starttls", "none"] = "tls"
    port: Port
    user: NonEmpty | None = None
    password: Secret | None = None
    oauth: OAuth | None = Field(default=None, validate_default=True)

    @field_validator("security")
    @classmethod
    def _private(cls, value: str, info: ValidationInfo) -> str:
        if value == "none" and not is_loopback(info.data.get("host", "localhost")):
            raise ValueError(
                "none is for servers on this machine only, elsewhere the password would cross "
                "the network in clear; expected tls or starttls"
            )
        return value

    @field_validator("oauth")
    @classmethod
    def _one_secret(cls, value: OAuth | None, info: ValidationInfo) -> OAuth | None:
        if _given(info, "password") == (value is not None):
            raise _section_fault("expected exactly one of password, oauth")
        return value

    @property
    def secret(self) -> Secret:
        """Where the password, or the OAuth token, is found."""
        found = self.oauth.token if self.oauth else self.password
        if found is None:
            raise AssertionError("a server without a secret is refused when it is read")
        return found


class Imap(_Server):
    """The server that keeps the account's mail.

    Attributes:
        host: Its name or address.
        security: ``tls`` from the first byte, ``starttls``, or ``none`` on loopback.
        port: 993 for tls, else 143, where it is left out.
        user: The login; the account's address where it is left out.
        password: Where the password is found.
        oauth: OAuth 2 instead of a password.
    """

    port: Port = Field(default_factory=lambda data: 993 if data.get("security") == "tls" else 143)


class Smtp(_Server):
    """The server through which results are mailed back to the owner, and to nobody else.

    Attributes:
        host: Its name or address.
        security: ``tls`` from the first byte, ``starttls``, or ``none`` on loopback.
        port: 465 for tls, else 587, where it is left out.
        user: The login; the account's address where it is left out.
        password: Where the password is found.
        oauth: OAuth 2 instead of a password.
    """

    port: Port = Field(default_factory=lambda data: 465 if data.get("security") == "tls" else 587)


class Folders(_Section):
    """Names of folders; Sent and Drafts are found by SPECIAL-USE where they are left out."""

    sent: NonEmpty | None = None
    drafts: NonEmpty | None = None
    requests: NonEmpty = "Panza requests"


class Account(_Section):
    """One account of the owner.

    Attributes:
        name: Names the account on the command line and its folder under ``data``.
        address: The owner's address.
        aliases: Her other addresses: what any of them sent is hers.
        full_name: Her name as recipients see it.
        imap: The server, or
        maildir: a Maildir, or neither where there are only archives.
        smtp: The server for results that are mailed back to her.
        folders: The names of the folders.
        archives: More mail she sent: mbox files or Maildirs, read only.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    address: EmailAddress
    aliases: tuple[EmailAddress, ...] = ()
    full_name: str = ""
    imap: Imap | None = None
    maildir: LocatedPath | None = None
    smtp: Smtp | None = None
    folders: Folders = Folders()
    archives: tuple[LocatedPath, ...] = Field(default=(), validate_default=True)

    @field_validator("archives")
    @classmethod
    def _has_mail(cls, value: tuple[Path, ...], info: ValidationInfo) -> tuple[Path, ...]:
        imap, maildir = _given(info, "imap"), _given(info, "maildir")
        if imap and maildir:
            raise _section_fault("expected imap or maildir; the other one is another account")
        if not (imap or maildir or value):
            raise _section_fault("expected imap, maildir or archives; there is no mail to read")
        return value

    @property
    def addresses(self) -> frozenset[str]:
        """The owner's addresses, casefolded."""
        return frozenset(a.casefold() for a in (self.address, *self.aliases))


class Model(_Section):
    """The base model.

    Attributes:
        name: ``embedded``, a Hugging Face id, a folder or a GGUF file.
        precision: Of its weights; ``auto`` is bf16 where the device computes in it, else fp32.
            ``4bit`` is nf4, which needs the package bitsandbytes.
        device: ``auto`` is a GPU where there is one.
        idle: How long the model process stays without work.
    """

    name: NonEmpty = "embedded"
    precision: Literal["auto", "fp32", "bf16", "4bit"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    idle: Annotated[Duration, _between(timedelta(seconds=1), timedelta(days=7))] = timedelta(
        minutes=10
    )

    @field_validator("name")
    @classmethod
    def _locate(cls, value: str, info: ValidationInfo) -> str:
        return str(_located(Path(value), info)) if value.startswith((".", "~", "/")) else value


class Rosa(_Section):
    """The adapter's size: W + alpha/rank·B·A + S, where S has ``density`` of W's entries."""

    rank: Annotated[int, Field(ge=1, le=256)] = 8
    density: Annotated[float, Field(gt=0, le=0.2, allow_inf_nan=False)] = 0.01
    alpha: Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)] = 16
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.05


class Training(_Section):
    """How and when an adapter is trained.

    Attributes:
        method: ``rosa``, ``lora`` or ``full``.
        schedule: Five fields of cron, or ``off``.
        min_new_mails: A scheduled training waits for this many new mails.
        emails: The newest so many mails are training targets.
        epochs: How often each of them is seen, at the most.
        patience: It ends after so many epochs that made nothing better.
        drafts: So many of the newest held-out mails are also written, by each model that is judged.
        rosa: The adapter's size.
    """

    method: Literal["rosa", "lora", "full"] = "rosa"
    schedule: str = "0 3 * * sun"
    min_new_mails: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    emails: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    epochs: Annotated[int, Field(ge=1, le=100)] = 5
    patience: Annotated[int, Field(ge=1, le=100)] = 2
    drafts: Annotated[int, Field(ge=0, le=1000)] = 24
    rosa: Rosa = Rosa()

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str) -> str:
        if value != "off" and not is_cron(value):
            raise ValueError('expected five fields of cron such as "0 3 * * sun", or off')
        return value


class Retrieval(_Section):
    """Which earlier mails a draft is written from.

    Attributes:
        emails: At most so many.
        threshold: None whose cosine with the instruction is lower.
    """

    emails: Annotated[int, Field(ge=0, le=50)] = 3
    threshold: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] = 0.2


class Sampling(_Section):
    """How each next token of a draft is chosen, as `trainer.generate.Sampling` takes it.

    Attributes:
        temperature: 0 for always the likeliest.
        top_p: The share of probability that is drawn from.
        repetition: Above 1, what was written before is less likely to be written again.
        max_tokens: The most that a draft may have.
    """

    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 0.3
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.9
    repetition: Annotated[float, Field(ge=1, le=2, allow_inf_nan=False)] = 1.05
    max_tokens: Annotated[int, Field(ge=16, le=4096)] = 400


class Requests(_Section):
    """How the folder "Panza requests" is watched.

    Attributes:
        poll: It is looked at this often, whatever the server announces.
        deliver: Results go to Drafts, back to the owner by mail (``reply``), or ``both``.
        trust: The authserv-id of the owner's own server, whose dmarc=pass then counts; "" for none.
        report: The owner gets a training's report by mail: after ``each``, ``weekly``, or not.
    """

    poll: Annotated[Duration, _between(timedelta(seconds=5), timedelta(days=1))] = timedelta(
        seconds=60
    )
    deliver: Literal["drafts", "reply", "both"] = "drafts"
    trust: str = ""
    report: Literal["weekly", "each", "off"] = "off"


class Config(_Section):
    """The whole of panza.yaml.

    Attributes:
        data: Where mail, index and adapters are kept, one folder for each account.
        accounts: At least one.
        model: The base model.
        profile: What the owner says of herself; every draft is written with it.
        training: How and when an adapter is trained.
        retrieval: Which earlier mails a draft is written from.
        sampling: How the next token of a draft is chosen.
        requests: How the folder "Panza requests" is watched.
    """

    data: LocatedPath = Field(default_factory=lambda: Path("~/.local/share/panza").expanduser())
    accounts: Annotated[tuple[Account, ...], Field(min_length=1)]
    model: Model = Model()
    profile: str = ""
    training: Training = Training()
    retrieval: Retrieval = Retrieval()
    sampling: Sampling = Sampling()
    requests: Requests = Requests()

    def model_post_init(self, _context: object) -> None:
        """Tell each secret which variables a command that fetches it may not see."""
        servers = [server for one in self.accounts for server in (one.imap, one.smtp) if server]
        secrets = [server.secret for server in servers]
        hidden = frozenset(one.env for one in secrets if one.env)
        for secret in secrets:
            secret._hidden = hidden  # noqa: SLF001 - a frozen model has no other way

    def folder(self, account: Account) -> Path:
        """Return the folder of one account's data; systemd's ``$STATE_DIRECTORY`` wins."""
        given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        return (Path(given) if given else self.data) / account.name

    @property
    def cache(self) -> Path:
        """Where converted models are kept; systemd's ``$CACHE_DIRECTORY`` wins."""
        given = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
        if given:
            return Path(given)
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return Path(base).expanduser() / "panza"


def is_loopback(host: str) -> bool:
    """Tell whether a host name can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load(path: Path | None = None) -> Config:
    """Read the configuration, from the first place that has one where no file is named.

    Raises:
        daemon.errors.ConfigError: No file, no YAML, or any fault in it: all faults at once.
    """
    from daemon import config_file

    return config_file.read(path)
