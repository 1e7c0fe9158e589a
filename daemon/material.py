"""From stored mails to what the trainer takes: instructions, prompts, tokens."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, get_args

from connectors import language
from connectors.signatures import learn
from daemon import kernel
from daemon import store as stores
from daemon.fitting import MAX_TOKENS
from daemon.originals import newest_first
from daemon.register import register
from daemon.retrieval import Retrieval
from trainer import base_model, embedding, generate, refusal
from trainer.corpus import SentMail, first_names, is_marked, letter, unmarked, usable
from trainer.examples import Example, example
from trainer.playback import Instruction, Playback, Source
from trainer.prompt import Ask

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from connectors.mail import Mail
    from daemon.config import Account, Config
    from daemon.progress import Progress
    from daemon.store import Store, StoredMail
    from trainer.base_model import LanguageModel
    from trainer.playback import Complete

    Save = Callable[[str, Mapping[str, stores.Instruction]], None]

SHARE_WITH_RETRIEVAL = 0.55  # of the training prompts show earlier mails, two of them or more
SHARE_AS_NEW = 0.5  # of answers to mails that are not known
SHARE_WITHOUT_RECIPIENT = 0.15  # of those of new mails: who gets a draft is not always known


def own_mails(stored: Sequence[StoredMail | Mail]) -> list[SentMail]:
    """Return the mails as the trainer knows them, the owner's own signature block taken off."""
    signatures = learn([mail.text for mail in stored])
    return [
        SentMail(
            key=mail.key if isinstance(mail, stores.StoredMail) else mail.content_hash,
            date=mail.date,
            to=tuple(one.name or one.email.partition("@")[0] for one in mail.to),
            subject=mail.subject,
            text=signatures.strip(mail.text),
            answered=mail.answered,
            copies=len(mail.cc),
        )
        for mail in stored
    ]


def corpus(
    stored: Sequence[StoredMail | Mail], *, newest: int = 1000
) -> tuple[list[SentMail], Counter[str]]:
    """Return the mails that a training can use, each with its language, and the others counted.

    Args:
        stored: All mails of the owner.
        newest: How many of the usable ones are training targets.
    """
    mails, left_out = usable(own_mails(stored), newest=newest)
    # Told here rather than when mail is read: only a training asks, and the tables are large.
    return [replace(mail, language=language.identify(mail.text)) for mail in mails], left_out


def load_base(config: Config) -> LanguageModel:
    """Return the configured base model.

    Raises:
        trainer.errors.ModelMissingError: It is not on this machine.
        trainer.errors.PrecisionError: It cannot be had in 4 bits here.
    """
    chosen = config.model
    lm = base_model.load(
        chosen.name, cache=config.cache, precision=chosen.precision, device=chosen.device
    )
    kernel.give_back_memory()  # quantising leaves several times the model's size
    return lm


def base_hash(config: Config) -> str:
    """Return the hash of the configured base model, without loading it.

    Raises:
        trainer.errors.ModelMissingError: It is not on this machine.
    """
    folder = base_model.resolve(config.model.name, cache=config.cache)
    return base_model.weights_hash(folder, cache=config.cache)


def open_index(config: Config, store: Store) -> Retrieval:
    """Return the index of the owner's mails.

    Raises:
        trainer.errors.ModelMissingError: The embedding model is not on this machine.
    """
    return Retrieval(store, embedding.load(), threshold=config.retrieval.threshold)


def play_back(
    store: Store, lm: LanguageModel, mails: Sequence[SentMail], progress: Progress
) -> dict[str, Instruction]:
    """Return the instruction that could have produced each mail, by the mail's key.

    Each is made once and kept in the store, unless that is open for reading only.
    """

    def save(version: str, made: Mapping[str, stores.Instruction]) -> None:
        if not store.read_only:
            store.save_instructions(version, made)

    return _played(_Kept(store, save), partial(generate.complete, lm), lm.hash, mails, progress)


