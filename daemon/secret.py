"""Passwords and tokens, fetched from where the configuration points when they are needed."""

from __future__ import annotations

import errno
import importlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from connectors.breaker import left_alone
from daemon.errors import SecretError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from daemon.config import Secret

_PATIENCE = 60.0  # seconds for a command: a password manager may ask its owner first
_GLANCE = 0.1  # seconds between two looks whether anybody still waits for it


def resolve(secret: Secret, user: str) -> str:
    """Return the password or token that a reference stands for.

    The value is fetched anew at each call, so a token that is renewed outside is never stale. It
    stands in no log, no error and no cache. A command ends with this process, and when the caller
    is left alone (`connectors.breaker`).

    Args:
        secret: The reference out of panza.yaml.
        user: The login that it is for; the keyring keeps one entry for each.

    Raises:
        SecretError: It is not there, or it is empty.
    """
    kind, where = secret.reference
    try:
        is_command = kind == "command"
        value = _command(where, secret.hidden) if is_command else _READERS[kind](where, user)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise SecretError(f"{kind} {where}", _reason(error)) from None
    line = value.partition("\n")[0].rstrip("\r")
    if not line:
        raise SecretError(f"{kind} {where}", "it is empty")
    return line


def _command(where: str, hidden: Collection[str]) -> str:
    command = shlex.split(where)
    if not command or shutil.which(command[0]) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    with subprocess.Popen(  # noqa: S603 - the owner's own command, run without a shell
        [sys.executable, "-I", "-m", "daemon.leash", str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name not in hidden},
        encoding="utf-8",
    ) as process:
        try:
            told = _told(process)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return told


def _told(process: subprocess.Popen[str]) -> str:
    """Return what a command writes, unless that takes too long or nobody waits any more."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return process.communicate(timeout=_GLANCE)[0]
        except subprocess.TimeoutExpired:
            if left_alone() or time.monotonic() > end:
                raise


def _credential(where: str, _user: str) -> str:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ValueError("$CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit")
    if "/" in where:
        raise ValueError("a credential's name has no slash")
    return (Path(folder) / where).read_text(encoding="utf-8")


def _env(where: str, _user: str) -> str:
    if where not in os.environ:
        raise ValueError("the variable is not set")
    return os.environ[where]


def _keyring(where: str, user: str) -> str:
    try:
        keyring = importlib.import_module("keyring")
    except ImportError:
        raise ValueError("install the package keyring beside Panza for it") from None
    try:
        return keyring.get_password(where, user) or ""
    except keyring.errors.KeyringError as error:
        raise ValueError(type(error).__name__) from None


def _file(where: str, _user: str) -> str:
    return Path(where).read_text(encoding="utf-8")


_READERS: dict[str, Callable[[str, str], str]] = {
    "credential": _credential,
    "env": _env,
    "keyring": _keyring,
    "file": _file,
}


def _reason(error: Exception) -> str:
    # Texts of subprocess quote the command, those of a decoder the bytes: neither is repeated.
    match error:
        case subprocess.CalledProcessError():
            return f"the command ended with {error.returncode}"
        case subprocess.TimeoutExpired():
            return f"the command took more than {_PATIENCE:.0f} s"
        case UnicodeError():
            return "it is not UTF-8"
        case OSError():
            return error.strerror or type(error).__name__
        case _:
            return str(error)
