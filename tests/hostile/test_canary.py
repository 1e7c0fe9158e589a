"""A password, and the mail itself, show up nowhere but where they belong.

Canaries are words that stand in nothing but the password, the mail and its addresses. Real commands
run against a real server, each log at its loudest, and then everything they left is searched.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from children import Watch
from process import free_port
from stubmodel import StubModel
from submission import PASSWORD as MAIL_PASSWORD
from submission import USER as MAIL_USER
from submission import SubmissionServer
from trap import traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dovecot import Dovecot

USER, PASSWORD, WRONG = "jen@example.org", "canary-pw-5e11-ß", "canary-wrong-77a2"
FRIEND, WORDS, ORDER = "canary.friend@example.net", "canary-words-3b9d", "canary-order-c418"
SECRETS = [PASSWORD, WRONG, MAIL_PASSWORD]
MAIL = [FRIEND, WORDS, ORDER, "canary-subject"]

KINDS = ("command", "file", "env", "credential")
SENT = f"""From: Jen Doe <{USER}>
To: Friend <{FRIEND}>
Subject: canary-subject
Message-ID: <sent@example.org>
Date: Mon, 06 Jan 2025 10:00:00 +0100

Hello Friend,

these are the words: {WORDS}.

Jen
"""
REQUEST = f"""From: Jen Doe <{USER}>
Subject: canary-subject
Message-ID: <request-canary-subject@example.org>

Tell {FRIEND} about {ORDER}.
"""
CONFIG = """
data: {folder}/data
accounts:
  - name: jen
    address: {user}
    full_name: Jen Doe
    imap:
      host: 127.0.0.1
      port: {port}
      security: none
      user: {user}
      password: {password}
    smtp:
      host: 127.0.0.1
      port: {mail_port}
      security: none
      user: {mail_user}
      password: {{env: PANZA_TEST_MAIL}}
requests: {{poll: 5s, deliver: both}}
"""


@dataclass(frozen=True)
class Ran:
    """One command that ran to its end."""

    code: int
    said: bytes
    seen: Watch


class Home:
    """An owner's machine: her configuration, secrets and data.

    Args:
        folder: Where all of it is.
        server: Her mail.
        mail: Her submission server.

    Attributes:
        model: What writes her drafts; None for the real one.
    """

    def __init__(self, folder: Path, server: Dovecot, mail: SubmissionServer) -> None:
        self.folder, self._server, self.mail = folder, server, mail
        self.model: StubModel | None = None
        self._environment: dict[str, str] = {}
        (folder / "secrets").mkdir()

    def use(self, kind: str, password: str) -> None:
        """Keep the password in one of the places there are, and write the configuration."""
        file = self.folder / "secrets" / "imap"
        file.write_text(f"{password}\n", encoding="utf-8")
        command = shlex.join(["sh", "-c", 'sleep 0.05; cat "$0"', str(file)])
        where = {
            "command": command,
            "file": str(file),
            "env": "PANZA_TEST_IMAP",
            "credential": "imap",
        }
        self._environment = {
            **os.environ,
            "PANZA_TEST_MAIL": MAIL_PASSWORD,
            "PYTHONASYNCIODEBUG": "1",
            "CACHE_DIRECTORY": str(self.folder / "cache"),
            **({"PANZA_TEST_IMAP": password} if kind == "env" else {}),
            **({"CREDENTIALS_DIRECTORY": str(file.parent)} if kind == "credential" else {}),
            **({"PANZA_MODEL_SOCKET": str(self.model.path)} if self.model else {}),
        }
        text = CONFIG.format(
            folder=self.folder,
            user=USER,
            port=self._server.port,
            password=json.dumps({kind: where[kind]}),
            mail_port=self.mail.port,
            mail_user=MAIL_USER,
        )
        (self.folder / "panza.yaml").write_text(text, encoding="utf-8")

    def panza(self, *words: str, until: Callable[[Watch], bool] | None = None) -> Ran:
        """Run a command, to its end or, as a daemon, until something has come about."""
        loud = Path(__file__).parent / "loud.py"
        config = str(self.folder / "panza.yaml")
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, str(loud), "--debug", "--config", config, *words],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        with Watch(process.pid) as seen:
            try:
                if until is not None:
                    deadline = time.monotonic() + 30
                    while not until(seen) and time.monotonic() < deadline:
                        time.sleep(0.02)
                    process.send_signal(signal.SIGTERM)
                said, _ = process.communicate(timeout=60)
            finally:
                process.kill()
        return Ran(process.returncode, said, seen)

    def left(self) -> Iterator[tuple[Path, bytes]]:
        """Yield all files that Panza has made, but for the configuration and the secrets."""
        for name in ("data", "cache"):
            for path in (self.folder / name).rglob("*"):
                if path.is_file():
                    yield path, path.read_bytes()

    def written(self) -> list[bytes]:
        """Return the drafts in Drafts, and what was mailed to her."""
        places = (self._server.mailbox("Drafts") / part for part in ("cur", "new"))
        files = [path for place in places if place.is_dir() for path in place.iterdir()]
        return [path.read_bytes() for path in files] + [
            one.raw for one in self.mail.script.accepted
        ]


@pytest.fixture
def home(tmp_path: Path, make_dovecot: Callable[..., Dovecot]) -> Iterator[Home]:
    """Return an owner's home, with a sent mail and a request in her mailbox."""
    server = make_dovecot(users={USER: PASSWORD})
    for name, text in (("Sent", SENT), ("Panza requests", REQUEST)):
        folder = server.mailbox(name)
        for part in ("cur", "new", "tmp"):
            (folder / part).mkdir(parents=True)
        (folder / "cur" / "1736154000.one.test:2,S").write_text(text, encoding="utf-8")
    server.give_away(server.base / "mail")
    with SubmissionServer(free_port(), None) as mail:
        yield Home(tmp_path, server, mail)


