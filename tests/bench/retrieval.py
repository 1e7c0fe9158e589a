"""Retrieval: what it finds, and how long it takes.

    .venv/bin/python tests/bench/retrieval.py --mbox sent.mbox --questions questions.jsonl \
        --address jen@example.org
    OPENBLAS_NUM_THREADS=1 .venv/bin/python tests/bench/retrieval.py --mails 10000 50000

The first asks a real mailbox: how often is the mail that holds the asked fact among the five first,
by vectors alone, by FTS5's bm25 alone, and by both as Panza joins them. The questions are yours,
one JSON object a line: `{"question": "Tell Ana when the plumber comes", "message_id": "a@b"}`, the
Message-ID without angle brackets of the one mail that tells. To write one, read a mail, put it
away, and write the instruction to a third person that cannot be followed without it, in the words
that you would use to your own secretary; some by other words than the mail's, some by a name or a
number. Write all of them before you look at what is found. They quote mail, so they stay private.

The second measures with generated mails: vectors in clusters, words by Zipf's law. Times are those
of one processor, which do not tell what else the machine is doing. A query's own embedding is not
counted, it takes the same whatever is searched. Beside it stands NumPy's product
of all vectors with one, in turns: once with processor caches that just held it all, once with
caches that other work has emptied, which is what a query meets that comes once in a minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from connectors.mail import Address, Mail
from daemon import accounts, sync
from daemon.config import Account
from daemon.retrieval import Retrieval, candidates_for
from daemon.store import Place, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from daemon.retrieval import Embedder

_DIMENSIONS = 384
_VOCABULARY = 30_000
_FIRST = 5
_QUERIES = 60
_QUERY_WORDS = 10
_PEOPLE = 500
_DRAWS = 10_000
_CACHE = 1 << 26  # float32 values: more than any processor's cache


def main() -> None:
    """Run what was asked for and print its figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mbox", type=Path)
    options.add_argument("--questions", type=Path)
    options.add_argument("--address", default="owner@example.org")
    options.add_argument("--misses", action="store_true", help="print the questions that fail")
    options.add_argument("--mails", type=int, nargs="*", default=[])
    chosen = options.parse_args()
    if chosen.mbox and chosen.questions:
        quality(chosen.mbox, chosen.address, questions(chosen.questions), misses=chosen.misses)
    elif not chosen.mails:
        print("skipped: lacks --mbox and --questions, or --mails")
    for total in chosen.mails:
        speed(total)


# --- what is found ----------------------------------------------------------------------------


class Question(NamedTuple):
    """What is asked, and the Message-ID of the mail that tells."""

    text: str
    message_id: str


