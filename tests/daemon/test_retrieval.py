"""Retrieval over the owner's mail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.retrieval import Retrieval, missing
from daemon.store import Place, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from conftest import HashingEmbedder
    from numpy.typing import NDArray

    from connectors.mail import Mail

TEXTS = [
    "The kiln is broken, the plates will be a week late.",
    "Can we move our meeting from Thursday to Friday afternoon?",
    "Thank you for the invitation to the potters' market in Graz.",
    "Please find the invoice for the plates and the bowls.",
    "The meeting on Friday is moved to the big room.",
]


@pytest.fixture
def filled(store: Store, make_mail: Callable[..., Mail]) -> Store:
    """Return a store with one mail for each of TEXTS, a day apart."""
    for number, text in enumerate(TEXTS):
        store.keep(Place("server", 1, number + 1), make_mail(number, text=text))
    return store


@pytest.fixture
def retrieval(filled: Store, embedder: HashingEmbedder) -> Retrieval:
    """Return an index over the filled store."""
    found = Retrieval(filled, embedder)
    found.index()
    return found


class InterruptedEmbedder:
    """Stops at its second batch."""

    def __init__(self, inner: HashingEmbedder) -> None:
        self.hash, self.inner, self.batches = inner.hash, inner, 0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed one batch, then be interrupted."""
        self.batches += 1
        if self.batches == 2:
            raise KeyboardInterrupt
        return self.inner.embed(texts)


def numbers(retrieval: Retrieval, query: str, **limits: object) -> list[int]:
    """Return the numbers of the mails found for a query."""
    return [int(hit.subject.split()[1]) for hit in retrieval.search(query, 5, **limits)]  # type: ignore[arg-type]


def test_the_nearest_mail_comes_first(retrieval: Retrieval) -> None:
    """A query finds the mails that share its words, the nearest first, each with its cosine."""
    hits = retrieval.search("move the meeting to Friday", 2)
    assert {hit.message_id for hit in hits} == {"m1@example.org", "m4@example.org"}
    assert all(0.2 <= hit.score <= 1 for hit in hits)
    assert hits[0].text in TEXTS


def test_the_score_is_the_cosine(retrieval: Retrieval, embedder: HashingEmbedder) -> None:
    """A hit's score is the dot product of the normalised vectors of query and mail."""
    query = "the kiln is broken"
    hit = retrieval.search(query, 1)[0]
    a, b = embedder.embed([query, f"{hit.subject}\n{hit.text}"])
    assert hit.score == pytest.approx(float(a @ b), abs=1e-5)


def test_what_is_too_far_is_not_found(filled: Store, embedder: HashingEmbedder) -> None:
    """No mail under the threshold is found, even if it has a word of the query."""
    strict = Retrieval(filled, embedder, threshold=0.99)
    strict.index()
    assert strict.search("the kiln of a friend in another town", 5) == []


def test_no_mail_of_that_moment_or_later_is_found(
    retrieval: Retrieval, make_mail: Callable[..., Mail]
) -> None:
    """A mail never finds itself or a later one when it is asked about with its own date."""
    query = TEXTS[1]
    assert 1 in numbers(retrieval, query)
    found = numbers(retrieval, query, before=make_mail(1).date)
    assert set(found) <= {0}


def test_excluded_mails_are_not_found(retrieval: Retrieval, make_mail: Callable[..., Mail]) -> None:
    """Excluded keys are left out, and others take their places."""
    first = numbers(retrieval, TEXTS[0])[0]
    again = numbers(retrieval, TEXTS[0], exclude={make_mail(first).content_hash})
    assert first not in again


def test_old_mail_is_found_behind_much_new_mail(
    store: Store, make_mail: Callable[..., Mail], embedder: HashingEmbedder
) -> None:
    """The moment limits the search itself: new mails that are nearer do not crowd out old ones."""
    with store.transaction():
        for number in range(400):
            text = "meeting on friday" + (" with tea" if number < 3 else "")
            store.keep(Place("server", 1, number + 1), make_mail(number, text=text))
    retrieval = Retrieval(store, embedder)
    retrieval.index()
    found = retrieval.search("meeting on friday", 3, before=make_mail(3).date)
    assert len(found) == 3


