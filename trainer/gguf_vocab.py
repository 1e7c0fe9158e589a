"""A transformers tokenizer as the metadata of a GGUF file, so that llama.cpp splits text alike.

llama.cpp has its own tokenizers. A GGUF file names one (``tokenizer.ggml.model``), how it cuts text
before merging (``tokenizer.ggml.pre``), and the vocabulary. What has no exact counterpart there is
refused: a model that reads other tokens than it was trained on writes worse, and nothing tells.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gguf import TokenType
from tokenizers import Tokenizer
from tokenizers.models import BPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gguf import GGUFWriter
    from transformers import PreTrainedTokenizerBase

_SPACE = "\u2581"  # what SentencePiece writes for a space
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_TEKKEN = (
    rf"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How text is cut, and whether a piece that is a token is taken whole: llama.cpp's name for it.
_CUTS = {
    (rf"{_CONTRACTIONS}|\p{{N}}{{1,3}}{_REST}", True): "llama-bpe",
    (rf"{_CONTRACTIONS}|\p{{N}}{{1,3}}{_REST}", False): "dbrx",
    (rf"{_CONTRACTIONS}|\p{{N}}{_REST}", False): "qwen2",
    (_TEKKEN, True): "tekken",
}


class UnknownTokenizerError(ValueError):
    """A tokenizer that llama.cpp has no exact counterpart of; the text says which part."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer.

    Attributes:
        model: ``gpt2`` for byte-level BPE, ``llama`` for BPE as SentencePiece does it.
        pre: How text is cut before tokens are merged.
        tokens: Every token by its id.
        types: What kind of token each is, as `gguf.TokenType`.
        merges: For ``gpt2``: the merges, the first first.
        scores: For ``llama``: the token with the highest score is merged first.
        options: Further keys of metadata, booleans, strings and ids.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[TokenType]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    options: dict[str, bool | str | int] = field(default_factory=dict)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, size: int) -> Vocabulary:
        """Return the vocabulary of a tokenizer.

        Args:
            tokenizer: A fast one, as transformers 5 has no others.
            size: How many tokens the model knows; more than the tokenizer has, at times.

        Raises:
            UnknownTokenizerError: llama.cpp would cut text in another way.
        """
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UnknownTokenizerError(f"{type(tokenizer).__name__} has no tokenizer.json")
        spec = json.loads(backend.to_str())
        if spec["model"]["type"] != "BPE":
            raise UnknownTokenizerError(f"its model is {spec['model']['type']}, not BPE")
        options = _options(tokenizer)
        if spec["model"].get("byte_fallback"):
            tokens, types = _tokens(spec, size, spaces=True)
            options["add_space_prefix"] = _space_prefix(spec, tokenizer)
            return cls(
                "llama", "default", tokens, types, scores=_scores(spec, tokens), options=options
            )
        tokens, types = _tokens(spec, size, spaces=False)
        merges = [" ".join(pair) for pair in _merges(spec)]
        return cls("gpt2", _cut(spec), tokens, types, merges=merges, options=options)

    def add_to(self, writer: GGUFWriter) -> None:
        """Write it into the metadata of a GGUF file."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.scores:
            writer.add_token_scores(self.scores)
        if self.merges:
            writer.add_token_merges(self.merges)
        for name, value in self.options.items():
            key = name if name == "chat_template" else f"ggml.{name}"
            _ADD[type(value)](writer, f"tokenizer.{key}", value)


def _add_bool(writer: GGUFWriter, key: str, value: Any) -> None:  # noqa: ANN401
    writer.add_bool(key, value)


def _add_id(writer: GGUFWriter, key: str, value: Any) -> None:  # noqa: ANN401
    writer.add_uint32(key, value)


def _add_text(writer: GGUFWriter, key: str, value: Any) -> None:  # noqa: ANN401
    writer.add_string(key, value)


_ADD = {bool: _add_bool, int: _add_id, str: _add_text}


def _options(tokenizer: PreTrainedTokenizerBase) -> dict[str, bool | str | int]:
    """Return special tokens, whether they are added to a text, and the chat format."""
    ids = list(tokenizer("a")["input_ids"])
    found: dict[str, bool | str | int] = {
        "add_bos_token": tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id,
        "add_eos_token": tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id,
    }
    special = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "unknown": tokenizer.unk_token_id,
        "padding": tokenizer.pad_token_id,
    }
    found |= {f"{name}_token_id": int(i) for name, i in special.items() if i is not None}
    template: Any = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
    return found | ({"chat_template": template} if template else {})


def _tokens(spec: dict[str, Any], size: int, *, spaces: bool) -> tuple[list[str], list[TokenType]]:
    """Return all tokens by their id, and their kinds.

    Args:
        spec: The tokenizer.
        size: How many there are to be.
        spaces: Whether a space stands as `_SPACE` in the vocabulary, and bytes as ``<0x0A>``.
    """
    tokens = [f"[PAD{i}]" for i in range(size)]
    types = [TokenType.UNUSED] * size
    unknown = spec["model"].get("unk_token")
    for token, i in _placed(spec["model"]["vocab"].items(), size):
        tokens[i] = token
        types[i] = TokenType.BYTE if spaces and _is_byte(token) else TokenType.NORMAL
        if token == unknown and spaces:
            types[i] = TokenType.UNKNOWN
    for token, i in _placed(((t["content"], t["id"]) for t in spec["added_tokens"]), size):
        tokens[i] = token
    for added in spec["added_tokens"]:
        i = added["id"]
        if added["special"]:
            types[i] = TokenType.UNKNOWN if types[i] == TokenType.UNKNOWN else TokenType.CONTROL
        else:
            # llama.cpp looks for these in the text as it is, before spaces become anything else.
            tokens[i] = tokens[i].replace(_SPACE, " ") if spaces else tokens[i]
            types[i] = TokenType.USER_DEFINED
    return tokens, types


def _placed(items: Any, size: int) -> Iterator[tuple[str, int]]:  # noqa: ANN401
    for token, i in items:
        if i >= size:
            raise UnknownTokenizerError(f"it has a token {i}, and the model knows {size} tokens")
        yield token, i


def _merges(spec: dict[str, Any]) -> list[tuple[str, str]]:
    found = spec["model"]["merges"]
    return [tuple(m.split(" ") if isinstance(m, str) else m) for m in found]


def _cut(spec: dict[str, Any]) -> str:
    """Return llama.cpp's name for how a byte-level tokenizer cuts text."""
    normalizer = spec["normalizer"]
    if normalizer and normalizer["type"] != "NFC":  # mail is in NFC, but for the rarest
        raise UnknownTokenizerError(f"it normalises text by {normalizer['type']}")
    steps = _steps(spec["pre_tokenizer"], "pretokenizers")
    last = steps.pop() if steps else {}
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        raise UnknownTokenizerError("it is neither byte-level BPE nor SentencePiece's")
    whole = bool(spec["model"].get("ignore_merges"))
    found = None
    if last["use_regex"] and not whole and normalizer is None:
        if not steps:
            found = "gpt-2"
        elif steps == [{"type": "Digits", "individual_digits": True}]:
            found = "smollm"
    elif not last["use_regex"] and [(s["type"], s.get("behavior")) for s in steps] == [
        ("Split", "Isolated")
    ]:
        expression = steps[0]["pattern"].get("Regex", "")
        found = _CUTS.get((expression, whole))
        if found is None and _merges_reach_all(spec):
            found = _CUTS.get((expression, not whole))
    if found is None:
        raise UnknownTokenizerError("it cuts text in a way that has no known name in llama.cpp")
    return found


