"""A private Cyrus IMAP 3.6 on loopback, beside Dovecot; no root needed once it is unpacked.

Debian's packages of Cyrus and Dovecot exclude each other, so `make servers` unpacks Cyrus below
/var/cache/panza-tests (tests/servers/install.sh). The fixture `cyrus` is one for the whole session,
`make_cyrus` makes one for a test that breaks it:

    server = make_cyrus(users={"stew": "x"})
    server.set_quota(1)                      # kilobytes; APPEND is answered NO [OVERQUOTA]
    server.kill_sessions()                   # its imapd processes; it goes on
    server.crash()                           # all of it; start() brings it back on the same port

It has TLS, UIDPLUS, CONDSTORE, SPECIAL-USE, NAMESPACE and an IDLE that tells at once. It refuses
bare line feeds and NUL in messages. A new user has the folders Sent and Drafts with their special
uses; `emptied` of tests/conftest.py makes them anew with them.
"""

from __future__ import annotations

import imaplib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from process import MailServer, started

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from certificates import Leaf

_UNPACKED = Path("/var/cache/panza-tests")
_ADMINISTRATOR = "cyrus"
_IMAPD_CONF = """
configdirectory: {base}/conf
defaultpartition: default
partition-default: {base}/spool
servername: localhost
cyrus_user: {owner}
admins: cyrus
allowplaintext: yes
altnamespace: yes
unixhierarchysep: yes
virtdomains: off
specialuse_protect: no
delete_mode: immediate
autocreate_quota: 0
autocreate_inbox_folders: Sent | Drafts
autocreate_subscribe_folders: Sent | Drafts
xlist-sent: Sent
xlist-drafts: Drafts
tls_server_cert: {base}/tls/cert.pem
tls_server_key: {base}/tls/key.pem
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {base}/sasldb2
sasl_mech_list: PLAIN LOGIN
failedloginpause: 0
maxlogins_per_host: 0
idlesocket: {base}/run/idle
lmtpsocket: {base}/run/lmtp
notifysocket: {base}/run/notify
mboxname_lockpath: {base}/lock
proc_path: {base}/proc
"""
_CYRUS_CONF = """
START {{
  recover cmd="{programs}/ctl_cyrusdb -C {base}/imapd.conf -r"
}}
SERVICES {{
  imap cmd="{programs}/imapd -C {base}/imapd.conf" listen="127.0.0.1:{port}" prefork=1
  imaps cmd="{programs}/imapd -s -C {base}/imapd.conf" listen="127.0.0.1:{tls_port}"
}}
DAEMON {{
  idled cmd="{programs}/idled -C {base}/imapd.conf"
}}
"""


class Cyrus(MailServer):
    """A Cyrus IMAP; see the module.

    Args:
        base: A folder with a short path, to be filled.
        users: More users and their passwords.
        leaf: The certificate to show, for clients that trust its authority; one of its own if None.
    """

    user = "jen"
    _session = "imapd"

    def __init__(
        self,
        base: Path,
        *,
        users: Mapping[str, str] | None = None,
        leaf: Leaf | None = None,
    ) -> None:
        super().__init__(base, users, leaf)
        self._users[_ADMINISTRATOR] = "administrator"
        self._root = unpacked()[-1]

    def _configure(self) -> None:
        # imapd hears from idled by sockets in conf/socket.
        for name in ("conf/socket", "spool", "run", "lock", "proc"):
            (self.base / name).mkdir(parents=True)
        values = {
            "base": self.base,
            "owner": self._owner.name,
            "programs": self._root / "usr/lib/cyrus/bin",
            "port": self.port,
            "tls_port": self.tls_port,
        }
        for name, text in (("imapd.conf", _IMAPD_CONF), ("cyrus.conf", _CYRUS_CONF)):
            (self.base / name).write_text(text.format(**values), encoding="utf-8")
        program = self._root / "usr/sbin/saslpasswd2"
        for user, password in self._users.items():
            subprocess.run(  # noqa: S603
                [program, "-p", "-c", "-f", self.base / "sasldb2", "-u", "localhost", user],
                input=f"{password}\n".encode(),
                env=self._environment(),
                check=True,
                capture_output=True,
            )

    def _command(self) -> list[str]:
        base = self.base
        files = {"-C": base / "imapd.conf", "-M": base / "cyrus.conf", "-p": base / "run/pid"}
        words = [str(word) for pair in files.items() for word in pair]
        return [str(self._root / "usr/lib/cyrus/bin/master"), *words]

    def _environment(self) -> dict[str, str]:
        (libraries,) = self._root.glob("usr/lib/*/libcyrus.so.0")
        return {**os.environ, "LD_LIBRARY_PATH": str(libraries.parent)}

    def set_quota(self, kilobytes: int, user: str = "") -> None:
        """Let a user who has logged in before have so much mail, at once."""
        with imaplib.IMAP4("127.0.0.1", self.port, timeout=20) as client:
            client.login(_ADMINISTRATOR, self._users[_ADMINISTRATOR])
            status, answer = client.setquota(f"user/{user or self.user}", f"(STORAGE {kilobytes})")
        if status != "OK":
            raise RuntimeError(f"SETQUOTA: {answer!r}")


def unpacked() -> list[Path]:
    """Return where Cyrus has been unpacked, the newest version last."""
    return sorted(path.parents[4] for path in _UNPACKED.glob("cyrus-*/usr/lib/cyrus/bin/master"))


def missing() -> str:
    """Return what a Cyrus needs here and what is not there; "" when all is."""
    return "" if unpacked() else f"Cyrus IMAP below {_UNPACKED}: make servers, as root on Debian"


def running(**options: Any) -> AbstractContextManager[Cyrus]:  # noqa: ANN401
    """Give a fresh Cyrus with these options; it and its mail end with the context."""
    return started(Cyrus, "panza-cyrus-", **options)
