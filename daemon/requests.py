"""From the folder "Panza requests" to drafts: each request becomes exactly one.

Every step is entered in the journal before the next one is taken, so a crash at any moment costs
nothing but time: the next call goes on from there. The journal decides, the flags on a request are
a courtesy to its owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from connectors.base import CursorInvalidError, ReadOnlyError, RefusedError, Role
from connectors.readers import read_here
from daemon import compose, delivery, notes
from daemon.brief import Brief
from daemon.config import Requests
from daemon.errors import CONFIGURATION, TRY_LATER, USAGE, DaemonError, advice
from daemon.intake import Asked
from daemon.journal import Journal, Kind, State
from daemon.post import Kind as PostKind
from daemon.post import Outcome, Post
from daemon.report_mail import Reports
from daemon.scan import Scanner
from daemon.trust import Owner
from trainer.errors import TrainerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from connectors.base import Connector, Message
    from connectors.readers import Read
    from daemon.brief import Draft
    from daemon.config import Account
    from daemon.journal import Request
    from daemon.post import Mailer, Mailing
    from daemon.store import Store

MAX_WRITES = 3
"""How often the writer is asked for one request."""

MAX_REFUSALS = 5
"""How often a server may refuse a draft, or a flag, without a lasting reason."""

MAX_REPORT_TRIES = 72
"""How often the report of a training is tried where the folder does not take it."""

REPORT_PAUSE = timedelta(hours=1)
"""How long such a report waits before it is tried again."""

_PASSING_REFUSALS = frozenset({"INUSE", "THROTTLED", "UNAVAILABLE"})  # RFC 5530

_DEFAULTS = Requests()
_UNFLAGGABLE = frozenset({"NOPERM", "READ-ONLY"})


class Writer(Protocol):
    """What writes drafts."""

    def write(self, brief: Brief) -> Draft:
        """Write one draft.

        Raises:
            DaemonError: It cannot be done; so does `TrainerError`.
        """


@dataclass(frozen=True, slots=True)
class Counts:
    """What one look at the requests folder brought.

    Attributes:
        new: Requests that were not known before.
        drafted: Requests whose draft is in Drafts, or was mailed instead, since this look.
        parked: Requests that were given up in this look, each with a reason.
        waiting: Requests that something is left to do for.
        refused: Messages in the folder that do not count.
        swept: Superfluous copies that were removed.
        mailed: Messages that were mailed to the owner.
        unmailed: Messages that are still to be mailed to her.
        trouble: Why, "" for no reason.
        retry: When mail is tried next, None if none waits.
    """

    new: int = 0
    drafted: int = 0
    parked: int = 0
    waiting: int = 0
    refused: int = 0
    swept: int = 0
    mailed: int = 0
    unmailed: int = 0
    trouble: str = ""
    retry: datetime | None = None


def process(
    account: Account,
    connector: Connector,
    store: Store,
    writer: Writer,
    clock: Callable[[], datetime],
    *,
    settings: Requests = _DEFAULTS,
    mailer: Mailer | None = None,
    proceed: Callable[[], bool] = lambda: True,
    read: Callable[[Iterable[Message]], Iterator[Read]] = read_here,
) -> Counts:
    """Look at the requests folder once, and bring every request as far as it will go.

    Safe to repeat and to interrupt anywhere. What a server refuses for one request does not hold
    up the others; a connection that breaks, or a server that asks for patience, ends the look. A
    writer that cannot work at all holds up what is to be written and nothing else.

    Args:
        account: Whose requests they are.
        connector: Her mail; after an `UnreachableError` call again, on a new connection.
        store: Her mails and the journal, open for writing.
        writer: Writes the drafts.
        clock: Tells the time, aware.
        settings: Whose word counts, and where results go.
        mailer: Mails results to the owner, where the settings want that; it never holds up drafts.
        proceed: Asked before each request; false ends the look.
        read: Reads new requests first, as `connectors.readers.Readers.read` does: what takes too
            long or too much there costs itself alone.

    Raises:
        ConnectorError: The mail cannot be reached, a folder is missing or refused, or the server
            is not available now.
        DaemonError: The writer cannot work at all now, and all the rest is done; so does
            `TrainerError`.
    """
    post = Post(store.database, clock, account.address, mailer, settings.deliver)
    desk = _Desk(account, connector, store, writer, clock, settings=settings, post=post, read=read)
    return desk.work(proceed)


class _Desk:
    def __init__(
        self,
        account: Account,
        connector: Connector,
        store: Store,
        writer: Writer,
        clock: Callable[[], datetime],
        *,
        settings: Requests,
        post: Post,
        read: Callable[[Iterable[Message]], Iterator[Read]],
    ) -> None:
        self.owner = Owner(
            account.full_name,
            (account.address, *account.aliases),
            trust=settings.trust,
            folder=account.folders.requests,
        )
        self.connector = connector
        self.store = store
        self.writer = writer
        self.clock = clock
        self.post = post
        self.journal = Journal(store.database, clock)
        self.scanner = Scanner(self.owner, connector, store, clock, read=read)
        self.reports = Reports(store, settings.report)
        self.halted: DaemonError | TrainerError | None = None
        self.ended = {State.DONE: 0, State.PARKED: 0}
        self.mailed = 0

    def work(self, proceed: Callable[[], bool]) -> Counts:
        self.connector.ensure(Role.REQUESTS)
        self.connector.ensure(Role.DRAFTS)
        self.post.tidy()
        self._resume()
        swept = delivery.sweep(self.connector, self.journal)
        new = self.scanner.scan()
        for key in self.journal.unsettled():
            if not proceed():
                break
            self._drive(key)
        self._report_trainings()
        self._mail(proceed)
        if self.halted:
            raise self.halted
        return Counts(
            new=new,
            drafted=self.ended[State.DONE],
            parked=self.ended[State.PARKED],
            waiting=len(self.journal.unsettled()),
            refused=sum(self.scanner.sightings.refusals().values()),
            swept=swept,
            mailed=self.mailed,
            unmailed=self.post.waiting(),
            trouble=self.post.trouble,
            retry=self.post.retry(),
        )

    def _resume(self) -> None:
        """Settle what a broken connection left open, before anything else changes the folders."""
        for parcel in delivery.resume(self.connector, self.journal):
            request = self.journal.find(parcel.key)
            if request is not None:
                note = notes.lost_draft(
                    self.owner, request.key, request.message_id, notes.DOUBT, self.clock()
                )
                with self.store.transaction():
                    self.journal.not_appended(parcel)
                    self.journal.park(request.key, notes.DOUBT, note)

    def _drive(self, key: str) -> None:
        """Take one step after the other, until nothing is left to do or one has to wait."""
        steps: dict[State, Callable[[Request], None]] = {
            State.NEW: self._write,
            State.GENERATED: self._append,
            State.APPENDED: self._mark,
            State.MARKED: self._close,
            State.PARKED: self._report,
        }
        current = self.journal.find(key)
        before = None
        while current and not current.settled and current.state is not before:
            before = current.state
            steps[before](current)
            current = self.journal.find(key)
        if current and current.settled:
            self.ended[current.state] += 1

    def _write(self, request: Request) -> None:
        if self.halted:
            return
        # Counted first: a request that kills the process is not tried for ever.
        attempts = self.journal.count_attempt(request.key)
        if attempts > MAX_WRITES:
            self._park(request, notes.STOPPED)
            return
        asked = Asked.from_json(request.asked)
        try:
            draft = self.writer.write(_brief(request.key, asked, attempts))
        except (DaemonError, TrainerError) as error:
            told = advice(error)
            if told.exit_code in {TRY_LATER, CONFIGURATION}:
                self.journal.discount_attempt(request.key)
                self.halted = error  # all that needs no writer goes on
                return
            reason = notes.sentences(told.message, told.next_step)
            if told.exit_code == USAGE:  # the request's own fault, the same at each attempt
                self._park(request, reason)
            else:
                self._failed(request, attempts, reason)
            return
        if draft.body.strip():
            self._store(request, asked, draft)
        else:
            self._failed(request, attempts, notes.NOTHING)

    def _failed(self, request: Request, attempts: int, reason: str) -> None:
        if attempts < MAX_WRITES:
            self.journal.postpone(request.key, reason)
        else:
            self._park(request, reason)

    def _store(self, request: Request, asked: Asked, draft: Draft) -> None:
        letter = compose.Letter(
            key=request.key,
            date=self.clock(),
            sender=asked.sender,
            to=asked.to,
            cc=asked.cc,
            subject=asked.subject or draft.subject,
            body=draft.body,
            in_reply_to=asked.in_reply_to,
            references=asked.references,
            quoted=asked.quoted,
            attribution=asked.attribution,
            place=asked.place,
            adapter=draft.adapter,
            sources=tuple(one.message_id for one in draft.sources),
        )
        reason, note, about = " ".join(asked.reasons), b"", request.message_id
        if reason and not self.post.instead:
            note = notes.unfinished(self.owner, request.key, about, reason, self.clock())
        with self.store.transaction():
            self.journal.generated(request.key, compose.draft(letter), reason, note)
            if self.post.active:
                reply = notes.reply(self.owner, letter, about, reason)
                self.post.put(request.key, PostKind.REPLY, reply)

    def _append(self, request: Request) -> None:
        if self.post.holds(request.key):
            return
        for parcel in self.journal.parcels(request.key, Kind.DRAFT):
            refusal = delivery.deliver(self.connector, self.journal, parcel)
            if refusal is None:
                continue
            if refusal.code in notes.LASTING_REFUSALS:
                self._park(request, notes.LASTING_REFUSALS[refusal.code])
            elif self._insists(request, refusal):
                told = advice(refusal)
                self._park(request, notes.sentences(told.message, told.next_step))

    def _mark(self, request: Request) -> None:
        if self._flag(request, "\\Answered"):
            self.journal.marked(request.key)

    def _close(self, request: Request) -> None:
        self._deliver_notes(request)
        self.journal.done(request.key)

    def _report(self, request: Request) -> None:
        for parcel in self.journal.parcels(request.key, Kind.NOTE):
            if parcel.state is not State.APPENDED:
                self.post.put(request.key, PostKind.NOTICE, compose.notice(parcel.raw))
        self._deliver_notes(request)
        if self._flag(request, "\\Flagged"):
            self.journal.settled(request.key)

    def _flag(self, request: Request, flag: str) -> bool:
        """Put a flag on a request; return False where that is to be tried in the next look."""
        place = request.place
        if place.uidvalidity != self.scanner.uidvalidity:
            return True  # it was no longer there when the folder was read anew
        try:
            self.connector.add_flags(
                Role.REQUESTS, place.uid, [flag], uidvalidity=place.uidvalidity
            )
        except CursorInvalidError:  # since this look began, so the next one finds it
            return False
        except ReadOnlyError:
            return True
        except RefusedError as refusal:
            return refusal.code in _UNFLAGGABLE or self._insists(request, refusal)
        return True

    def _deliver_notes(self, request: Request) -> None:
        for parcel in self.journal.parcels(request.key, Kind.NOTE):
            if parcel.state is not State.APPENDED:
                refusal = delivery.deliver(self.connector, self.journal, parcel)
                # A full mailbox takes no note either; the status tells the reason.
                if refusal and refusal.code in _PASSING_REFUSALS:
                    raise refusal

    def _report_trainings(self) -> None:
        """Put the reports that are due beside the notes."""
        self.reports.enter(self.owner)
        for parcel in self.journal.reports():
            refusal = delivery.deliver(self.connector, self.journal, parcel)
            if refusal is None or parcel.attempts + 1 >= MAX_REPORT_TRIES:
                self.journal.drop_report(parcel)  # it lies in the adapter's folder as well
            else:
                self.journal.delay(parcel, REPORT_PAUSE)

    def _insists(self, request: Request, refusal: RefusedError) -> bool:
        """Tell whether a server has refused a step so often that it will not change its mind.

        Raises:
            RefusedError: It asks for patience; that is no fault of this request.
        """
        if refusal.code in _PASSING_REFUSALS:
            self.journal.postpone(request.key, str(refusal))
            raise refusal
        if self.journal.count_attempt(request.key) >= MAX_REFUSALS:
            return True
        self.journal.postpone(request.key, str(refusal))
        return False

    def _mail(self, proceed: Callable[[], bool]) -> None:
        """Mail what is due, behind all drafts; what does not go ends it for this look."""
        for mailing in self.post.due():
            request = self.journal.find(mailing.key)
            if request is None or not proceed():
                return
            if mailing.kind is PostKind.NOTICE and request.state is not State.PARKED:
                self.post.drop(mailing)  # it was taken up again
                continue
            outcome = self.post.send(mailing)
            if outcome is Outcome.SENT:
                self._sent(mailing, request)
            elif outcome is Outcome.GIVEN_UP:
                self._given_up(mailing, request)
            else:
                self.journal.postpone(request.key, self.post.trouble)
            if not request.settled:
                self._drive(request.key)
            if outcome is Outcome.WAITS:
                return

    def _sent(self, mailing: Mailing, request: Request) -> None:
        self.mailed += 1
        with self.store.transaction():
            self.post.sent(mailing)
            self.journal.postpone(request.key, "")
            if mailing.kind is PostKind.REPLY and self._mailed_instead(request):
                self.journal.mailed(request.key)

    def _given_up(self, mailing: Mailing, request: Request) -> None:
        """Leave a message unsent; a draft that it was to replace goes into Drafts after all."""
        with self.store.transaction():
            self.post.drop(mailing)
            if mailing.kind is PostKind.REPLY:
                reason, note = f"It could not be mailed to you: {self.post.trouble}.", b""
                if self._mailed_instead(request):
                    told = f"{reason} {request.reason}".strip()
                    note = notes.not_mailed(
                        self.owner, request.key, request.message_id, told, self.clock()
                    )
                self.journal.explain(request.key, reason, note)

    def _mailed_instead(self, request: Request) -> bool:
        return self.post.instead and request.state is State.GENERATED

    def _park(self, request: Request, reason: str) -> None:
        note = notes.no_draft(self.owner, request.key, request.message_id, reason, self.clock())
        self.journal.park(request.key, reason, note)


def _brief(key: str, asked: Asked, attempts: int) -> Brief:
    return Brief(
        instruction=asked.instruction,
        to=asked.to,
        subject=asked.subject,
        thread=asked.thread,
        before=asked.written,
        in_reply_to=asked.in_reply_to,
        seed=int(key[:8], 16) + attempts - 1,
    )
