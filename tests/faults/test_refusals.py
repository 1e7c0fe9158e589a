"""NO and BYE to every command that a request's cycle uses, and a server that is away."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from faultproxy import CONNECT, Fault, FaultProxy, No
from jens_mail import DRAFTS, FOLDERS, REQUESTS, JensMail, draft_name, request

from connectors.base import ConnectorError, LoginRefusedError, RefusedError, UnreachableError
from daemon.errors import TRY_LATER, advice
from daemon.journal import Journal, State
from daemon.scan import request_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faultproxy import Server
    from jens_mail import Emptied

    from daemon.journal import Request

BYE, PASSING = "BYE", "UNAVAILABLE"
PARKS = {
    "OVERQUOTA": "The mailbox is full",
    "LIMIT": "would exceed a limit",
    "TOOBIG": "would exceed a limit",
    "NOPERM": "no right to write",
    "TRYCREATE": "no folder Drafts",
}
KINDS = ("", PASSING, *PARKS, BYE)


@pytest.fixture
def proxy(dovecot: Server) -> Iterator[FaultProxy]:
    """Return a proxy that nothing goes wrong on yet."""
    with FaultProxy(dovecot) as made:
        yield made


@pytest.fixture
def mail(
    dovecot: Server, emptied: Emptied, tmp_path: Path, proxy: FaultProxy
) -> Iterator[JensMail]:
    """Return Jen's mail, reached by way of the proxy."""
    with emptied(dovecot, *FOLDERS) as client:
        yield JensMail(client, tmp_path / "store", proxy)


def _begin(mail: JensMail, folder: Path) -> None:
    """Leave one request and nothing else, on a new connection."""
    mail.connector.close()
    mail.folder = folder
    for name in (DRAFTS, REQUESTS):
        mail.empty(name)
    mail.ask(1)


def _cycle(mail: JensMail, proxy: FaultProxy, folder: Path) -> list[tuple[str, int]]:
    """Return the commands of one cycle, and for each how many of its name precede it."""
    _begin(mail, folder)
    proxy.forget()
    mail.look()
    names = list(proxy.commands)
    return [(name, names[:place].count(name)) for place, name in enumerate(names)]


def _entry(mail: JensMail) -> Request:
    with mail.store() as store:
        found = Journal(store.database, mail.clock).find(request_key(request(1)))
    assert found
    return found


def _file_again(mail: JensMail) -> None:
    """Take the request out of the folder and put it back in."""
    mail.client.select_folder(REQUESTS)
    uids = mail.client.search(["HEADER", "Message-ID", "request.1@"])
    mail.client.add_flags(uids, ["\\Deleted"], silent=True)
    mail.client.uid_expunge(uids)
    mail.ask(1)


def _expected(kind: str, command: str) -> type[ConnectorError] | None:
    """Return what ends the look at which this happens; None where it goes on."""
    if kind == BYE:
        return UnreachableError
    if command == "AUTHENTICATE":
        passing = {PASSING, "LIMIT"}  # of connections
        return UnreachableError if kind in passing else LoginRefusedError
    if command == "LIST":  # refused with SPECIAL-USE, it is asked plainly
        return None
    goes_on = command in {"APPEND", "SELECT", "UID STORE"} and kind != PASSING
    return None if goes_on else RefusedError


@pytest.mark.parametrize("kind", KINDS)
def test_no_and_bye_at_each_command(
    mail: JensMail, proxy: FaultProxy, tmp_path: Path, kind: str
) -> None:
    """The right error, or the right reason for the owner; then one draft, and the flag."""
    fault = Fault.BYE if kind == BYE else No(kind)
    cycle = _cycle(mail, proxy, tmp_path / "whole")
    assert {"AUTHENTICATE", "LIST", "EXAMINE", "UID FETCH", "APPEND", "SELECT", "UID STORE"} == {
        name for name, _ in cycle
    }
    for place, (command, skip) in enumerate(cycle):
        where = f"{command} {skip}"
        _begin(mail, tmp_path / str(place))
        proxy.on(command, fault, skip=skip)
        error = None
        try:
            mail.look()
        except ConnectorError as raised:
            error = raised
        proxy.heal()
        _assert_told(mail, kind, command, error, where)
        mail.work()
        if command == "APPEND" and kind in PARKS:
            assert _entry(mail).state is State.PARKED
            _file_again(mail)
            mail.work()
        unmarked = kind == "NOPERM" and command in {"SELECT", "UID STORE"}
        ours = [one.name for one in mail.kept(DRAFTS)]
        flags = [one.flags for one in mail.kept(REQUESTS) if one.name.startswith("request")]
        assert ours == [draft_name(1)], where
        assert flags == [frozenset() if unmarked else {"\\Answered"}], where


