"""Which of the mails that fit come first, and what a snapshot in memory knows."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from connectors.mail import Address
from daemon import ranking
from daemon.retrieval import Retrieval
from daemon.snapshot import Snapshot, Snapshots
from daemon.store import Place, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from conftest import HashingEmbedder

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
    day = 24 * 3600
    snapshot = Snapshot(
        "",
        np.arange(3),
        np.array([0, 365 * day, 730 * day]),
        np.zeros((3, 384), dtype=np.float32),
        np.array([0.25, 0.5, 1], dtype=np.float32),
    )
    assert snapshot.freshness(None).tolist() == [0.25, 0.5, 1]
    assert snapshot.freshness(365 * day).tolist()[:2] == [0.5, 1]


def test_scores_of_what_is_closed_are_never_best() -> None:
    """A mail that may not be found neither wins nor sets the measure for the others."""
    cosines = np.array([0.9, 0.4, 0.2], dtype=np.float32)
    words = np.array([9, 0, 1], dtype=np.float32)
    closed = np.array([True, False, False])
    scores = ranking.relevance(cosines, words, np.zeros(3, dtype=np.float32), closed)
    assert sorted(ranking.best(scores, 10).tolist()) == [1, 2]
    assert scores[1:].tolist() == pytest.approx([0.7, 0.7 * 0.5 + 0.3])
    assert ranking.best(scores, 1).tolist() == [1]


def test_the_vectors_search_is_exact(
    store: Store, make_mail: Callable[..., Mail], embedder: HashingEmbedder
) -> None:
    """The ten nearest by the snapshot are the ten nearest in double precision."""
    for number in range(200):
        mail = make_mail(number, text=f"{number} {number % 7} {number % 13} glaze")
        store.keep(Place("server", 1, number + 1), mail)
    Retrieval(store, embedder).index()
    snapshot = Snapshot.of(store)
    vector = embedder.embed(["3 glaze 5"])[0]
    exact = np.argsort(-(snapshot.matrix.astype(float) @ vector.astype(float)))[:10]
    assert np.argsort(-snapshot.meaning(vector.tobytes()))[:10].tolist() == exact.tolist()


def test_a_snapshot_lives_until_the_vectors_change(
    tmp_path: Path, make_mail: Callable[..., Mail], embedder: HashingEmbedder
) -> None:
    """It is read once, shared by indexes, and read anew after a mail came or went."""
    snapshots = Snapshots()
    with Store(tmp_path / "account") as store:
        store.keep(Place("server", 1, 1), make_mail(1))
        Retrieval(store, embedder).index()
        first = snapshots.of(store)
        with Store(tmp_path / "account", read_only=True) as again:
            assert snapshots.of(again) is first
            store.keep(Place("server", 1, 2), make_mail(2))
            assert snapshots.of(again) is first
            Retrieval(store, embedder).index()
            second = snapshots.of(again)
            assert len(second.ids) == 2
            store.drop_others([])
            assert len(snapshots.of(again).ids) == 0
            # The next mail gets the number of one that is gone, not its vector.
            store.keep(Place("server", 1, 3), make_mail(3, text="the glaze for the bowls"))
            Retrieval(store, embedder).index()
            hits = Retrieval(again, embedder, snapshots=snapshots).search(QUERY, 1)
            assert [hit.message_id for hit in hits] == ["m3@example.org"]


def test_a_store_of_an_earlier_version_keeps_its_vectors(
    tmp_path: Path, make_mail: Callable[..., Mail], embedder: HashingEmbedder
) -> None:
    """What was embedded before is not embedded again, and is found by words and meaning."""
    from daemon.database import Database
    from daemon.schema import MIGRATIONS

    folder = tmp_path / "account"
    mail = make_mail(1, text="the glaze for the bowls")
    before = next(i for i, step in enumerate(MIGRATIONS) if "DROP TABLE embeddings" in step)
    vector = embedder.embed([f"{mail.subject}\n{mail.text}"])[0].tobytes()
    with Database(folder, MIGRATIONS[:before]) as old:
        old.execute(
            "INSERT INTO mails (key, message_id, sender, date, recipients, copies, subject, text, "
            "answered, in_reply_to, thread) VALUES (?, 'm1@example.org', '', 1, '[]', '[]', ?, ?, "
            "'', '', '[]')",
            (mail.content_hash, mail.subject, mail.text),
        )
        old.execute(
            "INSERT INTO embeddings (id, date, bits, vector) "
            "VALUES (1, 1, vec_quantize_binary(vec_f32(?1)), ?1)",
            (vector,),
        )
        old.execute("INSERT INTO notes VALUES ('embedder', ?)", (embedder.hash,))
    with Store(folder) as store:
        retrieval = Retrieval(store, embedder)
        assert retrieval.index() == 0
        (hit,) = retrieval.search(QUERY, 3)
        assert hit.score == pytest.approx(
            float(embedder.embed([QUERY])[0] @ np.frombuffer(vector, np.float32)), abs=1e-5
        )
        assert store.database.row("SELECT count(*) FROM words WHERE words MATCH 'glazing'") == (1,)
