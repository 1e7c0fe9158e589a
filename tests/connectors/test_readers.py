"""Messages read in processes of their own."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from connectors.base import LARGEST, Message, MessageError, ReaderError, UnreachableError
from connectors.mail import Mail, parse
from connectors.reader import TOO_LONG, TOO_MUCH
from connectors.readers import Readers, read_here

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NOON = datetime(2024, 5, 3, 12, tzinfo=UTC)


def message(number: int, text: str = "Hello.") -> Message:
    """Return an invented message with all that a mail can have."""
    raw = (
        f"From: Jen Döe <jen@example.org>\r\nTo: Stew <stew@example.net>, ann@example.net\r\n"
        f"Cc: =?utf-8?q?Bj=C3=B6rn?= <bjoern@example.net>\r\nSubject: Mail {number}\r\n"
        f"Message-ID: <{number}@example.org>\r\nReferences: <a@example.net> <b@example.net>\r\n"
        f"\r\n{text}\r\n\r\nOn 2 May 2024 at 10:00, Stew <stew@example.net> wrote:\r\n> Well?\r\n"
    )
    return Message(number, raw.encode(), received=NOON)


def faults(found: Iterable[Mail | MessageError]) -> list[str]:
    """Return why each cannot be read, "" where it can."""
    return [one.reason if isinstance(one, MessageError) else "" for one in found]


def children() -> set[int]:
    """Return the processes that this one has started and that are not gone."""
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


@pytest.fixture
def readers() -> Iterator[Readers]:
    """Return readers that are closed at the end."""
    with Readers() as made:
        yield made


def test_the_same_as_here(readers: Readers) -> None:
    """A mail that was read elsewhere is the mail that is read here, and they keep their order."""
    messages = [message(number) for number in range(230)]
    found = list(readers.read(messages))
    assert [one for one, _ in found] == messages
    assert [mail for _, mail in found] == [parse(one.raw, received=NOON) for one in messages]
    assert isinstance(found[0][1], Mail)
    assert found[0][1].date == NOON


def test_nothing_to_read_starts_nothing(readers: Readers) -> None:
    """Without a message there is no process."""
    before = children()
    assert list(readers.read([])) == []
    assert children() == before


def test_used_again_and_closed() -> None:
    """One process serves many calls, and none is left behind, not even of a call that was left."""
    before = children()
    with Readers(1) as readers:
        list(readers.read([message(1)]))
        started = children() - before
        list(readers.read([message(2)]))
        assert children() - before == started
        assert len(started) == 1
        left = readers.read(message(number) for number in range(300))
        next(left)
        assert children() > before
    readers.close()
    assert children() == before


def test_what_comes_before_a_fault_is_read(readers: Readers) -> None:
    """When the source of messages raises, what it gave is yielded, and then the fault is raised."""

    def broken() -> Iterator[Message]:
        yield from map(message, range(70))
        raise UnreachableError("mail", 993, "gone")

    found = []
    with pytest.raises(UnreachableError):
        found.extend(readers.read(broken()))
    assert len(found) == 70


def test_limits_cost_one_message(readers: Readers) -> None:
    """A message past a limit is none, and those beside it are read."""
    parts = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n\r\nx\r\n" * 2000
    messages = [message(1), Message(2, parts), message(3)]
    found = [mail for _, mail in readers.read(messages)]
    assert faults(found) == ["", "the message has more than 1000 parts", ""]
    assert faults(mail for _, mail in read_here(messages)) == faults(found)


def test_a_message_that_takes_too_long() -> None:
    """It is not read, at once, and those beside it are."""
    heavy = message(2, "One more line of many, and it is the same as all the others.\r\n" * 9000)
    started = time.monotonic()
    with Readers(1, seconds=0.05) as readers:
        found = [mail for _, mail in readers.read([message(1), heavy, message(3)])]
    assert faults(found) == ["", TOO_LONG, ""]
    assert time.monotonic() - started < 5


def test_a_message_that_takes_too_much_memory() -> None:
    """It is not read, and those beside it are."""
    attached = b"Content-Type: message/rfc822\r\n\r\n" + b"x" * (LARGEST - 100)
    with Readers(1, memory=60 * 2**20) as readers:
        found = [mail for _, mail in readers.read([message(1), Message(2, attached), message(3)])]
    assert faults(found) == ["", TOO_MUCH, ""]


def test_a_process_that_is_killed(readers: Readers) -> None:
    """A reader that somebody ends in the middle of its work costs no message."""
    before = children()
    reading = readers.read(map(message, range(400)))
    found = [next(reading) for _ in range(60)]  # by then both of them work
    for pid in children() - before:
        os.kill(pid, signal.SIGKILL)
    found.extend(reading)
    assert [message.uid for message, _ in found] == list(range(400))
    assert not any(faults(mail for _, mail in found))


def test_no_process_can_be_started(readers: Readers) -> None:
    """That is no fault of any message, and is told."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
    try:
        with pytest.raises(ReaderError):
            list(readers.read([message(1)]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))


def test_nothing_of_the_environment(readers: Readers) -> None:
    """The processes know no variable of this one's, where a password may stand, and no NumPy."""
    before = children()
    list(readers.read([message(1)]))
    for pid in children() - before:
        assert b"PATH" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert b"numpy" not in Path(f"/proc/{pid}/maps").read_bytes()


def test_reading_can_be_broken_off() -> None:
    """`abort` ends it at once, whatever the processes do; none is started afterwards."""
    before = children()
    with Readers() as readers:
        reading = readers.read(map(message, range(400)))
        next(reading)
        for pid in children() - before:
            os.kill(pid, signal.SIGSTOP)
        ringing = threading.Timer(0.2, readers.abort)
        ringing.start()
        started = time.monotonic()
        with pytest.raises(ReaderError):
            list(reading)
        assert time.monotonic() - started < 2
        ringing.join()
        with pytest.raises(ReaderError, match="broken off"):
            list(readers.read([message(1)]))
    assert children() == before
