"""From an account of the configuration to the connectors that reach its mail."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors.base import REQUESTS_FOLDER, Connector, Role
from daemon.errors import UsageError
from daemon.secret import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from connectors.smtp import SmtpConnector
    from daemon.config import Account, Config, Imap

# Each connector is imported where it is made: `panza status` makes none, and starts sooner.


@dataclass(frozen=True, slots=True)
class Source:
    """A place of sent mail.

    Attributes:
        name: Names it in the store for as long as it is the same place.
        connector: Reaches it.
    """

    name: str
    connector: Connector


def chosen(config: Config, name: str | None) -> Account:
    """Return the account of this name; without a name, the only one there is.

    Raises:
        UsageError: No such account, or several and none named.
    """
    names = ", ".join(account.name for account in config.accounts)
    if name is None:
        if len(config.accounts) > 1:
            raise UsageError(f"there are several accounts; name one with --account: {names}")
        return config.accounts[0]
    for account in config.accounts:
        if account.name == name:
            return account
    raise UsageError(f"there is no account {name!r} in the configuration, but: {names}")


def open_mailbox(account: Account, folder: Path) -> Source | None:
    """Return the account's server or Maildir, None where it has only archives.

    It connects when it is first used; passwords are fetched then.

    Args:
        account: The account.
        folder: Its data folder, where a Maildir's UIDs are kept.
    """
    if account.imap:
        return _server(account, account.imap)
    if account.maildir:
        from connectors.maildir import MaildirConnector

        connector = MaildirConnector(
            account.maildir,
            folders={
                Role.SENT: account.folders.sent or "Sent",
                Role.DRAFTS: account.folders.drafts or "Drafts",
                Role.REQUESTS: account.folders.requests or REQUESTS_FOLDER,
            },
            state=_uids(folder),
        )
        return Source(f"maildir:{account.maildir}", connector)
    return None


def open_archives(account: Account, folder: Path) -> list[Source]:
    """Return the account's archives, read-only."""
    return [Source(f"archive:{path}", _archive(path, folder)) for path in account.archives]


def open_sources(account: Account, folder: Path) -> list[Source]:
    """Return all sources of an account's sent mail, the mailbox first."""
    mailbox = open_mailbox(account, folder)
    return [*([mailbox] if mailbox else []), *open_archives(account, folder)]


@contextmanager
def opened(account: Account, folder: Path) -> Iterator[list[Source]]:
    """Open all sources of an account's sent mail, the mailbox first, and close them at the end."""
    with ExitStack() as stack:
        sources = open_sources(account, folder)
        for source in sources:
            stack.enter_context(source.connector)
        yield sources


def _server(account: Account, imap: Imap) -> Source:
    from connectors.imap import ImapConnector, ImapSettings

    user = imap.user or account.address
    folders = account.folders
    settings = ImapSettings(
        host=imap.host,
        user=user,
        password=lambda: resolve(imap.secret, user),
        oauth=imap.oauth is not None,
        port=imap.port,
        security=imap.security,
        folders={
            Role.SENT: folders.sent,
            Role.DRAFTS: folders.drafts,
            Role.REQUESTS: folders.requests,
        },
    )
    # Another server, login or folder is another place, whatever its UIDVALIDITY happens to be.
    name = f"imap:{user}@{imap.host}:{imap.port}/{folders.sent or ''}"
    return Source(name, ImapConnector(settings))


def open_smtp(account: Account) -> SmtpConnector | None:
    """Return what mails to the account's owner and to nobody else, None where it has no server.

    It connects at each mail; the password is fetched then.
    """
    smtp = account.smtp
    if smtp is None:
        return None
    from connectors.smtp import SmtpConnector, SmtpSettings

    user = smtp.user or account.address
    settings = SmtpSettings(
        host=smtp.host,
        user=user,
        secret=lambda: resolve(smtp.secret, user),
        port=smtp.port,
        security=smtp.security,
        oauth=smtp.oauth is not None,
    )
    return SmtpConnector(settings, (account.address, *account.aliases))


def _archive(path: Path, folder: Path) -> Connector:
    if path.is_dir():
        from connectors.maildir import MaildirConnector

        return MaildirConnector(path, folders={Role.SENT: ""}, state=_uids(folder), read_only=True)
    from connectors.mbox import MboxConnector

    return MboxConnector(path)


def _uids(folder: Path) -> Path:
    return folder / "uids"