def _merges_reach_all(spec: dict[str, Any]) -> bool:
    """Return whether merging makes one token of each token's text: none need be looked up then."""
    added = {token["content"] for token in spec["added_tokens"]}
    vocabulary = spec["model"]["vocab"]
    merging = Tokenizer(BPE(vocabulary, _merges(spec)))
    tokens = [token for token in vocabulary if token not in added]
    return all(len(found) == 1 for found in merging.encode_batch(tokens))


def _space_prefix(spec: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a SentencePiece tokenizer puts a space before a text.

    llama.cpp puts it at the start and behind each special token, as does a ``Prepend`` and the
    scheme ``always``. The scheme ``first`` puts it at the start alone, where a chat format has a
    special token: what is exact there is then to put none.
    """
    before = [
        tuple(step.get(key) for key in ("type", "prepend"))
        if step["type"] == "Prepend"
        else (step["type"], step.get("content"))
        for step in _steps(spec["normalizer"], "normalizers")
    ]
    cuts = _steps(spec["pre_tokenizer"], "pretokenizers")
    if before == [("Prepend", _SPACE), ("Replace", _SPACE)] and not cuts:
        return True
    if before == [("Replace", _SPACE)] and [c["type"] for c in cuts] in ([], ["Split"]):
        return False  # Gemma: no space is left that the split could find
    if not before and [c["type"] for c in cuts] == ["Metaspace"] and not cuts[0].get("split"):
        scheme = cuts[0]["prepend_scheme"]
        return bool(scheme == "always" or (scheme == "first" and not tokenizer.chat_template))
    raise UnknownTokenizerError("it prepares text in a way that llama.cpp does not know")


def _scores(spec: dict[str, Any], tokens: list[str]) -> list[float]:
    """Return scores by which llama.cpp merges in the order of the merges.

    SentencePiece merges two neighbours whenever they make a token, the token with the best score
    first, and of equal ones the leftmost. A list of merges says the same if none is missing, and
    if all ways to make a token stand together. Runs of spaces, or of another character, may stand
    among each other: they have one score in many vocabularies, and grow from the left either way.
    Tokens that are looked for before anything is merged do not matter.
    """
    added = {token["content"] for token in spec["added_tokens"]}
    places: dict[str, list[int]] = {}
    for place, (left, right) in enumerate(_merges(spec)):
        if left + right not in added:
            places.setdefault(left + right, []).append(place)
    _require_all_ways(spec, places, added)
    found: dict[str, float] = {}
    score, last, runs = 0, -1, True
    for token, at in sorted(places.items(), key=lambda item: item[1][0]):
        run = len(set(token)) == 1
        if at[0] > last:
            score, runs = -at[0], run
        elif not (run and runs):
            raise UnknownTokenizerError(f"its ways to make the token {token!r} are not in a row")
        last = max(last, at[-1])
        found[token] = float(score)
    return [found.get(token, 0.0) for token in tokens]


def _require_all_ways(spec: dict[str, Any], places: dict[str, list[int]], added: set[str]) -> None:
    """Check that two tokens that make a token are merged."""
    known = {token for token in spec["model"]["vocab"] if not _is_byte(token)} - added
    for token in known:
        ways = sum(token[:i] in known and token[i:] in known for i in range(1, len(token)))
        if len(places.get(token, ())) < ways:
            raise UnknownTokenizerError(f"its merges leave out a way to make the token {token!r}")


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x")  # noqa: PLR2004


def _steps(part: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    """Return the steps of a normalizer or pre-tokenizer, one or a sequence of them."""
    if part is None:
        return []
    return list(part[inner]) if part["type"] == "Sequence" else [part]
