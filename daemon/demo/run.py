"""The demo: the whole main job, on the mailbox of an invented person."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectors.base import Cursor, Role
from connectors.imap import ImapConnector, ImapSettings
from connectors.mail import parse
from daemon import accounts, config, requests, sync, training
from daemon.demo import mailbox
from daemon.demo.server import DemoServer
from daemon.models import BASE
from daemon.store import Store, now
from daemon.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectors.base import Connector
    from connectors.mail import Mail
    from daemon.brief import Brief, Draft
    from daemon.config import Config
    from daemon.demo.mailbox import Persona
    from daemon.progress import Progress
    from daemon.training import Trained

_FOLDERS = ("Sent", "Drafts", "Panza requests")
_MOST_SHOWN = 600  # characters


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What the demo came to.

    Attributes:
        data: What ``panza demo --json`` prints.
        text: The same for people.
        access: How to open the mailbox with a mail client, for people.
    """

    data: dict[str, Any]
    text: str
    access: str


@contextmanager
def demonstrated(
    folder: Path | None, *, instruction: str = "", progress: Progress
) -> Iterator[Demonstration]:
    """Sync, train, and answer a request, all over IMAP; the mailbox is open within the block.

    Args:
        folder: Where everything is kept; called again with the same, the demo goes on where it
            was. Without it a temporary folder serves, which is removed at the end.
        instruction: What shall be written; by default the persona's first.
        progress: Told how far it is.

    Raises:
        DaemonError: And `ConnectorError` and `TrainerError`, as from the commands it calls.
        OSError: The folder cannot be written.
    """
    started = time.monotonic()
    persona = mailbox.load()
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="panza-demo-")))
        folder = folder.absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        server = DemoServer(
            persona.address, _password(folder), folders=_FOLDERS, keep=folder / "mail"
        )
        stack.enter_context(server)
        _fill(server, persona)
        settings = _configured(folder, server, persona)
        data, text = _demonstrate(settings, instruction or persona.instructions[0], progress)
        data["seconds"] = round(time.monotonic() - started, 1)
        yield Demonstration(data, text, _how_to_open(folder, server))


def _password(folder: Path) -> str:
    """Return the mailbox's password, made at the first call."""
    file = folder / "password"
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(secrets.token_urlsafe(9))
    return file.read_text(encoding="ascii")


def _fill(server: DemoServer, persona: Persona) -> None:
    """Put the persona's mail into the server, unless it is there already."""
    messages = persona.messages()
    for folder, name in (("inbox", "INBOX"), ("sent", "Sent")):
        mine = [one for one in messages if one.folder == folder]
        # Role.SENT is the one place that takes any mail; here it is told which folder that is.
        with _connector(server, {Role.SENT: name}) as place:
            for one in mine[place.state(Role.SENT).messages :]:
                place.append(Role.SENT, one.raw, flags=["\\Seen"], date=one.date)


def _connector(server: DemoServer, folders: dict[Role, str | None]) -> ImapConnector:
    settings = ImapSettings(
        host=server.host,
        port=server.port,
        security="none",
        user=server.user,
        password=server.password,
        folders=folders,
    )
    return ImapConnector(settings)


def _configured(folder: Path, server: DemoServer, persona: Persona) -> Config:
    """Write the demo's panza.yaml, and read it as any other."""
    file = folder / "panza.yaml"
    content = {
        "data": str(folder / "data"),
        "accounts": [
            {
                "name": "demo",
                "address": persona.address,
                "full_name": persona.name,
                "imap": {
                    "host": server.host,
                    "port": server.port,
                    "security": "none",
                    "user": server.user,
                    "password": {"file": str(folder / "password")},
                },
            }
        ],
        "profile": persona.profile,
        # Fewer than the defaults: a newcomer waits for it, on any two cores.
        "training": {"epochs": 2, "drafts": 8},
        "retrieval": {"emails": 1},
    }
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return config.load(file)


def _demonstrate(
    settings: Config, instruction: str, progress: Progress
) -> tuple[dict[str, Any], str]:
    account = settings.accounts[0]
    home = settings.folder(account)
    with Store(home) as store:
        with accounts.opened(account, home) as sources:
            synced = sync.sync(account, sources, store, progress)
        trained = training.train(settings, account, store, progress=progress)
        gc.collect()  # models hold cycles: each goes before the next one comes
        progress("writing the draft", 0, None)
        brief, draft, written = _answered(settings, store, instruction)
        gc.collect()
        progress("writing without the adapter", 0, None)
        untrained = Writer(settings, account, store, adapter=BASE).write(brief)
        used = [
            mail.subject for s in draft.sources if (mail := store.find(s.message_id)) is not None
        ]
    data = {
        "draft": {
            "subject": draft.subject,
            "body": draft.body,
            "to": [formataddr((one.name, one.email)) for one in written.to],
            "adapter": draft.adapter,
            "sources": [asdict(source) for source in draft.sources],
        },
        "untrained": {"subject": untrained.subject, "body": untrained.body},
        "instruction": instruction,
        "sync": asdict(synced),
        "training": asdict(trained),
    }
    return data, _text(instruction, untrained, written, used, trained)