def questions(file: Path) -> list[Question]:
    """Read the questions."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]
    return [Question(line["question"], line["message_id"]) for line in lines]


def quality(mbox: Path, address: str, asked: Sequence[Question], *, misses: bool) -> None:
    """Print the recall of each way to search, and of the joint one against the others."""
    from trainer import embedding

    account = Account(name="bench", address=address, full_name="Owner", archives=(mbox.absolute(),))
    with (
        tempfile.TemporaryDirectory(prefix="panza-bench-") as folder,
        Store(Path(folder)) as store,
        accounts.opened(account, Path(folder)) as sources,
    ):
        sync.sync(account, sources, store)
        index = Retrieval(store, embedding.load())
        index.index()
        ways: dict[str, Callable[[str], list[str]]] = {
            "vectors alone": lambda text: by_vectors(store, index, text),
            "FTS5 alone": lambda text: by_words(store, text),
            "both": lambda text: [hit.message_id for hit in index.search(text, _FIRST)],
        }
        print(f"{len(asked)} questions, {store.total()} mails")
        named = recall(index, index._embedder, [question.text for question in asked])
        print(f"recall@10 of the exact ten nearest: {named:.3f}")
        found = {name: np.array(recalls(way, asked)) for name, way in ways.items()}
    for name, hits in found.items():
        print(f"{name:>14}: recall@{_FIRST} {hits.mean():.3f} ({hits.sum()} of {len(hits)})")
    for name in ("vectors alone", "FTS5 alone"):
        low, high = interval(found["both"].astype(float) - found[name])
        print(f"both less {name}: 95 % interval {low:+.3f} to {high:+.3f}")
    if misses:
        for question, hit in zip(asked, found["both"], strict=True):
            if not hit:
                print(f"  missed: {question.text}")


def recalls(way: Callable[[str], list[str]], asked: Iterable[Question]) -> list[bool]:
    """Tell for each question whether its mail is among the first."""
    return [question.message_id in way(question.text)[:_FIRST] for question in asked]


def by_vectors(store: Store, index: Retrieval, text: str) -> list[str]:
    """Return the mails of the nearest vectors."""
    ids, matrix = vectors(store)
    vector = np.frombuffer(next(iter(index._embedder.embed([text]))).tobytes(), dtype=np.float32)
    nearest = np.argsort(-(matrix @ vector), kind="stable")[:_FIRST]
    names = dict(store.database.rows("SELECT id, message_id FROM mails"))
    return [names[number] for number in ids[nearest].tolist()]


def vectors(store: Store) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the ids of a store's mails and their vectors."""
    rows = store.database.rows("SELECT id, vector FROM vectors ORDER BY id")
    matrix = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float32)
    return np.array([row[0] for row in rows]), matrix.reshape(-1, _DIMENSIONS)


def by_words(store: Store, text: str) -> list[str]:
    """Return the mails that FTS5 ranks first."""
    words = dict.fromkeys("".join(c if c.isalnum() else " " for c in text.casefold()).split())
    rows = store.database.rows(
        "SELECT message_id FROM words JOIN mails ON mails.id = words.rowid "
        "WHERE words MATCH ? ORDER BY bm25(words), mails.id LIMIT ?",
        (" OR ".join(f'"{word}"' for word in words), _FIRST),
    )
    return [name for (name,) in rows]


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of a mean."""
    draws = np.random.default_rng(0).choice(values, (_DRAWS, len(values))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)


# --- how long it takes ------------------------------------------------------------------------


class Given:
    """An embedder that knows each text's vector."""

    hash = "given"

    def __init__(self) -> None:
        self.vectors: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the vectors that were given for the texts."""
        return [self.vectors[text] for text in texts]


class Generator:
    """Makes texts and their vectors, the same ones each time."""

    def __init__(self, total: int) -> None:
        self._dice = np.random.default_rng(total)
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        lengths = self._dice.integers(3, 10, _VOCABULARY)
        self._words = np.array(["".join(self._dice.choice(letters, n)) for n in lengths])
        shares = np.cumsum(1 / np.arange(1, _VOCABULARY + 1))
        self._shares = shares / shares[-1]
        self._centres = self._dice.standard_normal((max(total // 20, 1), _DIMENSIONS))

    def text(self, words: int) -> str:
        """Return a text of so many words."""
        return " ".join(self._words[np.searchsorted(self._shares, self._dice.random(words))])

    def vectors(self, count: int) -> NDArray[np.float32]:
        """Return vectors that lie around the centres, each of length 1."""
        around = self._centres[self._dice.integers(0, len(self._centres), count)]
        vectors = around + self._dice.standard_normal(around.shape)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def words(self) -> int:
        """Return a mail's length in words."""
        return int(self._dice.integers(20, 120))


