"""The commands that need no language model: check, sync, search, adapters, run, status."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from daemon import config as configuration
from daemon.accounts import chosen
from daemon.cli import Outcome
from daemon.errors import UsageError
from daemon.store import Store
from trainer.errors import AdapterError

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from daemon.config import Account, Config
    from daemon.progress import Progress
    from daemon.runs import Run
    from trainer.adapters import Manifest, Registry

_SHOWN = 10  # requests that wait, in the status
_TIME = "%Y-%m-%d %H:%M:%S UTC"


def account_of(options: Namespace) -> tuple[Config, Account, Path]:
    """Return the configuration, the account that is meant, and the folder of its data.

    Raises:
        daemon.errors.ConfigError: The configuration has faults.
        daemon.errors.UsageError: It is not clear which account is meant.
    """
    config = configuration.load(options.config)
    account = chosen(config, options.account)
    return config, account, config.folder(account)


def check(options: Namespace) -> Outcome:
    """Look at everything that a fault could come from."""
    from daemon import check as checks

    found = checks.run(options.config, options.account)
    lines = [f"{'ok   ' if one.ok else 'FAULT'}  {one.name}: {one.detail}" for one in found]
    faults = [one for one in found if not one.ok]
    return Outcome(
        {
            "ok": not faults,
            "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in found],
        },
        "\n".join(line.replace("\n", "\n         ") for line in lines),
        exit_code=faults[0].exit_code if faults else 0,
    )


def sync(options: Namespace) -> Outcome:
    """Read new sent mail, and embed it."""
    from daemon import accounts
    from daemon import sync as syncing
    from daemon.progress import shown
    from daemon.runs import Runs

    started = time.monotonic()
    _, account, folder = account_of(options)
    with Store(folder) as store, Runs(store.database, store.clock).recorded("sync") as outcome:
        with shown() as progress:
            with accounts.opened(account, folder) as sources:
                result = syncing.sync(account, sources, store, progress)
            _embed(store, progress)
        seconds = round(time.monotonic() - started, 3)
        outcome.update(asdict(result), seconds=seconds)
    lines = [f"{result.new} new mails, {result.total} in all, in {seconds:.1f} s"]
    lines += [f"  left out: {count} {reason}" for reason, count in result.left_out.items()]
    notes = list(result.notes)
    if result.left_out.get(syncing.NOT_YOURS, 0) > result.total:
        notes.append(
            "Most messages come from other addresses: is every address of yours in `aliases`?"
        )
    return Outcome(outcome | {"notes": notes}, "\n".join(lines), notes=notes)


def search(options: Namespace) -> Outcome:
    """Show what retrieval finds."""
    from daemon.progress import shown
    from daemon.retrieval import Retrieval, missing

    config, _, folder = account_of(options)
    with Store(folder, read_only=True) as store:
        notes = []
        if behind := missing(store):
            notes.append(f"{behind} mails are not in the index yet: run `panza sync`.")
        if behind == store.total():
            return Outcome({"results": []}, "nothing found", notes=notes)
        with shown() as progress:
            progress("loading the embedding model", 0, None)
            from trainer import embedding

            embedder = embedding.load()
        retrieval = Retrieval(store, embedder, threshold=config.retrieval.threshold)
        hits = retrieval.search(options.query, options.count, secrets=True)
    results = [
        {
            "message_id": hit.message_id,
            "subject": hit.subject,
            "score": round(hit.score, 4),
            "date": hit.date.isoformat(),
        }
        for hit in hits
    ]
    lines = [
        f"{hit.score:5.2f}  {hit.date:%Y-%m-%d}  {hit.subject}  <{hit.message_id}>" for hit in hits
    ]
    return Outcome({"results": results}, "\n".join(lines) or "nothing found", notes=notes)


def adapters(options: Namespace) -> Outcome:
    """List the adapters, put one in use, or go back."""
    from trainer.adapters import Registry

    _, _, folder = account_of(options)
    registry = Registry(folder / "adapters")
    if options.action == "promote":
        registry.promote(options.adapter)
    elif options.action == "rollback":
        registry.rollback()
    current = registry.current()
    known = [_manifest(registry, adapter) for adapter in registry.ids()]
    reports = {one.id: _report(registry, one.id) for one in known}
    lines = []
    for one in known:
        lines.append(f"{'*' if one.id == current else ' '} {one.id}  {one.verdict}")
        if path := reports[one.id]:
            lines.append(f"    report: {path}")
    if not current:
        lines.append("The base model is in use, with no adapter.")
    fault = registry.in_use().fault
    return Outcome(
        {
            "current": current,
            "adapters": [{**asdict(one), "report": reports[one.id]} for one in known],
        },
        "\n".join(lines),
        notes=[fault] if fault else [],
    )


def _manifest(registry: Registry, adapter: str) -> Manifest:
    """Return what is known of an adapter; of a damaged one that it is."""
    from trainer.adapters import Manifest

    try:
        return registry.manifest(adapter)
    except AdapterError as error:
        return Manifest(adapter, "", "", "", "", verdict=f"cannot be used: {error.reason}")


def _report(registry: Registry, adapter: str) -> str | None:
    """Return where an adapter's report is, None where it has none that can be trusted."""
    try:
        found = registry.report(adapter)
    except AdapterError:
        return None
    return str(found) if found else None


def run(options: Namespace) -> Outcome:
    """Run the daemon in the foreground, until it is told to stop."""
    import asyncio

    from daemon import service

    if options.account:
        raise UsageError("the daemon serves all accounts of the configuration")
    logging.getLogger("daemon").setLevel(logging.DEBUG if options.debug else logging.INFO)
    asyncio.run(service.run(options.config))
    return Outcome(None)


