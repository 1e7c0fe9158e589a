"""A process that dies at a chosen moment, without a process: wrappers that raise `Crash`.

A moment is before or after a call of the connector, a message that it yields, a statement of the
database that changes something, or a commit. The code under test is not changed: it is handed the
wrappers.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from connectors.base import Connector, Cursor, FolderState, Message, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from daemon.store import Store

Result = TypeVar("Result")


class Crash(BaseException):
    """The process dies here."""


class Fuse:
    """Counts moments; at the given one the process dies, and stays dead.

    Args:
        moment: The moment; None for never.

    Attributes:
        passed: How many moments there were.
        changes: How many calls changed something on the server.
    """

    def __init__(self, moment: int | None = None) -> None:
        self.moment = moment
        self.passed = 0
        self.changes = 0

    def burn(self, _name: str = "") -> None:
        """Let one moment pass."""
        self.passed += 1
        if self.moment is not None and self.passed > self.moment:
            raise Crash


class WatchedConnector(Connector):
    """A connector that tells of every moment before and after a call.

    Args:
        inner: Does the work.
        moment: Called at each, for example with "before append" or "after state"; may raise.
        changed: Called when something was changed.
    """

    def __init__(
        self,
        inner: Connector,
        moment: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.inner, self.moment, self.changed = inner, moment, changed

    def _call(self, name: str, work: Callable[[], Result], *, change: bool = False) -> Result:
        self.moment(f"before {name}")
        result = work()
        if change:
            self.changed()
        self.moment(f"after {name}")
        return result

    def state(self, role: Role) -> FolderState:
        """Pass on."""
        return self._call("state", lambda: self.inner.state(role))

    def ensure(self, role: Role) -> str:
        """Pass on."""
        return self._call("ensure", lambda: self.inner.ensure(role))

    def fetch(
        self, role: Role, cursor: Cursor | None = None, *, last: int | None = None
    ) -> Iterator[Message]:
        """Pass on."""
        for message in self.inner.fetch(role, cursor, last=last):
            self.moment("after fetch")
            yield message

    def message_ids(self, role: Role, first_uid: int = 1) -> dict[int, str]:
        """Pass on."""
        return self._call("message_ids", lambda: self.inner.message_ids(role, first_uid))

    def append(self, role: Role, raw: bytes, **options: Any) -> int | None:  # noqa: ANN401
        """Pass on."""
        return self._call("append", lambda: self.inner.append(role, raw, **options), change=True)

    def add_flags(
        self, role: Role, uid: int, flags: Iterable[str], *, uidvalidity: int | None = None
    ) -> None:
        """Pass on."""
        self._call(
            "add_flags",
            lambda: self.inner.add_flags(role, uid, flags, uidvalidity=uidvalidity),
            change=True,
        )

    def remove_flags(
        self, role: Role, uid: int, flags: Iterable[str], *, uidvalidity: int | None = None
    ) -> None:
        """Pass on."""
        self._call(
            "remove_flags",
            lambda: self.inner.remove_flags(role, uid, flags, uidvalidity=uidvalidity),
            change=True,
        )

    def remove(self, role: Role, uid: int, *, uidvalidity: int | None = None) -> None:
        """Pass on."""
        self._call(
            "remove", lambda: self.inner.remove(role, uid, uidvalidity=uidvalidity), change=True
        )

    def close(self) -> None:
        """Pass on."""
        self.inner.close()


class FusedConnector(WatchedConnector):
    """A mailbox whose caller may die before and after every call."""

    def __init__(self, inner: Connector, fuse: Fuse) -> None:
        def count() -> None:
            fuse.changes += 1

        super().__init__(inner, fuse.burn, count)


class FusedDatabase:
    """A database whose user may die before and after every change and commit."""

    def __init__(self, inner: Any, fuse: Fuse) -> None:  # noqa: ANN401 - stands in for a Database
        self.inner = inner
        self.fuse = fuse

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self.inner, name)

    def rows(self, sql: str, *parameters: Any) -> Any:  # noqa: ANN401
        """Pass on."""
        if sql.startswith("SELECT"):
            return self.inner.rows(sql, *parameters)
        self.fuse.burn()
        result = self.inner.rows(sql, *parameters)
        self.fuse.burn()
        return result

    def row(self, *arguments: Any) -> Any:  # noqa: ANN401
        """Pass on."""
        return next(iter(self.rows(*arguments)), None)

    def execute(self, *arguments: Any) -> Any:  # noqa: ANN401
        """Pass on."""
        self.fuse.burn()
        result = self.inner.execute(*arguments)
        self.fuse.burn()
        return result

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Pass on."""
        self.fuse.burn()
        with self.inner.transaction():
            yield
            self.fuse.burn()
        self.fuse.burn()


@contextmanager
def fused(store: Store, fuse: Fuse) -> Iterator[Store]:
    """Give a store whose user may die; it is closed as a process that dies would leave it."""
    database = store.database
    store.database = FusedDatabase(database, fuse)  # type: ignore[assignment]
    try:
        yield store
    finally:
        store.database = database
