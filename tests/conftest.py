"""What all tests share: a tiny model, and servers on loopback (pymap, and Dovecot where it is)."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from imapclient import IMAPClient

from daemon.demo.server import DemoServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Protocol

    import torch
    from transformers import PreTrainedTokenizerFast

    from trainer.base_model import LanguageModel

    class Server(Protocol):
        """An IMAP server and the one user it knows."""

        host: str
        port: int
        user: str
        password: str


# Tiny models compute faster on one thread than on several that wait for each other. To be set
# before torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

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
mail_plugins = $mail_plugins acl
protocol imap {{
  mail_plugins = $mail_plugins imap_acl
}}
plugin {{
  acl = vfile
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


def free_port() -> int:
    """Return a port on loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Dovecot:
    """A private Dovecot 2.3 with TLS, UIDPLUS, SPECIAL-USE and NAMESPACE; no root needed.

    As root it runs as nobody, for Dovecot serves no mail as root.

    Attributes:
        port: Plain IMAP, and STARTTLS.
        tls_port: IMAP with TLS from the start.
        ca_file: The server's own certificate.
    """

    host, user, password = "localhost", "jen@example.org", 'se"k\\ret ü'

    def __init__(self, base: Path) -> None:
        self.base = base
        self.port, self.tls_port = free_port(), free_port()
        self.ca_file = base / "tls/cert.pem"
        self._owner = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self._group = grp.getgrgid(self._owner.pw_gid).gr_name
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Write configuration, certificate and users."""
        for name in ("run", "state", "mail", "tls", "log"):
            (self.base / name).mkdir(parents=True)
        make_certificate(self.ca_file, self.base / "tls/key.pem")
        (self.base / "users").write_text(
            f"{self.user}:{{PLAIN}}{self.password}::::{self.base}/mail/{self.user}::\n",
            encoding="utf-8",
        )
        values = {"base": self.base, "port": self.port, "tls_port": self.tls_port}
        (self.base / "dovecot.conf").write_text(
            _CONFIGURATION.format(owner=self._owner.pw_name, group=self._group, **values),
            encoding="utf-8",
        )
        self.give_away(self.base)

    def give_away(self, path: Path) -> None:
        """Make a file or a tree belong to the server's user."""
        if os.getuid() == 0:
            for each in [path, *path.rglob("*")]:
                os.chown(each, self._owner.pw_uid, self._owner.pw_gid)

    def start(self) -> None:
        """Start it and wait for its greeting."""
        as_owner = {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}
        self._process = subprocess.Popen(  # noqa: S603
            [_DOVECOT, "-F", "-c", self.base / "dovecot.conf"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **(as_owner if os.getuid() == 0 else {}),  # type: ignore[arg-type]
        )
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and self._process.poll() is None:
            with (
                suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 1) as connection,
            ):
                if connection.recv(100).startswith(b"* OK"):
                    return
            time.sleep(0.02)
        log = self.base / "log/dovecot.log"
        raise RuntimeError(log.read_text() if log.exists() else "Dovecot did not start")

    def crash(self) -> None:
        """Kill it and all its children."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        (self.base / "run/master.pid").unlink(missing_ok=True)

    def allow(self, folder: str, rights: str) -> None:
        """Set the owner's rights on a folder (RFC 4314): "lr" refuses APPEND with NOPERM."""
        acl = self.base / "mail" / self.user / "Maildir" / f".{folder}" / "dovecot-acl"
        acl.write_text(f"owner {rights}\n", encoding="utf-8")
        self.give_away(acl)