@pytest.mark.parametrize(
    "query",
    ['"', "'; DROP TABLE mails; --", "AND OR NOT NEAR(", "subject:x*", "()", "\x00", "%", "🙂"],
)
def test_no_query_is_a_command(retrieval: Retrieval, query: str) -> None:
    """Whatever stands in a query is looked for and never run as FTS5's or SQL's language."""
    retrieval.search(query, 3)
    assert numbers(retrieval, "kiln broken plates")[0] == 0


def test_nothing_asked_is_nothing_found(retrieval: Retrieval) -> None:
    """An empty query, or none wanted, finds nothing."""
    assert retrieval.search("  ", 3) == []
    assert retrieval.search("kiln", 0) == []


def test_an_empty_store_finds_nothing(store: Store, embedder: HashingEmbedder) -> None:
    """An index over no mail is no error."""
    empty = Retrieval(store, embedder)
    assert empty.index() == 0
    assert empty.search("kiln", 3) == []


def test_no_mail_is_embedded_twice(
    filled: Store, embedder: HashingEmbedder, make_mail: Callable[..., Mail]
) -> None:
    """A second run embeds nothing, and only what is new after more mail came."""
    retrieval = Retrieval(filled, embedder)
    seen: list[tuple[int, int | None]] = []
    assert retrieval.index(lambda _what, done, total: seen.append((done, total))) == 5
    assert seen[-1] == (5, 5)
    assert retrieval.index() == 0
    filled.keep(Place("server", 1, 9), make_mail(9))
    assert missing(filled) == 1
    assert retrieval.index() == 1
    assert len(embedder.asked) == 6
    assert missing(filled) == 0


def test_an_interrupted_index_goes_on(
    store: Store, embedder: HashingEmbedder, make_mail: Callable[..., Mail]
) -> None:
    """What was embedded before an interruption is not embedded again."""
    for number in range(80):
        store.keep(Place("server", 1, number + 1), make_mail(number))
    with pytest.raises(KeyboardInterrupt):
        Retrieval(store, InterruptedEmbedder(embedder)).index()
    done = 80 - missing(store)
    assert 0 < done < 80
    Retrieval(store, embedder).index()
    assert len(embedder.asked) == len(set(embedder.asked)) == 80


def test_another_embedder_starts_anew(filled: Store, retrieval: Retrieval) -> None:
    """Vectors of another model are never compared: they are made again."""
    other = type(retrieval._embedder)("other")  # type: ignore[call-arg]
    changed = Retrieval(filled, other)
    assert changed.search("kiln", 3) == []
    assert changed.index() == 5
    assert changed.search("the kiln is broken", 3)


def test_a_dropped_mail_is_not_found(filled: Store, retrieval: Retrieval) -> None:
    """A mail that leaves the store leaves words and vectors as well."""
    filled.drop_others([])
    assert retrieval.search("kiln", 3) == []
    assert filled.database.row("SELECT count(*) FROM embeddings") == (0,)
    assert filled.database.row("SELECT count(*) FROM words WHERE words MATCH 'kiln'") == (0,)


def test_a_mail_with_a_secret_is_for_its_owner_alone(
    filled: Store, embedder: HashingEmbedder, make_mail: Callable[..., Mail]
) -> None:
    """What holds a secret is found by its owner's search and never shown to a prompt."""
    words = "The door code for the meeting on Friday is 4821."
    filled.keep(Place("server", 1, 99), make_mail(99, text=words))
    retrieval = Retrieval(filled, embedder)
    retrieval.index()
    assert retrieval.search(words, 2, secrets=True)[0].text == words
    shown = [hit.text for hit in retrieval.search(words, 2)]
    assert shown[0] == TEXTS[4]
    assert (len(shown), words in shown) == (2, False)