@pytest.fixture
def stubbed(home: Home) -> Iterator[Home]:
    """Return it with a stand-in for the model."""
    with StubModel(home.folder) as model:
        home.model = model
        yield home


def assert_silent(ran: Ran) -> None:
    """Neither a log nor a child of this command shows a password, nor a log what stands in mail."""
    assert traces(SECRETS + MAIL, ran.said) == [], ran.said.decode()
    for command in ran.seen.commands:
        assert traces(SECRETS, command) == []
    for command, environment in ran.seen.environments.items():
        assert traces(SECRETS, environment) == [], command


def assert_clean(home: Home) -> None:
    """No file of Panza's and no message that it wrote holds a password."""
    for path, content in home.left():
        assert traces(SECRETS, content) == [], path
    for message in home.written():
        assert traces(SECRETS, message) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_daemon(stubbed: Home, kind: str) -> None:
    """It syncs, drafts and mails with passwords that nobody but the servers gets to see."""
    stubbed.use(kind, PASSWORD)
    ran = stubbed.panza("run", until=lambda _: len(stubbed.written()) > 1)
    assert len(stubbed.written()) > 1, ran.said.decode()
    assert ran.code == 0
    assert stubbed.mail.script.logins == [(MAIL_USER, MAIL_PASSWORD, "PLAIN")]
    assert_silent(ran)
    assert_clean(stubbed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_password(stubbed: Home, kind: str) -> None:
    """A refused login is told, traceback and all, without what was refused."""
    stubbed.use(kind, WRONG)
    for words in (("check",), ("sync", "--json")):
        ran = stubbed.panza(*words)
        assert ran.code == 78, ran.said.decode()
        assert b"refused the login" in ran.said
        assert_silent(ran)
    assert_clean(stubbed)


def test_the_other_commands(stubbed: Home) -> None:
    """Nor do they let a password or mail be seen, where all goes well."""
    stubbed.use("env", PASSWORD)
    stubbed.panza("run", until=lambda _: len(stubbed.written()) > 1)
    for words in (("check",), ("sync",), ("status", "--json")):
        ran = stubbed.panza(*words)
        assert ran.code == 0, ran.said.decode()
        assert_silent(ran)
    assert_clean(stubbed)


def test_the_model_process(home: Home) -> None:
    """It starts without any of the passwords that its parent was given."""
    home.use("env", PASSWORD)
    ran = home.panza("run", until=lambda seen: model_of(seen) != [])
    assert model_of(ran.seen) != [], ran.said.decode()
    assert_silent(ran)


def model_of(seen: Watch) -> list[bytes]:
    """Return the command lines of the model process."""
    return [command for command in seen.environments if b"\0daemon\0" in command]
