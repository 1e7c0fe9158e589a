"""Panza killed or failed at any moment of a request's cycle, and started again."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from crashing import CALLS, UNCLEAR, Crashing, need_tracing
from faultproxy import Fault, FaultProxy
from fuses import Crash, Fuse, FusedConnector, fused
from jens_mail import DRAFTS, FOLDERS, REQUESTS, JensMail, draft_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faultproxy import Server
    from jens_mail import Emptied

LEFT_OUT = 3
"""Every third write is left out to save time; tests/bench/crash_points.py takes each one."""

DISK_STRIDE = 17


@pytest.fixture
def crashing(dovecot: Server, emptied: Emptied) -> Iterator[Crashing]:
    """Return what looks at two requests and dies of it."""
    need_tracing()
    with emptied(dovecot, *FOLDERS) as client, Crashing(client, dovecot) as made:
        yield made


def test_killed_at_a_write_an_fsync_or_a_send(crashing: Crashing) -> None:
    """After a restart one draft, all marked, nothing left to do: at 150 system calls or more."""
    calls = crashing.calls()
    points = [
        (call, ordinal)
        for call in CALLS
        for ordinal in range(1, calls[call] + 1)
        if call != "pwrite64" or ordinal % LEFT_OUT
    ]
    assert len(points) >= 150
    assert {"pwrite64", "fdatasync", "sendto"} <= {call for call, _ in points}
    for point in points:
        assert crashing.look(*point) == signal.SIGKILL, point
        crashing.assert_recovers()


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
def test_a_disk_that_fails_or_is_full(crashing: Crashing, fault: str) -> None:
    """The look ends with an error, or has done without; the next one brings all to its end."""
    calls = crashing.calls()
    failed = 0
    for call in ("pwrite64", "fdatasync"):
        for ordinal in range(1, calls[call] + 1, DISK_STRIDE):
            # A disk fails for one sector; a full one stays full.
            which = f"{ordinal}+" if fault == "ENOSPC" else ordinal
            status = crashing.look(call, which, f"error={fault}")
            assert os.WIFEXITED(status), (call, ordinal)
            failed += status != 0
            crashing.assert_recovers()
    assert failed > 5


def test_stopped_before_and_after_every_step_of_the_journal(
    dovecot: Server, emptied: Emptied, tmp_path: Path
) -> None:
    """At each statement, commit and call of the connector: the same, on a real server."""
    with emptied(dovecot, *FOLDERS) as client, FaultProxy(dovecot) as proxy:
        mail = JensMail(client, tmp_path, proxy)

        def look(moment: int | None = None) -> Fuse:
            fuse = Fuse(moment)
            connector = FusedConnector(mail.connector, fuse)
            with mail.store() as store, fused(store, fuse) as dying, suppress(Crash):
                mail.look(connector, dying)
            return fuse

        moment, died = 0, True
        while died:
            mail.folder = tmp_path / str(moment)
            for name in (DRAFTS, REQUESTS):
                mail.empty(name)
            mail.ask(1)
            client.append(REQUESTS, UNCLEAR)
            died = look(moment).passed > moment
            look()
            proxy.forget()
            look()
            assert proxy.count("APPEND", "STORE", "MOVE", "EXPUNGE") == 0, moment
            assert [one.name for one in mail.kept(DRAFTS)] == [draft_name(1)], moment
            flags = {one.name.split(".")[1]: one.flags for one in mail.kept(REQUESTS)}
            assert flags == {
                "0@example": {"\\Flagged"},
                "1@example": {"\\Answered"},
                "note": set(),
            }, moment
            moment += 1
        assert moment > 60


def test_stopped_in_the_midst_of_a_sweep(dovecot: Server, emptied: Emptied, tmp_path: Path) -> None:
    """Of three copies one is left, whichever steps were done; a mail beside them is not touched."""
    with emptied(dovecot, *FOLDERS) as client, FaultProxy(dovecot, late=60) as proxy:
        mail = JensMail(client, tmp_path, proxy)
        point, broken = 0, True
        while broken:
            mail.folder = tmp_path / str(point)
            for name in (DRAFTS, REQUESTS):
                mail.empty(name)
            mail.surround(2)
            before = mail.strangers()
            mail.ask(1)
            proxy.on("APPEND", Fault.LATE, times=2)
            with mail.connector:
                mail.work()
                proxy.hurry()
                assert len([one for one in mail.kept(DRAFTS) if one.name == draft_name(1)]) == 3
                for command in ("STORE", "EXPUNGE"):
                    proxy.on(command, (Fault.DROP, Fault.LOST)[point % 2], skip=point // 2)
                proxy.forget()
                mail.work()
                broken = bool(proxy.happened)
                proxy.heal()
                mail.look()
            mail.assert_one_draft_each([1])
            assert mail.strangers() == before
            point += 1
        assert point == 5
