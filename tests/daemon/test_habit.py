"""How the owner quotes is learned from the answers that she sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from connectors.mail import parse
from daemon import habit
from daemon.habit import DEFAULT, Habit, learn
from daemon.store import Place

if TYPE_CHECKING:
    from daemon.store import Store

OVER = "On Mon, Mar 4, 2024 at 10:00 AM Stew Pidd <stew@example.com> wrote:"
TOP = f"Friday is fine.\n\nJen\n\n{OVER}\n> Can we meet on Thursday?\n> Stew\n"
BOTTOM = f"{OVER}\n> Can we meet on Thursday?\n> Stew\n\nFriday is fine.\n\nJen\n"
INLINE = (
    f"Hi Stew,\n\n{OVER}\n> Can we meet on Thursday?\n\nNot on Thursday, but Friday is fine.\n\n"
    "> Shall I bring the clay?\n\nYes please, as much as you can carry.\n\nJen\n"
)
NONE = "Friday is fine.\n\nJen\n"
OUTLOOK = (
    "Friday is fine.\n\nJen\n\n-----Original Message-----\nFrom: Stew Pidd\n"
    "Sent: Monday, March 4, 2024 10:00 AM\nTo: Jen Doe\nSubject: Thursday\n\nCan we meet?\n"
)


def _answer(number: int, text: str) -> bytes:
    return (
        f"From: jen@example.org\nTo: stew@example.com\nMessage-ID: <{number}@example.org>\n"
        f"In-Reply-To: <a{number}@example.com>\nSubject: Re: Thursday\n"
        f"Date: {datetime(2024, 3, 5, tzinfo=UTC) + timedelta(days=number):%d %b %Y 10:00 +0000}\n"
        f"Content-Type: text/plain; charset=utf-8\n\n{text}"
    ).encode()


def _learned(store: Store, *texts: str) -> Habit:
    for number, text in enumerate(texts):
        store.keep(Place("test", 1, number + 1), parse(_answer(number, text)))
    return learn(store)


@pytest.mark.parametrize(
    ("text", "place", "heading"),
    [
        (TOP, "below", OVER),
        (BOTTOM, "above", OVER),
        (INLINE, "above", OVER),
        (NONE, "none", ""),
        (OUTLOOK, "below", ""),
    ],
    ids=["top", "bottom", "inline", "none", "outlook"],
)
def test_a_mail_tells_where_it_quotes(text: str, place: str, heading: str) -> None:
    """Above or below most of the own words, or nothing quoted; and the line over it."""
    mail = parse(_answer(1, text))
    assert (mail.quoting, mail.heading) == (place, heading)


@pytest.mark.parametrize(
    ("texts", "place"),
    [
        ([], "below"),
        ([TOP, TOP, BOTTOM], "below"),
        ([TOP, BOTTOM, BOTTOM, INLINE], "above"),
        ([NONE, NONE, TOP], "none"),
        ([TOP, BOTTOM], "below"),
        ([OUTLOOK], "below"),
        ([NONE] * 60 + [BOTTOM] * 50, "above"),
    ],
    ids=["nothing", "top", "bottom", "none", "even", "outlook", "only the newest"],
)
def test_most_of_her_newest_answers_decide(store: Store, texts: list[str], place: str) -> None:
    """Below where there is no answer, and where two habits are even."""
    assert _learned(store, *texts).place == place


def test_only_answers_tell_a_habit(store: Store) -> None:
    """A new mail quotes nothing, and says nothing about how she would."""
    raw = _answer(1, NONE).replace(b"In-Reply-To", b"X-Was")
    store.keep(Place("test", 1, 1), parse(raw))
    assert learn(store) == Habit()


def test_mails_read_by_an_earlier_version_tell_nothing(store: Store) -> None:
    """What was kept before the habit was is left out."""
    store.keep(Place("test", 1, 1), parse(_answer(1, NONE)))
    store.database.execute("UPDATE mails SET quoting = '', heading = ''")
    assert learn(store) == Habit()


WHEN = datetime(2024, 3, 4, 14, 5, 9, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    "heading",
    [
        "On Mon, Mar 4, 2024 at 2:05 PM Stew Pidd <stew@example.com> wrote:",
        "On Mon, 4 Mar 2024 at 14:05, Stew Pidd <stew@example.com> wrote:",
        "On Mar 4, 2024, at 2:05 PM, Stew Pidd <stew@example.com> wrote:",
        "On 4 Mar 2024, at 14:05, Stew Pidd <stew@example.com> wrote:",
        "On 4 Mar 2024, at 14:05, Stew Pidd wrote:",
        "On 3/4/24 2:05 PM, Stew Pidd wrote:",
        "On 3/4/24 14:05, Stew Pidd wrote:",
        "On 04/03/2024 14:05, Stew Pidd wrote:",
        "On 2024-03-04 14:05, Stew Pidd wrote:",
        "On Mon, Mar 04, 2024 at 02:05:09PM +0100, Stew Pidd wrote:",
        "On 2024-03-04 at 14:05, Stew Pidd wrote:",
        "Am Mo., 4. März 2024 um 14:05 Uhr schrieb Stew Pidd <stew@example.com>:",
        "Am 04.03.2024 um 14:05 schrieb Stew Pidd <stew@example.com>:",
        "Am 04.03.24 um 14:05 schrieb Stew Pidd:",
        "Am 04.03.2024 um 14:05 schrieb Stew Pidd:",
        "Le lun. 4 mars 2024 à 14:05, Stew Pidd <stew@example.com> a écrit :",
        "Le 4 mars 2024 à 14:05, Stew Pidd <stew@example.com> a écrit :",
        "Le 04/03/2024 à 14:05, Stew Pidd a écrit :",
    ],
)
def test_her_clients_line_is_written_as_it_writes_it(store: Store, heading: str) -> None:
    """The line over a quote, from three answers to others, comes out the same for this mail."""
    other = heading.replace("Stew Pidd", "Ann M. O'Neil").replace("stew@", "ann.o+x@")
    learned = _learned(store, *[f"Fine.\n\n{other}\n> Well?\n> (me)\n" for _ in range(3)])
    assert learned.heading(WHEN, "Stew Pidd", "stew@example.com") == heading


def test_a_line_without_date_or_name_is_still_one() -> None:
    """What is not known is left out, in the same language."""
    german = Habit("below", "Am {dd}.{MM}.{yyyy} um {HH}:{mm} schrieb {name} <{email}>:")
    assert german.heading(None, "Stew", "stew@example.com") == "Stew schrieb:"
    assert german.heading(WHEN, "", "s@x.example") == "Am 04.03.2024 um 14:05 schrieb s@x.example:"
    assert Habit().heading(None, "", "s@x.example") == "s@x.example wrote:"
    assert Habit().heading(WHEN, "A\nB{x}", "") == "On 2024-03-04 at 14:05, A B{x} wrote:"


def test_an_unknown_line_leaves_the_default(store: Store) -> None:
    """A client whose line is none of the known forms gets a plain one."""
    text = "Fine.\n\nStew Pidd <stew@example.com> [2024-03-04 10:00]:\n> Well?\n> (me)\n"
    assert _learned(store, text).form == DEFAULT


def test_every_known_form_is_its_own_pattern() -> None:
    """What is written by a form is recognised as that form, or as one that writes the same."""
    for form in habit._FORMS:
        line = Habit("below", form).heading(WHEN, "Stew Pidd", "stew@example.com")
        assert (
            Habit("below", habit._form(line)).heading(WHEN, "Stew Pidd", "stew@example.com") == line
        )
