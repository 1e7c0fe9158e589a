"""The commands that need the language model: demo, train, write, evaluate."""

from __future__ import annotations

import json
import re
import sys
import threading
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from email.utils import formataddr
from typing import TYPE_CHECKING, Any

from daemon import recipients, score_table
from daemon.brief import Brief
from daemon.cli import Outcome
from daemon.commands import account_of
from daemon.compose import reply_subject
from daemon.errors import (
    FAILED,
    DaemonError,
    EmptyInstructionError,
    UnknownMailError,
    UsageError,
    advice,
)
from daemon.guards import INVISIBLE
from daemon.intake import MAX_THREAD
from daemon.originals import newest_first
from daemon.progress import shown
from daemon.report_mail import Reports
from daemon.runs import Runs
from daemon.store import Store
from trainer.errors import TrainerError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping
    from pathlib import Path

    from connectors.mail import Address
    from daemon.brief import Draft
    from daemon.config import Account, Config
    from daemon.writer import Writer

_SURROGATE = re.compile(r"[\ud800-\udfff]")  # half a character, or a byte that is none
_NAME_THEM = "Name the recipients with --to."


def demo(options: Namespace) -> Outcome:
    """Do the whole main job on a sample mailbox."""
    from daemon.demo import run

    with ExitStack() as stack:
        with shown() as progress:
            shown_now = run.demonstrated(options.dir, progress=progress)
            result = stack.enter_context(shown_now)
        if not options.serve:
            hint = "With --serve the mailbox stays open for a mail client."
            return Outcome(result.data, result.text, notes=[hint])
        if not options.json:
            _stream(f"{result.text}\n")
        sys.stderr.write(f"{result.access}\n")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    return Outcome(result.data if options.json else None)


def train(options: Namespace) -> Outcome:
    """Train an adapter, judge it, and put it in use if it has proved itself."""
    config, account, folder = account_of(options)
    with Store(folder) as store, Runs(store.database, store.clock).recorded("train") as outcome:
        from daemon import training

        Reports(store, config.requests.report).begin()
        given = {name: getattr(options, name) for name in ("method", "emails", "epochs")}
        config = training.overridden(config, given)
        with shown() as progress:
            trained = training.train(
                config,
                account,
                store,
                progress=progress,
                processes=options.processes,
                state=lambda planned: _say(training.stated(planned)),
            )
        store.note_trained()
        outcome.update(asdict(trained))
    learned = f"learned from {trained.examples} mails, judged by {trained.held_out}"
    lines = [
        f"{trained.adapter} {trained.verdict}",
        learned + _in_languages(trained.languages),
        f"took {trained.seconds:.0f} s and {trained.peak_memory_bytes // 2**20} MiB of memory",
        *score_table.lines(trained.scores, trained.intervals),
        *(f"  left out: {count} {reason}" for reason, count in trained.left_out.items()),
        _report_line(training.adapters_folder(config, account).report(trained.adapter)),
    ]
    return Outcome(outcome, "\n".join(lines))


def _report_line(report: Path | None) -> str:
    return f"report: {report}" if report else "there is no report: it could not be made"


def _in_languages(counts: Mapping[str, int]) -> str:
    """Return how many mails are in which language, "" where there is only one."""
    known = {name: count for name, count in counts.items() if name}
    if len(known) < 2:  # noqa: PLR2004 - nothing to tell apart
        return ""
    return " (" + ", ".join(f"{count} {name}" for name, count in known.items()) + ")"


def evaluate(options: Namespace) -> Outcome:
    """Score an adapter on the hold-out, or on an mbox of the owner's."""
    config, account, folder = account_of(options)
    with Store(folder) as store, Runs(store.database, store.clock).recorded("evaluate") as outcome:
        from daemon import evaluating

        with shown() as progress:
            scored = evaluating.evaluate(
                config,
                account,
                store,
                adapter=options.adapter,
                mail=options.mail,
                progress=progress,
            )
        outcome.update(asdict(scored))
    heading = f"adapter {scored.adapter}, judged by {scored.mails} mails"
    table = score_table.lines(scored.scores, scored.intervals)
    return Outcome(outcome, "\n".join([heading, *table]))


