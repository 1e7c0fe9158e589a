"""Playback: each mail is turned into the instruction that could have produced it.

The pairs (instruction, mail) are what the model is trained on. The base model is asked first, by
the order alone; for what it cannot do so it is shown examples; where that is no sound instruction
either `trainer.extractive` makes one. All that a model writes is checked, by `trainer.check` and by
embeddings. A model too small for a stage is noticed on the first few mails and not asked again.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from trainer.check import NEAR, fault
from trainer.corpus import first_names, letter
from trainer.extractive import habits, instruct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from trainer.corpus import SentMail

Source = Literal["model", "few_shot", "extractive"]

PROMPT_VERSION = "4"
"""To be raised with each change of prompt, check or rules: no old instruction is reused then."""

MAX_NEW_TOKENS = 64
_TRIAL = 8  # mails that show whether a model can do it; 8 answers are seconds, even on two cores
_BATCH = 32
_ENOUGH = 0.25  # of the answers must be sound for the model to be asked on
_MAX_CHARS = 2000  # of a mail that are shown; what it is about stands at its beginning


@dataclass(frozen=True, slots=True)
class Instruction:
    """The instruction that could have produced a mail.

    Attributes:
        text: What the owner might have typed, one line.
        source: Who made it: "model" by the order alone, "few_shot" with examples, "extractive"
            without a model.
    """

    text: str
    source: Source


class Cache(Protocol):
    """Where instructions are kept; a mail's key and a version name one."""

    def get(self, key: str, version: str) -> Instruction | None:
        """Return the instruction of the mail `key` made by `version`, None if there is none."""

    def put(self, version: str, made: Mapping[str, Instruction]) -> None:
        """Keep instructions by the mail's key, all or none of them."""


class Complete(Protocol):
    """The model: answers conversations greedily, each of at most `max_new_tokens` new tokens."""

    def __call__(
        self, conversations: Sequence[list[dict[str, str]]], max_new_tokens: int
    ) -> list[str]:
        """Return one answer for each conversation, in their order."""


class Embed(Protocol):
    """The encoder: turns texts into vectors of length 1."""

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row for each text."""


def version(model_hash: str) -> str:
    """Return what instructions of the model `model_hash` are cached under."""
    return f"{PROMPT_VERSION}-{model_hash}"


def counts(made: Iterable[Instruction]) -> dict[Source, int]:
    """Return how many instructions each source made."""
    found = Counter(one.source for one in made)
    return {source: found[source] for source in get_args(Source)}


class Playback:
    """Makes the instructions of mails, and keeps each in a cache as it is made.

    Args:
        cache: Where they are kept.
        complete: The base model; None for instructions from the mails' words alone.
        model_hash: Names the base model in the cache.
        embed: Tells whether an answer of the model is about its mail.
    """

    def __init__(
        self, cache: Cache, complete: Complete | None, model_hash: str, embed: Embed
    ) -> None:
        self._cache, self._embed = cache, embed
        self._version = version(model_hash)
        self._stages = (
            (_Stage("model", zero_shot, complete), _Stage("few_shot", few_shot, complete))
            if complete
            else ()
        )

    def instructions(
        self,
        mails: Sequence[SentMail],
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> dict[str, Instruction]:
        """Return the instruction of each mail, by the mail's key.

        Each batch is in the cache before the next is begun: called again after an interruption,
        this goes on where it was.

        Args:
            mails: The mails; of two with one key the first counts.
            progress: Called with the number of mails done and of all.
        """
        unique = list({mail.key: mail for mail in reversed(mails)}.values())[::-1]
        known = {mail.key: self._cache.get(mail.key, self._version) for mail in unique}
        made = {key: one for key, one in known.items() if one}
        self._recall(made.values())
        usual = habits(unique)
        new = [mail for mail in unique if mail.key not in made]
        for start in range(0, len(new), _BATCH):
            progress(len(made), len(unique))
            batch = self._make(new[start : start + _BATCH], usual)
            self._cache.put(self._version, batch)
            made.update(batch)
        progress(len(unique), len(unique))
        return {mail.key: made[mail.key] for mail in unique}

    def _recall(self, made: Iterable[Instruction]) -> None:
        """Take over what an earlier run found out about the model."""
        found = counts(made)
        left = sum(found.values())
        for stage in self._stages:
            # Each mail was asked for at every stage until one was sound, as far as it was able.
            stage.asked, stage.sound = left, found[stage.source]
            left -= stage.sound

    def _make(self, batch: Sequence[SentMail], usual: frozenset[str]) -> dict[str, Instruction]:
        made: dict[str, Instruction] = {}
        for stage in self._stages:
            left = [mail for mail in batch if mail.key not in made]
            for key, text in stage.answers(left, self._embed).items():
                made[key] = Instruction(text, stage.source)
        return {
            mail.key: made.get(mail.key) or Instruction(instruct(mail, usual), "extractive")
            for mail in batch
        }


@dataclass(slots=True)
class _Stage:
    """One way to ask the model, and how well it did so far."""

    source: Source
    conversation: Callable[[SentMail], list[dict[str, str]]]
    complete: Complete
    asked: int = 0
    sound: int = 0

    def answers(self, mails: Sequence[SentMail], embed: Embed) -> dict[str, str]:
        """Return the model's sound answers, by the mail's key; none once it proved unable."""
        found: dict[str, str] = {}
        while mails and self._is_able():
            count = _TRIAL - self.asked if self.asked < _TRIAL else len(mails)
            sound = self._ask(mails[:count], embed)
            self.asked += len(mails[:count])
            self.sound += len(sound)
            found |= sound
            mails = mails[count:]
        return found

    def _is_able(self) -> bool:
        return self.asked < _TRIAL or self.sound >= _ENOUGH * self.asked

    def _ask(self, mails: Sequence[SentMail], embed: Embed) -> dict[str, str]:
        answers = self.complete([self.conversation(mail) for mail in mails], MAX_NEW_TOKENS)
        texts = [cleaned(answer) for answer in answers]
        pairs = [(m, text) for m, text in zip(mails, texts, strict=True) if not fault(text, m)]
        near = nearness([text for _, text in pairs], [mail.text for mail, _ in pairs], embed)
        return {
            mail.key: text
            for (mail, text), cosine in zip(pairs, near, strict=True)
            if cosine >= NEAR
        }


def nearness(texts: Sequence[str], mails: Sequence[str], embed: Embed) -> list[float]:
    """Return the cosine of the embeddings of each text and its mail."""
    if not texts:
        return []
    vectors = embed([*texts, *mails])
    return [float(one) for one in (vectors[: len(texts)] * vectors[len(texts) :]).sum(axis=1)]


_ORDER = (
    "{there} is an e-mail of mine. Write the short instruction by which I told you what to write "
    "in it: one to three sentences, the first beginning with a verb such as Tell, Ask, Thank, "
    "Invite or Decline and the name of the one it goes to. I am I in it, never you, and the one it "
    "goes to is they. Keep all names, dates, times, numbers and links, and put the rest in fewer "
    "and other words. Answer with the instruction alone, in the language of the e-mail."
)
_EXAMPLES = (
    (
        """To: Stew
