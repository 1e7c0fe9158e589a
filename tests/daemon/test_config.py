"""panza.yaml: what is read, what is refused, and where secrets come from."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import config, config_file
from daemon.config import Account, Config, Secret
from daemon.cron import is_cron
from daemon.errors import ConfigError, SecretError
from daemon.secret import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

SAMPLE = Path(__file__).parents[2] / "panza.yaml"
MINIMAL = "accounts: [{name: a, address: jen@example.org, archives: [sent.mbox]}]"
IMAP = "accounts: [{name: a, address: j@e.org, imap: {host: mail, password: {env: X}%s}}]"


def parse(text: str) -> Config:
    """Read a configuration that stands in /etc/panza/panza.yaml."""
    return config_file.parse(text, Path("/etc/panza/panza.yaml"))


def faults(text: str) -> tuple[str, ...]:
    """Return the faults of a configuration."""
    with pytest.raises(ConfigError) as raised:
        parse(text)
    return raised.value.faults


def keys(model: type[BaseModel]) -> Iterator[str]:
    """Yield the names of all keys of a section and of the sections in it."""
    for name, field in model.model_fields.items():
        yield name
        for inner in config_file._models(field.annotation):
            yield from keys(inner)


def test_the_sample_file_loads() -> None:
    """The sample file is a valid configuration."""
    assert config.load(SAMPLE).accounts[0].imap is not None


def test_the_sample_file_holds_the_defaults() -> None:
    """Every key that has a default has it in the sample file too."""
    sample = config.load(SAMPLE)
    plain = parse(MINIMAL)
    for name in Config.model_fields:
        if name != "accounts":
            assert getattr(sample, name) == getattr(plain, name), name
    account, imap = sample.accounts[0], sample.accounts[0].imap
    assert imap is not None
    for name in ("maildir", "smtp", "folders", "archives"):
        assert getattr(account, name) == Account.model_fields[name].get_default(), name
    assert (imap.security, imap.port, imap.user) == ("tls", 993, account.address)


def test_the_sample_file_documents_every_key() -> None:
    """Every key stands in the sample file, below a comment that explains it."""
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    for key in set(keys(Config)):
        pattern = re.compile(rf"^\s*(?:# )?\s*(?:- )?(?:.*[{{ ])?{key}:")
        at = [n for n, line in enumerate(lines) if pattern.match(line)]
        assert at, f"{key} is missing"
        assert any(lines[n - 1].lstrip().startswith("#") for n in at), f"{key} has no comment"


def test_all_faults_are_told_at_once_each_by_its_path() -> None:
    """Unknown keys, wrong types and impossible values are refused together, by their paths."""
    assert faults(
        """
        accounts:
          - {name: a, address: jen, imap: {host: mail, port: abc, secrity: tls, password: {env: X}}}
          - {name: A, address: j@e.org, maildir: x, imap: {host: mail, port: 0, security: none}}
          - {address: j@e.org}
        training: {epochs: 0, rosa: {rank: "8"}, schedule: 0 25 * * *}
        modle: {}
        """
    ) == (
        'accounts[0].address: expected an address such as jen@example.org, got "jen"',
        'accounts[0].imap.port: expected an integer, got "abc"',
        "accounts[0].imap.secrity: unknown key; did you mean security?",
        "accounts[1].imap.port: must be at least 1, got 0",
        (
            "accounts[1].imap.security: none is for servers on this machine only, elsewhere the "
            'password would cross the network in clear; expected tls or starttls, got "none"'
        ),
        "accounts[1].imap: expected exactly one of password, oauth",
        "accounts[1].name: is the name of accounts[0] already",
        "accounts[1]: expected imap or maildir; the other one is another account",
        "accounts[2].name: this key is required",
        "accounts[2]: expected imap, maildir or archives; there is no mail to read",
        "modle: unknown key; did you mean model?",
        "training.epochs: must be at least 1, got 0",
        'training.rosa.rank: expected an integer, got "8"',
        (
            'training.schedule: expected five fields of cron such as "0 3 * * sun", or off, '
            'got "0 25 * * *"'
        ),
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "accounts: this key is required"),
        ("data: ~nobody-here/x", "data: there is no such user's home"),
        ('data: "a\\0b"', "data: a path has no zero bytes"),
        ("accounts: []", "accounts: must not be empty"),
        ("accounts: 3", "accounts: expected a list, got 3"),
        ("- a", "expected a mapping of keys"),
        (f"{MINIMAL}\nprofile: [a]", "profile: expected a text"),
        (f"{MINIMAL}\nmodel: {{idle: 10}}", "model.idle: expected a duration such as 30s, 10m or"),
        (f"{MINIMAL}\nmodel: {{idle: 9999d}}", "model.idle: must be from 1s to 604800s"),
        (f"{MINIMAL}\nmodel: {{precision: int3}}", "model.precision: expected 'auto', 'fp32',"),
        (f"{MINIMAL}\ntraining: {{rosa: {{density: .nan}}}}", "density: expected a finite number"),
        (
            f"{MINIMAL}\nrequests: {{deliver: both}}",
            "accounts[0].smtp: requests.deliver both needs",
        ),
        (MINIMAL.replace("a,", "a/b,"), "accounts[0].name: expected at most 64 letters"),
        (IMAP % ", oauth: {token: {env: Y}}", "imap: expected exactly one of password, oauth"),
    ],
)
def test_a_fault_is_told(text: str, fault: str) -> None:
    """Each kind of fault has its own words."""
    assert any(fault in told for told in faults(text)), faults(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("accounts: [", "line 1, column 12: "),
        ("a: 1\nb: {\n  c: 1\n", "line 4, column 1: "),
        ("data: x\ndata: y", "line 2, column 1: no valid YAML: the key 'data' is here twice"),
        ("\tdata: x", "line 1, column 1: "),
        ("? [a]\n: b", "line 1, column 3: "),
        ("a: &x [*x]", "no valid YAML"),
    ],
)
def test_what_is_no_yaml_is_told_by_line_and_column(text: str, place: str) -> None:
    """A YAML error names its line and column, and so does a key that stands there twice."""
    (fault,) = faults(text)
    assert fault.startswith(place)


def test_words_of_yaml_1_1_stay_words() -> None:
    """Off, no and dates are texts, as whoever wrote them meant."""
    read = parse(
        MINIMAL.replace("name: a", "name: no") + "\ntraining: {schedule: off}\nprofile: on"
    )
    assert (read.accounts[0].name, read.training.schedule, read.profile) == ("no", "off", "on")


@pytest.mark.parametrize(
    "secret",
    [
        "password: hunter2",
        "password: {command: hunter2, env: hunter2}",
        "oauth: hunter2",
        "password: {hunter: hunter2}",
        "password: [hunter2]",
        "password: {env: {a: hunter2}}",
    ],
)
def test_a_secret_in_the_file_is_refused_and_never_shown(secret: str) -> None:
    """A password in the file is refused, and no message, text or cause repeats it."""
    text = f"accounts: [{{name: a, address: j@e.org, imap: {{host: mail, {secret}}}}}]"
    with pytest.raises(ConfigError) as raised:
        parse(text)
    error: BaseException | None = raised.value
    while error is not None:
        assert "hunter2" not in f"{error!s} {error!r}"
        error = error.__cause__ or error.__context__


def test_ports_follow_the_security() -> None:
    """A port that is left out is the usual one for the way of encryption."""
    ports = [
        parse(IMAP % rest).accounts[0].imap.port  # type: ignore[union-attr]
        for rest in ("", ", security: starttls", ", security: starttls, port: 1143")
    ]
    assert ports == [993, 143, 1143]


def test_paths_start_at_the_files_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are relative to the file, ~ is the home."""
    monkeypatch.setenv("HOME", "/home/jen")
    read = parse(MINIMAL + "\ndata: ~/panza\nmodel: {name: ./model.gguf}")
    assert read.accounts[0].archives == (Path("/etc/panza/sent.mbox"),)
    assert read.data == Path("/home/jen/panza")
    assert read.model.name == "/etc/panza/model.gguf"
    assert parse(MINIMAL + "\nmodel: {name: org/model}").model.name == "org/model"


