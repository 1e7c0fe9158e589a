"""One account's SQLite database: opened, locked, migrated; SQLite's errors end here.

SQLite comes with apsw, because Python's own module often cannot load the extension sqlite-vec.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import apsw

from daemon.errors import (
    StoreDamagedError,
    StoreError,
    StoreLockedError,
    StoreMissingError,
    StoreNewerError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    Parameters = Sequence[Any] | Mapping[str, Any]

FILE = "panza.db"
APPLICATION_ID = 0x50414E5A  # "PANZ"
_LOCK = "lock"
_BUSY_MS = 5000


class Database:
    """A connection to ``panza.db`` in an account's folder.

    A writer holds the folder's lock until it is closed: there is one at a time. Readers are never
    kept out and never keep out (WAL). What `transaction` has ended is on the disk.

    Args:
        folder: The account's folder; a writer makes it when missing (0700, files 0600).
        migrations: SQL scripts; the database's ``user_version`` counts those that it has had.
        read_only: Open for reading only.
        lock: The folder's lock, where this process holds it already: a daemon writes from several
            threads, each with a connection of its own. It outlives the connection.

    Raises:
        StoreMissingError: Nothing is there to be read.
        StoreLockedError: Another process writes.
        StoreDamagedError: This is no database of Panza's, or it is damaged.
        StoreNewerError: A later Panza wrote it.
        OSError: The folder cannot be written, or the disk is full.
    """

    def __init__(
        self,
        folder: Path,
        migrations: Sequence[str],
        *,
        read_only: bool = False,
        lock: FolderLock | None = None,
    ) -> None:
        self.path = folder / FILE
        self._lock: FolderLock | None = None
        if read_only:
            if not self.path.is_file():
                raise StoreMissingError(folder)
        else:
            if lock is None:
                self._lock = FolderLock(folder)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        try:
            with self._translated():
                self._connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
            self._prepare(folder, migrations, read_only=read_only)
        except BaseException:
            self.close()
            raise

    def rows(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Run a statement and return all of its rows."""
        with self._translated():
            return list(self._connection.execute(sql, parameters))

    def row(self, sql: str, parameters: Parameters = ()) -> tuple[Any, ...] | None:
        """Run a statement and return its first row, or None."""
        return next(iter(self.rows(sql, parameters)), None)

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement and return how many rows it changed."""
        with self._translated():
            self._connection.execute(sql, parameters).fetchall()
            return self._connection.changes()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all that happens inside, or, on any exception, nothing of it.

        A transaction inside of another one belongs to it.
        """
        if self._connection.in_transaction:
            yield
            return
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            # SQLite itself has already rolled back after a full disk, for example.
            if self._connection.in_transaction:
                self.execute("ROLLBACK")
            raise

    def check(self) -> str:
        """Look at every page; return the first fault found, or "" for none."""
        try:
            found = self.row("PRAGMA quick_check(1)")
        except StoreDamagedError as error:
            return error.reason
        return "" if found is None or found[0] == "ok" else str(found[0])

    def close(self) -> None:
        """Close the connection and let go of the lock; closing twice is no error."""
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _prepare(self, folder: Path, migrations: Sequence[str], *, read_only: bool) -> None:
        with self._translated():
            self._connection.set_busy_timeout(_BUSY_MS)
            self._connection.enable_load_extension(True)  # noqa: FBT003 - apsw's signature
            self._connection.load_extension(_vector_extension())
            self._connection.enable_load_extension(False)  # noqa: FBT003
        self.execute("PRAGMA foreign_keys = ON")
        version = self._version(len(migrations))
        if read_only:
            if version < len(migrations):
                Database(folder, migrations).close()  # migrates
            self.execute("PRAGMA query_only = ON")
            return
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = FULL")
        for number in range(version, len(migrations)):
            with self.transaction():
                self.execute(migrations[number])
                self.execute(f"PRAGMA user_version = {number + 1}")
                self.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    def _version(self, known: int) -> int:
        application = self._pragma("application_id")
        version = self._pragma("user_version")
        if application != APPLICATION_ID and (application or self._has_tables()):
            raise StoreDamagedError(self.path, "this is a database of another program")
        if version > known:
            raise StoreNewerError(self.path, version, known)
        return version

    def _has_tables(self) -> bool:
        return self.row("SELECT 1 FROM sqlite_schema") is not None

    def _pragma(self, name: str) -> int:
        row = self.row(f"PRAGMA {name}")
        return int(row[0]) if row else 0

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise StoreDamagedError(self.path, f"the database is damaged ({error})") from error
        except (apsw.BusyError, apsw.LockedError) as error:
            raise StoreLockedError(self.path.parent, None) from error
        except apsw.FullError as error:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)) from error
        except apsw.Error as error:
            raise StoreError(self.path, str(error)) from error


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter (0700), and its parents where missing."""
    if not folder.is_dir():
        if not folder.parent.is_dir():
            make_private(folder.parent)
        folder.mkdir(0o700, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


class FolderLock:
    """The right to write into an account's folder, held by one process at a time.

    Args:
        folder: The account's folder; made when missing (0700).

    Raises:
        StoreLockedError: Another process holds it.
        OSError: The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        make_private(folder)
        self._file: int | None = None
        lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            # The kernel lets go of it however the process ends, so no lock is ever stale.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(lock, 20, 0)
            os.close(lock)
            raise StoreLockedError(folder, int(pid) if pid.isdigit() else None) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        self._file = lock

    def release(self) -> None:
        """Let go of it; twice is no error."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def holder(folder: Path) -> int | None:
    """Return the process that holds a folder's lock, None where nobody does."""
    try:
        inode = (folder / _LOCK).stat().st_ino
    except FileNotFoundError:
        return None
    # To try the lock would be to hold it for a moment, and to refuse it to somebody.
    for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
        match = re.search(r"FLOCK +ADVISORY +WRITE +(\d+) +\w+:\w+:(\d+) ", line)
        if match and int(match[2]) == inode:
            return int(match[1])
    return None


def _vector_extension() -> str:
    # The package's own code would import NumPy, which `panza status` need not wait for.
    spec = find_spec("sqlite_vec")
    if spec is None or spec.origin is None:
        raise ImportError("the package sqlite-vec is not installed")
    return str(Path(spec.origin).parent / "vec0")
