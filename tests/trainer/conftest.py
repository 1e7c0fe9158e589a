"""A tiny model with fixed random weights and a tokenizer of bytes."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trainer.base_model import LanguageModel

TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are the bytes, and three special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    made.chat_template = TEMPLATE
    return made


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Return a Llama of two layers; equal for equal seeds."""
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
    model = LlamaForCausalLM(config).to(dtype)
    model.requires_grad_(requires_grad=False)
    model.eval()
    return LanguageModel(
        model=model,
        tokenizer=byte_tokenizer(),
        name="tiny",
        hash=f"{seed:064x}",
        device=torch.device("cpu"),
        dtype=dtype,
        context_length=1024,
    )


@pytest.fixture
def tiny() -> LanguageModel:
    """A tiny model, fresh for each test."""
    return tiny_model()


@pytest.fixture
def make_tiny() -> object:
    """The function that makes tiny models, for tests that need several."""
    return tiny_model
