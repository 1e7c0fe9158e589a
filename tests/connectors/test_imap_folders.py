"""Which folder is which, on servers of all kinds."""

from __future__ import annotations

import pytest

from connectors.base import Role
from connectors.imap_folders import Folder, find, new_name, usual_prefix


def folders(*names: str, delimiter: str = "/") -> list[Folder]:
    r"""Return folders; ``name|\Attribute`` gives one an attribute."""
    split = [name.partition("|") for name in names]
    return [
        Folder(name, delimiter, frozenset({attribute.lower()} if attribute else ()))
        for name, _, attribute in split
    ]


@pytest.mark.parametrize(
    ("role", "names", "expected"),
    [
        (Role.SENT, ["INBOX", "Sent Items", "Archive"], "Sent Items"),
        (Role.SENT, ["INBOX", "GESENDETE ELEMENTE"], "GESENDETE ELEMENTE"),
        (Role.SENT, ["Éléments envoyés", "Brouillons"], "Éléments envoyés"),
        (Role.DRAFTS, ["INBOX", "Entwürfe", "Sent"], "Entwürfe"),
        (Role.DRAFTS, ["INBOX", "草稿"], "草稿"),
        (Role.SENT, ["Sent Items", "Sent"], "Sent"),
        (Role.SENT, ["Other Users/bob/Sent", "Gesendet"], "Gesendet"),
        (Role.SENT, [r"Post out|\Sent", "Sent"], "Post out"),
        (Role.SENT, [r"Sent|\Noselect", "Sent/2024"], None),
        (Role.SENT, ["INBOX", "Presents"], None),
        (Role.DRAFTS, [], None),
        (Role.REQUESTS, ["INBOX", "Panza requests"], "Panza requests"),
        (Role.REQUESTS, ["INBOX", "Requests"], None),
    ],
)
def test_a_folder_is_found_by_use_and_then_by_name(
    role: Role, names: list[str], expected: str | None
) -> None:
    """SPECIAL-USE, then the names of mail programs in many languages; nothing is guessed."""
    assert find(role, None, folders(*names), "") == expected


@pytest.mark.parametrize(
    ("top", "sent", "drafts", "archive"),
    [
        ("[Gmail]", "Sent Mail", "Drafts", "All Mail"),
        ("[Google Mail]", "Gesendet", "Entwürfe", "Alle Nachrichten"),
        ("[Gmail]", "Messages envoyés", "Brouillons", "Tous les messages"),
        ("[Gmail]", "送信済みメール", "下書き", "すべてのメール"),
    ],
)
@pytest.mark.parametrize("marked", [True, False])
def test_gmails_folders(top: str, sent: str, drafts: str, archive: str, *, marked: bool) -> None:
    """In every language, with special uses told or not; All Mail is neither Sent nor Drafts."""
    uses = ("|\\All", "|\\Sent", "|\\Drafts") if marked else ("", "", "")
    names = folders(
        "INBOX",
        rf"{top}|\Noselect",
        f"{top}/{archive}{uses[0]}",
        f"{top}/{drafts}{uses[2]}",
        f"{top}/{sent}{uses[1]}",
    )
    assert find(Role.SENT, None, names, "") == f"{top}/{sent}"
    assert find(Role.DRAFTS, None, names, "") == f"{top}/{drafts}"
    hidden = [one for one in names if one.name not in {f"{top}/{sent}", f"{top}/{drafts}"}]
    assert find(Role.SENT, None, hidden, "") is None
    assert find(Role.DRAFTS, None, hidden, "") is None


def test_a_folder_of_another_use_is_not_taken_by_its_name() -> None:
    """A server that calls its archive "Sent" says itself that it is none."""
    assert find(Role.SENT, None, folders(r"Sent|\Archive", "Gesendet"), "") == "Gesendet"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("inbox", "INBOX"),
        ("Sent", "INBOX.Sent"),
        ("INBOX.Sent", "INBOX.Sent"),
        ("Work/Sent", "INBOX.Work.Sent"),
        ("Entwu\u0308rfe", "INBOX.Entw\u00fcrfe"),
        ("sent", None),
        ("Gesendet", None),
    ],
)
def test_the_owners_name_is_understood(wanted: str, expected: str | None) -> None:
    """Names work without the namespace's prefix, with / between levels, and in any form of ü."""
    names = folders("INBOX", "INBOX.Sent", "INBOX.Work.Sent", "INBOX.Entwürfe", delimiter=".")
    assert find(Role.SENT, wanted, names, "INBOX.") == expected


def test_names_of_new_folders() -> None:
    """A new folder goes below the prefix, once, with the server's delimiter."""
    dotted = folders("INBOX", "INBOX.Sent", delimiter=".")
    assert new_name(Role.REQUESTS, None, dotted, "INBOX.") == "INBOX.Panza requests"
    assert new_name(Role.REQUESTS, "INBOX.Ask", dotted, "INBOX.") == "INBOX.Ask"
    assert new_name(Role.REQUESTS, "Work/Ask", dotted, "INBOX.") == "INBOX.Work.Ask"
    assert new_name(Role.DRAFTS, None, folders("INBOX", delimiter=""), "") == "Drafts"


@pytest.mark.parametrize(
    ("names", "delimiter", "expected"),
    [
        (["INBOX", "INBOX.Sent", "INBOX.Drafts"], ".", "INBOX."),
        (["INBOX", "INBOX/Sent", "Archive"], "/", ""),
        (["INBOX", "Sent"], "/", ""),
        (["INBOX"], "/", ""),
        (["INBOX", "INBOXES"], "", ""),
    ],
)
def test_the_prefix_is_seen_in_the_names(names: list[str], delimiter: str, expected: str) -> None:
    """Without NAMESPACE the prefix is INBOX only where everything lies below it."""
    assert usual_prefix(folders(*names, delimiter=delimiter)) == expected
