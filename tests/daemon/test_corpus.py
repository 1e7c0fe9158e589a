"""From the stored mails to those that a training can use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.mail import Address
from daemon.material import corpus
from daemon.store import Place, Store
from trainer import confidential
from trainer.corpus import DUPLICATE, MASS_MAIL, ONE_LINER, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectors.mail import Mail

TEXTS = {
    "en": "Hi Stew,\n\nthe boards have come and I shall bring them over on Friday.\n\nJen",
    "de": "Hallo Stew,\n\ndie Bretter sind gekommen, ich bringe sie am Freitag vorbei.\n\nJen",
    "fr": "Bonjour Stew,\n\nles planches sont arrivées, je les apporte vendredi matin.\n\nJen",
    "ja": "ステュー様\n\n板が届きましたので、金曜日にお持ちします。\n\nジェン",
}


def test_several_languages_are_kept_and_labelled(
    store: Store, make_mail: Callable[..., Mail]
) -> None:
    """A mail of any language is learned from, and its language is known."""
    for number, text in enumerate(TEXTS.values()):
        store.keep(Place("test", 1, number + 1), make_mail(number, text=text))
    mails, left_out = corpus(store.mails())
    assert [mail.language for mail in mails] == list(TEXTS)
    assert not left_out


def test_what_is_left_out_is_counted_by_reason(
    store: Store, make_mail: Callable[..., Mail]
) -> None:
    """Each mail that is left out counts once; who gets a copy is a recipient."""
    club = tuple(Address("", f"member{number}@example.org") for number in range(20))
    mails = [
        make_mail(1, text=TEXTS["en"]),
        make_mail(2, text=TEXTS["en"].replace("Hi", "Dear")),
        make_mail(3, text="Thanks!"),
        make_mail(4, text=TEXTS["de"], cc=club),
        make_mail(5, text="Please pay to DE89 3704 0044 0532 0130 00 until Friday."),
    ]
    for number, mail in enumerate(mails, 1):
        store.keep(Place("test", 1, number), mail)
    kept, left_out = corpus(store.mails())
    assert [mail.text for mail in kept] == [mails[1].text]
    assert left_out == {
        DUPLICATE: 1,
        ONE_LINER: 1,
        MASS_MAIL: 1,
        SECRET.format(kind=confidential.IBAN): 1,
    }
