"""Which of the mails that could serve a request serve it best.

One score from meaning and words, and on top of it what is known of the mail beside its text: a mail
to the same person shows how the owner writes to her, one to the same domain nearly so, and of two
alike the newer one is more likely to be true still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    from numpy.typing import NDArray

# Chosen with the questions that docs/quality.md tells of: with meaning's share anywhere between 0.6
# and 0.8 nearly as many of them are answered.
_MEANING = 0.7
SAME_PERSON = 0.10
SAME_DOMAIN = 0.05
_NEWEST = 0.02
_HALF_LIFE = 365 * 24 * 3600  # seconds
_TINY = 1e-6

# To share one of these says nothing of two people.
_PUBLIC = frozenset(
    {
        *("aol.com", "fastmail.com", "free.fr", "gmail.com", "gmx.at", "gmx.de", "gmx.net"),
        *(
            "googlemail.com",
            "hotmail.com",
            "icloud.com",
            "live.com",
            "mac.com",
            "mail.com",
            "mail.ru",
        ),
        *("mailbox.org", "me.com", "msn.com", "orange.fr", "outlook.com", "posteo.de", "proton.me"),
        *("protonmail.com", "qq.com", "t-online.de", "web.de", "yahoo.com", "yandex.ru", "163.com"),
    }
)


def relevance(
    cosines: NDArray[np.float32], words: NDArray[np.float32], freshness: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how well each mail fits a query, about 0 to 1.

    Meaning and words are each taken in relation to the best mail and added up (the convex
    combination of Bruch, Gai and Ingber, arXiv 2210.11934, which finds more than the ranks do).

    Args:
        cosines: Of the mails' vectors with the query's.
        words: The weight of the query's words in each mail.
        freshness: 1 for a mail of today, less for an older one.
    """
    meaning = _MEANING / cosines.max(initial=_TINY)
    wording = (1 - _MEANING) / words.max(initial=_TINY)
    points: NDArray[np.float64] = cosines * meaning + words * wording + freshness * _NEWEST
    return points


def freshness(dates: NDArray[np.int64], moment: int) -> NDArray[np.float64]:
    """Return 1 for a mail of this moment, half of it for one of a year before, and so on.

    All are Unix time.
    """
    ages: NDArray[np.float64] = (dates - moment) / _HALF_LIFE
    return 2.0**ages


def kinship(recipients: Collection[str], to: Collection[str]) -> float:
    """Return what a mail gains by whom it was to.

    Args:
        recipients: Its addresses.
        to: The addresses that the draft is for.
    """
    theirs = {one.casefold() for one in recipients}
    ours = {one.casefold() for one in to}
    if theirs & ours:
        return SAME_PERSON
    return SAME_DOMAIN if _domains(theirs) & _domains(ours) else 0.0


def _domains(addresses: Collection[str]) -> set[str]:
    return {one.rpartition("@")[2] for one in addresses} - _PUBLIC - {""}
