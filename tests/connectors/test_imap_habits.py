"""Servers with less than they should have, and what each refusal and each goodbye comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faultproxy import CONNECT, Fault, FaultProxy, No
from hiding import ANY_KEYWORD, EXTENSIONS
from scripted import Talk, scripted

from connectors.base import Connector, RefusedError, Role, UnreachableError
from connectors.imap import ImapConnector, ImapSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from dovecot import Dovecot
    from imapclient import IMAPClient

    Emptied = Callable[..., AbstractContextManager[IMAPClient]]


def mail(number: int) -> bytes:
    """Return a small message with a Message-ID of its own."""
    return b"Subject: %d\r\nMessage-ID: <%d@example.org>\r\n\r\nx\r\n" % (number, number)


def reached(proxy: FaultProxy) -> ImapConnector:
    """Return a connector to what is behind a proxy."""
    return ImapConnector(
        ImapSettings(
            proxy.host, proxy.user, proxy.password, port=proxy.port, security="none", timeout=10
        )
    )


# Less than others have


@pytest.mark.parametrize(
    "hidden",
    [
        *({name} for name in ("UIDPLUS", "IDLE", "SPECIAL-USE", "NAMESPACE", ANY_KEYWORD)),
        {"SASL-IR", "LITERAL+"},
        set(EXTENSIONS),
    ],
    ids=lambda hidden: "all" if len(hidden) > 3 else "+".join(sorted(hidden)),
)
def test_a_server_without(hidden: set[str], dovecot: Dovecot, emptied: Emptied) -> None:
    """All that Panza does with a folder it does without an extension, and without all of them."""
    with (
        emptied(dovecot, "Sent") as client,
        FaultProxy(dovecot, hide=hidden) as proxy,
        reached(proxy) as connector,
    ):
        assert connector.state(Role.SENT).name == "Sent"
        assert connector.ensure(Role.REQUESTS) == "Panza requests"
        connector.append(Role.REQUESTS, mail(1), flags=["\\Seen"])
        connector.append(Role.REQUESTS, mail(2))
        first, second = connector.message_ids(Role.REQUESTS)
        connector.add_flags(Role.REQUESTS, first, ["\\Answered", "$Panza"])
        connector.remove(Role.REQUESTS, second)
        found = {m.uid: m for m in connector.fetch(Role.REQUESTS)}
        assert found[first].raw == mail(1)
        keyword = set() if ANY_KEYWORD in hidden else {"$Panza"}
        assert found[first].flags == {"\\Seen", "\\Answered"} | keyword
        if "UIDPLUS" in hidden:
            assert found[second].flags == {"\\Deleted"}
        else:
            assert second not in found
        connector.state(Role.REQUESTS)
        assert connector.wait(Role.REQUESTS, 0.2) is False
        client.append("Panza requests", mail(3))
        assert connector.wait(Role.REQUESTS, 10) is True


# Refusals


def prepared(connector: Connector) -> int:
    """Make the folders, and a message in each; return its UID."""
    for role in (Role.DRAFTS, Role.REQUESTS):
        connector.append(role, mail(1))
    return max(connector.message_ids(Role.DRAFTS))


STEPS: dict[str, Callable[[Connector, int], object]] = {
    "EXAMINE": lambda connector, _: connector.state(Role.DRAFTS),
    "UID FETCH": lambda connector, _: connector.message_ids(Role.DRAFTS),
    "APPEND": lambda connector, _: connector.append(Role.DRAFTS, mail(2)),
    "SELECT": lambda connector, uid: connector.add_flags(Role.DRAFTS, uid, ["\\Flagged"]),
    "UID STORE": lambda connector, uid: connector.add_flags(Role.DRAFTS, uid, ["\\Flagged"]),
    "UID EXPUNGE": lambda connector, uid: connector.remove(Role.DRAFTS, uid),
}
"""A command, and the call that comes to it."""


@pytest.fixture
def proxy(dovecot: Dovecot, emptied: Emptied) -> Iterator[FaultProxy]:
    """Stand before Dovecot, which has an empty Sent."""
    with emptied(dovecot, "Sent"), FaultProxy(dovecot) as proxy:
        yield proxy


@pytest.mark.parametrize("command", STEPS)
@pytest.mark.parametrize(
    "refusal",
    [
        No("OVERQUOTA", "the mailbox is full"),
        No("", "no reason at all"),
        No("CLIENTBUG", "?", "BAD"),
    ],
    ids=["code", "none", "BAD"],
)
def test_a_refusal_says_what_the_server_said(command: str, refusal: No, proxy: FaultProxy) -> None:
    """Each command that is refused is an error with code and words, and the line is kept."""
    with reached(proxy) as connector:
        uid = prepared(connector)
        proxy.on(command, refusal, times=None)
        with pytest.raises(RefusedError) as caught:
            STEPS[command](connector, uid)
        assert (caught.value.code, caught.value.reason) == (refusal.code, refusal.text)
        proxy.heal()
        STEPS[command](connector, uid)
        assert proxy.connections == 1


def test_a_folder_that_may_not_be_made(proxy: FaultProxy) -> None:
    """NO to CREATE is told; NO to SUBSCRIBE costs nothing but the subscription."""
    with reached(proxy) as connector:
        proxy.on("CREATE", No("CANNOT", "no more folders"))
        with pytest.raises(RefusedError, match="no more folders") as caught:
            connector.ensure(Role.REQUESTS)
        assert (caught.value.command, caught.value.code) == ("CREATE", "CANNOT")
        proxy.on("SUBSCRIBE", No("NOPERM", "not you"))
        assert connector.ensure(Role.REQUESTS) == "Panza requests"


def test_a_folder_that_somebody_else_has_made(proxy: FaultProxy) -> None:
    """Two programs may make the same folder at the same moment."""
    with reached(proxy) as connector, reached(proxy) as other:
        connector.state(Role.SENT)
        other.ensure(Role.REQUESTS)
        assert connector.ensure(Role.REQUESTS) == "Panza requests"
        proxy.on("CREATE", No("ALREADYEXISTS", "there it is"))
        assert connector.ensure(Role.DRAFTS) == "Drafts"


@pytest.mark.parametrize("command", [*STEPS, "LIST", "AUTHENTICATE"])
def test_a_goodbye_says_why(command: str, proxy: FaultProxy) -> None:
    """BYE at any command means later, for the server's reason; afterwards all goes on."""
    call = STEPS.get(command, STEPS["EXAMINE"])
    with reached(proxy) as connector:
        uid = prepared(connector)
        if command not in STEPS:
            connector.close()
        proxy.on(command, Fault.BYE, times=None)
        with pytest.raises(UnreachableError) as caught:
            call(connector, uid)
        assert caught.value.reason == "shutting down"
        proxy.heal()
        call(connector, uid)


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.CUT, Fault.DROP])
@pytest.mark.parametrize("command", STEPS)
def test_a_line_that_breaks_at_a_command(command: str, fault: Fault, proxy: FaultProxy) -> None:
    """It is an error, except where opening the folder once more loses nothing."""
    with reached(proxy) as connector:
        uid = prepared(connector)
        proxy.on(command, fault)
        if command in {"EXAMINE", "SELECT"}:
            STEPS[command](connector, uid)
            proxy.on(command, fault, times=None)
        with pytest.raises(UnreachableError):
            STEPS[command](connector, uid)
        proxy.heal()
        STEPS[command](connector, uid)


