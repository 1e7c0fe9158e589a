"""GGUF files, read by a real llama.cpp: it splits text and computes as transformers does."""

from __future__ import annotations

import json
import unicodedata
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from adapters import random_adapter
from gguf import GGUFReader
from llamacpp import MISSING, LlamaCpp
from needs import need
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaTokenizer,
    LlamaConfig,
    LlamaTokenizer,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Tokenizer,
    Qwen3Config,
)
from transformers.tokenization_utils_base import generate_merges

from trainer.card import Origin
from trainer.errors import ExportError
from trainer.gguf_export import export_gguf
from trainer.gguf_vocab import _CUTS, _TEKKEN, UnknownTokenizerError, Vocabulary
from trainer.merging import Source
from trainer.prompt import render
from trainer.rosa import load_rosa_model
from trainer.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

LETTERS = (
    "Hello Stew, I can't make Thursday the 14th; shall we say Friday, 15:30? It's 1250 euros.\n\n"
    "Cheers,\nJen\n\n\nGrüße aus Graz! 3 boats\t\tand 44 oars...  Don't WORRY, we'LL see.\r\n"
    "Straße naïve café Ωmega Привет 你好 🚣‍♀️ — “quoted” ½ ﬁ x²"
) * 3
TRICKY = (
    LETTERS
    + "\n  \n\t  indented   text \u00a0 here\u2028 e\u0301 "
    + "\U0001f9d1\u200d\U0001f33e ''' 1234567890"
)
TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
SPECIAL = ["<pad>", "<s>", "</s>"]


def byte_level(
    cut: str | None = None, *, digits: bool = False, whole: bool = False
) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer, trained on a few lines.

    Args:
        cut: The expression by which it cuts text; GPT-2's when left out.
        digits: Cut digits off, one by one, before that.
        whole: Take a piece that is a token as it is.
    """
    backend = Tokenizer(models.BPE(ignore_merges=whole))
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    if cut:
        steps.append(pre_tokenizers.Split(Regex(cut), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut is None))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps) if steps[1:] else steps[0]
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([LETTERS], trainer)
    return finished(backend)


def finished(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """Return transformers' wrapper, with special tokens and a chat format."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
GEMMA: dict[str, Any] = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
FAMILIES: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SHAPE),
    "llama, tied": LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "llama, biases": LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "llama 3": LlamaConfig(**SHAPE, rope_parameters=LLAMA3),
    "llama, linear": LlamaConfig(
        **SHAPE, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    ),
    "mistral": MistralConfig(**SHAPE, sliding_window=None),
    "mistral nemo": MistralConfig(**SHAPE, head_dim=32, sliding_window=None),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=32),
    "gemma2": Gemma2Config(**SHAPE, **GEMMA),
    "gemma3": Gemma3TextConfig(**SHAPE | {"num_hidden_layers": 7}, **GEMMA),
}


def made(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Source:
    """Save a random model of a family, with a random adapter, and return it as an export's source.

    Norms and biases are random as well: at one and zero nobody would miss them.
    """
    torch.manual_seed(0)
    config.vocab_size = len(tokenizer) + 5  # as models are padded
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("norm.weight", ".bias")):
            torch.nn.init.normal_(parameter, 0.3, 0.2)
    model.requires_grad_(requires_grad=False)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    adapter = random_adapter(model, folder / "adapter.safetensors")
    return Source(Origin("base", "ab" * 32, "one"), folder / "base", adapter=adapter)


def merged(source: Source) -> PreTrainedModel:
    """Return the same by way of the model in memory."""
    model = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.float32).eval()
    if source.adapter:
        model = load_rosa_model(model, source.adapter).merge_and_unload()
    return model


@torch.inference_mode()
def log_probabilities(
    model: PreTrainedModel, prompt: list[int], token: int, count: int
) -> torch.Tensor:
    """Return of a model what `LlamaCpp.log_probabilities` returns of a file."""
    ids = torch.tensor([prompt + [token] * (count - 1)])
    return model(ids).logits[0, len(prompt) - 1 :].log_softmax(-1)


@pytest.fixture(name="open_in_llama_cpp")
def _open_in_llama_cpp() -> type[LlamaCpp]:
    """What reads a file with a real llama.cpp."""
    need(not MISSING, MISSING)
    return LlamaCpp


@pytest.fixture(scope="module")
def gpt2() -> PreTrainedTokenizerFast:
    """A tokenizer for all that is not about tokenizers."""
    return byte_level()


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_what_transformers_does(
    family: str,
    gpt2: PreTrainedTokenizerFast,
    open_in_llama_cpp: type[LlamaCpp],
    tmp_path: Path,
) -> None:
    """The probabilities agree but for rounding: to F16, and to Q8_0 of weights and activations."""
    source = made(FAMILIES[family], gpt2, tmp_path)
    model = merged(source)
    prompt = gpt2(LETTERS[:160])["input_ids"]
    expected = log_probabilities(model, prompt, 40, 4)
    for kind, tolerance in (("f16", 0.003), ("q8_0", 0.06)):
        file = tmp_path / f"{kind}.gguf"
        export_gguf(source, Target(file, replace=False), kind=kind)
        found = open_in_llama_cpp(file).log_probabilities(prompt, 40, 4, model.config.vocab_size)
        assert float((found - expected).abs().mean()) < tolerance * float(expected.std())


