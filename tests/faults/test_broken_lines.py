"""500 requests, and lines that break while their drafts are on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faultproxy import Fault, FaultProxy, seeded
from jens_mail import FOLDERS, JensMail

if TYPE_CHECKING:
    from pathlib import Path

    from faultproxy import Server
    from jens_mail import Emptied


def _survives(
    server: Server, emptied: Emptied, folder: Path, *, requests: int, faults: int
) -> None:
    # Two faults of three make Panza append again, so that there are more APPENDs than requests.
    plan = seeded(requests, appends=requests + faults // 2, faults=faults)
    with emptied(server, *FOLDERS) as client, FaultProxy(server, plan) as proxy:
        mail = JensMail(client, folder, proxy)
        mail.surround()
        before = mail.strangers()
        numbers = mail.ask(requests)
        mail.work()
        assert len(proxy.happened) == faults
        assert mail.errors["UnreachableError"] == faults
        proxy.settle()
        mail.look()
        assert 0 < mail.swept <= sum(fault is Fault.LATE for fault in plan.values())
        mail.assert_one_draft_each(numbers)
        assert mail.strangers() == before
        proxy.forget()
        mail.look()
        assert proxy.count("APPEND", "STORE", "MOVE", "EXPUNGE") == 0
        mail.assert_nothing_is_left()


def test_dovecot_has_one_draft_for_each_of_500_requests_after_200_faults(
    dovecot: Server, emptied: Emptied, tmp_path: Path
) -> None:
    """Answers lost, literals cut or late: after the sweep one draft each, nobody's mail changed."""
    _survives(dovecot, emptied, tmp_path, requests=500, faults=200)


def test_cyrus_has_one_draft_for_each_of_100_requests_after_40_faults(
    cyrus: Server, emptied: Emptied, tmp_path: Path
) -> None:
    """The same on a server with other habits."""
    _survives(cyrus, emptied, tmp_path, requests=100, faults=40)
