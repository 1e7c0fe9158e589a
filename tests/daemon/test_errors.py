"""Every fault is told with what to do about it, and with the right exit code."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from connectors import base
from daemon import errors
from daemon.errors import advice
from daemon.journal import State, TransitionError
from trainer import errors as trainer_errors

PATH = Path("/data/work")

CASES = [
    (errors.UsageError("there is no account 'x'"), 2, "--help"),
    (errors.ConfigError(Path("p.yaml"), ["a: b"]), 78, "sample"),
    (errors.ConfigError(None, ["there is none"]), 78, "--config"),
    (errors.SecretError("env X", "the variable is not set"), 78, "panza check"),
    (errors.UnfitError("too little", "Buy more."), 1, "Buy more."),
    (errors.StoreMissingError(PATH), 1, "panza sync"),
    (errors.StoreDamagedError(PATH, "malformed"), 1, "aside"),
    (errors.StoreNewerError(PATH, 9, 1), 1, "version"),
    (errors.StoreLockedError(PATH, 42), 75, "Wait"),
    (errors.StoreError(PATH, "odd"), 1, ""),
    (errors.UnknownMailError("x@y"), 1, "panza sync"),
    (errors.ModelUnavailableError("nobody listens"), 75, "tried again"),
    (errors.ModelDiedError("train", "it was killed"), 1, "memory"),
    (errors.ModelJobError(errors.Advice("Too few.", "Add archives.", 1)), 1, "Add archives."),
    (errors.NotUnderstoodError(), 2, "for example"),
    (errors.EmptyInstructionError(), 2, "for example"),
    (errors.GpuLostError(), 1, ""),
    (TransitionError("key", State.NEW), 1, ""),
    (base.UnreachableError("mail", 993, "timed out"), 75, "try again"),
    (base.InsecureError("mail", 993, "no TLS was agreed on"), 78, "port and security"),
    (base.InsecureError("mail", 993, "not trusted (certificate has expired)"), 78, "renew"),
    (base.InsecureError("mail", 993, "not trusted (Hostname mismatch)"), 78, "host in panza.yaml"),
    (base.InsecureError("mail", 993, "not trusted (self-signed certificate)"), 78, "trust"),
    (base.LoginRefusedError("mail", "jen", "no"), 78, "password"),
    (base.FolderMissingError(base.Role.SENT, None, ["A", "B"]), 78, "folders.sent"),
    (base.FolderMissingError(base.Role.DRAFTS, "Entwurf"), 78, "folders.drafts"),
    (base.MailboxError("/x.mbox", "is no mbox"), 1, "mbox"),
    (base.RefusedError("APPEND", "OVERQUOTA", "full"), 1, "full"),
    (base.RefusedError("APPEND", "UNAVAILABLE", "later"), 75, "later"),
    (base.RefusedError("APPEND", "", "no"), 1, "panza check"),
    (base.ReaderError("no more processes"), 75, ""),
    (base.ReadOnlyError("an archive"), 1, "panza check"),
    (trainer_errors.ModelMissingError("m", "none"), 78, "model.name"),
    (trainer_errors.PrecisionError("m", "4bit", "none"), 78, "model.precision"),
    (trainer_errors.TooFewMailsError(3, 25), 1, "archives"),
    (trainer_errors.AdapterError("a", "none"), 1, "panza adapters"),
    (trainer_errors.ExportError("/x.gguf", "it is there already; --force"), 1, ""),
    (trainer_errors.InstructionTooLongError(9000, 7000), 2, "fewer words"),
    (trainer_errors.DivergedError(7), 1, "stays"),
    (trainer_errors.NotEnoughMemoryError(2 << 30, 1 << 30, "cpu", ()), 1, "model.name"),
    (
        trainer_errors.NotEnoughMemoryError(2 << 30, 1 << 30, "cuda", (("density", 0.003),)),
        1,
        "training.rosa.density: 0.003",
    ),
    (trainer_errors.OutOfMemoryError(384, 96), 1, "smaller model"),
    (trainer_errors.PeerError(2, -9), 1, "fewer processes"),
    (trainer_errors.CheckpointError("/data/x", "No space left on device"), 1, "Make room"),
    (OSError(errno.ENOSPC, "No space left on device", "/data/x"), 1, "Make room"),
    (PermissionError(errno.EACCES, "Permission denied", "/data/x"), 1, "right"),
    (OSError(errno.EROFS, "Read-only file system", "/data/x"), 1, "right"),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/x"), 1, ""),
    (MemoryError(), 1, "smaller model"),
    (KeyboardInterrupt(), 130, ""),
]


@pytest.mark.parametrize(("error", "code", "step"), CASES, ids=lambda case: type(case).__name__)
def test_a_fault_has_a_message_a_next_step_and_an_exit_code(
    error: BaseException, code: int, step: str
) -> None:
    """The message says what went wrong, the next step what to do, the code what kind it is."""
    told = advice(error)
    assert told.exit_code == code
    assert step in told.next_step
    assert told.message
    assert set(json.loads(told.json())) == {"error", "next_step"}


def test_every_error_class_has_a_case() -> None:
    """No class of error that a package defines goes untold."""
    roots = (errors.DaemonError, base.ConnectorError, trainer_errors.TrainerError)
    modules = {"daemon.errors", "connectors.base", "trainer.errors"}
    defined = {one for root in roots for one in _below(root) if one.__module__ in modules} - {
        base.CursorInvalidError,
        base.MessageError,
    }  # both are handled where they arise
    assert defined <= {type(error) for error, _, _ in CASES}


def test_facts_are_in_the_message() -> None:
    """A message names the place and the fault."""
    assert str(advice(errors.ConfigError(Path("p.yaml"), ["a: b", "c: d"]))).splitlines()[:3] == [
        "p.yaml cannot be used:",
        "a: b",
        "c: d",
    ]
    assert "process 42" in advice(errors.StoreLockedError(PATH, 42)).message
    full = OSError(errno.ENOSPC, "No space left on device", "/data/x")
    assert advice(full).message == "The disk is full at /data/x."
    folder = base.FolderMissingError(base.Role.SENT, None, ["Sent", "Gesendet"])
    assert "Sent, Gesendet" in advice(folder).next_step


def test_an_unforeseen_fault_is_told_by_its_type_alone() -> None:
    """The text of an unknown exception may hold mail, so it is not shown."""
    told = advice(ValueError("Dear Stew, this is private"))
    assert told.exit_code == 1
    assert "ValueError" in told.message
    assert "--debug" in told.next_step
    assert "Stew" not in str(told)


def _below(root: type[BaseException]) -> set[type[BaseException]]:
    return {one for child in root.__subclasses__() for one in {child, *_below(child)}}
