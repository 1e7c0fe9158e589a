"""The embedded IMAP server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from connectors.base import FolderState, Message, Role, UnreachableError
from connectors.imap import ImapConnector, ImapSettings
from daemon.demo.server import DemoServer, ServerError

if TYPE_CHECKING:
    from pathlib import Path

_RAW = b"Subject: kept\r\nMessage-ID: <a@example.org>\r\n\r\n\tEvery  byte \xff\r\n"


def connected(server: DemoServer) -> ImapConnector:
    """Return a connector to the server's mailbox."""
    return ImapConnector(
        ImapSettings(server.host, server.user, server.password, port=server.port, security="none")
    )


def seen(server: DemoServer) -> tuple[FolderState, list[Message]]:
    """Return what Sent says and holds."""
    with connected(server) as connector:
        return connector.state(Role.SENT), list(connector.fetch(Role.SENT))


def test_it_starts_in_time_with_its_folders() -> None:
    """It serves within three seconds, with the folders asked for and nothing in them."""
    started = time.monotonic()
    with DemoServer("jen@example.org", "secret", folders=("Sent", "Drafts")) as server:
        state, messages = seen(server)
        assert time.monotonic() - started < 3
        assert (state.messages, messages) == (0, [])


def test_mail_that_is_kept_comes_back_unchanged(tmp_path: Path) -> None:
    """Bytes, flags, dates, UIDs and UIDVALIDITY are the same after a restart."""
    with DemoServer("jen", "secret", keep=tmp_path / "mail") as server:
        with connected(server) as connector:
            for flags in ((), ("\\Seen",), ("\\Seen", "\\Flagged")):
                connector.append(Role.SENT, _RAW, flags=flags)
            connector.remove(Role.SENT, min(connector.message_ids(Role.SENT)))
            name = connector.ensure(Role.REQUESTS)
        before = seen(server)
    with DemoServer("jen", "secret", keep=tmp_path / "mail") as server:
        assert seen(server) == before
        assert before[1][0].raw == _RAW
        with connected(server) as connector:
            assert connector.state(Role.REQUESTS).name == name
    assert len(list((tmp_path / "mail/Sent").glob("*.eml"))) == 2


def test_a_crash_keeps_what_was_saved(tmp_path: Path) -> None:
    """Mail older than a second outlives a kill -9 of the server, which starts on its old port."""
    server = DemoServer("jen", "secret", keep=tmp_path / "mail")
    with server:
        with connected(server) as connector:
            connector.append(Role.SENT, _RAW)
        deadline = time.monotonic() + 10
        while not list(tmp_path.glob("mail/Sent/*.eml")) and time.monotonic() < deadline:
            time.sleep(0.05)
        before = server.port
        server.kill()
        with pytest.raises(UnreachableError):
            seen(server)
        server.start()
        assert server.port == before
        assert [message.raw for message in seen(server)[1]] == [_RAW]


def test_a_port_in_use_is_an_error_with_the_reason() -> None:
    """A server that cannot start says why."""
    with (
        DemoServer("jen", "secret") as server,
        pytest.raises(ServerError, match="address already in use"),
        DemoServer("jen", "secret", port=server.port),
    ):
        pass


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """Even after a kill -9 of the process that started it, no server stays behind."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\nfrom daemon.demo.server import DemoServer\n"
        "server = DemoServer('jen', 'secret')\nserver.start()\n"
        "print(server._process.pid, flush=True)\ntime.sleep(60)\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parent = subprocess.Popen(  # noqa: S603
        [sys.executable, str(script)], stdout=subprocess.PIPE, encoding="utf-8", env=environment
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def test_the_server_is_not_loaded_into_panza() -> None:
    """Importing the context manager loads neither pymap nor asyncio's machinery."""
    code = "import sys, daemon.demo.server; print(sorted({'pymap', 'imapclient'} & {*sys.modules}))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "[]"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # a process that ended and was not waited for
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
