"""Writes drafts with the model, the adapter in use and the owner's earlier mails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from daemon.brief import ANSWER, Draft, Source
from daemon.models import Models
from daemon.retrieval import Retrieval
from trainer.corpus import first_names
from trainer.generate import Sampling, write
from trainer.prompt import Ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.brief import Brief
    from daemon.config import Account, Config
    from daemon.store import Store

_LINK = re.compile(r"(?:https?://|www\.)[^\s<>\"']+", re.IGNORECASE)
_WORD_END = re.compile(r"\s")


class Writer:
    """The model that writes for one account.

    Args:
        config: The whole configuration.
        account: Who writes.
        store: Her mails.
        adapter: An adapter's id, ``base`` for none, or ``current`` for the one in use.
        models: The models that are in memory already, where there are any.

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
    ) -> None:
        models = models or Models()
        self._config, self._account, self._store = config, account, store
        threshold = config.retrieval.threshold
        self._retrieval = Retrieval(
            store, models.embedder(), threshold=threshold, snapshots=models.snapshots
        )
        self.lm, self.adapter = models.writing(config, account, adapter)

    def write(self, brief: Brief, stream: Callable[[str], None] | None = None) -> Draft:
        """Write one draft.

        Args:
            brief: What the owner wants.
            stream: Called with each piece of the draft's subject line and text as it comes.
        """
        query = brief.thread if brief.instruction == ANSWER else brief.instruction
        hits = self._retrieval.search(
            query,
            self._config.retrieval.emails,
            to=[one.email for one in brief.to],
            before=brief.before,
        )
        ask = Ask(
            instruction=brief.instruction,
            to=first_names([one.name or one.email.partition("@")[0] for one in brief.to]),
            subject=brief.subject,
            thread=brief.thread,
            retrieved=tuple(hit.text for hit in hits),
            profile=self._config.profile,
            owner=self._account.full_name,
        )
        given = (ask.instruction, ask.thread, ask.profile, ask.subject)
        guard = LinkGuard(lambda link: self._may_link(link, given))
        subject, text = write(
            self.lm,
            ask,
            Sampling(seed=brief.seed),
            stream=(lambda piece: stream(guard.feed(piece))) if stream else None,
        )
        if stream:
            stream(guard.end())
        return Draft(
            subject=guard.clean(subject),
            body=guard.clean(text),
            adapter=self.adapter,
            sources=tuple(Source(hit.message_id, round(hit.score, 4)) for hit in hits),
        )

    def _may_link(self, link: str, given: tuple[str, ...]) -> bool:
        """Tell whether a link stands in what the owner wrote or answers."""
        return any(link in text for text in given) or self._store.wrote(link)


class LinkGuard:
    """Takes the links out of a draft that nobody gave.

    A model can be talked into a link that carries data away, and can make one up; so a draft has
    only links that the owner wrote herself or was sent by the one she answers.

    Args:
        allowed: Tells whether a link may stay.
    """

    def __init__(self, allowed: Callable[[str], bool]) -> None:
        self._allowed = allowed
        self._held = ""

    def clean(self, text: str) -> str:
        """Return a whole text without the links that may not stay."""
        return _LINK.sub(self._kept, text)

    def feed(self, piece: str) -> str:
        """Take the next piece of a text; return what of it can be shown: whole words."""
        self._held += piece
        last = max((match.end() for match in _WORD_END.finditer(self._held)), default=0)
        shown, self._held = self._held[:last], self._held[last:]
        return self.clean(shown)

    def end(self) -> str:
        """Return what was held back."""
        shown, self._held = self._held, ""
        return self.clean(shown)

    def _kept(self, match: re.Match[str]) -> str:
        link = match.group()
        bare = link.rstrip(".,;:!?)]}")
        return link if self._allowed(bare) else f"[link removed]{link[len(bare) :]}"
