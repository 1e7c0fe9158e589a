"""The fault proxy does what it says: broken lines, hidden capabilities, counts."""

from __future__ import annotations

import socket
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, cast

import pytest
from faultproxy import CONNECT, Fault, FaultProxy, No, seeded
from hiding import EXTENSIONS, Hidden
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from faultproxy import Server

    from daemon.demo.server import DemoServer

    Emptied = Callable[..., AbstractContextManager[IMAPClient]]

BROKEN = (IMAPClientError, OSError)  # what a client of a broken line raises


@pytest.fixture(params=["demo_server", "dovecot", "cyrus"])
def server(request: pytest.FixtureRequest) -> Server:
    """Return a server of each kind."""
    return cast("Server", request.getfixturevalue(request.param))


@pytest.fixture
def behind_each(server: Server, emptied: Emptied) -> Iterator[IMAPClient]:
    """Return what `behind` does, for a server of each kind."""
    with emptied(server, "Drafts") as client:
        yield client


@pytest.fixture
def behind(demo_server: DemoServer, emptied: Emptied) -> Iterator[IMAPClient]:
    """Return a connection that sees what the server really has; Drafts is there, and empty."""
    with emptied(demo_server, "Drafts") as client:
        yield client


@contextmanager
def client_of(proxy: FaultProxy, timeout: float = 10) -> Iterator[IMAPClient]:
    """Give a client of a proxy, logged in."""
    client = IMAPClient(proxy.host, port=proxy.port, ssl=False, timeout=timeout)
    try:
        client.plain_login(proxy.user, proxy.password)
        yield client
    finally:
        with suppress(*BROKEN):
            client.shutdown()


def append(proxy: FaultProxy, number: int = 1) -> bool:
    """Append one message on a connection of its own; say whether the client saw an OK."""
    with client_of(proxy) as client:
        try:
            client.append("Drafts", b"Subject: %d\r\n\r\n%s" % (number, b"{9}\r\nx\r\n" * 999))
        except BROKEN:
            return False
        return True


def stored(behind: IMAPClient) -> int:
    """Return how many messages there are."""
    behind.noop()
    return int(behind.folder_status("Drafts", ["MESSAGES"])[b"MESSAGES"])


def test_without_a_plan_nothing_changes(server: Server, behind_each: IMAPClient) -> None:
    """Literals of any bytes pass in both directions, and the log has the names of commands."""
    raw = b"Subject: x\r\n\r\n" + bytes(range(14, 256)) * 5000 + b"{12}\r\n"
    with FaultProxy(server) as proxy, client_of(proxy) as client:
        client.append("Drafts", raw)
        client.select_folder("Drafts")
        ((uid, data),) = client.fetch(client.search(), ["BODY.PEEK[]"]).items()
        client.add_flags([uid], [b"\\Seen"])
        assert data[b"BODY[]"] == raw
        assert proxy.count("FETCH", "APPEND") == 2
        assert proxy.count("STORE") == proxy.count("UID STORE") == 1
        assert proxy.connections == 1
        assert server.password not in " ".join(proxy.commands)
    assert stored(behind_each) == 1


@pytest.mark.parametrize(
    ("fault", "at_once", "later"),
    [(Fault.LOST, 1, 1), (Fault.CUT, 0, 0), (Fault.LATE, 0, 1), (Fault.DROP, 0, 0)],
)
def test_a_fault_of_an_append(
    demo_server: DemoServer, behind: IMAPClient, fault: Fault, at_once: int, later: int
) -> None:
    """The client hears no answer; the server has stored it, or not, or does later."""
    with FaultProxy(demo_server, {1: fault}, late=0.3) as proxy:
        assert not append(proxy)
        assert stored(behind) == at_once
        proxy.settle()
        assert stored(behind) == later
        assert append(proxy, 2)
        assert proxy.happened == [("APPEND", fault)]
    assert stored(behind) == later + 1