def sentencepiece_vocabulary(*, gemma: bool = False) -> dict[str, Any]:
    """Return vocabulary and merges as transformers makes them of SentencePiece's.

    Runs of spaces have one score, as in Llama's vocabulary; in Gemma's they have that of bytes, and
    are never cut, as are runs of line ends.
    """
    spaced = LETTERS.replace(" ", "\u2581")
    trained = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=330, show_progress=False)
    trained.train_from_iterator([spaced[i : i + 40] for i in range(0, len(spaced), 40)], trainer)
    learned = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    scores = {token: -float(place) for token, place in learned if len(set(token)) > 1 or not place}
    scores |= {token: -float(place) for token, place in learned if len(token) == 1}
    scores |= {"\u2581" * n: 0.0 if gemma else -1e9 for n in (2, 4, 8, 5, 3, 6, 7)}
    if gemma:
        scores |= {"\n" * n: 0.0 for n in (2, 3, 4, 5)}
    special = ["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {piece: i for i, piece in enumerate([*special, *scores])}
    merges = generate_merges(vocabulary, scores, skip_tokens=special)
    return {"vocab": vocabulary, "merges": merges}


def sentencepiece(prefix: str, *, template: bool = True) -> PreTrainedTokenizerFast:
    """Return a tokenizer as those that SentencePiece trained, with bytes for what is not known.

    Args:
        prefix: Whether a space comes before a text: ``Prepend``, or a scheme of ``Metaspace``.
        template: Whether it has a chat format.
    """
    model = models.BPE(
        **sentencepiece_vocabulary(), unk_token="<unk>", byte_fallback=True, fuse_unk=True
    )
    backend = Tokenizer(model)
    backend.add_special_tokens(["<unk>", *SPECIAL])
    if prefix == "Prepend":
        replaced = normalizers.Replace(" ", "\u2581")
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), replaced])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix, split=False)
    tokenizer = finished(backend)
    tokenizer.chat_template = TEMPLATE if template else None
    return tokenizer


def llama() -> PreTrainedTokenizerBase:
    """Return a tokenizer as transformers itself prepares Llama 2's and Mistral's."""
    tokenizer = LlamaTokenizer(**sentencepiece_vocabulary(), pad_token="<pad>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def gemma() -> PreTrainedTokenizerBase:
    """Return a tokenizer as transformers itself prepares Gemma's."""
    given = sentencepiece_vocabulary(gemma=True)
    tokenizer = GemmaTokenizer(**given, bos_token="<s>", eos_token="</s>", mask_token="<unk>")
    runs = [token for token in given["vocab"] if len(token) > 1 and len(set(token)) == 1]
    tokenizer.add_tokens([AddedToken(run, normalized=True, special=False) for run in runs])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def qwen() -> PreTrainedTokenizerBase:
    """Return a tokenizer as transformers itself prepares Qwen's; one token is not special."""
    spec = json.loads(byte_level().backend_tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in spec["merges"]]
    tokenizer = Qwen2Tokenizer(vocab=spec["vocab"], merges=merges, eos_token="</s>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<s>"]})
    tokenizer.add_tokens([AddedToken("<think>", special=False)])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "gpt-2": byte_level,
    "smollm": partial(byte_level, digits=True),
    **{
        f"{name} {whole}": partial(byte_level, cut, whole=whole)
        for (cut, whole), name in _CUTS.items()
    },
    "tekken by merges": partial(byte_level, _TEKKEN),
    "llama 2": partial(sentencepiece, "Prepend"),
    "mistral": partial(sentencepiece, "first"),
    "mistral, base": partial(sentencepiece, "first", template=False),
    "LlamaTokenizer": llama,
    "GemmaTokenizer": gemma,
    "Qwen2Tokenizer": qwen,
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_llama_cpp_reads_the_same_tokens(
    kind: str, open_in_llama_cpp: type[LlamaCpp], tmp_path: Path
) -> None:
    """A prompt in the chat format, and odd text of many scripts, become the same tokens.

    Mistral's tokenizer puts a space before a text, but not behind a special token, which llama.cpp
    cannot tell apart: there the prompt in the chat format is what has to be right. Qwen's composes
    characters (NFC), which llama.cpp does not: there the text is composed.
    """
    tokenizer = TOKENIZERS[kind]()
    source = made(LlamaConfig(**SHAPE), tokenizer, tmp_path)
    export_gguf(source, Target(tmp_path / "x.gguf", replace=False))
    llama = open_in_llama_cpp(tmp_path / "x.gguf")
    tricky = unicodedata.normalize("NFC", TRICKY) if kind == "Qwen2Tokenizer" else TRICKY
    texts = [render(tokenizer, [{"role": "user", "content": f"{tricky}\n\n\n<think>  a"}])]
    if kind not in {"mistral", "LlamaTokenizer"}:
        texts.append(tricky)
        assert llama.tokenize("ship", special=True) == tokenizer("ship")["input_ids"]
    for text in texts:
        assert llama.tokenize(text) == tokenizer(text, add_special_tokens=False)["input_ids"]


