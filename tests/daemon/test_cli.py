"""The command line: outcomes, faults, exit codes, and a start without torch."""

from __future__ import annotations

import json
import resource
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from daemon import cli
from daemon.config import Account
from daemon.retrieval import Retrieval
from daemon.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import HashingEmbedder

    Panza = Callable[..., tuple[int, str, str]]

LETTERS = "".join(
    f"From MAILER-DAEMON Mon Jan  1 09:00:00 2024\n"
    f"From: {sender}\nTo: Stew <stew@example.org>\nSubject: Number {number}\n"
    f"Date: Mon, 01 Jan 2024 09:{number:02}:00 +0000\nMessage-ID: <m{number}@example.org>\n\n"
    f"Hello Stew, the kiln number {number} is ready.\n\n"
    for number, sender in enumerate(["Jen <jen@example.org>"] * 3 + ["eve@example.org"])
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a configuration, whose account is an mbox of four mails."""
    (tmp_path / "sent.mbox").write_text(LETTERS)
    (tmp_path / "panza.yaml").write_text(
        "data: data\naccounts: [{name: work, address: jen@example.org, archives: [sent.mbox]}]\n"
    )
    return tmp_path


@pytest.fixture
def panza(folder: Path, capsys: pytest.CaptureFixture[str]) -> Panza:
    """Return the command line over that configuration: exit code, output, error output."""

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(["--config", str(folder / "panza.yaml"), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def synced(folder: Path, embedder: HashingEmbedder) -> Path:
    """Return the folder after a sync, its mails embedded by the double."""
    from daemon import accounts
    from daemon.sync import sync

    account = Account(name="work", address="jen@example.org", archives=(folder / "sent.mbox",))
    data = folder / "data" / "work"
    with Store(data) as store, accounts.opened(account, data) as sources:
        sync(account, sources, store)
        Retrieval(store, embedder).index()
    return folder


def in_process(folder: Path, *words: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run `panza` in a process of its own, or code in its place."""
    start = ["-c", code] if code else ["-m", "daemon", "--config", str(folder / "panza.yaml")]
    return subprocess.run(  # noqa: S603
        [sys.executable, *start, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def spent() -> float:
    """Return the seconds of a processor that finished children have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def only_json(output: str) -> dict[str, Any]:
    """Return the one JSON object that the output is."""
    (line,) = output.splitlines()
    data = json.loads(line)
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize("command", ["check", "status", "adapters"])
def test_light_commands_never_import_torch(synced: Path, command: str) -> None:
    """Looking at things needs neither torch nor transformers nor NumPy."""
    code = (
        "import sys; from daemon.cli import main\n"
        f"main(['--config', 'panza.yaml', '--json', {command!r}])\n"
        "heavy = {'torch', 'transformers', 'numpy', 'peft', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = in_process(synced, code=code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["check", "status"])
def test_light_commands_start_at_once(synced: Path, command: str) -> None:
    """The best of three starts takes less than 0.7 seconds of a processor.

    Seconds of a clock would measure whatever else the machine is doing.
    """
    seconds = []
    for _ in range(3):
        before = spent()
        in_process(synced, command)
        seconds.append(spent() - before)
    assert 0 < min(seconds) < 0.7


def test_a_sync_that_finds_nothing_new_needs_no_torch(synced: Path) -> None:
    """Once everything is embedded, a further sync loads no model."""
    code = (
        "import sys; from daemon.cli import main\n"
        "code = main(['--config', 'panza.yaml', '--json', 'sync'])\n"
        "sys.exit(code or 'torch' in sys.modules)\n"
    )
    done = in_process(synced, code=code)
    assert done.returncode == 0, done.stderr
    assert only_json(done.stdout)["read"] == 0
    assert done.stderr == ""  # no terminal, no progress


@pytest.mark.usefixtures("synced")
def test_sync_counts_and_repeats(panza: Panza) -> None:
    """A sync tells what is new, what there is, and what was left out and why."""
    code, out, _ = panza("sync", "--json")
    data = only_json(out)
    assert code == 0
    assert (data["new"], data["total"], data["left_out"]) == (0, 3, {"not yours": 1})
    assert data["seconds"] >= 0
    code, out, _ = panza("sync")
    assert "0 new mails, 3 in all" in out
    assert "left out: 1 not yours" in out


@pytest.mark.usefixtures("synced")
def test_status_tells_accounts_requests_and_jobs(panza: Panza) -> None:
    """The status holds the mails, what was left out, the adapter, requests and runs."""
    panza("sync")
    code, out, _ = panza("status", "--json")
    data = only_json(out)
    assert code == 0
    assert set(data) == {"accounts", "requests", "jobs"}
    (account,) = data["accounts"]
    assert (account["name"], account["mails"], account["adapter"]) == ("work", 3, None)
    assert account["left_out"] == {"not yours": 1}
    assert data["jobs"][0]["kind"] == "sync"
    assert data["jobs"][0]["ended"]
    assert "work: 3 mails" in panza("status")[1]


def test_status_before_the_first_sync(panza: Panza, folder: Path) -> None:
    """An account that was never synced is said so, and nothing is made."""
    code, out, _ = panza("status")
    assert code == 0
    assert "never synced" in out
    assert not (folder / "data").exists()


def test_status_says_when_sent_is_empty(synced: Path, panza: Panza) -> None:
    """When the archive is emptied the mails stay, and both sync and status say so."""
    (synced / "sent.mbox").write_text("")
    code, out, err = panza("sync", "--json")
    assert (code, only_json(out)["total"]) == (0, 3)
    assert "is empty" in err
    assert "is empty now" in panza("status")[1]


@pytest.mark.usefixtures("synced")
def test_adapters_without_any(panza: Panza) -> None:
    """Without an adapter the list is empty, and there is nothing to roll back or promote."""
    assert only_json(panza("adapters", "--json")[1]) == {"current": None, "adapters": []}
    assert panza("adapters", "list")[0] == 0
    assert panza("adapters", "rollback")[0] == 1
    code, _, err = panza("adapters", "promote", "nobody")
    assert code == 1
    assert "nobody" in err


def test_check_finds_all_well(synced: Path, panza: Panza) -> None:
    """Every check has a name and a detail; data and archive are among them."""
    _, out, _ = panza("check", "--json")
    data = only_json(out)
    checks = {check["name"]: check for check in data["checks"]}
    assert data["ok"] == all(check["ok"] for check in data["checks"])
    for name in ("configuration", "packages", "work: data"):
        assert checks[name]["ok"], checks[name]
    assert "3 mails" in checks["work: data"]["detail"]
    assert checks[f"work: archive:{synced}/sent.mbox"]["detail"] == "sent.mbox, 4 messages"


def test_check_tells_each_fault_and_what_to_do(panza: Panza, folder: Path) -> None:
    """A missing archive, a missing model and a damaged store are each told, none hides another."""
    (folder / "panza.yaml").write_text(
        "data: data\nmodel: {name: ./none.gguf}\n"
        "accounts: [{name: work, address: jen@example.org, archives: [none.mbox, sent.mbox]}]\n"
    )
    (folder / "data" / "work").mkdir(parents=True)
    (folder / "data" / "work" / "panza.db").write_bytes(b"rubbish" * 1000)
    code, out, _ = panza("check", "--json")
    data = only_json(out)
    faults = {check["name"]: check["detail"] for check in data["checks"] if not check["ok"]}
    assert code != 0
    assert not data["ok"]
    assert "model.name" in faults["model"]
    assert "aside" in faults["work: data"]
    assert "none.mbox" in faults[f"work: archive:{folder}/none.mbox"]
    assert f"work: archive:{folder}/sent.mbox" not in faults
    assert "FAULT  model" in panza("check")[1]


def test_check_of_an_unreachable_server(panza: Panza, folder: Path) -> None:
    """A server that does not answer is one fault, with the exit code for trying later."""
    (folder / "panza.yaml").write_text(
        "data: data\naccounts: [{name: work, address: jen@example.org, imap: "
        "{host: 127.0.0.1, port: 1, security: none, password: {env: HOME}}}]\n"
    )
    code, out, _ = panza("check", "--json")
    faults = [check for check in only_json(out)["checks"] if not check["ok"]]
    assert [fault["name"] for fault in faults if "work" in fault["name"]] == ["work: mailbox"]
    assert "127.0.0.1:1" in faults[-1]["detail"]
    assert code in {1, 75, 78}
    assert panza("sync")[0] == 75


@pytest.mark.parametrize(
    "words", [("check",), ("sync",), ("status",), ("write", "x"), ("search", "x")]
)
def test_a_faulty_configuration_ends_with_78(
    panza: Panza, folder: Path, words: tuple[str, ...]
) -> None:
    """Every command tells all faults of the configuration and ends with 78."""
    (folder / "panza.yaml").write_text("accounts: [{name: w}]\nbogus: 1\ntraining: {epochs: x}")
    code, out, err = panza(*words)
    assert code == 78
    for fault in ("accounts[0].address", "bogus: unknown key", "training.epochs: expected an int"):
        assert fault in out + err
    code, out, _ = panza("--json", *words)
    assert code == 78
    assert "bogus" in json.dumps(only_json(out))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--account", "none", "sync"), 2),
        (("write",), 2),
        (("write", "x", "--batch", "y.jsonl"), 2),
        (("search", "kiln"), 1),
        (("write", "hello"), 1),
    ],
)
def test_faults_have_exit_codes(panza: Panza, words: tuple[str, ...], code: int) -> None:
    """Wrong usage ends with 2, what cannot be done yet with 1; nothing is on standard output."""
    found, out, err = panza(*words)
    assert (found, out) == (code, "")
    assert err.startswith("panza: ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words", [(), ("bogus",), ("sync", "--bogus"), ("train", "--epochs", "0"), ("search",)]
)
def test_wrong_usage_ends_with_2(words: tuple[str, ...]) -> None:
    """What the parser does not know ends with 2."""
    with pytest.raises(SystemExit) as raised:
        cli.main(words)
    assert raised.value.code == 2


def test_several_accounts_need_a_name(panza: Panza, folder: Path) -> None:
    """Where there are several accounts, a command for one asks which; status shows them all."""
    (folder / "panza.yaml").write_text(
        "data: data\naccounts: [{name: a, address: j@e.org, archives: [sent.mbox]}, "
        "{name: b, address: j@e.org, archives: [sent.mbox]}]\n"
    )
    code, _, err = panza("sync")
    assert code == 2
    assert "--account: a, b" in err
    assert panza("status", "--account", "b")[1].startswith("b: 0 mails")
    assert len(only_json(panza("status", "--json")[1])["accounts"]) == 2


def test_a_traceback_needs_debug(panza: Panza, folder: Path) -> None:
    """A fault is told in words; where it arose is shown with --debug alone."""
    (folder / "sent.mbox").write_bytes(b"GIF89a" + bytes(5000))
    code, _, err = panza("sync")
    assert code == 1
    assert "sent.mbox" in err
    assert "Traceback" not in err
    assert "Traceback" in panza("--debug", "sync")[2]


@pytest.mark.usefixtures("synced")
def test_general_options_stand_anywhere(panza: Panza) -> None:
    """Options for every command may stand before it or behind it."""
    assert only_json(panza("--json", "status")[1]) == only_json(panza("status", "--json")[1])
    assert panza("--account", "work", "adapters", "list", "--json")[0] == 0


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command's help has an example."""
    for command in [
        "demo",
        "check",
        "sync",
        "train",
        "write",
        "evaluate",
        "adapters",
        "search",
        "status",
    ]:
        with pytest.raises(SystemExit) as raised:
            cli.main([command, "--help"])
        assert raised.value.code == 0
        assert "Example: panza" in capsys.readouterr().out


def test_ctrl_c_ends_with_130_and_one_line(folder: Path) -> None:
    """A sync that is interrupted while it waits for its server ends with 130 and one line."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        (folder / "panza.yaml").write_text(
            "data: data\naccounts: [{name: work, address: jen@example.org, imap: {host: 127.0.0.1, "
            f"port: {silent.getsockname()[1]}, security: none, password: {{env: HOME}}}}}}]\n"
        )
        with subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "daemon", "--config", str(folder / "panza.yaml"), "sync"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # In the background of a shell SIGINT is ignored, by what is started there as well.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        ) as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines() == ["panza: Interrupted; the same command goes on from here."]


def test_a_reader_that_leaves_is_no_fault(synced: Path) -> None:
    """Output into a closed pipe ends without a traceback."""
    command = f"{sys.executable} -m daemon --config {synced}/panza.yaml status | true"
    done = subprocess.run(  # noqa: S602
        command,
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
