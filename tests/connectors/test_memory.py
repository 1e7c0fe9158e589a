"""The memory connector's hooks for tests."""

from __future__ import annotations

import pytest

from connectors.base import RefusedError, Role, UnreachableError
from connectors.memory import MemoryConnector

_LOST = UnreachableError("memory", 0, "cut")


def test_a_fault_before_the_work_leaves_nothing() -> None:
    """A refused append stores nothing, and the next one goes well."""
    connector = MemoryConnector()
    connector.fail("append", RefusedError("APPEND", "OVERQUOTA", "full"))
    with pytest.raises(RefusedError):
        connector.append(Role.DRAFTS, b"")
    assert connector.append(Role.DRAFTS, b"") == 1


def test_a_lost_answer_leaves_the_message() -> None:
    """Appended but no answer: the call fails, the message is there."""
    connector = MemoryConnector()
    connector.fail("append", _LOST, done=True)
    with pytest.raises(UnreachableError):
        connector.append(Role.DRAFTS, b"Message-ID: <a@b>\n\n")
    assert connector.message_ids(Role.DRAFTS) == {1: "a@b"}


def test_faults_wait_for_their_turn() -> None:
    """A fault can let calls pass, and several come in the order in which they were asked for."""
    connector = MemoryConnector()
    for number in range(4):
        connector.append(Role.SENT, b"Subject: %d\n\n" % number)
    connector.fail("fetch", _LOST, skip=2)
    connector.fail("fetch", _LOST)
    found = []
    with pytest.raises(UnreachableError):
        found.extend(message.uid for message in connector.fetch(Role.SENT))
    with pytest.raises(UnreachableError):
        next(connector.fetch(Role.SENT))
    assert len(list(connector.fetch(Role.SENT))) == 4


def test_the_owner_can_delete() -> None:
    """A message that the owner deletes is gone, and its UID with it."""
    connector = MemoryConnector()
    connector.append(Role.DRAFTS, b"")
    connector.delete(Role.DRAFTS, 1)
    assert connector.state(Role.DRAFTS).messages == 0
    assert connector.append(Role.DRAFTS, b"") == 2
