"""The mail that tells the owner how a training went, into her own mailbox.

Which trainings she knows of is a note in the store, and the registry tells which there are: what is
in the one and not in the other is reported. The note moves in the transaction that enters the mail
into the outbox, from which `daemon.delivery` brings it into its folder exactly once. So it does not
matter who trained, the daemon or a command, nor where either of them was killed.

The page comes from the model process, which reads what strangers write. This process, which has the
network, hands on only a page that can load nothing (`daemon.page.harmless`): a picture in it would
tell whoever serves it that the mail was opened, and more.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from connectors.mail import Address
from daemon import compose, page, report, report_scores
from daemon.journal import Journal
from daemon.report_style import STYLE
from trainer.adapters import REPORT, Registry
from trainer.errors import AdapterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from daemon.store import Store
    from daemon.trust import Owner
    from trainer.adapters import Manifest

WEEK = timedelta(days=7)
LARGEST_PAGE = 2 << 20  # bytes

_NOTE = "reports"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the owner was told.

    Attributes:
        adapters: The trainings that she knows of, or that are older than her wish to know.
        mailed: When the last mail was entered, Unix time; 0 for never.
    """

    adapters: frozenset[str]
    mailed: int

    def json(self) -> str:
        return json.dumps({"adapters": sorted(self.adapters), "mailed": self.mailed})

    @classmethod
    def read(cls, text: str) -> _Known:
        values = json.loads(text)
        return cls(frozenset(values["adapters"]), values["mailed"])


class Reports:
    """The trainings of one account that its owner is still to be told of.

    Args:
        store: The account's store, open for writing.
        wanted: Whether she wants a mail after each training, or weekly, or none.
    """

    def __init__(self, store: Store, wanted: Literal["weekly", "each", "off"]) -> None:
        self._store = store
        self._wanted = wanted
        self._registry = Registry(store.folder / "adapters")
        self._journal = Journal(store.database, store.clock)

    def begin(self) -> None:
        """Count what was trained before she wanted reports as known; to be called before trainings.

        Where she wants none any more, those that wait are dropped.
        """
        noted = self._store.note(_NOTE)
        if self._wanted != "off" and not noted:
            self._remember(self._registry.ids(), 0)
        elif self._wanted == "off" and noted:
            with self._store.transaction():
                for parcel in self._journal.reports(waiting=True):
                    self._journal.drop_report(parcel)
                self._store.set_note(_NOTE, "")

    def enter(self, owner: Owner) -> int:
        """Enter the mails that are due into the outbox; return how many."""
        self.begin()
        if self._wanted == "off":
            return 0
        known, there = _Known.read(self._store.note(_NOTE)), self._registry.ids()
        trained = [one for one in there if one not in known.adapters]
        if not trained or (self._wanted == "weekly" and not self._is_week_over(known)):
            return 0
        manifests = [*self._manifests(trained)]
        mails = [manifests] if self._wanted == "weekly" and manifests else [[m] for m in manifests]
        with self._store.transaction():
            for one in mails:
                self._journal.put_report(self._composed(owner, one))
            self._remember(there, self._now() if mails else known.mailed)
        return len(mails)

    def _composed(self, owner: Owner, manifests: Sequence[Manifest]) -> bytes:
        newest = manifests[-1]
        html = self._page(newest)
        path = self._registry.folder / newest.id / REPORT if html else None
        return mail(owner, manifests, html=html, path=path, date=self._store.clock())

    def _page(self, manifest: Manifest) -> str:
        """Return the page of a report, "" where there is none that can be handed on."""
        try:
            file = self._registry.report(manifest.id)
            if file is None or file.stat().st_size > LARGEST_PAGE:
                return ""
            text = file.read_bytes().decode()
        except (OSError, ValueError, AdapterError):
            return ""
        if page.harmless(text, STYLE):
            return text
        _log.warning("the report of %s holds what no report of Panza's holds", manifest.id)
        return ""

    def _manifests(self, adapters: Sequence[str]) -> Iterator[Manifest]:
        for adapter in adapters:
            try:
                yield self._registry.manifest(adapter)
            except AdapterError as error:  # the status tells of it
                _log.warning("no report of %s: %s", adapter, error.reason)

    def _is_week_over(self, known: _Known) -> bool:
        # A clock that was put back makes no weeks of silence.
        return not 0 <= self._now() - known.mailed < WEEK.total_seconds()

    def _remember(self, adapters: Sequence[str], mailed: int) -> None:
        self._store.set_note(_NOTE, _Known(frozenset(adapters), mailed).json())

    def _now(self) -> int:
        return int(self._store.clock().timestamp())


def mail(
    owner: Owner, manifests: Sequence[Manifest], *, html: str, path: Path | None, date: datetime
) -> bytes:
    """Return the mail about trainings; its Message-ID comes from the newest adapter's id.

    Args:
        owner: Whom it is for and, since her own machine wrote it, from.
        manifests: What it tells of: of the last one all, of the others a line each.
        html: The report of the last one, "" for none.
        path: Where that report lies.
        date: When this is said.
    """
    newest = manifests[-1]
    lines = [_line(one) for one in reversed(manifests[:-1])]
    if html and lines:
        html = page.with_section(html, "Trained since the last report as well", lines)
    return compose.note(
        compose.Note(
            key=hashlib.sha256(f"report\n{newest.id}".encode()).hexdigest(),
            date=date,
            owner=Address(owner.name, owner.addresses[0]),
            about="",
            title=f"Panza: {report.headline(newest)}",
            text=_text(newest, lines, path),
            kind="report",
            html=html,
        )
    )


def _text(manifest: Manifest, others: Sequence[str], path: Path | None) -> str:
    told, command = report.way(manifest)
    counts = manifest.counts
    parts = [f"{report.headline(manifest)}.", report.reason(manifest), f"{told} {command}".strip()]
    if counts:
        parts.append(_learned(counts))
    parts += report_scores.lines(manifest.scores, manifest.intervals)
    if left_out := counts.get("left_out"):
        reasons = "\n".join(f"  {count} {why}" for why, count in left_out.items() if count)
        parts.append(f"Left out, and why:\n{reasons}")
    if others:
        parts.append("Trained since the last report as well:\n" + "\n".join(others))
    if path:
        parts.append(f"The whole report: {path}")
    return "\n\n".join(part for part in parts if part)


def _learned(counts: dict[str, Any]) -> str:
    learned, held_out = counts.get("examples", 0), counts.get("held_out", 0)
    return f"It learned from {learned} of your mails and was judged by {held_out} newer ones."


def _line(manifest: Manifest) -> str:
    return f"{report.day(manifest)}: {manifest.id} {manifest.verdict}"
