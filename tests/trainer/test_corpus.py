"""Which mails a training uses, how they are split, and the parts of a letter."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from trainer import corpus, machine
from trainer.confidential import CARD, IBAN, PASSWORD
from trainer.corpus import SentMail, first_names, letter, split, usable
from trainer.errors import TooFewMailsError

START = datetime(2024, 1, 1, tzinfo=UTC)


def secret(kind: str) -> str:
    """Return the reason of a mail that holds a secret of this kind."""
    return corpus.SECRET.format(kind=kind)


def mail(text: str, day: int = 0) -> SentMail:
    """Return a mail sent `day` days after the start."""
    return SentMail(f"{day:064x}", START + timedelta(days=day), ("Stew",), "Boats", text)


def test_usable_mails_come_oldest_first() -> None:
    """The order of the input does not matter."""
    mails = [mail(f"The boat number {day} floats.", day) for day in range(5)]
    kept, left_out = usable(mails[::-1])
    assert kept == mails
    assert left_out == Counter()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", corpus.ONE_LINER),
        ("Hi Stew,\n\nThanks!\n\nBest,\nJen", corpus.ONE_LINER),
        ("OK, will do.", corpus.ONE_LINER),
        ("word " * 1001, corpus.TOO_LONG),
        ("def f(x):\n    return x;\nimport os\nprint(f(2));", machine.CODE),
        ("My card is 4111 1111 1111 1111, please charge it.", secret(CARD)),
        ("Please pay to DE89 3704 0044 0532 0130 00 by Monday.", secret(IBAN)),
        ("The password is tr0ub4dor&3, do not lose it.", secret(PASSWORD)),
    ],
)
def test_what_a_training_cannot_use_is_left_out_by_reason(text: str, reason: str) -> None:
    """Each mail that is left out counts under one reason."""
    kept, left_out = usable([mail(text)])
    assert kept == []
    assert left_out == Counter({reason: 1})


def test_a_secret_in_the_subject_counts() -> None:
    """A training learns subjects as well."""
    one = replace(mail("It is as we said on Friday."), subject="Your login code: 482913")
    assert usable([one])[1] == Counter({secret(PASSWORD): 1})


@pytest.mark.parametrize(
    "text",
    [
        "Thanks, got it! I'll look.",
        "What is the code for the lock protecting it?",
        "Call me on +43 660 1234567, or the order number is 4111111111111112.",
        "I forgot my password again, can you help?",
        "Hi,\n\n- milk\n- bread\n- a new oar",
        "Wir sehen uns am Freitag.",
        "On se voit vendredi à la gare.",
        "金曜日で大丈夫です。",
        "Увидимся в пятницу на вокзале.",
    ],
)
def test_ordinary_mail_is_used(text: str) -> None:
    """Short answers, numbers that are no cards, lists and other languages are used."""
    assert usable([mail(text)])[1] == Counter()


def test_of_equal_texts_the_newest_stays() -> None:
    """Case, punctuation and white space make no other text."""
    mails = [mail("The shed is  open all day.", 1), mail("the shed is\nopen, all day.", 2)]
    kept, left_out = usable(mails)
    assert kept == [mails[1]]
    assert left_out == Counter({corpus.DUPLICATE: 1})


LETTER = (
    "Dear {name},\n\nthe two bowls are glazed and will be fired on {day}, so you can have them by "
    "the end of the week. I shall bring them along when I come to Vienna, which saves us the post. "
    "Please tell me whether the blue one was for your sister or for you.\n\nBest,\nJen"
)


def test_of_nearly_equal_texts_the_newest_stays() -> None:
    """Another greeting and another word in a long mail make no other text."""
    texts = [LETTER.format(name=n, day=d) for n, d in (("Anna", "Tuesday"), ("Bob", "Monday"))]
    mails = [mail(text, 30 * day) for day, text in enumerate(texts)]
    kept, left_out = usable(mails)
    assert kept == mails[1:]
    assert left_out == Counter({corpus.DUPLICATE: 1})


def test_short_mails_to_different_people_are_different() -> None:
    """Of short mails greeting and closing are a part of what is learned."""
    mails = [mail(f"Hi {name},\n\nsee you there at ten.\n\nJen", 1) for name in ("Anna", "Bob")]
    assert usable(mails)[1] == Counter()


def to(name: str, text: str, day: int) -> SentMail:
    """Return a mail to somebody."""
    return replace(mail(text, day), to=(name,), key=f"{name:>064}")


def test_one_text_to_many_people_is_a_mailing() -> None:
    """Five people in a week make a mass mail, all of it, whoever is greeted by name."""
    names = ("Anna", "Bob", "Cleo", "Dan", "Eve")
    mails = [to(n, LETTER.format(name=n, day="Monday"), day) for day, n in enumerate(names)]
    assert usable(mails) == ([], Counter({corpus.MASS_MAIL: 5}))
    assert usable(mails[:4])[1] == Counter({corpus.DUPLICATE: 3})


def test_one_text_over_the_years_is_no_mailing() -> None:
    """What the owner says again and again is hers: the newest stays."""
    names = ("Anna", "Bob", "Cleo", "Dan", "Eve", "Finn")
    mails = [to(n, LETTER.format(name=n, day="Monday"), 40 * day) for day, n in enumerate(names)]
    kept, left_out = usable(mails)
    assert kept == mails[-1:]
    assert left_out == Counter({corpus.DUPLICATE: 5})


def test_one_text_to_one_person_again_is_no_mailing() -> None:
    """A reminder that is sent five times has one reader."""
    mails = [mail(LETTER.format(name="Stew", day="Monday"), day) for day in range(5)]
    assert usable(mails)[1] == Counter({corpus.DUPLICATE: 4})


def test_many_recipients_are_an_audience() -> None:
    """Of To, Cc and Bcc together; a family is none."""
    text = "We are open again from Monday on, come and see us."
    family, club = (replace(mail(text), to=("Stew",), copies=copies) for copies in (7, 15))
    assert usable([family])[1] == Counter()
    assert usable([club])[1] == Counter({corpus.MASS_MAIL: 1})


def test_every_mail_is_kept_or_counted() -> None:
    """What is kept and what is left out are all mails, once each."""
    names = ("Anna", "Bob", "Cleo", "Dan", "Eve")
    mails = [
        *(to(n, LETTER.format(name=n, day="Monday"), day) for day, n in enumerate(names)),
        *(mail(f"The boat number {day} floats.", day) for day in range(10, 20)),
        *(mail("Yes.", day) for day in range(20, 23)),
        *(mail("The code is 482913, keep it.", day) for day in range(23, 25)),
    ]
    kept, left_out = usable(mails, newest=4)
    assert len(kept) + sum(left_out.values()) == len(mails)
    assert left_out == Counter(
        {
            corpus.MASS_MAIL: 5,
            corpus.OLDER.format(newest=4): 6,
            corpus.ONE_LINER: 3,
            secret(PASSWORD): 2,
        }
    )


def test_the_newest_are_the_targets() -> None:
    """Beyond the number of training targets the older mails are left out."""
    mails = [mail(f"The boat number {day} floats.", day) for day in range(9)]
    kept, left_out = usable(mails, newest=4)
    assert kept == mails[5:]
    assert left_out == Counter({corpus.OLDER.format(newest=4): 5})


def test_the_newest_fifth_is_held_out() -> None:
    """166 mails are 133 to train on and the 33 newest to judge by."""
    mails = [mail(f"Mail {day}", day) for day in range(166)]
    parts = split(mails[::-1])
    assert (len(parts.train), len(parts.held_out)) == (133, 33)
    assert [*parts.train, *parts.held_out] == mails


def test_at_least_five_are_held_out() -> None:
    """A small share does not leave a hold-out too small to judge by."""
    parts = split([mail(f"Mail {day}", day) for day in range(30)], held_out=0.05)
    assert len(parts.held_out) == 5


def test_too_few_mails_are_refused() -> None:
    """Fewer than 25 mails are an error that says how many there are."""
    with pytest.raises(TooFewMailsError) as raised:
        split([mail(f"Mail {day}", day) for day in range(24)])
    assert (raised.value.usable, raised.value.needed) == (24, 25)


@pytest.mark.parametrize(
    ("text", "greeting", "body", "closing"),
    [
        (
            "Dear Prof. Aman,\n\nSee below.\n\nBest regards,\nJen",
            "Dear Prof. Aman",
            "See below.",
            "Best regards,\nJen",
        ),
        (
            "Ahoy Priya,\n\nShe floats.\n\nFair winds and dry socks,\nMaud",
            "Ahoy Priya",
            "She floats.",
            "Fair winds and dry socks,\nMaud",
        ),
        (
            "Liebe Anna\n\nbis morgen dann im Laden.\n\nLG Jen",
            "Liebe Anna",
            "bis morgen dann im Laden.",
            "LG Jen",
        ),
        ("Sounds good, let us meet.", "", "Sounds good, let us meet.", ""),
        (
            "Hey, I wrote to you on Monday. Any news?",
            "",
            "Hey, I wrote to you on Monday. Any news?",
            "",
        ),
        ("See you at the shed.\nJen", "", "See you at the shed.", "Jen"),
        ("", "", "", ""),
    ],
)
def test_the_parts_of_a_letter(text: str, greeting: str, body: str, closing: str) -> None:
    """Greeting and closing are told by their shape, also in an owner's own words."""
    parts = letter(text)
    assert (parts.greeting, parts.body, parts.closing) == (greeting, body, closing)


@pytest.mark.parametrize(
    ("to", "names"),
    [
        (("Stew Harbottle",), "Stew"),
        (("jen.doe",), "Jen"),
        (("Doe, Jen",), "Jen"),
        (("Prof. Dr. Ada Byron",), "Ada"),
        (("Mrs Pell",), "Mrs Pell"),
        (("Leo Li", "Grisha"), "Leo and Grisha"),
        (("Ann", "Bo", "Cy"), "Ann, Bo and Cy"),
        (("Ann", "Bo", "Cy", "Di"), "all"),
        (("info", "x@example.org"), ""),
        ((), ""),
    ],
)
def test_first_names(to: tuple[str, ...], names: str) -> None:
    """A display name or a local part gives the name to greet by; a role gives none."""
    assert first_names(to) == names
