"""Three other clients at work in the same folders while Panza is: nobody's mail is changed."""

from __future__ import annotations

import hashlib
import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from jens_mail import DRAFTS, FOLDERS, REQUESTS, JensMail, jens_client, request, stranger

if TYPE_CHECKING:
    from pathlib import Path

    from faultproxy import Server
    from imapclient import IMAPClient
    from jens_mail import Emptied

CLIENTS = 3
OPERATIONS = 2000
PLACES = ("INBOX", *FOLDERS)
FLAGS = ("\\Seen", "\\Flagged", "\\Draft", "$Later")


@dataclass
class Own:
    """A message as its client left it."""

    raw: bytes
    place: str
    flags: set[str] = field(default_factory=set)


class OtherClient(threading.Thread):
    """A mail program that works on messages of its own, all in the owner's account.

    Args:
        server: The server.
        number: Tells it from the others.
        operations: How much it does.

    Attributes:
        own: Its messages by Message-ID, as they must be found in the end.
        asked: The numbers of the requests that it has filed.
        done: How many operations there were.
    """

    def __init__(self, server: Server, number: int, operations: int) -> None:
        super().__init__(daemon=True)
        self.number, self.operations = number, operations
        self.own: dict[str, Own] = {}
        self.asked: list[int] = []
        self.done = 0
        self._server = server
        self._chance = random.Random(number)
        self._client: IMAPClient

    def run(self) -> None:
        """Do everything, then leave."""
        works = (
            *(self._deliver,) * 4,
            *(self._flag,) * 4,
            *(self._move,) * 3,
            *(self._throw_away,) * 2,
            *(self._save_draft,) * 3,
            *(self._ask,) * 2,
        )
        with jens_client(self._server) as self._client:
            for _ in range(self.operations):
                self._chance.choice(works)()
                self.done += 1

    def _deliver(self) -> None:
        self._store(self._chance.choice(PLACES))

    def _ask(self) -> None:
        number = self.number * 10_000 + len(self.asked)
        self._client.append(REQUESTS, request(number))
        self.asked.append(number)

    def _flag(self) -> None:
        if self.own:
            name, uid = self._some()
            flag = self._chance.choice(FLAGS)
            self._client.add_flags([uid], [flag], silent=True)
            self.own[name].flags.add(flag)

    def _move(self) -> None:
        if self.own:
            name, uid = self._some()
            place = self._chance.choice([one for one in PLACES if one != self.own[name].place])
            self._client.move([uid], place)
            self.own[name].place = place

    def _throw_away(self) -> None:
        if self.own:
            name, uid = self._some()
            self._expunge(uid)
            del self.own[name]

    def _save_draft(self) -> None:
        """Save a draft as mail programs do: the new version is stored, the old one expunged."""
        drafts = [name for name, one in self.own.items() if one.place == DRAFTS]
        self._store(DRAFTS)
        if drafts:
            name = self._chance.choice(drafts)
            self._expunge(self._find(name))
            del self.own[name]

    def _store(self, place: str) -> None:
        raw = stranger(self.done, f"client.{self.number}")
        flags = self._chance.sample(FLAGS[:3], self._chance.randrange(3))
        self._client.append(place, raw, flags)
        self.own[f"client.{self.number}.{self.done}@example.com"] = Own(raw, place, set(flags))

    def _some(self) -> tuple[str, int]:
        name = self._chance.choice(sorted(self.own))
        return name, self._find(name)

    def _find(self, name: str) -> int:
        """Return a message's UID; its folder is selected then."""
        self._client.select_folder(self.own[name].place)
        (uid,) = self._client.search(["HEADER", "Message-ID", f"<{name}>"])
        return int(uid)

    def _expunge(self, uid: int) -> None:
        self._client.add_flags([uid], ["\\Deleted"], silent=True)
        self._client.uid_expunge([uid])


@pytest.mark.timeout(600)
def test_two_thousand_operations_of_three_other_clients(
    dovecot: Server, emptied: Emptied, tmp_path: Path
) -> None:
    """No byte and no flag of their mail is changed, and each request has exactly one draft."""
    with emptied(dovecot, *FOLDERS) as client:
        mail = JensMail(client, tmp_path, dovecot)
        mail.empty("INBOX")
        mail.surround()
        before = mail.strangers()
        clients = [
            OtherClient(dovecot, number, OPERATIONS // CLIENTS + 1) for number in range(CLIENTS)
        ]
        for one in clients:
            one.start()
        looks = 0
        with mail.connector:
            while any(one.is_alive() for one in clients):
                mail.work(until=lambda _: True)
                looks += 1
            mail.work()
        assert sum(one.done for one in clients) >= OPERATIONS
        assert looks > 5
        wanted = before.copy()
        for one in clients:
            for own in one.own.values():
                wanted[own.place, hashlib.sha256(own.raw).hexdigest(), frozenset(own.flags)] += 1
        assert mail.strangers() == wanted
        mail.assert_one_draft_each(number for one in clients for number in one.asked)
