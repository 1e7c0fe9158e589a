"""Playback: each mail is turned into the instruction that could have produced it.

The pairs (instruction, mail) are what the model is trained on. The base model is asked first; what
it writes is checked, and where it is no sound instruction `trainer.extractive` makes one. A model
too small for the task is noticed on the first few mails and not asked again.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from trainer.check import fault
from trainer.corpus import first_names
from trainer.extractive import habits, instruct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from trainer.corpus import SentMail

Source = Literal["model", "extractive"]

PROMPT_VERSION = "1"
"""To be raised with each change of prompt, check or rules: no old instruction is reused then."""

MAX_NEW_TOKENS = 40
_TRIAL = 8  # mails that show whether a model can do it; 8 answers are seconds, even on two cores
_BATCH = 32
_ENOUGH = 0.25  # of the answers must be sound for the model to be asked on
_MAX_CHARS = 2000  # of a mail that are shown; what it is about stands at its beginning


@dataclass(frozen=True, slots=True)
class Instruction:
    """The instruction that could have produced a mail.

    Attributes:
        text: What the owner might have typed, one line.
        source: Who made it: "model" or "extractive".
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


def version(model_hash: str) -> str:
    """Return what instructions of the model `model_hash` are cached under."""
    return f"{PROMPT_VERSION}-{model_hash}"


def counts(made: Iterable[Instruction]) -> dict[Source, int]:
    """Return how many instructions each source made."""
    found = Counter(one.source for one in made)
    return {"model": found["model"], "extractive": found["extractive"]}


class Playback:
    """Makes the instructions of mails, and keeps each in a cache as it is made.

    Args:
        cache: Where they are kept.
        complete: The base model; None for instructions from the mails' words alone.
        model_hash: Names the base model in the cache.
    """

    def __init__(self, cache: Cache, complete: Complete | None, model_hash: str) -> None:
        self._cache, self._complete = cache, complete
        self._version = version(model_hash)
        self._asked = self._sound = 0
        self._habits: frozenset[str] = frozenset()

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
        self._habits = habits(unique)
        # What an earlier run found out about the model need not be found out again.
        self._asked, self._sound = len(made), counts(made.values())["model"]
        for batch in self._batches([mail for mail in unique if mail.key not in made]):
            progress(len(made), len(unique))
            new = self._make(batch)
            self._cache.put(self._version, new)
            made.update(new)
        progress(len(unique), len(unique))
        return {mail.key: made[mail.key] for mail in unique}

    def _batches(self, mails: list[SentMail]) -> Iterator[list[SentMail]]:
        start = 0
        while start < len(mails):
            size = _TRIAL if self._asked < _TRIAL else _BATCH
            yield mails[start : start + size]
            start += size

    def _make(self, batch: list[SentMail]) -> dict[str, Instruction]:
        answers = self._ask(batch) if self._is_able() else {}
        self._asked += len(batch)
        self._sound += len(answers)
        return {
            mail.key: Instruction(answers[mail.key], "model")
            if mail.key in answers
            else Instruction(instruct(mail, self._habits), "extractive")
            for mail in batch
        }

    def _is_able(self) -> bool:
        return self._asked < _TRIAL or self._sound >= _ENOUGH * self._asked

    def _ask(self, batch: list[SentMail]) -> dict[str, str]:
        """Return the model's sound answers, by the mail's key."""
        if not self._complete:
            return {}
        answers = self._complete([conversation(mail) for mail in batch], MAX_NEW_TOKENS)
        sound = {}
        for mail, answer in zip(batch, answers, strict=True):
            text = _clean(answer)
            if not fault(text, mail):
                sound[mail.key] = text
        return sound


_ORDER = (
    "Below is an e-mail that I have sent. Write the short order with which I asked my secretary "
    "to write it: one sentence that begins with a verb such as Tell, Ask, Thank, Invite or "
    "Decline, in other words than the e-mail's, with all names, dates, numbers and links. Answer "
    "with the order alone, in the language of the e-mail."
)
_EXAMPLES = (
    (
        """To: Stew
Subject: Thursday

Hi Stew,

I'm afraid something came up and I won't be able to make it on Thursday. Would Friday at 3 work \
for you instead? Sorry about that!

Jen""",
        "Tell Stew I can't make Thursday, offer Friday at 3.",
    ),
    (
        """To: Archie
Subject: Re: Internships

Thanks a lot for the pointer, Archie! It took me a while, but the proposal is submitted now.

Best,
Jen""",
        "Thank Archie, say the proposal is submitted.",
    ),
    (
        """To: Jeannie
Subject: Keycard

Dear Jeannie,

Hope you had a good weekend. My card doesn't open room 4 any more since Monday. Could you please \
have a look?

Jen""",
        "Ask Jeannie to fix my keycard for room 4, broken since Monday.",
    ),
)


def conversation(mail: SentMail) -> list[dict[str, str]]:
    """Return the conversation that asks a model for the instruction of `mail`.

    Three examples go before; the order stands in the first of them, since some models' chat
    formats know no system role.
    """
    turns: list[dict[str, str]] = []
    for asked, answer in _EXAMPLES:
        turns.append({"role": "user", "content": asked})
        turns.append({"role": "assistant", "content": answer})
    shown = f"To: {first_names(mail.to)}\nSubject: {mail.subject}\n\n{mail.text[:_MAX_CHARS]}"
    turns.append({"role": "user", "content": shown})
    turns[0]["content"] = f"{_ORDER}\n\n{turns[0]['content']}"
    return turns


def _clean(answer: str) -> str:
    """Return the first line of an answer, without quotes and labels."""
    line = next((line for line in answer.strip().splitlines() if line.strip()), "")
    line = re.sub(r"(?i)^\W*(?:order|instruction|answer)\s*:\s*", "", line)
    return " ".join(line.split()).strip("\"'\u201c\u201d* ")
