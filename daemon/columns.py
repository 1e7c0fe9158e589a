"""The columns that a training is judged by: the base model, what is in use, the candidate.

`panza train` and `panza evaluate` ask all of them alike: the perplexity of every held-out mail, and
drafts from the instructions of the newest of them and from nonsense. A draft is judged as the model
wrote it, its likeliest words, before anything is mended in it: what the writer would have marked or
written again is counted.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from connectors import language
from daemon.copies import copied
from trainer import embedding, facts, mauve, memory, overlap, style
from trainer.bootstrap import mean, ratio
from trainer.corpus import words
from trainer.evaluation import perplexity
from trainer.generate import Sampling, write_many
from trainer.prompt import Budget, encode_subject, encode_text, spans
from trainer.refusal import NONSENSE, refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from daemon.material import Material
    from daemon.progress import Progress
    from trainer.bootstrap import Score
    from trainer.corpus import SentMail
    from trainer.examples import Example
    from trainer.prompt import Ask
    from trainer.rosa import RosaModel

BASE = "base"
FEW_SHOT = "few_shot"
CURRENT = "current"
CANDIDATE = "candidate"
NAMES = {
    BASE: "the base model",
    FEW_SHOT: "the base model with five mails in the prompt",
    CURRENT: "the adapter in use",
    CANDIDATE: "the candidate",
}
SHOTS = 5
"""Earlier mails in the prompt of the column `FEW_SHOT`."""

_LONGEST = 256  # tokens of a draft at most, and ...
_ROOM = 1.5  # ... times what the owner's longest held-out mail has
_REFUSAL = 32  # tokens in which a refusal shows
_BATCH = 8
_SAMPLES = 3
_SHARE = 0.5  # of the free memory may hold a copy of the weights

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Trial:
    """What every column is judged by.

    Attributes:
        mails: The held-out mails, whose perplexity counts, oldest first.
        written: Those whose instructions are written from, too.
        nonsense: Instructions without sense, to be refused.
        sound: Instructions with sense, not to be refused; where there are none, those of the mails
            that are written tell it.
    """

    mails: Sequence[SentMail]
    written: Sequence[SentMail]
    nonsense: Sequence[str]
    sound: Sequence[str] = ()

    @classmethod
    def of(cls, mails: Sequence[SentMail], drafts: int) -> Trial:
        """Return a trial with the newest mails, and as many nonsense instructions, to be written.

        Args:
            mails: The held-out mails.
            drafts: How many at most; 0 for none.
        """
        ordered = sorted(mails, key=lambda mail: (mail.date, mail.key))
        count = min(drafts, len(ordered))
        noise = min(count, len(NONSENSE))
        return cls(
            ordered,
            ordered[len(ordered) - count :],
            [NONSENSE[i * len(NONSENSE) // noise] for i in range(noise)],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """What one model came to.

    Attributes:
        scores: Its scores by name.
        drafts: What it wrote for the trial's mails.
    """

    scores: Mapping[str, Score]
    drafts: Sequence[str] = ()

    def figures(self) -> Figures:
        """Return the scores that there are, as numbers."""
        found = {name: score.value for name, score in self.scores.items()}
        return {name: round(value, 4) for name, value in found.items() if math.isfinite(value)}

    def intervals(self) -> dict[str, list[float]]:
        """Return the 95 % interval of each of them, low and high."""
        return {
            name: [round(bound, 4) for bound in self.scores[name].interval]
            for name in self.figures()
        }


Columns = dict[str, Column | None]


def figures(columns: Columns) -> dict[str, Figures | None]:
    """Return the scores of all columns, None for one that there is not."""
    return {name: column.figures() if column else None for name, column in columns.items()}


def intervals(columns: Columns) -> dict[str, dict[str, list[float]]]:
    """Return the intervals of the columns that there are."""
    return {name: column.intervals() for name, column in columns.items() if column}


@dataclass(slots=True)
class Examiner:
    """Has one model after the other judged by the same trial.

    Attributes:
        material: Prompts, and the model with whatever is on it.
        trial: What they are judged by.
        habits: How the owner writes.
        progress: Told how far it is.
        seconds: How long the drafts have taken so far.
    """

    material: Material
    trial: Trial
    habits: style.Habits
    progress: Progress
    seconds: float = field(default=0.0, init=False)

    def column(
        self,
        name: str,
        examples: Sequence[Example],
        emails: int,
        rosa: RosaModel | None = None,
    ) -> Column:
        """Judge the model as it is now.

        Args:
            name: Of the column.
            examples: The trial's mails, in order, with as many earlier mails in the prompts.
            emails: How many earlier mails a prompt shows at most.
            rosa: The adapter on the model, where there is one.
        """
        lm, named = self.material.lm, NAMES[name]
        scores = {"perplexity": perplexity(lm, examples, self._telling(f"scoring {named}"))}
        if not self.trial.written:
            return Column(scores)
        began = time.monotonic()
        with _fast(self.material, rosa):
            drafts, more = self._written(named, emails)
        self.seconds += time.monotonic() - began
        return Column(scores | more, drafts)

    def samples(self, columns: Columns) -> list[dict[str, Any]]:
        """Return up to three of the instructions, for mails of differing length, with all drafts.

        Each has ``instruction``, ``own`` (what the owner wrote) and ``drafts`` by column.
        """
        mails = self.trial.written
        ranked = sorted(range(len(mails)), key=lambda i: len(words(mails[i].text)))
        count = min(_SAMPLES, len(ranked))
        return [
            {
                "instruction": self.material.instructions[mails[i].key].text,
                "own": mails[i].text,
                "drafts": {name: one.drafts[i] for name, one in columns.items() if one},
            }
            for i in (ranked[(2 * n + 1) * len(ranked) // (2 * count)] for n in range(count))
        ]

    def _telling(self, what: str) -> Any:  # noqa: ANN401 - a function of two numbers
        return lambda done, total: self.progress(what, done, total)

    def _written(self, named: str, emails: int) -> tuple[list[str], dict[str, Score]]:
        """Write all drafts of a trial; return those for the mails, and all their scores."""
        trial, order = self.trial, self.material.order
        asks = [self.material.ask(mail, emails) for mail in trial.written]
        now = trial.mails[-1].date
        noise = [order(one, now, emails) for one in trial.nonsense]
        sound = [order(one, now, emails) for one in trial.sound]
        drafts = self._drafts(f"writing with {named}", asks, self._longest())
        short = self._drafts(f"asking nonsense of {named}", noise + sound, _REFUSAL)
        texts = [text for _, text in drafts]
        mails = [mail.text for mail in trial.written]
        answers = [refused(text) for _, text in short]
        sense = answers[len(noise) :] or [refused(text) for text in texts]
        scores = {
            "bleu": overlap.bleu(texts, mails),
            "rouge_l": overlap.rouge_l(texts, mails),
            "chrf": overlap.chrf(texts, mails),
            **_mauve(texts, mails),
            **style.compared(texts, trial.written, self.habits),
            **self._facts(asks, drafts),
            "refused_nonsense": mean(answers[: len(noise)]),
            "refused_sense": mean(sense),
            "copied": mean(
                [
                    self._copies(ask, mail, text)
                    for ask, mail, text in zip(asks, trial.written, texts, strict=True)
                ]
            ),
        }
        return texts, scores

    def _drafts(self, what: str, asks: Sequence[Ask], tokens: int) -> list[tuple[str, str]]:
        lm, sampling = self.material.lm, self.material.config.sampling
        return write_many(
            lm,
            asks,
            Sampling(temperature=0, repetition=sampling.repetition, max_tokens=tokens),
            budget=Budget(whole=max(1, lm.context_length - tokens)),
            batch=_BATCH,
            progress=self._telling(what),
        )

    def _longest(self) -> int:
        """Return the most tokens of a draft: an untrained model would not come to an end."""
        tokenizer = self.material.lm.tokenizer
        own = max(
            len(encode_subject(tokenizer, mail.subject)) + len(encode_text(tokenizer, mail.text))
            for mail in self.trial.mails
        )
        return min(_LONGEST, math.ceil(_ROOM * own))

    def _facts(self, asks: Sequence[Ask], drafts: Sequence[tuple[str, str]]) -> dict[str, Score]:
        """Return the share of the instructions' facts that arrive, and how many come from nowhere.

        What comes from nowhere is what the writer would mark.
        """
        kept, invented = [], []
        for mail, ask, (subject, text) in zip(self.trial.written, asks, drafts, strict=True):
            told = list(facts.found(ask.instruction, language=mail.language))
            arrived = facts.Given.by((subject, text))
            kept.append((sum(arrived.has(one) for one in told), len(told)))
            marked = facts.mark(
                text,
                facts.Given.by(_known(ask, mail)),
                language=language.identify(text),
                spelled=self.material.store.spelled,
            )
            invented.append(len(facts.marks(marked)))
        return {"facts_kept": ratio(kept), "facts_invented": mean(invented)}

    def _copies(self, ask: Ask, mail: SentMail, text: str) -> bool:
        """Tell whether a draft repeats a mail to others, as the writer would find."""
        to = self.material.retrieval.recipients(mail.key)
        given = (ask.instruction, ask.profile, ask.thread, ask.subject)
        tokens = partial(spans, self.material.lm.tokenizer)
        return bool(copied(text, self.material.store, to, given, tokens))


def _known(ask: Ask, mail: SentMail) -> Iterator[str]:
    """Yield all that a draft may take its facts from."""
    yield from (ask.instruction, ask.to, ask.subject, ask.thread, ask.profile, ask.owner)
    yield from (*ask.retrieved, *mail.to, str(mail.date.year))


def _mauve(drafts: Sequence[str], own: Sequence[str]) -> dict[str, Score]:
    if len(own) < mauve.LEAST:
        return {}
    encoder = embedding.load()
    return {"mauve": mauve.mauve(encoder.embed(drafts), encoder.embed(own))}


@contextmanager
def _fast(material: Material, rosa: RosaModel | None) -> Iterator[None]:
    """Have the model write as fast as the base model does, with the adapter inside its weights.

    Beside them it stays in 4 bits, which would round it away, and where there is no room for a copy
    of the weights.
    """
    if rosa is None or material.lm.precision == "4bit":
        yield
        return
    weights = [layer.base_layer.weight for layer in rosa.layers.values()]
    if sum(one.nbytes for one in weights) > _SHARE * memory.available():
        yield
        return
    rosa.merge_adapter()
    try:
        yield
    finally:
        rosa.unmerge_adapter()  # type: ignore[no-untyped-call]
