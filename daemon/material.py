"""From stored mails to what the trainer takes: the owner's mails, what each was asked by, tokens."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors.signatures import learn
from trainer.corpus import SentMail, first_names
from trainer.examples import Example, example
from trainer.prompt import Ask

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from daemon.config import Account, Config
    from daemon.retrieval import Retrieval
    from daemon.store import StoredMail
    from trainer.base_model import LanguageModel

MAX_TOKENS = 1024  # of one example; a longer mail is cut


def own_mails(stored: Sequence[StoredMail]) -> list[SentMail]:
    """Return the mails as the trainer knows them, the owner's own signature block taken off."""
    signatures = learn([mail.text for mail in stored])
    return [
        SentMail(
            key=mail.key,
            date=mail.date,
            to=tuple(one.name or one.email.partition("@")[0] for one in mail.to),
            subject=mail.subject,
            text=signatures.strip(mail.text),
            answered=mail.answered,
            language=mail.language,
        )
        for mail in stored
    ]


@dataclass(frozen=True, slots=True)
class Material:
    """Turns mails into examples for one model.

    Attributes:
        config: The whole configuration.
        account: Whose mails they are.
        lm: The model whose tokens are wanted.
        retrieval: The index of the owner's mails.
        instructions: What each mail was asked by, by its key.
        hidden: Keys of the mails that no prompt may show: the held-out ones.
    """

    config: Config
    account: Account
    lm: LanguageModel
    retrieval: Retrieval
    instructions: Mapping[str, str]
    hidden: Collection[str] = ()

    def ask(self, mail: SentMail, emails: int) -> Ask:
        """Return what a mail is written from, with at most so many earlier mails."""
        instruction = self.instructions[mail.key]
        found = self.retrieval.search(
            instruction, emails, before=mail.date, exclude={mail.key, *self.hidden}
        )
        given = mail.subject if mail.answered or mail.subject[:3].casefold() == "re:" else ""
        return Ask(
            instruction=instruction,
            to=first_names(mail.to),
            subject=given,
            thread=mail.answered,
            retrieved=tuple(hit.text for hit in found),
            profile=self.config.profile,
            owner=self.account.full_name,
        )

    def examples(self, mails: Iterable[SentMail], emails: int) -> list[Example]:
        """Return the mails as examples, each with at most so many earlier mails in its prompt."""
        return [self._example(mail, emails) for mail in mails]

    def training_examples(self, mails: Iterable[SentMail], seed: int) -> list[Example]:
        """Return the mails as a training takes them.

        A share of the prompts shows earlier mails and the others show none, so that the model
        learns to use them and to do without (RAFT, Zhang et al., arXiv 2403.10131).
        """
        most, share = self.config.retrieval.emails, _SHARE_WITH_RETRIEVAL
        chosen = []
        for mail in mails:
            dice = random.Random(f"{seed}{mail.key}")
            shown = dice.randint(1, most) if most and dice.random() < share else 0
            chosen.append(self._example(mail, shown))
        return chosen

    def _example(self, mail: SentMail, emails: int) -> Example:
        return example(
            self.lm.tokenizer,
            mail.key,
            self.ask(mail, emails),
            mail.subject,
            mail.text,
            end=int(self.lm.tokenizer.eos_token_id),
            limit=min(MAX_TOKENS, self.lm.context_length),
        )


_SHARE_WITH_RETRIEVAL = 0.4
