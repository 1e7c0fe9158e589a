"""An account without a server: the same promise on a Maildir, whose UIDs are Panza's own."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from crashing import CALLS, TracedLooks, need_tracing
from jens_mail import JensMail, draft_name, request

from connectors.base import Role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from connectors.base import Message

STEPS = (*CALLS, "rename", "unlink")
WRITES = 12  # of the database's writes every twelfth: test_crash_points.py has them all


@pytest.fixture
def looks() -> Iterator[TracedLooks]:
    """Return what looks in processes of its own."""
    need_tracing()
    made = TracedLooks()
    yield made
    made.close()


def _begin(folder: Path) -> JensMail:
    """Return an account with one request in its Maildir."""
    folder.mkdir()
    mail = JensMail(None, folder, None)
    mail.connector.ensure(Role.REQUESTS)
    mail.connector.append(Role.REQUESTS, request(1))
    return mail


def _drafts(mail: JensMail) -> list[Message]:
    mail.connector.ensure(Role.DRAFTS)
    return list(mail.connector.fetch(Role.DRAFTS))


def _flags(mail: JensMail) -> list[frozenset[str]]:
    return [one.flags for one in mail.connector.fetch(Role.REQUESTS) if b"X-Panza" not in one.raw]


@pytest.mark.parametrize("taken", [False, True], ids=["left alone", "taken away"])
def test_killed_at_any_step_on_a_maildir(
    looks: TracedLooks, tmp_path: Path, *, taken: bool
) -> None:
    """After a restart there is one draft; one that its owner has taken away is not made again."""
    calls = looks.count(_begin(tmp_path / "whole").folder, None, STEPS)
    points = [(call, ordinal) for call in STEPS for ordinal in range(1, calls[call] + 1)]
    assert calls["rename"] > 2
    for call, ordinal in points:
        if call == "pwrite64" and ordinal % WRITES:
            continue
        mail = _begin(tmp_path / f"{call}-{ordinal}")
        status = looks.look(mail.folder, None, f"inject={call}:signal=SIGKILL:when={ordinal}")
        assert status == signal.SIGKILL, (call, ordinal)
        gone = False
        for draft in (mail.folder / "mail/.Drafts/cur").glob("*") if taken else ():
            draft.unlink()
            gone = True
        mail.work()
        mail.look()
        names = [one.raw.count(draft_name(1).encode()) for one in _drafts(mail)]
        assert names == ([] if gone else [1]), (call, ordinal)
        assert _flags(mail) in ([{"\\Answered"}], [{"\\Flagged"}] if gone else [{"\\Answered"}])
