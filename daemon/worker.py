"""The thread that watches one account's folder "Panza requests" and answers what is in it."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from connectors.base import FolderMissingError, Role
from connectors.readers import Readers
from daemon import requests
from daemon.backoff import Backoff
from daemon.errors import CONFIGURATION, TRY_LATER, Advice, StoreError, advice
from daemon.troubles import Troubles

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectors.base import Connector
    from connectors.smtp import SmtpConnector
    from daemon.config import Account, Requests
    from daemon.requests import Counts, Writer
    from daemon.store import Store

_log = logging.getLogger(__name__)

JOB = "requests"
MAIL = "mail"
_FIRST_WAIT = 5.0  # seconds
_LONGEST_WAIT = 600.0
_PROOF = 5.0  # of waiting, after which what was wrong is over
_GLANCE = 0.5
_PATIENCE = 300.0  # after a login that was refused: hasty tries lock accounts


class Worker(threading.Thread):
    """Looks at an account's requests folder until it is stopped.

    It looks at once, whenever the folder may have changed, and at the latest after ``poll``. What
    fails is tried again after a wait that grows, and stands in the account's troubles meanwhile.

    Args:
        account: Whose folder it is.
        connector: Her mail; this thread's own, closed at its end.
        open_store: Opens her store for writing, for this thread.
        writer: Writes the drafts.
        settings: How the folder is watched.
        mailer: Mails results to her, where the settings want that.
        synced: Set once a sync has been tried; an empty store waits for it.
        backoff: The waits after faults; five seconds to ten minutes by default.
    """

    def __init__(
        self,
        account: Account,
        connector: Connector,
        open_store: Callable[[], Store],
        writer: Writer,
        *,
        settings: Requests,
        mailer: SmtpConnector | None = None,
        synced: threading.Event | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(name=f"requests of {account.name}", daemon=True)
        self._account = account
        self._connector = connector
        self._open_store = open_store
        self._writer = writer
        self._settings = settings
        self._mailer = mailer
        self._synced = synced
        self._readers = Readers(1)
        self._backoff = backoff or Backoff(_FIRST_WAIT, _LONGEST_WAIT)
        self._well = False  # an earlier daemon's trouble may stand in the status
        self._bell = threading.Event()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Make the thread end soon, whatever it is waiting for; call `join` afterwards."""
        self._stopping.set()
        self._bell.set()
        self._connector.abort()
        self._readers.abort()
        if self._mailer:
            self._mailer.abort()

    def nudge(self) -> None:
        """Make it look at once."""
        self._bell.set()
        self._connector.wake()

    def run(self) -> None:
        """Look, wait, look again."""
        with self._connector:
            while not self._stopping.is_set():
                try:
                    with self._open_store() as store:
                        self._wait_for_mail(store)
                        self._watch(store)
                except (StoreError, OSError) as error:
                    self._pause(error, None)

    def _wait_for_mail(self, store: Store) -> None:
        """Let the first sync come first: a name in a request is looked up in her sent mail."""
        if self._synced and not store.folder_notes():
            while not (self._synced.wait(_GLANCE) or self._stopping.is_set()):
                pass

    def _watch(self, store: Store) -> None:
        """Look until it is time to stop.

        Raises:
            StoreError: The store cannot be used; so does `OSError`.
        """
        poll = self._settings.poll.total_seconds()
        while not self._stopping.is_set():
            try:
                counts = self._look(store)
                troubles = Troubles(store.database, store.clock)
                self._settle(counts, troubles)
                # A line that breaks whenever it waits is not well, however good the look was.
                self._connector.wait(Role.REQUESTS, poll if self._well else min(poll, _PROOF))
                if not self._well:
                    troubles.over(JOB)
                    self._backoff.reset()
                    self._well = True
            except Exception as error:  # noqa: BLE001 - no fault may end the watch
                self._pause(error, store)

    def _look(self, store: Store) -> Counts:
        with self._readers:  # their processes are there only while somebody reads
            return requests.process(
                self._account,
                self._connector,
                store,
                self._writer,
                store.clock,
                settings=self._settings,
                mailer=self._mailer,
                proceed=lambda: not self._stopping.is_set(),
                read=self._readers.read,
            )

    def _settle(self, counts: Counts, troubles: Troubles) -> None:
        """Tell of mail that waits, which holds up nothing else."""
        if counts.trouble:
            step = "Check smtp in panza.yaml; it is tried again by itself."
            troubles.met(MAIL, Advice(counts.trouble, step, TRY_LATER), counts.retry)
        elif not counts.unmailed:
            troubles.over(MAIL)

    def _pause(self, error: Exception, store: Store | None) -> None:
        """Say what went wrong, and wait before the next try."""
        self._bell.clear()
        if self._stopping.is_set():
            return
        self._well = False
        told = advice(error)
        # A folder that is gone is made again by the next look, where that may be.
        gone = isinstance(error, FolderMissingError)
        lasting = told.exit_code == CONFIGURATION and not gone
        seconds = self._backoff.next(at_least=_PATIENCE if lasting else 0.0)
        # Its text may quote the server, and the server the owner: that is for the status alone.
        _log.warning("%s: %s; next try in %.0f s", self.name, type(error).__name__, seconds)
        _log.debug("where:", exc_info=error)
        if store:
            with suppress(StoreError, OSError):  # the disk may be full
                retry = store.clock() + timedelta(seconds=seconds)
                Troubles(store.database, store.clock).met(JOB, told, retry)
        self._bell.wait(seconds)


def _report(account: str, counts: Counts) -> None:
    if counts.new or counts.drafted or counts.parked or counts.swept:
        _log.info(
            "requests of %s: %d new, %d drafted, %d given up, %d waiting, %d copies removed",
            *(account, counts.new, counts.drafted, counts.parked, counts.waiting, counts.swept),
        )
