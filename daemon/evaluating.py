"""Scores of the models on the owner's mail: the hold-out, or any mbox of hers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors.base import MessageError, Role
from connectors.mail import parse
from connectors.mbox import MboxConnector
from daemon.errors import UnfitError
from daemon.material import Material, corpus
from daemon.sync import reason_to_leave_out
from daemon.training import FEW_SHOT, adapters_folder
from trainer.corpus import split
from trainer.evaluation import overlap, perplexity
from trainer.generate import Sampling, write_many

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from connectors.mail import Mail
    from daemon.config import Account, Config
    from daemon.progress import Progress
    from daemon.store import Store
    from trainer.corpus import SentMail

BASE = "base"
CURRENT = "current"
_LONGEST_DRAFT = 256  # tokens


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What an evaluation came to; the fields are those of ``panza evaluate --json``.

    Attributes:
        adapter: The adapter's id, ``base`` for none.
        mails: How many mails it was judged by.
        scores: By column (base, few_shot, adapter): perplexity, bleu (0 to 100), rouge_l (0 to 1).
    """

    adapter: str
    mails: int
    scores: dict[str, dict[str, float] | None]


def evaluate(
    config: Config,
    account: Account,
    store: Store,
    *,
    adapter: str = CURRENT,
    mail: Path | None = None,
    progress: Progress,
) -> Evaluated:
    """Score the base model, the same with five mails in its prompt, and an adapter.

    Args:
        config: The whole configuration.
        account: Whose mail it is.
        store: Her mails, open for writing: instructions are kept there.
        adapter: An adapter's id, ``base`` for none, ``current`` for the one in use; where that is
            damaged or of another base model, the last good one before it.
        mail: An mbox of the owner's to judge by, instead of the newest fifth of the store.
        progress: Told how far it is.

    Raises:
        UnfitError: The mbox holds nothing to judge by.
        trainer.errors.TrainerError: Too few mails, or no such model or adapter.
        connectors.base.MailboxError: The file is no mbox.
    """
    registry = adapters_folder(config, account)
    if adapter not in {BASE, CURRENT}:
        registry.manifest(adapter)  # a wrong id is told before minutes of work
    known, mails = _from_mbox(mail, account) if mail else _held_out(store, config)
    material = Material.prepared(config, account, store, known, held_out=mails, progress=progress)
    lm, chosen = material.lm, adapter
    if adapter == CURRENT:
        chosen = registry.in_use(base_hash=lm.hash).adapter or BASE
    scores: dict[str, dict[str, float] | None] = {
        "base": _score(material, mails, 0, "base model", progress),
        "few_shot": _score(material, mails, FEW_SHOT, "base model with five mails", progress),
    }
    if chosen != BASE:
        rosa = registry.load(chosen, lm)
        if lm.precision != "4bit":
            rosa.merge_and_unload()  # beside the weights it would be slower
        emails = config.retrieval.emails
        scores["adapter"] = _score(material, mails, emails, "adapter", progress)
    return Evaluated(chosen, len(mails), scores)


def _score(
    material: Material, mails: list[SentMail], emails: int, name: str, progress: Progress
) -> dict[str, float]:
    lm = material.lm
    examples = material.examples(mails, emails)
    value = perplexity(lm, examples, lambda d, n: progress(f"scoring the {name}", d, n))
    drafts = write_many(
        lm,
        [material.ask(mail, emails) for mail in mails],
        Sampling(temperature=0, max_tokens=_LONGEST_DRAFT),
        progress=lambda d, n: progress(f"writing with the {name}", d, n),
    )
    bleu, rouge = overlap([text for _, text in drafts], [mail.text for mail in mails])
    return {"perplexity": round(value, 4), "bleu": round(bleu, 4), "rouge_l": round(rouge, 4)}


def _held_out(store: Store, config: Config) -> tuple[list[SentMail], list[SentMail]]:
    """Return all usable mails, and the held-out ones among them."""
    mails, _ = corpus(store.mails(), newest=config.training.emails)
    return mails, list(split(mails).held_out)


def _from_mbox(file: Path, account: Account) -> tuple[list[SentMail], list[SentMail]]:
    """Return the usable mails of an mbox, twice: all of them are judged by."""
    mails, left_out = corpus(list(_own(file, account)))
    if not mails:
        raise UnfitError(
            f"{file} holds no usable mail of {account.name}'s addresses",
            f"left out: {dict(left_out)}; check the account's aliases in panza.yaml"
            if left_out
            else "check the file and the account's aliases in panza.yaml",
        )
    return mails, mails


def _own(file: Path, account: Account) -> Iterator[Mail]:
    with MboxConnector(file) as mbox:
        for message in mbox.fetch(Role.SENT):
            try:
                mail = parse(message.raw, received=message.received)
            except MessageError:
                continue
            if not reason_to_leave_out(mail, account.addresses):
                yield mail