def test_systemds_folders_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """$STATE_DIRECTORY and $CACHE_DIRECTORY stand above the file and the desktop's folders."""
    read = parse(MINIMAL + "\ndata: /srv/panza")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x/cache")
    account = read.accounts[0]
    assert (read.folder(account), read.cache) == (Path("/srv/panza/a"), Path("/x/cache/panza"))
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/panza:/other")
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/panza")
    assert (read.folder(account), read.cache) == (
        Path("/var/lib/panza/a"),
        Path("/var/cache/panza"),
    )


def test_the_first_file_that_is_there_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working folder comes before the home, and none anywhere is a fault that names them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    with pytest.raises(
        ConfigError, match=r"looked for panza\.yaml, .*home/panza/panza\.yaml, /etc"
    ):
        config.load()
    (tmp_path / "home" / "panza").mkdir(parents=True)
    (tmp_path / "home" / "panza" / "panza.yaml").write_text(f"{MINIMAL}\nprofile: home")
    assert config.load().profile == "home"
    (tmp_path / "panza.yaml").write_text(f"{MINIMAL}\nprofile: here")
    assert config.load().profile == "here"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"data: \xe9"])
def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path, content: bytes | None) -> None:
    """A missing file, and one that is no UTF-8, is a fault of the configuration."""
    file = tmp_path / "panza.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(str(file))):
        config.load(file)


