"""Waiting on an IMAP server: IDLE renewed in time, dead lines noticed, ended from other threads."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from scripted import ORDINARY, Talk, listening, local, scripted

from connectors.base import Role, UnreachableError
from connectors.imap import ImapConnector, ImapSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from dovecot import Dovecot
    from imapclient import IMAPClient

    Emptied = Callable[..., AbstractContextManager[IMAPClient]]

_IDLES = "* CAPABILITY IMAP4rev1 IDLE\r\n"
_TWO = str(ORDINARY["(?:EXAMINE|SELECT)"])


def idle_then(*lines: str) -> Callable[[Talk], None]:
    """Return an answer to IDLE that says these lines once idle, and takes DONE."""

    def answer(talk: Talk) -> None:
        talk.say("+ idling", *lines)
        assert talk.hear() == "DONE"
        talk.say(f"{talk.tag} OK done")

    return answer


@contextmanager
def in_a_thread(call: Callable[[], object]) -> Iterator[list[object]]:
    """Make a call in a thread; give what it returned or raised, once the block is left."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except UnreachableError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.15)  # long enough for the call to be where it will stay, as a rule
    try:
        yield outcome
    finally:
        thread.join(10)
        assert not thread.is_alive()


@contextmanager
def shorter_than(seconds: float) -> Iterator[None]:
    """Hold that the block takes less time than this."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


# What ends a wait


def test_idle_is_begun_anew_in_time() -> None:
    """A wait longer than the renewal ends its IDLE and begins another, and looks each time."""
    seen: list[str] = []
    odd = {"CAPABILITY": _IDLES, "IDLE": idle_then()}
    with scripted(odd, seen=seen, renewal=0.2) as connector:
        assert connector.wait(Role.SENT, 0.7) is False
        assert 3 <= seen.count("IDLE") <= 4
        assert seen.count("EXAMINE Sent") + seen.count('EXAMINE "Sent"') == seen.count("IDLE")


@pytest.mark.parametrize("news", ["* 3 EXISTS", "* 1 EXPUNGE"])
def test_mail_that_comes_or_goes_ends_the_wait(news: str) -> None:
    """Both are told at once, and the connection is good for the next command."""
    odd = {"CAPABILITY": _IDLES, "IDLE": idle_then("* OK still here", news)}
    with scripted(odd) as connector, shorter_than(5):
        assert connector.wait(Role.SENT, 20) is True
        assert connector.state(Role.SENT).messages == 2


def test_news_before_idle_has_begun() -> None:
    """What the server says between the look at the folder and IDLE is not lost."""

    def answer(talk: Talk) -> None:
        talk.say("* 3 EXISTS", "+ idling")
        talk.hear()
        talk.say(f"{talk.tag} OK done")

    with scripted({"CAPABILITY": _IDLES, "IDLE": answer}) as connector, shorter_than(5):
        assert connector.wait(Role.SENT, 20) is True


def test_what_is_no_news() -> None:
    """The number already known, flags, and chatter do not end the wait."""
    chatter = ("* 2 EXISTS", "* 0 RECENT", "* 1 FETCH (FLAGS (\\Seen))", "* OK still here")
    odd = {"CAPABILITY": _IDLES, "IDLE": idle_then(*chatter)}
    with scripted(odd) as connector:
        assert connector.wait(Role.SENT, 0.5) is False


@pytest.mark.parametrize(
    ("before", "after"),
    [("UIDNEXT 9", "UIDNEXT 10"), ("2 EXISTS", "1 EXISTS"), ("UIDVALIDITY 5", "UIDVALIDITY 6")],
)
def test_a_folder_that_is_not_as_it_was(before: str, after: str) -> None:
    """A change since `state` ends the wait before any IDLE: mail, its removal, a new numbering."""
    seen: list[str] = []
    answers = iter([_TWO, _TWO.replace(before, after)])

    def examine(talk: Talk) -> None:
        talk.say(next(answers) + f"{talk.tag} OK done")

    odd = {"CAPABILITY": _IDLES, "IDLE": idle_then(), "EXAMINE": examine}
    with scripted(odd, seen=seen) as connector:
        connector.state(Role.SENT)
        assert connector.wait(Role.SENT, 20) is True
    assert "IDLE" not in seen


# Servers that idle badly or not at all


def refused(talk: Talk) -> None:
    """Refuse."""
    talk.say(f"{talk.tag} NO not today")


def ended(talk: Talk) -> None:
    """End IDLE of its own accord."""
    talk.say("+ idling", f"{talk.tag} OK that was long enough")


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"CAPABILITY": _IDLES, "IDLE": refused},
        {"CAPABILITY": _IDLES, "IDLE": ended},
        {"CAPABILITY": _IDLES, "IDLE": "BAD what is IDLE"},
    ],
    ids=["without", "refused", "ended", "unknown"],
)
def test_without_idle_the_time_passes(odd: dict[str, str | Callable[[Talk], object]]) -> None:
    """The wait lasts as long as it should, can be ended, and leaves the connection usable."""
    seen: list[str] = []
    with scripted(odd, seen=seen) as connector:
        started = time.monotonic()
        assert connector.wait(Role.SENT, 0.4) is False
        assert time.monotonic() - started > 0.35
        assert seen.count("IDLE") <= 1
        with in_a_thread(lambda: connector.wait(Role.SENT, 20)) as outcome:
            connector.wake()
        assert outcome == [False]
        assert connector.state(Role.SENT).messages == 2
        assert seen.count("CAPABILITY") == 2


def test_without_idle_the_folder_is_looked_at_now_and_then() -> None:
    """A server without IDLE is not left alone for so long that it would hang up."""
    answers = iter([_TWO, _TWO, _TWO.replace("UIDNEXT 9", "UIDNEXT 10")])

    def examine(talk: Talk) -> None:
        talk.say(next(answers) + f"{talk.tag} OK done")

    with scripted({"EXAMINE": examine}, renewal=0.2) as connector, shorter_than(5):
        connector.state(Role.SENT)
        assert connector.wait(Role.SENT, 20) is True


# Lines that die


def hang_up(talk: Talk) -> None:
    """End the connection in the middle of IDLE."""
    talk.say("+ idling")
    talk.connection.shutdown(socket.SHUT_RDWR)


def say_goodbye(talk: Talk) -> None:
    """End it with a word."""
    talk.say("+ idling", "* BYE moving to another disk")
    talk.connection.shutdown(socket.SHUT_RDWR)


def go_silent(talk: Talk) -> None:
    """Take DONE and answer nothing any more."""
    talk.say("+ idling")
    talk.hear()
    talk.hear()


def talk_nonsense(talk: Talk) -> None:
    """Send what is no IMAP."""
    talk.say("+ idling", "HTTP/1.1 200 OK")
    talk.hear()


@pytest.mark.parametrize(
    ("idle", "reason"),
    [
        (hang_up, "closed the connection"),
        (say_goodbye, "moving to another disk"),
        (go_silent, "in time"),
        (talk_nonsense, "unexpected response"),
    ],
)
def test_a_dead_line_is_noticed(idle: Callable[[Talk], None], reason: str) -> None:
    """A line that breaks while waiting is an error with its reason, and is replaced afterwards."""
    odd = {"CAPABILITY": _IDLES, "IDLE": idle}
    with scripted(odd, renewal=0.3) as connector, shorter_than(8):
        with pytest.raises(UnreachableError, match=reason):
            connector.wait(Role.SENT, 20)
        assert connector.state(Role.SENT).messages == 2


def test_a_line_that_dies_without_idle() -> None:
    """A server without IDLE that hangs up is noticed at once, not when the time is over."""

    def answer(talk: Talk) -> None:
        talk.say(_TWO + f"{talk.tag} OK done", "* BYE maintenance")
        talk.connection.shutdown(socket.SHUT_RDWR)

    refused = pytest.raises(UnreachableError, match="maintenance")
    with scripted({"EXAMINE": answer}) as connector, shorter_than(5), refused:
        connector.wait(Role.SENT, 20)


# From other threads


@contextmanager
def tls_server(
    certificate: tuple[Path, Path], idle: Callable[[socket.socket, Callable[[str], bytes]], None]
) -> Iterator[ImapConnector]:
    """Give a connector to a TLS server whose IDLE a function plays.

    It gets the bare socket and a function that returns a line as TLS would send it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def answer(connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secured = context.wrap_bio(incoming, outgoing, server_side=True)

        def pump(step: Callable[[], object]) -> object:
            while True:
                try:
                    done = step()
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    if not (data := connection.recv(65536)):
                        raise ConnectionError from None  # the client has left
                    incoming.write(data)
                else:
                    connection.sendall(outgoing.read())
                    return done

        def sealed(text: str) -> bytes:
            secured.write(text.encode())
            return outgoing.read()

        pump(secured.do_handshake)
        connection.sendall(sealed("* OK [CAPABILITY IMAP4rev1 IDLE] ready\r\n"))
        while line := bytes(pump(lambda: secured.read(4096))):  # type: ignore[call-overload]
            tag, command = line.decode().split(" ")[:2]
            if command.startswith("IDLE"):
                connection.sendall(sealed("+ idling\r\n"))
                idle(connection, sealed)
                pump(lambda: secured.read(4096))
            said = ORDINARY["(?:EXAMINE|SELECT)" if command == "EXAMINE" else "LIST"]
            connection.sendall(sealed(f"{said}{tag} OK [CAPABILITY IMAP4rev1 IDLE] done\r\n"))

    with listening(answer) as port:
        settings = local(port, host="localhost", security="tls", ca_file=certificate[0])
        with ImapConnector(settings) as connector:
            yield connector


def test_two_lines_in_one_record(certificate: tuple[Path, Path]) -> None:
    """What TLS has read ahead is not waited for."""

    def idle(connection: socket.socket, sealed: Callable[[str], bytes]) -> None:
        connection.sendall(sealed("* OK still here\r\n* 3 EXISTS\r\n"))

    with tls_server(certificate, idle) as connector, shorter_than(5):
        assert connector.wait(Role.SENT, 20) is True


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_waiting_under_tls(security: str, dovecot: Dovecot, emptied: Emptied) -> None:
    """A real server's news come through TLS, the wait can be ended, and the line stays good."""
    with emptied(dovecot, "Sent") as client:
        settings = ImapSettings(
            dovecot.host,
            dovecot.user,
            dovecot.password,
            port=dovecot.tls_port if security == "tls" else dovecot.port,
            security=security,  # type: ignore[arg-type]
            ca_file=dovecot.ca_file,
        )
        with ImapConnector(settings) as connector, shorter_than(10):
            connector.state(Role.SENT)
            with in_a_thread(lambda: connector.wait(Role.SENT, 20)) as outcome:
                client.append("Sent", b"Subject: x\r\n\r\nx\r\n")
            assert outcome == [True]
            assert connector.state(Role.SENT).messages == 1
            with in_a_thread(lambda: connector.wait(Role.SENT, 20)) as outcome:
                connector.wake()
            assert outcome == [False]
            with in_a_thread(lambda: connector.wait(Role.SENT, 20)) as outcome:
                connector.abort()
            assert isinstance(outcome[0], UnreachableError)
            assert connector.state(Role.SENT).messages == 1


def test_half_a_record_holds_nobody_up(certificate: tuple[Path, Path]) -> None:
    """A line of which only a part has come can still be waited for, and the wait be ended."""
    told = threading.Event()

    def idle(connection: socket.socket, sealed: Callable[[str], bytes]) -> None:
        record = sealed("* OK still here\r\n")
        connection.sendall(record[:10])
        told.wait(10)
        connection.sendall(record[10:])

    with tls_server(certificate, idle) as connector, shorter_than(8):
        with in_a_thread(lambda: connector.wait(Role.SENT, 20)) as outcome:
            connector.wake()
            time.sleep(0.2)  # by now it has said DONE, and may read the rest
            told.set()
        assert outcome == [False]
        assert connector.state(Role.SENT).messages == 2


def silent(_: socket.socket) -> None:
    """Say nothing for long."""
    time.sleep(8)


@pytest.mark.parametrize("security", ["none", "tls"])
def test_connecting_can_be_broken_off(security: str) -> None:
    """A server that accepts and says nothing, no greeting and no handshake, is left at once."""
    with listening(silent) as port, shorter_than(3):
        connector = ImapConnector(local(port, host="localhost", security=security, timeout=20))
        with in_a_thread(lambda: connector.state(Role.SENT)) as outcome:
            connector.abort()
        assert isinstance(outcome[0], UnreachableError)
        assert "broken off" in str(outcome[0])


def test_a_connection_that_nobody_accepts_can_be_broken_off() -> None:
    """So is a host that drops what is sent to it."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, shorter_than(3):
        queued = []
        for _ in range(4):  # once its queue is full, Linux drops what else asks to be let in
            one = socket.socket()
            one.setblocking(False)  # noqa: FBT003
            with suppress(BlockingIOError):
                one.connect(listener.getsockname())
            queued.append(one)
        connector = ImapConnector(local(listener.getsockname()[1], timeout=20))
        with in_a_thread(lambda: connector.state(Role.SENT)) as outcome:
            assert outcome == []
            connector.abort()
        for one in queued:
            one.close()
        assert isinstance(outcome[0], UnreachableError)


def test_a_password_that_is_waited_for_can_be_broken_off() -> None:
    """A password manager that asks its owner does not keep the daemon from stopping."""
    release = threading.Event()

    def ask() -> str:
        release.wait(10)
        return "secret"

    with scripted({}, password=ask) as connector, shorter_than(3):
        with in_a_thread(lambda: connector.state(Role.SENT)) as outcome:
            connector.abort()
        assert isinstance(outcome[0], UnreachableError)
        release.set()
        assert connector.state(Role.SENT).messages == 2


def test_a_command_can_be_broken_off() -> None:
    """A server that answers a command with silence is left at once, and tried anew afterwards."""
    answers = iter(["", _TWO])

    def examine(talk: Talk) -> None:
        if said := next(answers):
            talk.say(f"{said}{talk.tag} OK done")
        else:
            talk.hear()

    with scripted({"EXAMINE": examine}, timeout=20) as connector, shorter_than(3):
        with in_a_thread(lambda: connector.state(Role.SENT)) as outcome:
            connector.abort()
        assert isinstance(outcome[0], UnreachableError)
        assert "broken off" in str(outcome[0])
        assert connector.state(Role.SENT).messages == 2


def test_between_two_calls_the_next_one_is_broken_off() -> None:
    """Whoever stops a thread need not hit the moment of a call; after it all is as before."""
    with scripted({}) as connector:
        connector.state(Role.SENT)
        connector.abort()
        with pytest.raises(UnreachableError, match="broken off"):
            connector.state(Role.SENT)
        assert connector.state(Role.SENT).messages == 2


def test_closing_does_not_wait_for_a_silent_server() -> None:
    """LOGOUT is a courtesy: a server that does not answer it costs a few seconds at most."""
    with scripted({"LOGOUT": lambda talk: talk.hear()}, timeout=20) as connector:
        connector.state(Role.SENT)
        with shorter_than(5):
            connector.close()