def play_back_missing(
    config: Config, store: Store, emails: int, save: Save, progress: Progress
) -> int:
    """Make the instructions that a training would have to make, for somebody else to keep.

    The model is loaded when the first of them is asked for.

    Args:
        config: The whole configuration.
        store: The mails, and the instructions that are known.
        emails: The newest so many usable mails.
        save: Keeps a batch, by the version of playback and the keys of the mails.
        progress: Told how far it is.

    Returns:
        How many mails there are in all.

    Raises:
        trainer.errors.ModelMissingError: The model is not on this machine.
    """
    mails, _ = corpus(store.mails(), newest=emails)
    base = cache(partial(load_base, config))
    _played(
        _Kept(store, save),
        lambda conversations, most: generate.complete(base(), conversations, most),
        base_hash(config),
        mails,
        progress,
    )
    return len(mails)


def _played(
    kept: _Kept, complete: Complete, model: str, mails: Sequence[SentMail], progress: Progress
) -> dict[str, Instruction]:
    encoder = cache(embedding.load)  # where a model can do nothing there is nothing to compare
    played = Playback(kept, complete, model, lambda texts: encoder().embed(texts))
    return played.instructions(
        mails, lambda done, total: progress("writing instructions", done, total)
    )


class _Kept:
    """The store as playback's cache; what is new goes where the caller says."""

    def __init__(self, store: Store, save: Save) -> None:
        self._store, self._save = store, save

    def get(self, key: str, version: str) -> Instruction | None:
        found = self._store.instruction(key, version)
        return Instruction(found.text, _source(found.source)) if found else None

    def put(self, version: str, made: Mapping[str, Instruction]) -> None:
        kept = {key: stores.Instruction(one.text, one.source) for key, one in made.items()}
        self._save(version, kept)


def _source(name: str) -> Source:
    return next((one for one in get_args(Source) if one == name), "extractive")


def _subject(ask: Ask, mail: SentMail) -> str:
    """Return the subject to learn: the one that was given, else that of a new mail."""
    return ask.subject or unmarked(mail.subject)