def write(options: Namespace) -> Outcome:
    """Write one draft to standard output, or one for each line of a file."""
    if (options.instruction is None) == (options.batch is None):
        raise UsageError("expected an INSTRUCTION or --batch FILE.jsonl, one of the two")
    config, account, folder = account_of(options)
    with Store(folder, read_only=True) as store:
        people = recipients.People(
            one for one in store.correspondents() if one.email.casefold() not in account.addresses
        )
        if options.batch:
            lines = _lines(options.batch)
            writer = _loaded(config, account, store)
            return Outcome(None, exit_code=_write_batch(writer, lines, store, people))
        asked = _Asked(options.instruction, options.to or "", options.reply_to or "", options.seed)
        brief, notes = _brief(asked, store, people)
        stream = None if options.json else _stream
        draft = _loaded(config, account, store).write(brief, stream)
    if stream:
        stream("\n")
        return Outcome(None, notes=notes)
    return Outcome(_draft(draft, brief), notes=notes)


def model(options: Namespace) -> Outcome:
    """Answer the mail process's jobs, with no network, until there were none for long."""
    from daemon import model_server, offline

    offline.enter()
    return Outcome(None, exit_code=model_server.main(options.config, options.socket))


def _loaded(config: Config, account: Account, store: Store) -> Writer:
    with shown() as progress:
        progress("loading the model", 0, None)
        from daemon.writer import Writer

        return Writer(config, account, store)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line, or a line of a batch, asks for."""

    instruction: str
    to: str = ""
    reply_to: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        texts = (self.instruction, self.to, self.reply_to)
        if not all(isinstance(text, str) for text in texts) or not isinstance(self.seed, int):
            raise UsageError("instruction, to and reply_to are texts, seed is a whole number")
        if any(_SURROGATE.search(text) for text in texts):
            raise UsageError("instruction, to or reply_to is not text: it has broken characters")
        if not INVISIBLE.sub("", self.instruction).strip():
            raise EmptyInstructionError


def _brief(asked: _Asked, store: Store, people: recipients.People) -> tuple[Brief, list[str]]:
    """Return the writer's brief, and what the owner should know of it.

    Raises:
        UnknownMailError: The mail that is to be answered is not known.
    """
    subject, thread, before = "", "", store.clock()
    answered: tuple[Address, ...] = ()
    message_id = asked.reply_to.strip("<> ")
    if message_id:
        if answer := store.answer_to(message_id):
            subject, thread, before, answered = (
                answer.subject,
                answer.answered,
                answer.date,
                answer.to,
            )
        elif own := store.find(message_id):
            subject, thread, before, answered = own.subject, own.text, own.date, own.to
        else:
            raise UnknownMailError(message_id)
        subject = reply_subject(subject)
    if asked.to:
        to = recipients.listed(asked.to, people)
    elif answered:
        to = recipients.Recipients(answered)
    else:
        to = recipients.addressees(asked.instruction, people, _NAME_THEM)
    contradicted = recipients.contradicted(to.found, asked.instruction, people) if asked.to else ()
    brief = Brief(
        instruction=asked.instruction,
        to=to.found,
        subject=subject,
        thread=newest_first(thread)[:MAX_THREAD],
        before=before,
        in_reply_to=message_id,
        seed=asked.seed,
    )
    return brief, [*to.reasons, *contradicted]


def _write_batch(
    writer: Writer,
    lines: list[str],
    store: Store,
    people: recipients.People,
) -> int:
    """Answer each line with a line; return the exit code."""
    code = 0
    for line in lines:
        try:
            brief, notes = _brief(_asked(line), store, people)
            answer = _draft(writer.write(brief), brief) | ({"notes": notes} if notes else {})
        except (DaemonError, TrainerError) as error:
            answer, code = advice(error).fault(), FAILED
        _stream(json.dumps(answer, ensure_ascii=False) + "\n")
    return code


def _asked(line: str) -> _Asked:
    try:
        return _Asked(**json.loads(line))
    except (ValueError, TypeError):
        raise UsageError(
            "expected a JSON object with instruction and perhaps to, reply_to, seed"
        ) from None


def _lines(batch: Path) -> list[str]:
    try:
        lines = batch.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{batch} is not UTF-8 at byte {error.start + 1}") from None
    return [line for line in lines if line.strip()]


def _draft(draft: Draft, brief: Brief) -> dict[str, Any]:
    return {
        "subject": draft.subject,
        "body": draft.body,
        "to": [formataddr((one.name, one.email)) for one in brief.to],
        "adapter": draft.adapter,
        "sources": [asdict(source) for source in draft.sources],
    }


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


def _stream(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()