def test_a_literal_that_does_not_wait_is_cut_and_counted_alike(
    demo_server: DemoServer, behind: IMAPClient
) -> None:
    """LITERAL+ has the same faults; a refusal takes the literal with it."""
    with FaultProxy(demo_server, {1: Fault.CUT, 3: Fault.LATE}, late=0.1) as proxy:
        proxy.on("APPEND", No("OVERQUOTA"))
        user, password, replies = proxy.user.encode(), proxy.password.encode(), []
        for _ in range(4):
            with closing(socket.create_connection((proxy.host, proxy.port))) as line:
                line.sendall(b"1 LOGIN %s {%d+}\r\n" % (user, len(password)))
                line.sendall(password + b"\r\n")
                line.sendall(b"2 APPEND Drafts {14+}\r\nSubject: x\r\n\r\n\r\n3 LOGOUT\r\n")
                with suppress(OSError), line.makefile("rb") as answers:
                    replies += [answer for answer in answers if answer.startswith(b"2 ")]
        proxy.settle()
        assert proxy.count("LOGIN", "LOGOUT") == 6
    assert replies[0] == b"2 NO [OVERQUOTA] not now\r\n"
    assert replies[1].startswith(b"2 OK [APPENDUID ")
    assert stored(behind) == 2


def test_a_plan_is_kept_under_many_connections(server: Server, behind_each: IMAPClient) -> None:
    """What is stored is what was acknowledged, what lost its answer, and what came late."""
    plan = seeded(5, appends=60, faults=24)
    assert plan == seeded(5, appends=60, faults=24)
    seen: list[bool] = []
    with FaultProxy(server, plan, late=0.2) as proxy:
        threads = [
            threading.Thread(target=lambda: seen.extend(append(proxy) for _ in range(6)))
            for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        proxy.settle()
        assert proxy.count("APPEND") == 60
        assert {kind for _, kind in proxy.happened} == {Fault.LOST, Fault.CUT, Fault.LATE}
    assert seen.count(True) == 60 - 24
    assert stored(behind_each) == 60 - 8


def test_named_commands_fail_as_asked(demo_server: DemoServer, behind: IMAPClient) -> None:
    """Refused, cut, told BYE, or met by silence: the named command, in its turn, and no other."""
    with FaultProxy(demo_server) as proxy:
        proxy.on("STATUS", No("UNAVAILABLE", "later"), skip=1)
        proxy.on("SELECT", Fault.BYE)
        proxy.on("CREATE", Fault.HANG)
        with client_of(proxy, timeout=1) as client:
            client.folder_status("Drafts")
            with pytest.raises(IMAPClientError, match="later"):
                client.folder_status("Drafts")
            client.folder_status("Drafts")
            with pytest.raises(BROKEN):
                client.select_folder("Drafts")
        with client_of(proxy, timeout=0.5) as client, pytest.raises(TimeoutError):
            client.create_folder("Made")
        assert behind.folder_exists("Made")
        proxy.on(CONNECT, Fault.DROP)
        with pytest.raises(BROKEN):
            append(proxy)
        assert append(proxy)


def test_all_lines_at_once(demo_server: DemoServer, behind: IMAPClient) -> None:
    """A cut is seen at once; a dead line is not, and hides what arrives meanwhile."""
    with FaultProxy(demo_server) as proxy, client_of(proxy) as dead, client_of(proxy) as cut:
        for client in (cut, dead):
            client.select_folder("Drafts")
            client.idle()
        proxy.cut()
        assert cut.socket().recv(10) == b""
    with FaultProxy(demo_server) as proxy, client_of(proxy) as dead:
        dead.select_folder("Drafts")
        dead.idle()
        proxy.silence()
        behind.append("Drafts", b"x")
        assert dead.idle_check(timeout=0.3) == []
        assert proxy.commands[-1] == "IDLE"


def test_idling_is_a_dialogue(demo_server: DemoServer, behind: IMAPClient) -> None:
    """What is said during IDLE is no command; what follows it is."""
    with FaultProxy(demo_server) as proxy, client_of(proxy) as client:
        client.select_folder("Drafts")
        client.capabilities()
        proxy.forget()
        client.idle()
        behind.append("Drafts", b"x")
        assert client.idle_check(timeout=5)
        client.idle_done()
        client.noop()
        assert proxy.commands == ["IDLE", "NOOP"]


def test_round_trips_are_counted(demo_server: DemoServer, behind: IMAPClient) -> None:
    """Commands sent together are one round trip; a literal that waits is one more."""
    with FaultProxy(demo_server) as proxy, client_of(proxy) as client:
        proxy.forget()
        client.socket().sendall(b"a NOOP\r\nb NOOP\r\nc NOOP\r\n")
        seen = b""
        while b"c OK" not in seen:
            seen += client.socket().recv(1000)
        assert (proxy.round_trips, proxy.count("NOOP")) == (1, 3)
        client.append("Drafts", b"x")
        assert proxy.round_trips == 3
    assert stored(behind) == 1


def test_what_is_hidden_is_neither_told_nor_done(server: Server, behind_each: IMAPClient) -> None:
    """A hidden capability is in no answer, and its commands are unknown."""
    with FaultProxy(server, hide=EXTENSIONS) as proxy, client_of(proxy) as client:
        capabilities = {each.decode() for each in client.capabilities()}
        assert not EXTENSIONS & capabilities
        assert "IMAP4REV1" in capabilities
        answer = client.append("Drafts", b"Subject: x\r\n\r\n", [b"\\Seen", b"$Panza"])
        assert b"APPENDUID" not in answer
        client.select_folder("Drafts")
        for command in ("UID EXPUNGE 1", "IDLE", "NAMESPACE", "UID MOVE 1 INBOX", "ENABLE X"):
            client.socket().sendall(f"t {command}\r\n".encode())
            assert client.socket().recv(1000) == b"t BAD unknown command\r\n"
    behind_each.select_folder("Drafts", readonly=True)
    ((_, data),) = behind_each.fetch(behind_each.search(), ["FLAGS"]).items()
    assert set(data[b"FLAGS"]) - {b"\\Recent"} == {b"\\Seen"}


@pytest.mark.parametrize(
    ("name", "line", "shown"),
    [
        (
            "auth",
            b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN IDLE] hi\r\n",
            b"* OK [CAPABILITY IMAP4rev1 IDLE] hi\r\n",
        ),
        ("UIDPLUS", b"a OK [APPENDUID 1 2] done\r\n", b"a OK done\r\n"),
        ("CONDSTORE", b"* OK [HIGHESTMODSEQ 5] Highest\r\n", b"* OK Highest\r\n"),
        (
            "SPECIAL-USE",
            b'* LIST (\\HasNoChildren \\Sent) "/" Sent\r\n',
            b'* LIST (\\HasNoChildren) "/" Sent\r\n',
        ),
        (
            "\\*",
            b"* OK [PERMANENTFLAGS (\\Seen $x \\*)] ok\r\n",
            b"* OK [PERMANENTFLAGS (\\Seen)] ok\r\n",
        ),
        ("IDLE", b"* 3 FETCH (FLAGS (\\Seen $x))\r\n", b"* 3 FETCH (FLAGS (\\Seen $x))\r\n"),
    ],
)
def test_a_response_without_what_is_hidden(name: str, line: bytes, shown: bytes) -> None:
    """Capabilities, codes, special uses and flags are taken out; all else stays."""
    assert Hidden([name]).response(line) == shown
    assert Hidden([]).response(line) == line


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (
            b'a APPEND "a (b) c" (\\Seen $x) "01-Jan" {3}\r\n',
            b'a APPEND "a (b) c" (\\Seen) "01-Jan" {3}\r\n',
        ),
        (b"a UID STORE 1:* +FLAGS.SILENT ($x)\r\n", b"a UID STORE 1:* +FLAGS.SILENT ()\r\n"),
        (b"a STORE 1 +FLAGS \\Seen\r\n", b"a STORE 1 +FLAGS (\\Seen)\r\n"),
        (b"a UID FETCH 1 (FLAGS $x)\r\n", b"a UID FETCH 1 (FLAGS $x)\r\n"),
    ],
)
def test_keywords_are_dropped_without_a_word(line: bytes, seen: bytes) -> None:
    r"""A server without ``\*`` keeps system flags only."""
    assert Hidden(["\\*"]).command(line) == seen
    assert Hidden(["IDLE"]).command(line) == line
