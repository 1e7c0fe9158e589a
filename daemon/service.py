"""`panza run`: watches every account's requests, and keeps the schedule, until it is told to stop.

One process of one event loop. Whatever takes time happens in threads: a `Worker` for each
account, and one for each job of the schedule while it runs. It never imports torch; what needs a
model is asked of the model process, over its socket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from daemon import accounts, cron
from daemon import config as configuration
from daemon.database import FolderLock
from daemon.errors import DaemonError, advice
from daemon.jobs import SYNC_EVERY, Job, SyncJob, TidyJob, TrainingJob
from daemon.model_link import SOCKET_VARIABLE, ModelLink
from daemon.model_process import ModelProcess
from daemon.notify import notify, watchdog_seconds
from daemon.store import Store
from daemon.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from apscheduler.triggers.base import BaseTrigger

    from daemon.config import Account, Config

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
# It logs each job's coming and going, and that one which takes long is not started twice.
logging.getLogger("apscheduler").setLevel(logging.ERROR)

STOPS_WITHIN = 8.0
"""Seconds that threads have to end; what they do is safe to be cut off anywhere."""

_BEAT = 15.0  # seconds between two looks at itself
_JITTER = 30  # seconds, so that the accounts of one server do not sync in step
_JUMP = 60.0  # seconds by which the wall clock may leave the monotonic one


async def run(path: Path | None) -> None:
    """Serve all accounts until SIGTERM or SIGINT; SIGHUP reads the configuration again.

    Args:
        path: The configuration file, None for the usual places.

    Raises:
        daemon.errors.ConfigError: It cannot be used.
        daemon.errors.StoreError: A store cannot be used, for example because another daemon does.
        OSError: A data folder cannot be written.
    """
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    service = Service(configuration.load(path), path)
    service.start()
    while True:
        told = await _told(service, signals)
        config = _read_again(path) if told == signal.SIGHUP else None
        if told == signal.SIGHUP and config is None:
            continue
        notify("STOPPING=1" if config is None else _reloading())
        hanging = await service.stop(within=STOPS_WITHIN)
        if config is None or _is_ended(signals):
            break
        if hanging:
            _begin_anew()
        service = _replaced(service, config, path)
    if hanging:
        # A thread is in a call that nothing can break off. The journal stands any end.
        logging.shutdown()
        os._exit(0)


async def _told(service: Service, signals: asyncio.Queue[signal.Signals]) -> signal.Signals:
    """Serve until the next signal, keeping the watchdog quiet while all is well."""
    notify("READY=1", f"STATUS={service.describe()}")
    beat = asyncio.create_task(_beat(service))
    try:
        return await signals.get()
    finally:
        beat.cancel()


async def _beat(service: Service) -> None:
    watched = watchdog_seconds()
    pause = min(_BEAT, watched / 3) if watched else _BEAT
    offset = time.time() - time.monotonic()
    while True:
        if service.healthy():
            notify("WATCHDOG=1")
        await asyncio.sleep(pause)
        # The monotonic clock stands still while the machine sleeps, so waking up is such a jump.
        drift = time.time() - time.monotonic() - offset
        if abs(drift) > _JUMP:
            offset += drift
            _log.info("the clock jumped by %.0f s", drift)
            service.reschedule()


def _read_again(path: Path | None) -> Config | None:
    """Return the configuration as it is now, None where it cannot be used."""
    try:
        return configuration.load(path)
    except DaemonError:
        # Its faults may quote what stands in the file.
        _log.error("the configuration has faults, and stays as it was: see `panza check`")
        return None


def _reloading() -> str:
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def _is_ended(signals: asyncio.Queue[signal.Signals]) -> bool:
    """Tell whether the end was asked for meanwhile."""
    waiting = [signals.get_nowait() for _ in range(signals.qsize())]
    return any(number != signal.SIGHUP for number in waiting)


def _begin_anew() -> NoReturn:
    """Become a new process in the place of this one, with nothing of it left but its id."""
    _log.info("the configuration is read again by a new process")
    logging.shutdown()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command


def _replaced(stopped: Service, config: Config, path: Path | None) -> Service:
    """Start a service with another configuration, or with the old one where that cannot be."""
    try:
        service = Service(config, path)
    except (DaemonError, OSError) as error:
        _log.error("the configuration stays as it was: %s", advice(error).message)
        service = Service(stopped.config, path)
    else:
        _log.info("the configuration was read again")
    service.start()
    return service


class Service:
    """All accounts of a configuration, served.

    Args:
        config: The configuration.
        path: Where it stands, for the model process; None for the usual places.

    Raises:
        daemon.errors.StoreError: A store cannot be used.
        OSError: A data folder cannot be written.
    """

    def __init__(self, config: Config, path: Path | None) -> None:
        self.config = config
        self._scheduler = AsyncIOScheduler(
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
        )
        self._workers: list[Worker] = []
        self._jobs: list[tuple[Job, BaseTrigger]] = []
        self._threads: set[threading.Thread] = set()
        with ExitStack() as stack:
            self._locks = {
                account.name: stack.enter_context(FolderLock(config.folder(account)))
                for account in config.accounts
            }
            for account in config.accounts:
                self._store(account).close()  # what is wrong with it is to be told now
            given = os.environ.get(SOCKET_VARIABLE)
            self._model = None if given else ModelProcess(path, config)
            self._link = self._model.link if self._model else ModelLink(Path(str(given)))
            self._held = stack.pop_all()

    def start(self) -> None:
        """Start workers and schedule; to be called within the event loop."""
        for account in self.config.accounts:
            self._add(account)
        for worker in self._workers:
            worker.start()
            self._threads.add(worker)
        self._scheduler.start()
        self.reschedule()

    async def stop(self, *, within: float | None = None) -> bool:
        """Stop everything.

        Args:
            within: Seconds after which what still hangs is left alone; None to wait for its end.

        Returns:
            Whether something still hangs.
        """
        self._scheduler.pause()
        for job, _ in self._jobs:
            job.stop()
        for worker in self._workers:
            worker.stop()
        self._link.abort()
        until = None if within is None else time.monotonic() + within
        for thread in tuple(self._threads):
            left = None if until is None else max(0.0, until - time.monotonic())
            await asyncio.to_thread(thread.join, left)
        hanging = any(thread.is_alive() for thread in self._threads)
        if self._model:
            await asyncio.to_thread(self._model.close)
        self._scheduler.shutdown(wait=False)  # cancels what still waits for a thread
        if not hanging:
            for job, _ in self._jobs:
                job.close()
        self._held.close()
        return hanging

    def reschedule(self) -> None:
        """Set all times anew from the clock as it is now, and look at everything at once."""
        for job, trigger in self._jobs:
            self._schedule(job, trigger)
        for worker in self._workers:
            worker.nudge()

    def healthy(self) -> bool:
        """Tell whether every worker is still at work."""
        return all(worker.is_alive() for worker in self._workers)

    def describe(self) -> str:
        """Say in a few words what is served."""
        return f"serving {', '.join(account.name for account in self.config.accounts)}"

    def _add(self, account: Account) -> None:
        folder = self.config.folder(account)
        open_store = partial(self._store, account)
        sources = accounts.open_sources(account, folder)
        sync = SyncJob(account, open_store, sources, self._link)
        if mailbox := accounts.open_mailbox(account, folder):
            worker = Worker(
                account,
                mailbox.connector,
                open_store,
                self._link.writer(account.name),
                settings=self.config.requests,
                mailer=accounts.open_smtp(account),
                synced=sync.synced,
            )
            self._workers.append(worker)
        every = IntervalTrigger(seconds=int(SYNC_EVERY.total_seconds()), jitter=_JITTER)
        self._jobs.append((sync, every))
        self._jobs.append((TidyJob(account, open_store), IntervalTrigger(days=1)))
        if (schedule := self.config.training.schedule) != "off":
            training = TrainingJob(self.config, account, open_store, self._link)
            self._jobs.append((training, cron.trigger(schedule)))

    def _store(self, account: Account) -> Store:
        return Store(self.config.folder(account), lock=self._locks[account.name])

    def _schedule(self, job: Job, trigger: BaseTrigger) -> None:
        """Plan a job from the moment on that it was due last."""
        now = datetime.now(UTC)
        since = job.considered()
        first = now if since is None else trigger.get_next_fire_time(since, since)
        self._scheduler.add_job(
            self._attempt,
            trigger,
            args=[job],
            id=job.title,
            next_run_time=first,
            replace_existing=True,
        )

    async def _attempt(self, job: Job) -> None:
        try:
            seconds = await self._in_thread(job.attempt, job.title)
        except asyncio.CancelledError:  # the scheduler was shut down; `stop` waits for the thread
            return
        if seconds is not None and self._scheduler.running:
            again = datetime.now(UTC) + timedelta(seconds=seconds)
            self._scheduler.modify_job(job.title, next_run_time=again)

    async def _in_thread(self, work: Callable[[], _T], name: str) -> _T:
        """Do it in a thread that, unlike those of asyncio, does not hold up the process's end."""
        future: Future[_T] = Future()
        future.set_running_or_notify_cancel()  # from here on it cannot be cancelled

        def body() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                future.set_exception(error)

        thread = threading.Thread(target=body, name=name, daemon=True)
        self._threads = {thread, *filter(threading.Thread.is_alive, self._threads)}
        thread.start()
        return await asyncio.wrap_future(future)