def _answered(settings: Config, store: Store, instruction: str) -> tuple[Brief, Draft, Mail]:
    """File a request, have it answered, and return what lies in Drafts then."""
    account = settings.accounts[0]
    with accounts.opened(account, store.folder) as sources:
        connector = sources[0].connector
        _request(settings, connector, instruction)
        desk = _Desk(Writer(settings, account, store))
        requests.process(account, connector, store, desk, now)
        written = _newest_draft(connector)
    if desk.asked is None or desk.written is None:
        raise AssertionError("the owner's own request was not taken for one")
    return desk.asked, desk.written, written


class _Desk:
    """Passes requests on to the writer and remembers the last one."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.asked: Brief | None = None
        self.written: Draft | None = None

    def write(self, brief: Brief) -> Draft:
        self.asked, self.written = brief, self._writer.write(brief)
        return self.written


def _request(settings: Config, connector: Connector, instruction: str) -> None:
    """File the owner's instruction as she would: as a mail to herself."""
    account = settings.accounts[0]
    message = EmailMessage(policy=SMTP)
    message["From"] = message["To"] = formataddr((account.full_name, account.address))
    message["Date"] = format_datetime(now())
    # A request's key seeds its draft: the same request, made as often, gives the same draft.
    connector.ensure(Role.REQUESTS)
    number = connector.state(Role.REQUESTS).messages
    name = sha256(f"{number} {instruction}".encode()).hexdigest()[:24]
    message["Message-ID"] = f"<{name}@{account.address.partition('@')[2]}>"
    message.set_content(instruction + "\n")
    connector.append(Role.REQUESTS, message.as_bytes(), flags=["\\Seen"])


def _newest_draft(connector: Connector) -> Mail:
    uids = connector.message_ids(Role.DRAFTS)
    state = connector.state(Role.DRAFTS)
    behind = Cursor(state.uidvalidity, max(uids) - 1)
    return next(parse(one.raw) for one in connector.fetch(Role.DRAFTS, behind))


def _text(
    instruction: str, untrained: Draft, written: Mail, used: list[str], trained: Trained
) -> str:
    """Return what the demo shows at its end."""
    to = ", ".join(formataddr((one.name, one.email)) for one in written.to) or "(to be filled in)"
    table = Table(box=box.ROUNDED, expand=True, title=f"“{instruction}”")
    table.add_column("the base model, untrained", ratio=1, overflow="fold")
    table.add_column("with the adapter: the draft in Drafts", ratio=1, overflow="fold")
    table.add_row(
        Text(f"Subject: {untrained.subject}\n\n{_shortened(untrained.body)}"),
        Text(f"To: {to}\nSubject: {written.subject}\n\n{written.text}"),
    )
    scores = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for column, score in trained.scores.items():
        if score is not None:
            scores.add_row(_COLUMNS[column], f"{score['perplexity']:.2f}")
    shown = StringIO()
    console = Console(file=shown, width=min(100, shutil.get_terminal_size().columns))
    console.print(table)
    console.print("Mails of hers that the draft drew on:")
    for subject in used or ["none"]:
        console.print(Text(f"  {subject}"))
    console.print(f"\nPerplexity of her own words in {trained.held_out} newer mails, unseen:")
    console.print(scores)
    console.print(
        f"\nLearned from {trained.examples} mails in {trained.seconds:.0f} s, with "
        f"{trained.peak_memory_bytes / 2**30:.1f} GiB of memory. Adapter {trained.verdict}."
    )
    return shown.getvalue()


def _shortened(text: str) -> str:
    """Cut a draft that goes on and on, as those of an untrained model may."""
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN].rstrip()} […]"


_COLUMNS = {
    "base": "base model",
    "few_shot": "base model, five of her mails in the prompt",
    "current": "adapter in use before",
    "candidate": "adapter",
}


def _how_to_open(folder: Path, server: DemoServer) -> str:
    return (
        f"The mailbox is open: IMAP on {server.host}, port {server.port}, no encryption,\n"
        f"user {server.user}, password {server.password}\n"
        f"For example: neomutt -f imap://{server.host}:{server.port}/Drafts\n"
        f'Another draft:  panza --config {folder / "panza.yaml"} write "…"\n'
        "Ctrl-C closes it."
    )
