"""Folders that are numbered anew while drafts are on their way: nothing twice, nothing lost."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from faultproxy import FaultProxy
from fuses import Crash, Fuse, FusedConnector, WatchedConnector, fused
from jens_mail import DRAFTS, REQUESTS, JensMail, jens_client

from connectors.base import ConnectorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dovecot import Dovecot

STRIDE = 5
FOLDERS = {"Drafts": (DRAFTS,), "both": (DRAFTS, REQUESTS)}


@pytest.fixture
def server(make_dovecot: Callable[..., Dovecot]) -> Dovecot:
    """Return a server of the test's own, for numbers are taken away behind its back."""
    return make_dovecot()


def _begin(server: Dovecot, folder: Path) -> JensMail:
    """File one request among older mail, whose UIDs will be lower when they are given anew."""
    with jens_client(server) as client:
        mail = JensMail(client, folder, server)
        for name in (DRAFTS, REQUESTS):
            mail.empty(name)
        mail.surround(3)
        for name in (DRAFTS, REQUESTS):
            client.select_folder(name)
            client.add_flags([min(client.search())], ["\\Deleted"], silent=True)
            client.close_folder()
        mail.ask(1)
    return mail


def _assert_well(mail: JensMail, server: Dovecot) -> None:
    """Hold that the next look brings all to its end, and the one after it does nothing."""
    with jens_client(server) as client, FaultProxy(server) as proxy:
        mail = JensMail(client, mail.folder, proxy)
        with mail.connector:
            mail.work()
            proxy.forget()
            mail.look()
            assert proxy.count("APPEND", "STORE", "MOVE", "EXPUNGE") == 0
            mail.assert_one_draft_each([1])
            mail.assert_nothing_is_left()


@pytest.mark.parametrize("which", FOLDERS)
def test_numbered_anew_after_a_crash_in_any_state(
    server: Dovecot, tmp_path: Path, which: str
) -> None:
    """Generated, appending, appended: the draft is found by its Message-ID, or made once."""
    states: Counter[str] = Counter()
    moment, died = 0, True
    while died:
        mail = _begin(server, tmp_path / str(moment))
        fuse = Fuse(moment)
        with mail.connector, mail.store() as store, fused(store, fuse) as dying, suppress(Crash):
            mail.look(FusedConnector(mail.connector, fuse), dying)
        died = fuse.passed > moment
        states.update(mail.outbox())
        for name in FOLDERS[which]:
            server.change_uidvalidity(name)
        _assert_well(mail, server)
        moment += STRIDE
    assert all(states[state] for state in ("generated", "appending", "appended"))


@pytest.mark.parametrize("which", FOLDERS)
def test_numbered_anew_in_the_midst_of_a_look(server: Dovecot, tmp_path: Path, which: str) -> None:
    """Between any two calls of the connector: at worst the look ends and the next one does it."""
    calls = 0

    def moment(_name: str) -> None:
        nonlocal calls
        calls += 1
        if calls == turn:
            for name in FOLDERS[which]:
                server.change_uidvalidity(name)

    turn = 1
    while calls >= turn - 1:
        mail = _begin(server, tmp_path / str(turn))
        calls = 0
        with mail.connector, suppress(ConnectorError):
            mail.look(WatchedConnector(mail.connector, moment))
        _assert_well(mail, server)
        turn += 1
    assert turn > 10
