r"""A private Dovecot 2.3 on loopback, and the hands to break it; no root needed.

The fixture `dovecot` is one for the whole session: leave it as it was. For a test that breaks the
server `make_dovecot` makes one of its own in a tenth of a second:

    def test_a_full_mailbox(make_dovecot: Callable[..., Dovecot]) -> None:
        server = make_dovecot(max_mail="20k", fsync="always", users={"stew@example.org": "x"})
        server.set_quota("1k")               # APPEND is answered NO [OVERQUOTA]
        server.allow("Drafts", "lr")         # NO [NOPERM]; without "w" no \* in PERMANENTFLAGS
        server.change_uidvalidity("Drafts")
        server.kill_sessions()               # its imap processes; it goes on
        server.crash()                       # all of it; start() brings it back on the same port
        server.account("stew@example.org")   # host, port, user and password of another user

A bench without pytest: ``with running(fsync="always") as server``. Mail lies in Maildirs below
`mailbox(folder)`. No folder but INBOX exists at first; `emptied` of tests/conftest.py makes some.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from certificates import self_signed
from process import Owner, children, free_port, kill_group, place, wait_for_greeting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from certificates import Leaf

_DOVECOT = Path("/usr/sbin/dovecot")
_CONFIGURATION = """
base_dir = {base}/run
state_dir = {base}/state
log_path = {base}/log/dovecot.log
instance_name = panza-test-{port}
protocols = imap
listen = 127.0.0.1
default_internal_user = {owner}
default_internal_group = {group}
default_login_user = {owner}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
  service_count = 0
  process_min_avail = 1
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
ssl = yes
ssl_cert = <{base}/tls/cert.pem
ssl_key = <{base}/tls/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {base}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {base}/users
  default_fields = uid={owner} gid={group} home={base}/mail/%u
}}
first_valid_uid = 1
mail_uid = {owner}
mail_gid = {group}
mail_location = maildir:~/Maildir
mail_fsync = {fsync}
mail_max_userip_connections = 200
mail_plugins = $mail_plugins acl quota
protocol imap {{
  mail_plugins = $mail_plugins imap_acl imap_quota
}}
plugin {{
  acl = vfile::cache_secs=0
  quota = count:User quota
  quota_vsizes = yes
  quota_max_mail_size = {max_mail}
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Drafts {{
    special_use = \\Drafts
  }}
  mailbox Sent {{
    special_use = \\Sent
  }}
  mailbox Versandt {{
    special_use = \\Sent
  }}
}}
"""
_RENUMBERED = ("dovecot-uidlist", "dovecot.index")


@dataclass(frozen=True)
class Account:
    """An IMAP server and one of its users."""

    host: str
    port: int
    user: str
    password: str


class Dovecot:
    """A Dovecot with TLS, UIDPLUS, CONDSTORE, SPECIAL-USE and NAMESPACE; see the module.

    As root it runs as nobody, for Dovecot serves no mail as root.

    Args:
        base: A folder with a short path, to be filled.
        users: More users and their passwords, without a colon.
        leaf: The certificate to show; one of its own if None.
        fsync: ``optimized`` as Dovecot has it, ``always``, or ``never``.
        max_mail: The size from which on a message is refused.

    Attributes:
        port: Plain IMAP, and STARTTLS.
        tls_port: IMAP with TLS from the start.
        ca_file: What a client must trust: the server's own certificate, or that of `leaf`.
    """

    host, user, password = "localhost", "jen@example.org", 'se"k\\ret ü'

    def __init__(
        self,
        base: Path,
        *,
        users: Mapping[str, str] | None = None,
        leaf: Leaf | None = None,
        fsync: str = "optimized",
        max_mail: str = "50M",
    ) -> None:
        self.base = base
        self.port, self.tls_port = free_port(), free_port()
        self.ca_file = leaf.certificate if leaf else base / "tls/cert.pem"
        self._users = {self.user: self.password, **(users or {})}
        self._users_written = 0
        self._leaf, self._owner = leaf, Owner.current()
        self._options = {"fsync": fsync, "max_mail": max_mail}
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Write configuration, certificate and users."""
        for name in ("run", "state", "mail", "tls", "log"):
            (self.base / name).mkdir(parents=True)
        if self._leaf is None:
            self_signed(self.base / "tls")
        else:
            shutil.copy(self._leaf.certificate, self.base / "tls/cert.pem")
            shutil.copy(self._leaf.key, self.base / "tls/key.pem")
        values = {"base": self.base, "port": self.port, "tls_port": self.tls_port}
        owner = {"owner": self._owner.name, "group": self._owner.group}
        (self.base / "dovecot.conf").write_text(
            _CONFIGURATION.format(**values, **owner, **self._options), encoding="utf-8"
        )
        self.set_quota("1G")
        self._owner.give(self.base)

    def start(self) -> None:
        """Start it and wait for its greeting."""
        command = [str(_DOVECOT), "-F", "-c", str(self.base / "dovecot.conf")]
        self._process = self._owner.popen(command, self.base / "log/output")
        wait_for_greeting(self.port, self._process, self.log)

    def crash(self) -> None:
        """Kill it and all its children."""
        if self._process is not None:
            kill_group(self._process)
        (self.base / "run/master.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop it as an administrator would, which takes two seconds."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(20)

    def log(self) -> str:
        """Return what it has logged."""
        files = (self.base / "log" / name for name in ("output", "dovecot.log"))
        return "".join(file.read_text("utf-8", "replace") for file in files if file.exists())

    def account(self, user: str) -> Account:
        """Return how to reach it as one of its users."""
        return Account(self.host, self.port, user, self._users[user])

    def imap_pids(self) -> list[int]:
        """Return the processes that serve a login now."""
        return children(self._process.pid, "imap") if self._process else []

    def kill_sessions(self) -> int:
        """Kill the processes that serve logins, whatever they do; return how many there were."""
        killed = 0
        for pid in self.imap_pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        return killed

    def mailbox(self, folder: str, user: str = "") -> Path:
        """Return where a folder's Maildir is."""
        root = self.base / "mail" / (user or self.user) / "Maildir"
        return root if folder == "INBOX" else root / f".{folder.replace('/', '.')}"

    def give_away(self, path: Path) -> None:
        """Make a file or a tree belong to the server's user."""
        self._owner.give(path)

    def allow(self, folder: str, rights: str) -> None:
        r"""Set the owner's rights on a folder (RFC 4314).

        "lr" refuses APPEND with NOPERM; without "w" PERMANENTFLAGS lacks ``\*`` and keywords are
        dropped silently; "lrswipkxtea" are all.
        """
        acl = self.mailbox(folder) / "dovecot-acl"
        acl.write_text(f"owner {rights}\n", encoding="utf-8")
        self.give_away(acl)

    def set_quota(self, storage: str, user: str = "") -> None:
        """Let a user have so much mail, as from the next login."""
        lines = []
        for each, password in self._users.items():
            rule = f"*:storage={storage if each == (user or self.user) else '1G'}"
            home = self.base / "mail" / each
            lines.append(f"{each}:{{PLAIN}}{password}::::{home}::userdb_quota_rule={rule}\n")
        beside = self.base / "users.new"
        beside.write_text("".join(lines), encoding="utf-8")
        self.give_away(beside)
        # Dovecot looks once a second whether the file's time, in whole seconds, is another one.
        self._users_written += 1
        os.utime(beside, (self._users_written, self._users_written))
        beside.replace(self.base / "users")
        if self._process is not None:
            time.sleep(1.1)

    def change_uidvalidity(self, folder: str, user: str = "") -> None:
        """Forget a folder's numbers: who logs in next finds a new UIDVALIDITY.

        As when a folder is restored from a backup, it ends all sessions.
        """
        self.kill_sessions()
        for file in self.mailbox(folder, user).iterdir():
            if file.name.startswith(_RENUMBERED):
                file.unlink()


def missing() -> str:
    """Return what a Dovecot needs here and what is not there; "" when all is."""
    if not _DOVECOT.exists():
        return "Dovecot 2.3: apt-get install --no-install-recommends dovecot-imapd openssl"
    command = [str(_DOVECOT), "--version"]
    version = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    if not version.stdout.startswith("2.3."):
        return f"Dovecot 2.3 for its configuration, found {version.stdout.strip()}"
    return ""


@contextmanager
def running(
    *,
    users: Mapping[str, str] | None = None,
    leaf: Leaf | None = None,
    fsync: str = "optimized",
    max_mail: str = "50M",
) -> Iterator[Dovecot]:
    """Give a fresh Dovecot; it and its mail end with the context. The options are its own."""
    with place("panza-dovecot-") as base:
        server = Dovecot(base, users=users, leaf=leaf, fsync=fsync, max_mail=max_mail)
        server.prepare()
        try:
            server.start()
            yield server
        finally:
            server.crash()