def status(options: Namespace) -> Outcome:
    """Show what is known of each account without asking any server."""
    config = configuration.load(options.config)
    wanted = [chosen(config, options.account)] if options.account else config.accounts
    found = [_status(account, config.folder(account), config.model.name) for account in wanted]
    data = {
        "accounts": [account for account, _, _ in found],
        "requests": [
            {"account": account["name"], **requests} for account, requests, _ in found if requests
        ],
        "jobs": [{"account": account["name"], **job} for account, _, jobs in found for job in jobs],
    }
    return Outcome(data, _status_text(data))


def _embed(store: Store, progress: Progress) -> None:
    from daemon.retrieval import Retrieval, missing

    if missing(store):
        from trainer import embedding

        Retrieval(store, embedding.load()).index(progress)


def _status(
    account: Account, folder: Path, model: str
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    from daemon.database import holder
    from daemon.retrieval import missing
    from daemon.runs import Runs
    from daemon.troubles import Troubles

    about: dict[str, Any] = {"name": account.name, "mails": 0, "adapter": None, "notes": []}
    about |= {"process": holder(folder), "troubles": []}
    if not Store.exists(folder):
        about["notes"].append("never synced: run `panza sync`")
        return about, {}, []
    about["adapter"], fault = _adapter(folder, model)
    about["notes"] += fault
    with Store(folder, read_only=True) as store:
        about |= {
            "mails": store.total(),
            "untrained": store.untrained(),
            "not_indexed": missing(store),
            "left_out": store.left_out(),
            "folders": [
                {"source": note.source, "messages": note.messages, "checked": note.checked}
                for note in store.folder_notes()
            ],
            "troubles": [asdict(one) for one in Troubles(store.database, store.clock).all()],
        }
        about["notes"] += [
            f"{note.source} is empty now; the mails read from it before stay"
            for note in store.folder_notes()
            if not note.messages and note.cursor.uid
        ]
        runs = Runs(store.database, store.clock).latest()
        return about, _queue(store), [_job(run) for run in runs]


def _adapter(folder: Path, model: str) -> tuple[str | None, list[str]]:
    """Return the adapter that writes, and why it is not the one that was put in use, if so."""
    from trainer.adapters import Registry

    registry = Registry(folder / "adapters")
    found = registry.in_use()
    adapter, faults = found.adapter, [found.fault] if found.fault else []
    if adapter and (base := registry.manifest(adapter).base) != model:
        faults.append(f"adapter {adapter} was trained on {base}, not on {model}: train again")
        adapter = None
    return adapter, faults


def _queue(store: Store) -> dict[str, Any]:
    from daemon.journal import Journal, State
    from daemon.sightings import Sightings

    journal = Journal(store.database, store.clock)
    parked = journal.newest(state=State.PARKED)
    waiting = journal.unsettled()
    held_up = [one for key in waiting[:_SHOWN] if (one := journal.find(key)) and one.trouble]
    return {
        "states": journal.counts(),
        "waiting": len(waiting),
        "held_up": [{"since": one.created, "reason": one.trouble} for one in held_up],
        "refused": Sightings(store.database, store.clock).refusals(),
        "failures": [{"since": one.changed, "reason": one.reason} for one in parked],
    }


def _job(run: Run) -> dict[str, Any]:
    return {
        "kind": run.kind,
        "started": run.started,
        "ended": run.ended,
        "outcome": run.outcome,
    }


def _status_text(data: dict[str, Any]) -> str:
    lines = []
    for account in data["accounts"]:
        adapter = account["adapter"] or "none, the base model writes"
        lines.append(f"{account['name']}: {account['mails']} mails, adapter: {adapter}")
        at_work = account["process"]
        lines.append(f"  process {at_work} is at work" if at_work else "  no process is at work")
        lines += [f"  {note}" for note in account["notes"]]
        lines += [_trouble_text(trouble) for trouble in account["troubles"]]
        if account.get("not_indexed"):
            lines.append(f"  {account['not_indexed']} mails are not in the index yet")
        omitted = account.get("left_out", {})
        lines += [f"  left out: {count} {reason}" for reason, count in omitted.items()]
    for requests in data["requests"]:
        if states := ", ".join(f"{count} {state}" for state, count in requests["states"].items()):
            lines.append(f"{requests['account']}: requests: {states}")
        lines += [f"  refused: {count}, {why}" for why, count in requests["refused"].items()]
        lines += [f"  waits: {one['reason']}" for one in requests["held_up"]]
        lines += [
            f"  failed {one['since']:{_TIME}}: {one['reason']}" for one in requests["failures"]
        ]
    at_work = {account["name"] for account in data["accounts"] if account["process"]}
    for job in data["jobs"]:
        unended = "runs" if job["account"] in at_work else "was killed"
        ended = f"ended {job['ended']:%H:%M:%S}" if job["ended"] else unended
        error = (job["outcome"] or {}).get("error", "")
        lines.append(
            f"{job['account']}: {job['kind']} of {job['started']:{_TIME}}, {ended}"
            + (f", {error}" if error else "")
        )
    return "\n".join(lines)


def _trouble_text(trouble: dict[str, Any]) -> str:
    retry = trouble["retry"]
    tail = f"; next try at {retry:%H:%M:%S} UTC" if retry else ""
    heading = f"  {trouble['job']} fails since {trouble['since']:{_TIME}}{tail}"
    told = "\n".join(part for part in (trouble["message"], trouble["next_step"]) if part)
    return f"{heading}\n{told}".replace("\n", "\n    ")
