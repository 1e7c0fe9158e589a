"""Which of the mails that fit come first, and what finds them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from connectors.mail import Address
from daemon import ranking
from daemon.database import Database
from daemon.retrieval import Retrieval
from daemon.schema import MIGRATIONS
from daemon.store import Place, Store
from daemon.words import Words, best

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from conftest import HashingEmbedder
    from numpy.typing import NDArray

    from connectors.mail import Mail

QUERY = "the glaze for the bowls"
STEW, ANNA = Address("Stew", "stew@works.example"), Address("Anna", "anna@works.example")
OTHER, FREE = Address("Bo", "bo@else.example"), Address("Cy", "cy@gmail.com")


@pytest.fixture
def keep(store: Store, make_mail: Callable[..., Mail]) -> Callable[..., None]:
    """Return what keeps mails of this text, one to each of these people, a day apart."""

    def kept(text: str, people: Sequence[Address], first: int = 0) -> None:
        for number, person in enumerate(people, first):
            mail = make_mail(number, text=text, to=(person,), subject="x")
            store.keep(Place("server", 1, number + 1), mail)

    return kept


@pytest.fixture
def retrieval(store: Store, embedder: HashingEmbedder) -> Retrieval:
    """Return an index over the store."""
    return Retrieval(store, embedder)


class Given:
    """An embedder that knows each text's vector."""

    hash = "given"

    def __init__(self, vectors: dict[str, NDArray[np.float32]]) -> None:
        self._vectors = vectors

    def embed(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the vectors that were given for the texts."""
        return [self._vectors[text] for text in texts]


def found(retrieval: Retrieval, k: int = 10, **limits: object) -> list[int]:
    """Return the numbers of the mails that are found."""
    hits = retrieval.search(QUERY, k, **limits)  # type: ignore[arg-type]
    return [int(hit.message_id[1:].partition("@")[0]) for hit in hits]


def test_the_same_person_comes_first_then_the_domain(
    keep: Callable[..., None], retrieval: Retrieval
) -> None:
    """Of mails that fit alike, those to the same person lead, then her domain, then the newest."""
    keep("the glaze for the bowls is blue", [STEW, ANNA, OTHER, FREE])
    retrieval.index()
    assert found(retrieval) == [3, 2, 1, 0]
    assert found(retrieval, to=["Stew@Works.example"]) == [0, 1, 3, 2]
    assert found(retrieval, to=["someone@works.example"])[2:] == [3, 2]


def test_a_public_provider_is_no_company(keep: Callable[..., None], retrieval: Retrieval) -> None:
    """To have mail at the same large provider brings two people no nearer."""
    keep("the glaze for the bowls is blue", [FREE, OTHER])
    retrieval.index()
    assert found(retrieval, to=["else@gmail.com"]) == [1, 0]


def test_what_fits_goes_before_whom_it_was_to(
    keep: Callable[..., None], retrieval: Retrieval
) -> None:
    """A mail to the same person that is about something else does not come first."""
    keep("the glaze for the bowls is blue", [OTHER])
    keep("the van and the bowls on saturday", [STEW], 1)
    retrieval.index()
    assert found(retrieval, to=[STEW.email])[0] == 0


def test_a_name_in_the_recipients_is_a_word(
    store: Store, make_mail: Callable[..., Mail], embedder: HashingEmbedder
) -> None:
    """A mail is found by whom it was to, though its text does not name her; words are stemmed."""
    for number, person in enumerate((STEW, OTHER)):
        mail = make_mail(number, to=(person,), subject="", text="We were invoicing glazes.")
        store.keep(Place("server", 1, number + 1), mail)
    retrieval = Retrieval(store, embedder, threshold=-1)
    retrieval.index()
    hits = retrieval.search("Stew's invoice for the glazing", 2)
    assert [hit.message_id for hit in hits][:1] == ["m0@example.org"]


def test_many_hidden_mails_hide_no_other(
    keep: Callable[..., None],
    retrieval: Retrieval,
    make_mail: Callable[..., Mail],
) -> None:
    """However many may not be found, those that may are found, and none of the others."""
    keep("the glaze for the bowls is blue", [STEW] * 60)
    keep("the glaze and a bowl", [OTHER] * 3, 60)
    retrieval.index()
    hidden = {make_mail(number).content_hash for number in range(60)}
    assert sorted(found(retrieval, exclude=hidden)) == [60, 61, 62]
    before = make_mail(60).date
    assert found(retrieval, exclude=hidden, before=before) == []
    assert max(found(retrieval, k=60, before=before - timedelta(days=20))) == 39


def test_age_counts_from_the_moment_that_is_asked_about() -> None:
    """What counts is how old a mail was then; a mail of that moment gains most."""
    year = 365 * 24 * 3600
    dates = year * np.arange(3)
    assert ranking.freshness(dates, 2 * year).tolist() == [0.25, 0.5, 1]
    assert ranking.freshness(dates[:2], year).tolist() == [0.5, 1]


def test_meaning_and_words_are_relative_to_the_best() -> None:
    """The nearest mail has meaning's whole share, the one richest in words theirs."""

    def relevance(cosines: Sequence[float], words: Sequence[float]) -> list[float]:
        given = (np.array(one, dtype=np.float32) for one in (cosines, words))
        return ranking.relevance(*given, np.zeros(len(cosines))).tolist()

    assert relevance([0.4, 0.2], [0.0, 1.0]) == pytest.approx([0.7, 0.7 * 0.5 + 0.3])
    assert relevance([-0.5], [0.0])[0] < 0
    assert relevance([], []) == []


def test_the_best_by_words_hold_one_at_least() -> None:
    """The highest weights are found, at most so many, and none of 0."""
    weights = np.array([0, 3, 0, 1, 2], dtype=np.float32)
    assert sorted(best(weights, 2)) == [1, 4]
    assert sorted(best(weights, 4)) == sorted(best(weights, 9)) == [1, 3, 4]
    assert sorted(best(np.array([1, 1, 2, 1], dtype=np.float32), 2)) == [2, 3]  # the last of many
    assert best(weights[:1], 9) == []


def test_the_nearest_vectors_are_found(store: Store, make_mail: Callable[..., Mail]) -> None:
    """sqlite-vec's candidates hold the ten nearest in double precision, 98 of 100 at the least."""
    dice = np.random.default_rng(0)
    vectors = dice.standard_normal((100, 384))[dice.integers(0, 100, 2040)]
    vectors += dice.standard_normal(vectors.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    texts = [f"subject\n{number}" for number in range(2000)]
    asked = [f"nothing{number}" for number in range(40)]
    date = make_mail().date  # of all: none is preferred
    with store.transaction():
        for number in range(2000):
            mail = make_mail(number, subject="subject", text=str(number), date=date)
            store.keep(Place("server", 1, number + 1), mail)
    retrieval = Retrieval(store, Given(dict(zip([*texts, *asked], vectors, strict=True))))
    retrieval.index()
    shares = []
    for query, vector in zip(asked, vectors[2000:], strict=True):
        exact = np.argsort(-(vectors[:2000].astype(float) @ vector.astype(float)))[:10]
        hits = retrieval.search(query, 10)
        shares.append(len({int(hit.text) for hit in hits} & set(exact.tolist())) / 10)
    assert np.mean(shares) >= 0.98


def test_words_are_remembered_until_mail_comes_or_goes(
    tmp_path: Path, make_mail: Callable[..., Mail]
) -> None:
    """The weights are those of the mails that are there, whoever has asked before."""
    words = Words()
    with Store(tmp_path / "account") as store, Store(tmp_path / "account", read_only=True) as again:
        for number, text in enumerate(("glaze", "kiln", "kiln")):
            store.keep(Place("server", 1, number + 1), make_mail(number, text=text))
        assert best(words.known(store).weights("Glaze?", store), 9) == [1]
        first = words.known(again).weights("glaze kiln", again)
        assert first[1] > first[2] == first[3] > 0
        assert words.known(again).weights("glaze kiln", again).tolist() == first.tolist()
        store.keep(Place("server", 1, 4), make_mail(4, text="the kiln"))
        assert sorted(best(words.known(again).weights("kiln", again), 9)) == [2, 3, 4]
        store.drop_others([])
        assert best(words.known(again).weights("kiln", again), 9) == []
        # The next mail gets the number of one that is gone, not its words.
        store.keep(Place("server", 1, 5), make_mail(5, text="a bowl"))
        assert best(words.known(again).weights("kiln glaze", again), 9) == []
        assert best(words.known(again).weights("bowl", again), 9) == [1]
        words.forget()
        assert best(words.known(again).weights("bowl", again), 9) == [1]


def test_a_mail_with_the_number_of_another_has_a_vector_of_its_own(
    store: Store, make_mail: Callable[..., Mail], retrieval: Retrieval
) -> None:
    """What is dropped takes its vector along; the next mail of its number is found by its own."""
    store.keep(Place("server", 1, 1), make_mail(1, text="the van on saturday"))
    retrieval.index()
    store.drop_others([])
    store.keep(Place("server", 1, 2), make_mail(2, text="the glaze for the bowls"))
    assert retrieval.index() == 1
    assert found(retrieval) == [2]


# How many migrations a store had of which the vectors were kept otherwise: in a vec0 table together
# with the signs, in a plain table alone, and beside fewer bits.
_TOGETHER = next(i for i, step in enumerate(MIGRATIONS) if "DROP TABLE embeddings" in step)
_ALONE, _FEWER_BITS = _TOGETHER + 1, _TOGETHER + 2


@pytest.mark.parametrize(
    ("version", "insert"),
    [
        (
            _TOGETHER,
            "embeddings VALUES (1, 1, vec_quantize_binary(vec_f32(?1)), ?1)",
        ),
        (_ALONE, "embeddings (id, vector) VALUES (1, ?1)"),
        (_FEWER_BITS, "vectors (id, vector) VALUES (1, ?1)"),
    ],
)
def test_a_store_of_an_earlier_version_keeps_its_vectors(
    tmp_path: Path,
    make_mail: Callable[..., Mail],
    embedder: HashingEmbedder,
    version: int,
    insert: str,
) -> None:
    """What was embedded before is not embedded again, and is found by words and meaning."""
    folder = tmp_path / "account"
    mail = make_mail(1, text="the glaze for the bowls")
    vector = embedder.embed([f"{mail.subject}\n{mail.text}"])[0].tobytes()
    with Database(folder, MIGRATIONS[:version]) as old:
        old.execute(
            "INSERT INTO mails (key, message_id, sender, date, recipients, copies, subject, text, "
            "answered, in_reply_to, thread) VALUES (?, 'm1@example.org', '', 1, '[]', '[]', ?, ?, "
            "'', '', '[]')",
            (mail.content_hash, mail.subject, mail.text),
        )
        old.execute(f"INSERT INTO {insert}", (vector,))
        old.execute("INSERT INTO notes VALUES ('embedder', ?)", (embedder.hash,))
    with Store(folder) as store:
        retrieval = Retrieval(store, embedder)
        assert retrieval.index() == 0
        (hit,) = retrieval.search(QUERY, 3)
        assert hit.score == pytest.approx(
            float(embedder.embed([QUERY])[0] @ np.frombuffer(vector, np.float32)), abs=1e-5
        )
        assert retrieval._near(vector, 1, 2, ()).numbers.tolist() == [1]
        assert store.database.row("SELECT count(*) FROM words WHERE words MATCH 'glazing'") == (1,)
        store.drop_others([])
        for table in ("embeddings", "vectors"):
            assert store.database.row(f"SELECT count(*) FROM {table}") == (0,)  # noqa: S608
