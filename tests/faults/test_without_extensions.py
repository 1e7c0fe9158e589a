r"""Servers that lack what Panza likes to use: slower perhaps, the same results.

The same results are: the same messages in every folder with the same flags, but for superfluous
copies of a draft. With UIDPLUS they are removed; without it no client can expunge one message and
no other, so that they are marked ``\Deleted`` and left to the next EXPUNGE of their owner's. Both
are no drafts any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crashing import UNCLEAR
from faultproxy import Fault, FaultProxy
from hiding import EXTENSIONS
from jens_mail import DRAFTS, FOLDERS, REQUESTS, JensMail

from connectors.base import Role

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from faultproxy import Server
    from jens_mail import Emptied, Marks

PLAN = {2: Fault.LOST, 4: Fault.CUT, 6: Fault.LATE, 7: Fault.LATE, 9: Fault.LATE, 11: Fault.LOST}
ASKED = 8
ALONE = ("UIDPLUS", "IDLE", "CONDSTORE", "SPECIAL-USE", "\\*")


def _results(
    server: Server, emptied: Emptied, folder: Path, hidden: AbstractSet[str]
) -> tuple[Marks, int]:
    """Answer requests over a line that breaks; return what is kept, and count deleted copies."""
    with (
        emptied(server, *FOLDERS) as client,
        FaultProxy(server, PLAN, hide=hidden, late=60) as proxy,
    ):
        mail = JensMail(client, folder, proxy)
        with mail.connector:
            mail.empty("INBOX")
            mail.surround()
            numbers = mail.ask(ASKED)
            client.append(REQUESTS, UNCLEAR)
            mail.work()
            mail.connector.wait(Role.REQUESTS, 0.05)
            proxy.hurry()
            mail.look()
            assert mail.swept
            assert len(proxy.happened) == len(PLAN)
            mail.assert_one_draft_each(numbers)
            proxy.forget()
            mail.look()
            assert proxy.count("APPEND", "STORE", "MOVE", "EXPUNGE") == 0
        return mail.marks(), sum(one.deleted for one in mail.kept(DRAFTS))


def test_a_server_without_extensions_gives_the_same_results(
    dovecot: Server, emptied: Emptied, tmp_path: Path
) -> None:
    """Each extension alone, then all there are: one draft each, the same flags, nothing else."""
    whole, removed = _results(dovecot, emptied, tmp_path / "whole", frozenset())
    assert removed == 0
    for name in (*ALONE, "all"):
        hidden = EXTENSIONS if name == "all" else {name}
        poor, marked = _results(dovecot, emptied, tmp_path / name.strip("\\"), hidden)
        assert poor == whole, name
        assert bool(marked) == ("UIDPLUS" in hidden), name
