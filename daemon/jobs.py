"""What the daemon does on a schedule for one account: sync, training, tidying up.

Each attempt works until it is done, in a thread of its own with its own connection to the store,
and may be broken off anywhere: the next one goes on from there.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from connectors.readers import Readers
from daemon import sync as syncing
from daemon import training_job
from daemon.backoff import Backoff
from daemon.errors import ModelDiedError, ModelUnavailableError, StoreError, advice
from daemon.progress import silent
from daemon.report_mail import Reports
from daemon.retrieval import Retrieval, missing
from daemon.runs import Runs
from daemon.troubles import Troubles
from trainer.adapters import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.accounts import Source
    from daemon.config import Account, Config
    from daemon.model_link import ModelLink
    from daemon.store import Store

_log = logging.getLogger(__name__)

SYNC_EVERY = timedelta(minutes=15)
TRAINING_TRIES = 3
RUNS_KEPT = timedelta(days=90)
ADAPTERS_KEPT = 5
_CONSIDERED = "training considered"


class Job(ABC):
    """One kind of work for one account.

    Args:
        account: The account.
        open_store: Opens its store for writing, for the thread that calls.
        backoff: The waits after faults.

    Attributes:
        name: Names it in the status and in the log.
    """

    name: ClassVar[str]

    def __init__(self, account: Account, open_store: Callable[[], Store], backoff: Backoff) -> None:
        self._account = account
        self._open_store = open_store
        self._backoff = backoff
        self._resources = ExitStack()
        self._stopping = threading.Event()

    @property
    def title(self) -> str:
        """Names it among the jobs of all accounts."""
        return f"{self.name} of {self._account.name}"

    def considered(self) -> datetime | None:
        """Return when it was last seen whether it is due; None for a job that is due at once."""
        return None

    def attempt(self) -> float | None:
        """Do it; what fails is told in the account's troubles and never raised.

        Returns:
            The seconds until it should be tried again, None to wait for its regular time.
        """
        if self._stopping.is_set():
            return None
        try:
            with self._open_store() as store:
                return self._attempt(store)
        except (StoreError, OSError) as error:
            return self._failed(error)

    def stop(self) -> None:
        """Break off what is going on; to be called from another thread, before `close`."""
        self._stopping.set()

    def close(self) -> None:
        """Let go of connections, once no attempt is going on."""
        self._resources.close()

    @abstractmethod
    def _work(self, store: Store) -> None:
        """Do it."""

    def _attempt(self, store: Store) -> float | None:
        troubles = Troubles(store.database, store.clock)
        try:
            self._work(store)
        except Exception as error:  # noqa: BLE001 - no fault may end the daemon
            seconds = self._failed(error)
            if not self._stopping.is_set():
                retry = store.clock() + timedelta(seconds=seconds) if seconds else None
                troubles.met(self.name, advice(error), retry)
            return seconds
        self._backoff.reset()
        troubles.over(self.name)
        return None

    def _failed(self, error: Exception) -> float | None:
        if self._stopping.is_set():
            return None
        # Its text may quote the server, and the server the owner: that is for the status alone.
        _log.warning("%s: %s", self.title, type(error).__name__)
        _log.debug("where:", exc_info=error)
        return self._backoff.next() if self._may_retry(error) else None

    def _may_retry(self, _error: Exception) -> bool:
        return True


class SyncJob(Job):
    """Reads new sent mail and embeds it; its connections stay open from one time to the next.

    Args:
        account: The account.
        open_store: Opens its store for writing.
        sources: Where its sent mail is.
        link: Embeds the mails.

    Attributes:
        synced: Set once reading was tried, whatever came of it.
    """

    name = "sync"

    def __init__(
        self,
        account: Account,
        open_store: Callable[[], Store],
        sources: list[Source],
        link: ModelLink,
    ) -> None:
        super().__init__(account, open_store, Backoff(30, SYNC_EVERY.total_seconds()))
        self.synced = threading.Event()
        self._sources = sources
        self._link = link
        self._readers = Readers()
        for source in sources:
            self._resources.enter_context(source.connector)

    def stop(self) -> None:
        """Break off what is going on."""
        super().stop()
        for source in self._sources:
            source.connector.abort()
        self._readers.abort()

    def _work(self, store: Store) -> None:
        with Runs(store.database, store.clock).recorded(self.name) as outcome:
            try:
                with self._readers as readers:
                    result = syncing.sync(self._account, self._sources, store, readers=readers)
            finally:
                self.synced.set()  # before all is embedded, which can take an hour
            outcome.update(asdict(result))
            if missing(store):
                outcome["embedded"] = Retrieval(store, self._link.embedder()).index()
        if result.new:
            _log.info("%s: %d new mails", self.title, result.new)


class TrainingJob(Job):
    """Trains an adapter when enough mail is new.

    A training that was due while the machine or the daemon was off is made up for once.

    Args:
        config: The whole configuration.
        account: The account.
        open_store: Opens its store for writing.
        link: Trains.
    """

    name = "train"

    def __init__(
        self, config: Config, account: Account, open_store: Callable[[], Store], link: ModelLink
    ) -> None:
        super().__init__(account, open_store, Backoff(60, 3600))
        self._config = config
        self._link = link

    def considered(self) -> datetime:
        """Return when it was last seen whether a training is due; now, where it never was.

        Raises:
            daemon.errors.StoreError: The store cannot be used; so does `OSError`.
        """
        with self._open_store() as store:
            if note := store.note(_CONSIDERED):
                return min(datetime.fromisoformat(note), store.clock())
            return self._consider(store)

    def _work(self, store: Store) -> None:
        if store.untrained() >= self._config.training.min_new_mails:
            Reports(store, self._config.requests.report).begin()
            with Runs(store.database, store.clock).recorded(self.name) as outcome:
                outcome.update(
                    training_job.run(self._config, self._account, store, self._link, silent)
                )
            store.note_trained()
            _log.info("%s: %s", self.title, outcome["verdict"])
        self._consider(store)

    def _consider(self, store: Store) -> datetime:
        store.set_note(_CONSIDERED, store.clock().isoformat())
        return store.clock()

    def _may_retry(self, error: Exception) -> bool:
        """Another try helps where a process died; not where there is too little mail."""
        passing = isinstance(error, ModelDiedError | ModelUnavailableError | StoreError | OSError)
        return passing and self._backoff.tries < TRAINING_TRIES


class TidyJob(Job):
    """Drops old runs and the adapters that are no longer needed."""

    name = "tidy"

    def __init__(self, account: Account, open_store: Callable[[], Store]) -> None:
        super().__init__(account, open_store, Backoff(3600, 86400))

    def _work(self, store: Store) -> None:
        Runs(store.database, store.clock).drop(RUNS_KEPT)
        Registry(store.folder / "adapters").retain(ADAPTERS_KEPT)
