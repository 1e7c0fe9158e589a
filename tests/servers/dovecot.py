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
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from process import MailServer, started

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

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


class Dovecot(MailServer):
    """A Dovecot with TLS, UIDPLUS, CONDSTORE, SPECIAL-USE and NAMESPACE; see the module.

    Args:
        base: A folder with a short path, to be filled.
        users: More users and their passwords, without a colon.
        leaf: The certificate to show, for clients that trust its authority; one of its own if None.
        fsync: ``optimized`` as Dovecot has it, ``always``, or ``never``.
        max_mail: The size from which on a message is refused.
    """

    _session = "imap"

    def __init__(
        self,
        base: Path,
        *,
        users: Mapping[str, str] | None = None,
        leaf: Leaf | None = None,
        fsync: str = "optimized",
        max_mail: str = "50M",
    ) -> None:
        super().__init__(base, users, leaf)
        self._users_written = 0
        self._options = {"fsync": fsync, "max_mail": max_mail}

    def _configure(self) -> None:
        for name in ("run", "state", "mail", "log"):
            (self.base / name).mkdir()
        values = {"base": self.base, "port": self.port, "tls_port": self.tls_port}
        owner = {"owner": self._owner.name, "group": self._owner.group}
        (self.base / "dovecot.conf").write_text(
            _CONFIGURATION.format(**values, **owner, **self._options), encoding="utf-8"
        )
        self.set_quota("1G")

    def _command(self) -> list[str]:
        return [str(_DOVECOT), "-F", "-c", str(self.base / "dovecot.conf")]

    def crash(self) -> None:
        """Kill it and all its children at once, as a power cut would."""
        super().crash()
        (self.base / "run/master.pid").unlink(missing_ok=True)

    def log(self) -> str:
        """Return what it has logged."""
        file = self.base / "log/dovecot.log"
        return super().log() + (file.read_text("utf-8", "replace") if file.exists() else "")

    def mailbox(self, folder: str, user: str = "") -> Path:
        """Return where a folder's Maildir is."""
        root = self.base / "mail" / (user or self.user) / "Maildir"
        return root if folder == "INBOX" else root / f".{folder.replace('/', '.')}"

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


def running(**options: Any) -> AbstractContextManager[Dovecot]:  # noqa: ANN401
    """Give a fresh Dovecot with these options; it and its mail end with the context."""
    return started(Dovecot, "panza-dovecot-", **options)
