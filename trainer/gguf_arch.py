"""Model architectures as llama.cpp knows them: hyperparameters, and how it stores tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gguf
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from gguf import GGUFWriter
    from torch import Tensor
    from transformers import PreTrainedConfig

_GEMMA_27B = {46, 62}  # layers of Gemma 2 and 3 with 27 B, which llama.cpp scales differently


class UnknownModelError(ValueError):
    """A model that llama.cpp would not compute as transformers does; the text says why."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """How llama.cpp stores and computes a family of models.

    Attributes:
        arch: Its name there.
        activation: The activation function that it computes with.
        interleaved: Whether the rows of q and k are stored for a rotary embedding of neighbours,
            as Meta's own code has it, where transformers rotates the two halves of a head.
        norm_shift: What is added to the weights of the norms.
        check: Raises `UnknownModelError` for a configuration that is computed differently there.
    """

    arch: gguf.MODEL_ARCH
    activation: str = "silu"
    interleaved: bool = False
    norm_shift: float = 0.0
    check: Callable[[PreTrainedConfig], None] = lambda _config: None

    def stored(self, name: str, tensor: Tensor, config: PreTrainedConfig) -> Tensor:
        """Return a tensor in the order and with the values that llama.cpp expects.

        Args:
            name: Its name in transformers.
            tensor: Its values, fp32.
            config: The model's configuration.
        """
        if self.norm_shift and name.endswith("norm.weight"):
            return tensor + self.norm_shift
        module = name.rpartition(".")[0]
        if self.interleaved and module.endswith(("q_proj", "k_proj")):
            queries = module.endswith("q_proj")
            heads = config.num_attention_heads if queries else config.num_key_value_heads
            return (
                tensor.reshape(heads, 2, -1, *tensor.shape[1:])
                .transpose(1, 2)
                .reshape(tensor.shape)
            )
        return tensor


def _gemma2(config: PreTrainedConfig) -> None:
    _require_pattern(config, 2)
    _require_gemma_scale(config)


def _gemma3(config: PreTrainedConfig) -> None:
    _require_pattern(config, 6)
    _require_gemma_scale(config)
    if getattr(config, "attn_logit_softcapping", None):
        raise UnknownModelError("it caps the logits of attention")
    if getattr(config, "use_bidirectional_attention", False):
        raise UnknownModelError("its attention looks ahead")


def _require_pattern(config: PreTrainedConfig, period: int) -> None:
    kinds = ["sliding_attention"] * (period - 1) + ["full_attention"]
    wanted = [kinds[i % period] for i in range(config.num_hidden_layers)]
    if list(config.layer_types) != wanted:
        raise UnknownModelError("its layers of sliding attention are not where Gemma's are")


def _require_gemma_scale(config: PreTrainedConfig) -> None:
    size = config.head_dim
    if config.num_hidden_layers in _GEMMA_27B:
        size = config.hidden_size // config.num_attention_heads
    if config.query_pre_attn_scalar != size:
        raise UnknownModelError("it scales attention differently from Gemma")


ARCHITECTURES = {
    "llama": Architecture(gguf.MODEL_ARCH.LLAMA, interleaved=True),
    "mistral": Architecture(gguf.MODEL_ARCH.LLAMA, interleaved=True),
    "qwen2": Architecture(gguf.MODEL_ARCH.QWEN2),
    "qwen3": Architecture(gguf.MODEL_ARCH.QWEN3),
    "gemma2": Architecture(
        gguf.MODEL_ARCH.GEMMA2, "gelu_pytorch_tanh", norm_shift=1.0, check=_gemma2
    ),
    "gemma3_text": Architecture(
        gguf.MODEL_ARCH.GEMMA3, "gelu_pytorch_tanh", norm_shift=1.0, check=_gemma3
    ),
}


def architecture(config: PreTrainedConfig) -> Architecture:
    """Return how llama.cpp stores and computes a model.

    Raises:
        UnknownModelError: Not as transformers does, or this is not known.
    """
    found = ARCHITECTURES.get(config.model_type)
    if found is None:
        names = ", ".join(sorted(ARCHITECTURES))
        raise UnknownModelError(f"its architecture is {config.model_type}, and known are {names}")
    values = {getattr(config, name, None) for name in ("hidden_act", "hidden_activation")} - {None}
    if found.activation not in values:
        raise UnknownModelError(f"its activation is {', '.join(sorted(map(str, values)))}")
    found.check(config)
    return found


def add_hyperparameters(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    """Write what llama.cpp has to know of a model into the metadata of a GGUF file.

    Raises:
        UnknownModelError: Its rotary embedding is scaled in a way that is not known there.
    """
    head = head_size(config)
    writer.add_context_length(_context(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type.startswith("gemma"):
        writer.add_sliding_window(config.sliding_window)
        if config.final_logit_softcapping:
            writer.add_final_logit_softcapping(config.final_logit_softcapping)
        if config.attn_logit_softcapping:
            writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    _add_rope(writer, config)


def head_size(config: PreTrainedConfig) -> int:
    """Return the size of one attention head."""
    given = getattr(config, "head_dim", None)
    return int(given or config.hidden_size // config.num_attention_heads)


def extra_tensors(config: PreTrainedConfig) -> dict[str, Tensor]:
    """Return tensors that llama.cpp wants and a checkpoint does not hold, by llama.cpp's name.

    Raises:
        UnknownModelError: The rotary embedding is scaled so in a family that does not know it.
    """
    rope = _rope(config)
    if rope["rope_type"] != "llama3":
        return {}
    if ARCHITECTURES[config.model_type].arch != gguf.MODEL_ARCH.LLAMA:
        raise UnknownModelError("its rotary embedding is scaled as only Llama's may be")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    steps = torch.arange(0, head_size(config), 2, dtype=torch.float32) / head_size(config)
    return {"rope_freqs.weight": 1.0 / (rope["rope_theta"] ** steps) / scaled}


def _context(config: PreTrainedConfig) -> int:
    """Return how many tokens a model is for.

    llama.cpp knows no sliding window in these families but Gemma. Within the window attention is
    the same without one, so the window is the limit.
    """
    longest = int(config.max_position_embeddings)
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    if config.model_type.startswith("gemma") or not window or "sliding_attention" not in kinds:
        return longest
    return min(longest, int(window))


def _rope(config: PreTrainedConfig) -> dict[str, Any]:
    given: dict[str, Any] = config.rope_parameters
    full: dict[str, Any] = given.get("full_attention", given)
    return full


def _add_rope(writer: GGUFWriter, config: PreTrainedConfig) -> None:
    rope = _rope(config)
    kind = rope["rope_type"]
    writer.add_rope_freq_base(rope["rope_theta"])
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind not in {"default", "llama3"}:
        raise UnknownModelError(f"its rotary embedding is scaled by {kind}")
    sliding = config.rope_parameters.get("sliding_attention")
    if sliding:
        if sliding["rope_type"] != "default":
            raise UnknownModelError("the rotary embedding of its sliding attention is scaled")
        writer.add_rope_freq_base_swa(sliding["rope_theta"])
