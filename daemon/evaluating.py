"""Scores of the models on the owner's mail: the hold-out, or any mbox of hers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors.base import MessageError, Role
from connectors.mail import parse
from connectors.mbox import MboxConnector
from daemon.columns import (
    BASE,
    CANDIDATE,
    CURRENT,
    FEW_SHOT,
    SHOTS,
    Columns,
    Examiner,
    Trial,
    figures,
    intervals,
)
from daemon.errors import UnfitError
from daemon.material import Material, corpus, own_mails
from daemon.sync import reason_to_leave_out
from daemon.training import adapters_folder
from trainer.corpus import split
from trainer.style import Habits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from connectors.mail import Mail
    from daemon.columns import Column
    from daemon.config import Account, Config
    from daemon.progress import Progress
    from daemon.store import Store
    from trainer.adapters import Registry
    from trainer.corpus import SentMail


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What an evaluation came to; the fields are those of ``panza evaluate --json``.

    Attributes:
        adapter: The adapter's id, ``base`` for none.
        mails: How many mails it was judged by.
        scores: By column; None for current where no adapter is in use or none is wanted, and for
            candidate, unless another adapter than that was asked for.
        intervals: The 95 % interval of each, low and high, by column and score.
    """

    adapter: str
    mails: int
    scores: dict[str, dict[str, float] | None]
    intervals: dict[str, dict[str, list[float]]]


def evaluate(
    config: Config,
    account: Account,
    store: Store,
    *,
    adapter: str = CURRENT,
    mail: Path | None = None,
    progress: Progress,
) -> Evaluated:
    """Score the base model, the same with five mails in its prompt, and the adapters.

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
    trial = Trial.of(mails, config.training.drafts)
    shown = {mail.key for mail in mails}
    habits = Habits.of(mail for mail in own_mails(store.mails()) if mail.key not in shown)
    examiner = Examiner(material, trial, habits, progress)
    columns: Columns = {
        name: examiner.column(name, material.examples(trial.mails, emails), emails)
        for name, emails in ((BASE, 0), (FEW_SHOT, SHOTS))
    }
    in_use = registry.in_use(base_hash=material.lm.hash).adapter
    chosen = (in_use or BASE) if adapter == CURRENT else adapter
    wanted = {CURRENT: in_use if chosen != BASE else None, CANDIDATE: chosen}
    if chosen in {BASE, in_use}:
        wanted[CANDIDATE] = None
    for name, one in wanted.items():
        columns[name] = _adapted(examiner, registry, name, one) if one else None
    return Evaluated(chosen, len(mails), figures(columns), intervals(columns))


def _adapted(examiner: Examiner, registry: Registry, name: str, adapter: str) -> Column:
    material = examiner.material
    emails = material.config.retrieval.emails
    rosa = registry.load(adapter, material.lm)
    try:
        examples = material.examples(examiner.trial.mails, emails)
        return examiner.column(name, examples, emails, rosa)
    finally:
        rosa.unload()


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