def test_a_server_that_lets_nobody_in(proxy: FaultProxy) -> None:
    """Connections that are closed at once are told as such, until they are not."""
    with reached(proxy) as connector:
        proxy.on(CONNECT, Fault.DROP, times=None)
        with pytest.raises(UnreachableError):
            connector.state(Role.SENT)
        proxy.heal()
        assert connector.state(Role.SENT).messages == 0


def test_a_greeting_that_is_a_goodbye() -> None:
    """Too many connections: the server says so instead of hello."""
    with (
        scripted({}, greeting="* BYE Too many connections from your address") as connector,
        pytest.raises(UnreachableError, match="Too many connections"),
    ):
        connector.state(Role.SENT)


def test_a_goodbye_before_a_literal() -> None:
    """A server that ends an APPEND before it has taken the message says why as well."""

    def leave(talk: Talk) -> None:
        talk.say("* BYE out of disk")
        talk.hear()  # and does not even close the connection

    with (
        scripted({"APPEND": leave}) as connector,
        pytest.raises(UnreachableError, match="out of disk"),
    ):
        connector.append(Role.SENT, mail(1))


# What some do in their own way


def test_exchange_is_not_given_keywords() -> None:
    r"""A folder without \* says OK to a keyword and forgets it: it is not sent one."""
    seen: list[str] = []
    marks = "* OK [PERMANENTFLAGS (\\Seen \\Answered \\Flagged \\Deleted \\Draft)] x\r\n"
    odd = {"SELECT": f"* 2 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n* OK [UIDNEXT 9] x\r\n{marks}"}
    with scripted(odd, seen=seen) as connector:
        connector.add_flags(Role.SENT, 3, ["\\Answered", "$Panza"])
    (stored,) = [command for command in seen if "STORE" in command]
    assert "$Panza" not in stored


def test_a_uid_of_an_append_is_told() -> None:
    """APPENDUID is understood in any case, and beside other codes; without it nothing is told."""
    for told, expected in (
        ("OK [APPENDUID 5 17] done", 17),
        ("OK [appenduid 5 17] APPEND completed.", 17),
        ("OK APPEND completed.", None),
        ("OK [UNKNOWN-CODE 5 17] done", None),
    ):

        def append(talk: Talk, told: str = told) -> None:
            talk.say("+ go on")
            while talk.hear() != "x":  # the last line of the message
                pass
            talk.hear()  # the command's own end
            talk.say(f"{talk.tag} {told}")

        with scripted({"APPEND": append}) as connector:
            assert connector.append(Role.SENT, mail(1)) == expected


def test_a_namespace_without_a_personal_part() -> None:
    """NAMESPACE NIL beside a server whose folders all lie below INBOX."""
    seen: list[str] = []
    odd = {
        "CAPABILITY": "* CAPABILITY IMAP4rev1 NAMESPACE\r\n",
        "NAMESPACE": '* NAMESPACE NIL NIL (("Shared." "."))\r\n',
        "LIST": '* LIST () "." INBOX\r\n* LIST () "." INBOX.Sent\r\n',
    }
    with scripted(odd, seen=seen) as connector:
        assert connector.ensure(Role.REQUESTS) in {"Panza requests", "INBOX.Panza requests"}
        assert connector.state(Role.SENT).name == "INBOX.Sent"


def test_a_folder_that_was_renamed() -> None:
    """The folder for a role is looked for anew when its name is gone."""
    names = iter(["Sent", "Sent Items"])

    def listed(talk: Talk) -> None:
        talk.say(f'* LIST () "/" "{next(names)}"', f"{talk.tag} OK done")

    odd = {"LIST": listed, 'EXAMINE "?Sent"?$': "NO [NONEXISTENT] renamed"}
    with scripted(odd) as connector:
        assert connector.state(Role.SENT).name == "Sent Items"