def _assert_told(
    mail: JensMail, kind: str, command: str, error: ConnectorError | None, where: str
) -> None:
    expected = _expected(kind, command)
    if error is not None:
        assert type(error) is expected, where
        if kind in {BYE, PASSING}:
            assert advice(error).exit_code == TRY_LATER, where
        if kind:
            assert kind == BYE or kind in str(error) or command == "AUTHENTICATE", where
    elif command == "APPEND" and kind in PARKS:
        assert PARKS[kind] in _entry(mail).reason
        notes = [one.raw for one in mail.kept(REQUESTS) if one.name.startswith("panza.note")]
        assert len(notes) == 1
        assert PARKS[kind].encode() in notes[0]
    elif command in {"APPEND", "SELECT", "UID STORE"}:
        entry = _entry(mail)
        assert entry.settled or kind in entry.trouble, where
        assert entry.settled or "not now" in entry.trouble, where
        assert entry.settled == (kind == "NOPERM"), where
    else:
        # LIST is asked in another way; a single message that is not given is read next time.
        assert command in {"LIST", "UID FETCH"}, where


def test_a_draft_that_is_refused_again_and_again_parks_its_request(
    mail: JensMail, proxy: FaultProxy, tmp_path: Path
) -> None:
    """Without a reason five times; the note tells, and the next request has its own chances."""
    _begin(mail, tmp_path / "store")
    proxy.on("APPEND", No(text="I do not like it"), times=5)
    for _ in range(4):
        assert mail.look().waiting == 1
    assert mail.look().parked == 1
    assert "I do not like it" in _entry(mail).reason
    mail.ask(1, first=2)
    assert mail.look().drafted == 1


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (CONNECT, Fault.DROP),
        (CONNECT, Fault.BYE),
        ("AUTHENTICATE", No("UNAVAILABLE")),
        ("EXAMINE", No()),
        ("APPEND", No("UNAVAILABLE")),
        ("APPEND", No("INUSE")),
        ("APPEND", Fault.LOST),
        ("APPEND", Fault.CUT),
        ("APPEND", Fault.DROP),
        ("UID STORE", No("UNAVAILABLE")),
    ],
    ids=lambda value: value if isinstance(value, str) else str(getattr(value, "name", value)),
)
def test_what_lies_outside_of_a_request_never_parks_it(
    mail: JensMail, proxy: FaultProxy, tmp_path: Path, command: str, fault: Fault | No
) -> None:
    """A server that is away, out of order or in a hurry for twenty looks: then one draft."""
    _begin(mail, tmp_path / "store")
    proxy.on(command, fault, times=None)
    for _ in range(20):
        with suppress(ConnectorError):
            mail.look()
    proxy.heal()
    mail.work()
    mail.assert_one_draft_each([1])
    assert _entry(mail).state is State.DONE


def test_a_flag_that_is_refused_for_ever_holds_nothing_up(
    mail: JensMail, proxy: FaultProxy, tmp_path: Path
) -> None:
    """Flags are a courtesy: after five refusals the request is done without."""
    _begin(mail, tmp_path / "store")
    proxy.on("UID STORE", No(), times=None)
    for _ in range(5):
        mail.look()
    assert _entry(mail).state is State.DONE
    assert [one.name for one in mail.kept(DRAFTS)] == [draft_name(1)]