@dataclass(frozen=True, slots=True)
class Material:
    """Turns mails into examples for one model.

    Attributes:
        config: The whole configuration.
        account: Whose mails they are.
        lm: The model whose tokens are wanted.
        retrieval: The index of the owner's mails.
        store: The mails.
        instructions: What each mail was asked by, by its key.
        hidden: Keys of the mails that no prompt may show: the held-out ones.
    """

    config: Config
    account: Account
    lm: LanguageModel
    retrieval: Retrieval
    store: Store
    instructions: Mapping[str, Instruction]
    hidden: Collection[str]

    @classmethod
    def prepared(
        cls,
        config: Config,
        account: Account,
        store: Store,
        mails: Sequence[SentMail],
        *,
        held_out: Iterable[SentMail],
        progress: Progress,
    ) -> Material:
        """Load the models, bring the index up to date, and find each mail's instruction.

        Over a store that is open for reading only the index is taken as it is.

        Raises:
            trainer.errors.ModelMissingError: A model is not on this machine.
            daemon.errors.StoreError: The store cannot be read or written.
        """
        retrieval = open_index(config, store)
        if not store.read_only:
            retrieval.index(progress)
        progress("loading the base model", 0, None)
        lm = load_base(config)
        played = play_back(store, lm, mails, progress)
        hidden = frozenset(mail.key for mail in held_out)
        return cls(config, account, lm, retrieval, store, played, hidden)

    def ask(self, mail: SentMail, emails: int) -> Ask:
        """Return what a mail is written from, with at most so many earlier mails."""
        return self._ask(mail, emails, self.instructions[mail.key].text)

    def order(self, instruction: str, before: datetime, emails: int) -> Ask:
        """Return what a new mail to nobody in particular is written from.

        Args:
            instruction: What is wanted.
            before: No mail of this moment or later is shown.
            emails: How many earlier mails at most.
        """
        found = self.retrieval.search(instruction, emails, before=before, exclude=self.hidden)
        return Ask(
            instruction=instruction,
            register=register(self.store, (), before),
            retrieved=tuple(hit.text for hit in found),
            profile=self.config.profile,
            owner=self.account.full_name,
        )

    def _ask(self, mail: SentMail, emails: int, instruction: str) -> Ask:
        to = self.retrieval.recipients(mail.key)
        hidden = {mail.key, *self.hidden}
        found = self.retrieval.search(instruction, emails, to=to, before=mail.date, exclude=hidden)
        given = mail.subject if mail.answered or is_marked(mail.subject) else ""
        return Ask(
            instruction=instruction,
            to=first_names(mail.to),
            register=register(self.store, to, mail.date, thread=mail.answered),
            subject=given,
            thread=newest_first(mail.answered),
            retrieved=tuple(hit.text for hit in found),
            profile=self.config.profile,
            owner=self.account.full_name,
        )

    def examples(self, mails: Iterable[SentMail], emails: int) -> list[Example]:
        """Return the mails as examples, each with at most so many earlier mails in its prompt."""
        return [
            self._example(mail.key, ask, _subject(ask, mail), mail.text)
            for mail in mails
            for ask in [self.ask(mail, emails)]
        ]

    def training_examples(self, mails: Sequence[SentMail], seed: int) -> list[Example]:
        """Return the mails as a training takes them, and noise with its refusal among them.

        A share of the prompts shows earlier mails and the others show none, so that the model
        learns to use them and to do without (RAFT, Zhang et al., arXiv 2403.10131). A refusal has
        the prompt of some mail but for the instruction, and so has an order with sense that is
        none of hers, of whose answer subject and greeting are learned: the instruction is all that
        tells one from the other.
        """
        chosen = []
        for mail in mails:
            ask = self._training_ask(mail, self.instructions[mail.key].text, seed)
            chosen.append(self._example(mail.key, ask, _subject(ask, mail), mail.text))
        return [*chosen, *self._noise(mails, seed), *self._orders(mails, seed)]

    def _noise(self, mails: Sequence[SentMail], seed: int) -> Iterator[Example]:
        """Yield instructions without sense, each in the prompt of some mail, and their refusal."""
        lenders = random.Random(f"noise {seed}")
        for number, noise in enumerate(refusal.nonsense(refusal.count(len(mails)), seed)):
            ask = self._training_ask(lenders.choice(mails), noise, seed)
            subject = ask.subject or refusal.SUBJECT
            yield self._example(f"noise {number}", ask, subject, refusal.REFUSAL)

    def _orders(self, mails: Sequence[SentMail], seed: int) -> Iterator[Example]:
        """Yield orders that are none of hers, in the prompts of mails, with how the answers begin.

        They are more than those without sense: to refuse what has some is the worse fault.
        """
        greeting = [mail for mail in mails if letter(mail.text).greeting]
        if not greeting:
            return
        lenders = random.Random(f"orders {seed}")
        wanted = refusal.count(len(mails)) * 3 // 2
        for number, (order, subject) in enumerate(refusal.sense(wanted, seed)):
            mail = lenders.choice(greeting)
            ask = self._training_ask(mail, order, seed)
            opening = mail.text.strip().splitlines()[0]
            if not ask.to:  # whose name it is cannot be known
                opening = opening.split()[0]
            whole = self._example(f"order {number}", ask, ask.subject or subject, opening)
            yield replace(whole, tokens=whole.tokens[:-1])  # it has no end yet

    def _training_ask(self, mail: SentMail, instruction: str, seed: int) -> Ask:
        dice = random.Random(f"{seed}{mail.key}{instruction}")
        most = self.config.retrieval.emails
        shown = dice.randint(min(2, most), most) if dice.random() < SHARE_WITH_RETRIEVAL else 0
        if mail.answered:
            return self._ask(mail, shown, instruction)
        if dice.random() < SHARE_WITHOUT_RECIPIENT:
            return self.order(instruction, mail.date, shown)
        ask = self._ask(mail, shown, instruction)
        # An answer to what is not known serves as a new mail as well: few mails have a subject of
        # their own to learn from.
        return replace(ask, subject="") if dice.random() < SHARE_AS_NEW else ask

    def _example(self, key: str, ask: Ask, subject: str, text: str) -> Example:
        return example(
            self.lm.tokenizer,
            key,
            ask,
            subject,
            text,
            end=int(self.lm.tokenizer.eos_token_id),
            limit=min(MAX_TOKENS, self.lm.context_length),
        )