@dataclass(frozen=True)
class Times:
    """Milliseconds of each query, and of the product and NumPy's own search that came with it."""

    product: list[float]
    search: list[float]
    hybrid: list[float]

    def report(self, when: str) -> None:
        """Print the medians and the median ratio of the pairs."""
        ratios = {
            "product": statistics.median(map(_ratio, self.hybrid, self.product)),
            "NumPy search": statistics.median(map(_ratio, self.hybrid, self.search)),
        }
        print(
            f"  {when}: product {statistics.median(self.product):.3f} ms, with the ten best "
            f"{statistics.median(self.search):.3f} ms, hybrid "
            f"{statistics.median(self.hybrid):.3f} ms; "
            + ", ".join(f"{ratio:.2f} of the {name}" for name, ratio in ratios.items())
        )


def speed(total: int) -> None:
    """Print the times for so many mails, and how many of the exact ten nearest are found."""
    made, given = Generator(total), Given()
    with tempfile.TemporaryDirectory(prefix="panza-bench-") as folder, Store(Path(folder)) as store:
        fill(store, made, given, total)
        index = Retrieval(store, given, threshold=-1)
        index.index()
        asked = [made.text(_QUERY_WORDS) for _ in range(_QUERIES)]
        given.vectors |= dict(zip(asked, made.vectors(_QUERIES), strict=True))
        _, matrix = vectors(store)
        print(f"{total} mails")
        index.search(asked[0], 10)
        first = [timed(lambda text=text: index.search(text, 10)) for text in asked]
        print(f"  with words never asked before: hybrid {statistics.median(first):.3f} ms")
        pairs(index, given, matrix, asked, lambda: None).report("caches warm")
        waste = np.zeros(_CACHE, dtype=np.float32)
        pairs(index, given, matrix, asked, lambda: waste.__iadd__(1)).report("caches cold")
        print(f"  recall@10 of the exact ten nearest: {recall(index, given, asked):.3f}")


def fill(store: Store, made: Generator, given: Given, total: int) -> None:
    """Keep so many mails."""
    start = datetime(2010, 1, 1, tzinfo=UTC)
    vectors = made.vectors(total)
    with store.transaction():
        for number in range(total):
            subject, text = made.text(4), made.text(made.words())
            given.vectors[f"{subject}\n{text}"] = vectors[number]
            mail = Mail(
                message_id=f"m{number}@example.org",
                content_hash=f"{number:064x}",
                sender=Address("Jen Doe", "jen@example.org"),
                to=(Address("", f"p{number % _PEOPLE}@example.net"),),
                cc=(),
                date=start + timedelta(hours=number),
                subject=subject,
                in_reply_to="",
                references=(),
                text=text,
                answered="",
                automatic=False,
            )
            store.keep(Place("bench", 1, number + 1), mail)


def pairs(
    index: Retrieval,
    given: Given,
    matrix: NDArray[np.float32],
    asked: Sequence[str],
    before: Callable[[], object],
) -> Times:
    """Take the times in turns; ``before`` is called before each."""
    times = Times([], [], [])
    for text in asked:
        vector = given.vectors[text]
        for taken, work in (
            (times.product, lambda vector=vector: matrix @ vector),
            (times.search, lambda vector=vector: np.argpartition(matrix @ vector, -10)[-10:]),
            (times.hybrid, lambda text=text: index.search(text, 10)),
        ):
            before()
            taken.append(timed(work))
    return times


def recall(index: Retrieval, embedder: Embedder, asked: Sequence[str]) -> float:
    """Return the share of the ten nearest, in double precision, that sqlite-vec names."""
    ids, matrix = vectors(index._store)
    shares = []
    for text in asked:
        vector = next(iter(embedder.embed([text]))).tobytes()
        cosines = matrix.astype(float) @ np.frombuffer(vector, dtype=np.float32)
        found = index._near(vector, candidates_for(10), None, ()).numbers
        shares.append(len(np.intersect1d(ids[np.argsort(-cosines)[:10]], found)) / 10)
    return statistics.mean(shares)


def timed(work: Callable[[], object]) -> float:
    """Return the milliseconds of a processor that something takes."""
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1000


def _ratio(one: float, other: float) -> float:
    return one / other


if __name__ == "__main__":
    main()