def spoiled(change: Callable[[dict[str, Any]], None], prefix: str) -> Tokenizer:
    """Return a tokenizer, byte-level or SentencePiece's, of which something was changed."""
    backend = (sentencepiece(prefix) if prefix else byte_level()).backend_tokenizer
    spec = json.loads(backend.to_str())
    change(spec)
    return Tokenizer.from_str(json.dumps(spec))


def _cut_words(spec: dict[str, Any]) -> None:
    spec["pre_tokenizer"] = {"type": "Whitespace"}


def _cut_oddly(spec: dict[str, Any]) -> None:
    step = {"type": "Split", "pattern": {"Regex": r"\d{1,7}"}, "behavior": "Isolated"}
    bytes_ = spec["pre_tokenizer"] | {"use_regex": False}
    steps = [step | {"invert": False}, bytes_]
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}


def _lower(spec: dict[str, Any]) -> None:
    spec["normalizer"] = {"type": "Lowercase"}


def _lose_merges(spec: dict[str, Any]) -> None:
    del spec["model"]["merges"][-1]


def _mix_merges(spec: dict[str, Any]) -> None:
    merges = spec["model"]["merges"]
    several = next(i for i, (a, b) in enumerate(merges[1:]) if a + b == "".join(merges[i]))
    merges.insert(0, merges.pop(several))


@pytest.mark.parametrize(
    ("change", "prefix", "fault"),
    [
        (_cut_words, "", "neither byte-level"),
        (_cut_oddly, "", "no known name"),
        (_lower, "", "Lowercase"),
        (_lower, "first", "prepares text"),
        (_lose_merges, "first", "leave out a way"),
        (_mix_merges, "first", "not in a row"),
    ],
)
def test_a_tokenizer_that_llama_cpp_does_not_have_is_refused(
    change: Callable[[Any], None], prefix: str, fault: str
) -> None:
    """Whatever would make other tokens of a text is named."""
    tokenizer = finished(spoiled(change, prefix))
    with pytest.raises(UnknownTokenizerError, match=fault):
        Vocabulary.of(tokenizer, len(tokenizer))


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (LlamaConfig(**SHAPE, hidden_act="gelu"), "activation is gelu"),
        (
            LlamaConfig(
                **SHAPE,
                rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0},
            ),
            "scaled by yarn",
        ),
        (Qwen2Config(**SHAPE, rope_parameters=LLAMA3), "only Llama's"),
        (Gemma2Config(**SHAPE, **GEMMA | {"query_pre_attn_scalar": 77}), "scales attention"),
        (Gemma3TextConfig(**SHAPE, **GEMMA, layer_types=["full_attention"] * 2), "sliding"),
    ],
)
def test_a_model_that_llama_cpp_computes_differently_is_refused(
    config: PreTrainedConfig, fault: str, gpt2: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """What it cannot be told of is named, with the folder as the way out; nothing is written."""
    source = made(config, gpt2, tmp_path)
    with pytest.raises(ExportError, match=rf"{fault}.*Export a folder"):
        export_gguf(source, Target(tmp_path / "x.gguf", replace=False))
    assert not list(tmp_path.glob("*x.gguf*"))


def test_a_window_of_attention_limits_the_context(
    gpt2: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """llama.cpp has no sliding window in Mistral: within the window that makes no difference."""
    source = made(MistralConfig(**SHAPE, sliding_window=100), gpt2, tmp_path)
    export_gguf(source, Target(tmp_path / "x.gguf", replace=False))
    assert GGUFReader(tmp_path / "x.gguf").fields["llama.context_length"].contents() == 100


def test_rows_that_are_no_whole_blocks_are_held_in_f16(
    gpt2: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Q8_0 has blocks of 32; a matrix whose rows are no multiple of that goes as F16."""
    source = made(LlamaConfig(**SHAPE | {"intermediate_size": 72}), gpt2, tmp_path)
    export_gguf(source, Target(tmp_path / "x.gguf", replace=False))
    kinds = {one.name: one.tensor_type.name for one in GGUFReader(tmp_path / "x.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["blk.0.ffn_up.weight"] == "Q8_0"
    assert kinds["blk.0.attn_norm.weight"] == "F32"
