"""The owner edits, sends or deletes a draft at a random moment: it is never touched or made again.

The hard moment is the one between an APPEND whose answer got lost and Panza's next look: what is
right then is told in `daemon.delivery`.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from faultproxy import Fault, FaultProxy
from fuses import WatchedConnector
from jens_mail import DRAFTS, FOLDERS, REQUESTS, SENT, JensMail, draft_name, request

from connectors.base import ConnectorError
from daemon.journal import Journal, State
from daemon.scan import request_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faultproxy import Server
    from jens_mail import Emptied, Kept

INTERLEAVINGS = 100
ASKED = 2
# A look at two requests has some 25 moments; the later ones fall into the next looks.
MOMENTS = 40
LOOKS = 5
ACTS = ("edit", "edit under a new name", "send", "send under a new name", "delete")


class Hand:
    """Jen's hand: takes the first draft that it sees from a moment on.

    Args:
        mail: Her mail.
        act: What she does.
        moment: From which moment on she looks.

    Attributes:
        took: The Message-ID of the draft that she took, "" while there is none.
        made: What she made of it, as it must be found in the end: the folder and the bytes.
    """

    def __init__(self, mail: JensMail, act: str, moment: int) -> None:
        self.mail, self.act = mail, act
        self.took = ""
        self.made: list[tuple[str, bytes]] = []
        self._left = moment

    def moment(self, _name: str) -> None:
        """Let a moment pass."""
        self._left -= 1
        if self._left < 0 and not self.took:
            drafts = [one for one in self.mail.kept(DRAFTS) if one.name.startswith("panza.")]
            if drafts:
                self._take(drafts[0])

    def _take(self, draft: Kept) -> None:
        """Do as mail clients do: the new version is stored, the old one expunged."""
        self.took = draft.name
        raw = draft.raw
        if self.act.startswith("edit"):
            raw = raw.replace(b"Hello,", b"Dear all,")
        if "new name" in self.act:
            raw = re.sub(rb"(?i)message-id: <[^>]*>", b"Message-ID: <hers@example.org>", raw)
        if self.act != "delete":
            place = SENT if self.act.startswith("send") else DRAFTS
            flags = ["\\Seen"] if place == SENT else ["\\Seen", "\\Draft"]
            self.mail.client.append(place, raw, flags)
            self.made.append((place, raw))
        self.mail.client.select_folder(DRAFTS)
        self.mail.client.add_flags([draft.uid], ["\\Deleted"], silent=True)
        self.mail.client.uid_expunge([draft.uid])
        self.mail.client.unselect_folder()


@pytest.fixture
def proxy(dovecot: Server) -> Iterator[FaultProxy]:
    """Return a proxy that nothing goes wrong on yet."""
    with FaultProxy(dovecot) as made:
        yield made


def test_a_draft_in_the_owners_hand_is_never_touched_nor_made_again(
    dovecot: Server, emptied: Emptied, tmp_path: Path, proxy: FaultProxy
) -> None:
    """100 seeded interleavings, half of them with an answer lost on the way."""
    ends: Counter[str] = Counter()
    with emptied(dovecot, *FOLDERS) as client:
        for seed in range(INTERLEAVINGS):
            chance = random.Random(seed)
            act, lost = ACTS[seed % len(ACTS)], chance.random() < 0.5
            mail = JensMail(client, tmp_path / str(seed), proxy)
            for name in FOLDERS:
                mail.empty(name)
            client.append(DRAFTS, b"Subject: an older draft\r\n\r\nhers\r\n", ["\\Draft"])
            numbers = mail.ask(ASKED)
            if lost:
                proxy.on("APPEND", Fault.LOST, skip=chance.randrange(ASKED))
            hand = Hand(mail, act, chance.randrange(MOMENTS))
            watched = WatchedConnector(mail.connector, hand.moment)
            with watched:
                for _ in range(LOOKS):
                    with suppress(ConnectorError):
                        mail.look(watched)
            proxy.heal()
            assert hand.took
            ends[_assert_her_word_is_final(mail, hand, list(numbers), lost=lost)] += 1
    assert ends["done"] > INTERLEAVINGS // 2
    assert ends["in doubt"]


def _assert_her_word_is_final(mail: JensMail, hand: Hand, numbers: list[int], *, lost: bool) -> str:
    """Hold that all is as she left it; return how the request of her draft ended."""
    other = [draft_name(number) for number in numbers if draft_name(number) != hand.took]
    drafts = {one.name: one.raw for one in mail.kept(DRAFTS)}
    made = {name for place, raw in hand.made if place == DRAFTS for name in [_name(raw)]}
    assert set(drafts) == {*other, *made, ""}
    kept = [(place, one.raw) for place in (DRAFTS, SENT) for one in mail.kept(place)]
    assert all(kept.count(each) == 1 for each in hand.made)
    assert len(kept) == len(hand.made) + len(other) + 1
    (mine,) = [number for number in numbers if draft_name(number) == hand.took]
    with mail.store() as store:
        entry = Journal(store.database, mail.clock).find(request_key(request(mine)))
    assert entry
    flags = {one.name: one.flags for one in mail.kept(REQUESTS)}
    mark = flags[f"request.{mine}@example.org"]
    if entry.state is State.DONE:
        assert mark == {"\\Answered"}
        return "done"
    # Nobody can tell: she is asked, and whether the draft is made again is her word.
    assert lost
    assert hand.act in {"edit under a new name", "send under a new name", "delete"}
    assert entry.state is State.PARKED
    assert mark == {"\\Flagged"}
    assert sum(name.startswith("panza.note") for name in flags) == 1
    return "in doubt"


def _name(raw: bytes) -> str:
    found = re.search(rb"(?i)message-id: <([^>]*)>", raw)
    assert found
    return found[1].decode()
