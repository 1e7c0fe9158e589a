"""Names in the owner's words become addresses from her own mail, or a reason."""

import pytest

from connectors.mail import Address
from daemon.recipients import People, addressees, listed

PEOPLE = People(
    [
        Address("Stew Pidd", "stew@example.org"),
        Address("Stew Pidd", "STEW@example.org"),
        Address("Novak, Zoë (Vienna)", "zoe.novak@example.org"),
        Address("Dr. Anna Berg", "anna@example.org"),
        Address("Anna Holm", "holm@example.org"),
        Address("", "kim@example.org"),
        Address("bob@example.org", "bob@example.org"),
    ]
)


@pytest.mark.parametrize(
    ("instruction", "emails"),
    [
        ("Tell Stew I can't make Thursday, offer Friday at 3", ["stew@example.org"]),
        ("tell stew i cant make thursday", ["stew@example.org"]),
        ("Please write a short note to Zoe Novak.", ["zoe.novak@example.org"]),
        ("Ask Zoë whether Stew is coming", ["zoe.novak@example.org"]),
        ("Thank Prof. Anna Berg for the clay", ["anna@example.org"]),
        ("Invite Stew, Zoe and Kim to the opening", ["stew@", "zoe.novak@", "kim@"]),
        ("Tell Stew, Zoe is ill", ["stew@example.org"]),
        ("Confirm the delivery with Kim on Friday", ["kim@example.org"]),
        ("Answer Stew's question", ["stew@example.org"]),
        ("Write to new.person@example.com that we are open", ["new.person@example.com"]),
        ("Schreib Stew, dass ich am Donnerstag nicht kann", ["stew@example.org"]),
    ],
)
def test_the_addressee_of_an_instruction_is_found(instruction: str, emails: list[str]) -> None:
    """Whoever stands behind the verb, else the only person of the first clause, is addressed."""
    result = addressees(instruction, PEOPLE)
    assert not result.reasons
    assert len(result.found) == len(emails)
    for address, email in zip(result.found, emails, strict=True):
        assert address.email.lower().startswith(email)


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("Tell Anna I am late", "may be any of anna@example.org, holm@example.org"),
        ("Tell Gregor that Stew cannot come", 'nobody called "Gregor"'),
        ("Tell my landlord that Stew moved in", "names nobody"),
        ("Say no to the offer", "names nobody"),
        ("The meeting of Stew with Kim is off", "several people"),
        ("", "names nobody"),
    ],
)
def test_a_name_that_fits_nobody_or_several_gives_a_reason(instruction: str, reason: str) -> None:
    """Nothing is guessed: no address, and a sentence that says why."""
    result = addressees(instruction, PEOPLE)
    assert not result.found
    assert reason in " ".join(result.reasons)


def test_somebody_unknown_beside_somebody_known_is_named() -> None:
    """Of two names joined by "and", the known one is addressed and the other one is reported."""
    result = addressees("Tell Stew and Gregor the show is on", PEOPLE)
    assert [a.email.lower() for a in result.found] == ["stew@example.org"]
    assert "Gregor" in result.reasons[0]


def test_a_list_takes_names_and_addresses() -> None:
    """A To line may hold names, addresses, and both; a name in quotes may hold a comma."""
    result = listed('Stew, "Holm, A." <holm@example.org>; new@example.com, Nobody', PEOPLE)
    assert [a.email.lower() for a in result.found] == [
        "stew@example.org",
        "holm@example.org",
        "new@example.com",
    ]
    assert result.found[1].name == "Holm, A."
    assert len(result.reasons) == 1
    assert "Nobody" in result.reasons[0]