class CuttingProxy:
    """A TCP proxy that cuts the line when an APPEND was done and before its answer comes back.

    Args:
        port: The IMAP server behind it.
        cuts: How many of the first APPENDs lose their answer.
    """

    host = "127.0.0.1"

    def __init__(self, port: int, cuts: int = 1) -> None:
        self._target, self.cuts = port, cuts
        self._listener = socket.create_server((self.host, 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for one
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((self.host, self._target))
                seen: list[bytes] = []
                for each in (self._upwards, self._downwards):
                    thread = threading.Thread(target=each, args=(client, server, seen), daemon=True)
                    thread.start()

    def _upwards(self, client: socket.socket, server: socket.socket, seen: list[bytes]) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                tag, _, command = data.partition(b" ")
                if command.startswith(b"APPEND"):
                    seen.append(tag)
                server.sendall(data)
        _hang_up(server)

    def _downwards(self, client: socket.socket, server: socket.socket, seen: list[bytes]) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if self.cuts and any(tag + b" OK" in data for tag in seen):
                    self.cuts -= 1
                    break
                client.sendall(data)
        _hang_up(client)
        _hang_up(server)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def emptied_account(server: Server, *folders: str) -> Iterator[IMAPClient]:
    """Leave an account with INBOX and these folders, empty; give another program's connection."""
    client = IMAPClient(server.host, port=server.port, ssl=False, timeout=20)
    client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        client.plain_login(server.user, server.password)
        for attributes, _, name in client.list_folders():
            if name != "INBOX" and not {b"\\Noselect", b"\\NonExistent"} & set(attributes):
                client.delete_folder(name)
        for name in folders:
            client.create_folder(name)
        yield client
    finally:
        client.logout()


def make_certificate(certificate: Path, key: Path) -> None:
    """Make a self-signed certificate for localhost; the test is skipped without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run(  # noqa: S603
        ["openssl", "req", "-x509", "-days", "2", *curve, *names, *files],  # noqa: S607
        check=True,
        capture_output=True,
    )


@pytest.fixture
def emptied() -> Callable[..., AbstractContextManager[IMAPClient]]:
    """Return `emptied_account`."""
    return emptied_account


@pytest.fixture(scope="session")
def demo_server() -> Iterator[DemoServer]:
    """Serve one mailbox by the embedded server; tests of one session share it."""
    with DemoServer("jen@example.org", 'se"k\\ret ü') as server:
        yield server


@pytest.fixture(scope="session")
def dovecot() -> Iterator[Dovecot]:
    """Serve one mailbox by Dovecot; tests of one session share it."""
    if not _DOVECOT.exists():
        pytest.skip(
            "needs Dovecot 2.3: apt-get install --no-install-recommends dovecot-imapd openssl"
        )
    version = subprocess.run(  # noqa: S603
        [_DOVECOT, "--version"], capture_output=True, text=True, check=True
    )
    if not version.stdout.startswith("2.3."):
        pytest.skip(f"needs Dovecot 2.3 for its configuration, found {version.stdout.strip()}")
    # pytest's own folders are closed to nobody, and paths of sockets must be short.
    base = Path(tempfile.mkdtemp(prefix="panza-dovecot-"))
    server = Dovecot(base)
    try:
        base.chmod(0o755)
        server.prepare()
        server.start()
        yield server
    finally:
        server.crash()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(name="certificate", scope="session")
def _certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a self-signed certificate for localhost and its key."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def cutting_proxy(demo_server: DemoServer) -> Iterator[CuttingProxy]:
    """Stand between a client and the embedded server, and cut the answer to the first APPEND."""
    proxy = CuttingProxy(demo_server.port)
    yield proxy
    proxy.close()


_TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are the bytes, and three special ones."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    made.chat_template = _TEMPLATE
    return made


def _tiny_model(seed: int = 0, dtype: torch.dtype | None = None) -> LanguageModel:
    """Return a Llama of two layers; equal for equal seeds."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from trainer.base_model import LanguageModel

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.15,  # large enough for a frozen head to tell states apart
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    dtype = dtype or torch.float32
    model = LlamaForCausalLM(config).to(dtype)
    model.requires_grad_(requires_grad=False)
    model.eval()
    return LanguageModel(
        model=model,
        tokenizer=_byte_tokenizer(),
        name="tiny",
        hash=f"{seed:064x}",
        device=torch.device("cpu"),
        dtype=dtype,
        context_length=1024,
    )


@pytest.fixture
def tiny() -> LanguageModel:
    """A tiny model, fresh for each test."""
    return _tiny_model()


@pytest.fixture
def make_tiny() -> Callable[..., LanguageModel]:
    """The function that makes tiny models, for tests that need several."""
    return _tiny_model