Subject: Thursday

Hi Stew,

I'm afraid something came up and I won't be able to make it on Thursday. Would Friday at 3 work \
for you instead? Sorry about that!""",
        "Tell Stew I can't make Thursday, offer Friday at 3.",
    ),
    (
        """To: them
Subject: Re: Internships

Thanks a lot for the pointer! It took me a while, but the proposal is submitted now.""",
        "Thank them, say the proposal is submitted.",
    ),
    (
        """To: Jeannie
Subject: Keycard

Dear Jeannie,

Hope you had a good weekend. My card doesn't open room 4 any more since Monday. Could you please \
have a look?""",
        "Ask Jeannie to fix my keycard for room 4, broken since Monday.",
    ),
)


def zero_shot(mail: SentMail) -> list[dict[str, str]]:
    """Return the conversation that asks a model for the instruction of `mail` by the order alone.

    The order stands in the user's turn, since some models' chat formats know no system role, and
    behind the mail: small models go on with what they read last.
    """
    order = _ORDER.format(there="Above")
    return [{"role": "user", "content": f"{_shown(mail)}\n\n---\n\n{order}"}]


def few_shot(mail: SentMail) -> list[dict[str, str]]:
    """Return the conversation that asks with the order and three examples before the mail."""
    turns: list[dict[str, str]] = []
    for asked, answer in _EXAMPLES:
        turns.append({"role": "user", "content": asked})
        turns.append({"role": "assistant", "content": answer})
    turns.append({"role": "user", "content": _shown(mail)})
    turns[0]["content"] = f"{_ORDER.format(there='Below')}\n\n{turns[0]['content']}"
    return turns


def _shown(mail: SentMail) -> str:
    """Return a mail as a model is shown it: without its closing, whose name it would order."""
    to = first_names(mail.to) or "them"
    parts = letter(mail.text)
    text = f"{parts.greeting},\n\n{parts.body}" if parts.greeting else parts.body
    return f"To: {to}\nSubject: {mail.subject}\n\n{text[:_MAX_CHARS]}"


_LABEL = re.compile(
    r"(?i)^\W*(?:(?:sure|certainly|of course|here)\b[^:\n]*:\s*|(?:the )?(?:short )?"
    r"(?:order|instruction|answer)\s*:\s*)"
)


def cleaned(answer: str) -> str:
    """Return the first paragraph of an answer as one line, without quotes and labels."""
    text = _LABEL.sub("", answer.strip())
    paragraph = next((part for part in re.split(r"\n\s*\n", text) if part.strip()), "")
    return " ".join(paragraph.split()).strip("\"'\u201c\u201d* ")