@pytest.mark.parametrize(
    "address",
    ["jürgen@example.org", "jen@a_b.example", "jen@[192.0.2.1]", "a b@example.org", "jen@x..y"],
)
def test_an_address_that_a_header_cannot_carry_is_refused(tmp_path: Path, address: str) -> None:
    """Drafts are written from it, so it is told before there is one."""
    file = tmp_path / "panza.yaml"
    text = MINIMAL.replace("address: jen@example.org", f'address: "{address}"')
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="expected an address"):
        config.load(file)


def test_durations_and_addresses_are_read() -> None:
    """Durations have units, and addresses compare without regard to case."""
    read = parse(
        "accounts: [{name: a, address: Jen@Example.org, aliases: [J@e.org], archives: [x]}]\n"
        "model: {idle: 2h}\nrequests: {poll: 30s}"
    )
    assert (read.model.idle, read.requests.poll) == (timedelta(hours=2), timedelta(seconds=30))
    assert read.accounts[0].addresses == {"jen@example.org", "j@e.org"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(sorted(set(keys(Config)))) | st.text(max_size=5), inner, max_size=4
            )
        ),
    )
)
def test_whatever_stands_in_the_file_is_read_or_refused(data: Any) -> None:  # noqa: ANN401
    """No content of the file leads to anything but a configuration or a ConfigError."""
    try:
        parse(config_file.json.dumps(data))
    except ConfigError as error:
        assert error.faults  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("0 3 * * sun", True),
        ("*/15 0-6,22 1 jan-mar mon-fri/2", True),
        ("59 23 31 12 7", True),
        ("60 * * * *", False),
        ("* 24 * * *", False),
        ("* * 0 * *", False),
        ("* * * 13 *", False),
        ("* * * * 8", False),
        ("5-1 * * * *", False),
        ("* * * *", False),
        ("* * * * * *", False),
        ("a * * * *", False),
        ("*/0 * * * *", False),
        ("", False),
    ],
)
def test_cron_is_checked(text: str, valid: bool) -> None:  # noqa: FBT001
    """Five fields within their bounds are a time; anything else is not."""
    assert is_cron(text) is valid


def test_secrets_come_from_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command, a credential, a variable and a file each give their first line."""
    (tmp_path / "imap").write_text("geheim\nsecond line\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("PANZA_TEST_SECRET", "geheim")
    for secret in (
        Secret(command=f"cat {tmp_path}/imap"),
        Secret(credential="imap"),
        Secret(env="PANZA_TEST_SECRET"),
        Secret(file=tmp_path / "imap"),
    ):
        assert resolve(secret, "jen") == "geheim"
        assert "geheim" not in repr(secret)


def test_a_secret_that_is_not_there_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way to a secret fails with its reference and a reason."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xff")
    cases = {
        Secret(command="false"): "the command ended with 1",
        Secret(command="/no/such/program"): "No such file",
        Secret(command="'unclosed"): "No closing quotation",
        Secret(credential="imap"): "CREDENTIALS_DIRECTORY is not set",
        Secret(env="PANZA_NO_SUCH"): "the variable is not set",
        Secret(file=tmp_path / "none"): "No such file",
        Secret(file=tmp_path / "empty"): "it is empty",
        Secret(file=tmp_path / "bytes"): "it is not UTF-8",
    }
    for secret, reason in cases.items():
        with pytest.raises(SecretError, match=reason):
            resolve(secret, "jen")
