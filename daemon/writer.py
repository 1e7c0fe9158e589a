"""Writes drafts with the model, the adapter in use and the owner's earlier mails."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from connectors import language
from daemon.brief import ANSWER, Draft, Source
from daemon.copies import closed_once, copied, without
from daemon.errors import NotUnderstoodError
from daemon.guards import Guard
from daemon.models import Models
from daemon.register import register
from daemon.retrieval import Retrieval
from trainer import facts
from trainer.corpus import first_names
from trainer.generate import Sampling, write
from trainer.prompt import Ask, Budget, spans
from trainer.refusal import refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from daemon.brief import Brief
    from daemon.config import Account, Config
    from daemon.store import Store

_ATTEMPTS = 3  # at a draft that copies mail to others, or refuses
_COPIED = "stood in a mail to somebody else"
_REFUSED = "the instruction was not understood"


class Writer:
    """The model that writes for one account.

    Args:
        config: The whole configuration.
        account: Who writes.
        store: Her mails.
        adapter: An adapter's id, ``base`` for none, or ``current`` for the one in use.
        models: The models that are in memory already, where there are any.
        compose: What has the model write, as `trainer.generate.write` does.

    Raises:
        trainer.errors.ModelMissingError: The base model is not on this machine.
        trainer.errors.AdapterError: The adapter is missing, damaged or made for another model.
    """

    def __init__(
        self,
        config: Config,
        account: Account,
        store: Store,
        *,
        adapter: str = "current",
        models: Models | None = None,
        compose: Callable[..., tuple[str, str]] = write,
    ) -> None:
        models = models or Models()
        self._config, self._account, self._store = config, account, store
        self._compose = compose
        threshold = config.retrieval.threshold
        self._retrieval = Retrieval(
            store, models.embedder(), threshold=threshold, words=models.words
        )
        self.lm, self.adapter = models.writing(config, account, adapter)

    def write(self, brief: Brief, stream: Callable[[str], None] | None = None) -> Draft:
        """Write one draft.

        Args:
            brief: What the owner wants.
            stream: Called with each piece of the draft's subject line and text as it comes.

        Raises:
            daemon.errors.NotUnderstoodError: The model refuses the instruction, each time.
            trainer.errors.InstructionTooLongError: It does not fit into the model's context.
        """
        query = brief.thread if brief.instruction == ANSWER else brief.instruction
        to = [one.email for one in brief.to]
        hits = self._retrieval.search(
            query, self._config.retrieval.emails, to=to, before=brief.before
        )
        ask = Ask(
            instruction=brief.instruction,
            to=first_names([one.name or one.email.partition("@")[0] for one in brief.to]),
            register=register(self._store, to, brief.before, thread=brief.thread),
            subject=brief.subject,
            thread=brief.thread,
            retrieved=tuple(hit.text for hit in hits),
            profile=self._config.profile,
            owner=self._account.full_name,
        )
        mine = (self._account.address, *self._account.aliases)
        guard = Guard(
            words=(ask.instruction, ask.profile, "" if brief.thread else brief.subject),
            earlier=self._store.texts_with,
            addresses=(*mine, *(one.email for one in brief.to)),
        )
        subject, body = self._written(ask, brief, guard, stream)
        marked = facts.mark(
            body,
            facts.Given.by(_known(ask, brief)),
            language=language.identify(body),
            spelled=self._store.spelled,
        )
        if stream and marked != body:
            stream("\n\n" + "\n".join(facts.marks(marked)))
        return Draft(
            subject=subject,
            body=marked,
            adapter=self.adapter,
            sources=tuple(Source(hit.message_id, round(hit.score, 4)) for hit in hits),
        )

    def _written(
        self, ask: Ask, brief: Brief, guard: Guard, stream: Callable[[str], None] | None
    ) -> tuple[str, str]:
        """Write, and write again what copies mail to others; what does so at last is cut out.

        A refusal is asked again as well, for sampling can be unlucky.
        """
        to = [one.email for one in brief.to]
        given = (ask.instruction, ask.profile, ask.thread, ask.subject)
        sampling = Sampling(**self._config.sampling.model_dump(), seed=brief.seed)
        budget = Budget(whole=max(1, self.lm.context_length - sampling.max_tokens))
        attempts = _ATTEMPTS if sampling.temperature else 1  # the likeliest words stay the same
        for attempt in range(attempts):
            subject, text = self._compose(
                self.lm,
                ask,
                replace(sampling, seed=brief.seed + attempt),
                budget=budget,
                stream=(lambda piece: stream(guard.feed(piece))) if stream else None,
            )
            if stream:
                stream(guard.end())
            subject, text = guard.clean(subject), guard.clean(closed_once(text))
            passages = [
                one
                for part in (text, subject)
                for one in copied(part, self._store, to, given, partial(spans, self.lm.tokenizer))
            ]
            fault = _REFUSED if refused(text) else _COPIED if passages else ""
            if not fault:
                return subject, text
            if stream and attempt + 1 < attempts:
                stream(f"\n\n[{fault}: written again]\n\n")
        if refused(text):
            raise NotUnderstoodError
        mark = f"[check: {_COPIED}]"
        return without(subject, passages, mark), without(text, passages, mark)


def _known(ask: Ask, brief: Brief) -> Iterable[str]:
    """Return all that a draft may take its facts from."""
    people = (f"{one.name} {one.email}" for one in brief.to)
    own = (ask.instruction, ask.to, brief.subject, ask.thread, ask.profile, ask.owner)
    return (*own, *ask.retrieved, *people, str(brief.before.year))
