"""UIDs for messages that are known only by a key, such as the files of a Maildir."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, KeysView
    from pathlib import Path


class UidList:
    """The UIDs of one folder, kept in a file of Panza's own.

    A key gets its UID when it is first seen, or announced, and loses it when it is gone; a UID is
    never given twice. When the file is lost or damaged the list starts afresh under a new
    UIDVALIDITY.

    The file is replaced in one step, so a crash leaves the old list or the new one.

    Args:
        state: Where the file lies, one for each folder; made if missing.
        folder: The folder, for the file's name: one that is moved starts afresh.

    Attributes:
        uidvalidity: Changes only when the list starts afresh.
        uidnext: The UID that the next new key gets.
        keys: Key by UID, ascending.
    """

    def __init__(self, state: Path, folder: Path) -> None:
        name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
        self._path = state / f"uids-{name}.json"
        self.uidvalidity = self.uidnext = 0
        self.keys: dict[int, str] = {}
        self._uids: dict[str, int] = {}
        self._load()

    def uid(self, key: str) -> int | None:
        """Return a key's UID, None where it has none."""
        return self._uids.get(key)

    def known(self) -> KeysView[str]:
        """Return the keys that have a UID."""
        return self._uids.keys()

    def above(self, uid: int) -> list[tuple[int, str]]:
        """Return UID and key of all above a UID, ascending."""
        return [(other, key) for other, key in self.keys.items() if other > uid]

    def update(self, keys: Collection[str], order: Callable[[str], float]) -> None:
        """Forget the keys that are gone, and give UIDs to new ones.

        Args:
            keys: All keys that the folder holds now.
            order: When a key arrived; asked for new keys only.

        Raises:
            OSError: The file cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            stored = self._load()
            present = set(keys)
            new = sorted(present - self._uids.keys(), key=lambda key: (order(key), key))
            kept = {uid: key for uid, key in self.keys.items() if key in present}
            if stored and not new and len(kept) == len(self.keys):
                return
            self.keys = kept | dict(enumerate(new, start=self.uidnext))
            self.uidnext += len(new)
            self._uids = {key: uid for uid, key in self.keys.items()}
            self._save()

    def add(self, key: str) -> None:
        """Give a UID to a key that will be there in a moment.

        Raises:
            OSError: The file cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            self._load()
            self.keys[self.uidnext] = key
            self._uids[key] = self.uidnext
            self.uidnext += 1
            self._save()

    def _load(self) -> bool:
        """Read the file; start afresh and return False if there is none to be read."""
        try:
            data: dict[str, Any] = json.loads(self._path.read_bytes())
            uidvalidity, uidnext = int(data["uidvalidity"]), int(data["uidnext"])
            keys = {int(uid): str(key) for uid, key in data["keys"].items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            stored = False
            if self.uidvalidity == 0:
                self.uidvalidity, self.uidnext = secrets.randbelow(2**31 - 1) + 1, 1
        else:
            stored = True
            self.uidvalidity, self.uidnext, self.keys = uidvalidity, uidnext, keys
            self._uids = {key: uid for uid, key in keys.items()}
        return stored

    def _save(self) -> None:
        data = {"uidvalidity": self.uidvalidity, "uidnext": self.uidnext, "keys": self.keys}
        temporary = self._path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(data, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        sync_folder(self._path.parent)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes of Panza's from giving UIDs meanwhile."""
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make the renames in a folder last through a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
