"""What all tests share: a tiny model, and servers on loopback (pymap, and Dovecot where it is)."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import cyrus as cyrus_server
import dovecot as dovecot_server
import pytest
from certificates import self_signed
from faultproxy import Fault, FaultProxy
from imapclient import IMAPClient
from needs import fail_if_skipped, need

from daemon.demo.server import DemoServer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import torch
    from cyrus import Cyrus
    from dovecot import Dovecot
    from faultproxy import Server
    from transformers import PreTrainedTokenizerFast

    from trainer.base_model import LanguageModel

# Tiny models compute faster on one thread than on several that wait for each other. To be set
# before torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


_USES = {"Drafts": "\\Drafts", "Sent": "\\Sent", "Versandt": "\\Sent"}


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
            _create(client, name)
        yield client
    finally:
        client.logout()


def _create(client: IMAPClient, folder: str) -> None:
    """Create a folder, with its special use where the server does not give it by name."""
    if folder in _USES and client.has_capability("CREATE-SPECIAL-USE"):
        status, answer = client._imap.xatom("CREATE", f'"{folder}"', f"(USE ({_USES[folder]}))")
        assert status == "OK", answer
    else:
        client.create_folder(folder)


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
    need(not (lack := dovecot_server.missing()), lack)
    with dovecot_server.running() as server:
        yield server


@pytest.fixture
def make_dovecot() -> Iterator[Callable[..., Dovecot]]:
    """Return a function that starts a Dovecot of the test's own, with options of `Dovecot`."""
    need(not (lack := dovecot_server.missing()), lack)
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(dovecot_server.running(**options))


@pytest.fixture(scope="session")
def cyrus() -> Iterator[Cyrus]:
    """Serve one mailbox by Cyrus; tests of one session share it."""
    need(not (lack := cyrus_server.missing()), lack)
    with cyrus_server.running() as server:
        yield server


@pytest.fixture
def make_cyrus() -> Iterator[Callable[..., Cyrus]]:
    """Return a function that starts a Cyrus of the test's own, with options of `Cyrus`."""
    need(not (lack := cyrus_server.missing()), lack)
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(cyrus_server.running(**options))


@pytest.fixture(name="certificate", scope="session")
def _certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a self-signed certificate for localhost and its key."""
    leaf = self_signed(tmp_path_factory.mktemp("tls"))
    return leaf.certificate, leaf.key


@pytest.fixture
def cutting_proxy(demo_server: DemoServer) -> Iterator[FaultProxy]:
    """Stand between a client and the embedded server, and cut the answer to the first APPEND."""
    with FaultProxy(demo_server, {1: Fault.LOST}) as proxy:
        yield proxy


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that is skipped for want of an install where everything must be installed."""
    report = yield
    return fail_if_skipped(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that is skipped as a whole for the same reason."""
    report = yield
    return fail_if_skipped(report)


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


def _tiny_model(
    seed: int = 0, dtype: torch.dtype | None = None, hidden: int = 32, wide: int = 48, deep: int = 2
) -> LanguageModel:
    """Return a Llama of so many features, wider ones and layers; equal for equal seeds."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from trainer.base_model import LanguageModel

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=hidden,
        intermediate_size=wide,
        num_hidden_layers=deep,
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


@pytest.fixture(scope="session")
def make_tiny() -> Callable[..., LanguageModel]:
    """The function that makes tiny models, for tests that need several."""
    return _tiny_model
