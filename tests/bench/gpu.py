"""Our RoSA on one GPU at the shapes of Mistral-7B-v0.3 and Llama-3-8B: time and memory.

    python -m venv env
    env/bin/pip install torch==2.13.0 transformers==5.23.0 peft==0.21.2 safetensors jinja2 \
        bitsandbytes
    env/bin/python tests/bench/gpu.py [--shapes mistral-7b llama-3-8b] [--row 640] [--full]

These packages and this repository are all it needs: no checkpoint, no tokenizer, no network. Time
and memory do not depend on what the weights are, so they are random, as the token ids are; the
lengths of the mails are those of people's mail with its prompt. What is timed is the real
training's mask and step: packing, attention mail by mail, the loss in chunks, AdamW, S in W.

The job is 1000 mails of 200 tokens, 5 epochs: 1.0 M tokens. Its time is told from ``--steps``
steps, or is that of all of it with ``--full``. ``--row`` bounds the memory: rows of 640 tokens
should fit beside 8B parameters in 22 GiB. ``--recompute`` computes each layer again in backward,
for far longer rows; ``--compile`` compiles the layers, which takes a while, and should spare both
time and memory. ``--shapes tiny --device cpu`` only shows that the script works.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transformers import PreTrainedModel

    from trainer.examples import Example

MAILS, EPOCHS, TOKENS, BATCH = 1000, 5, 200, 8
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral-7b": (
        "MistralConfig",
        {
            "vocab_size": 32768,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 32768,
            "sliding_window": None,
        },
    ),
    "llama-3-8b": (
        "LlamaConfig",
        {
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 8192,
        },
    ),
    "tiny": (
        "LlamaConfig",
        {
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What steps of one kind came to.

    Attributes:
        seconds: A step.
        tokens: Those of a step.
        allocated: The most bytes of tensors, 0 where that is not known.
        reserved: The most bytes that torch held.
    """

    seconds: float
    tokens: float
    allocated: int
    reserved: int


class Bench:
    """One model's measurements."""

    def __init__(self, chosen: argparse.Namespace, name: str) -> None:
        self.chosen, self.name = chosen, name
        self.device = torch.device(chosen.device)
        self.cuda = self.device.type == "cuda"
        self.steps: dict[str, Measured] = {}

    def run(self) -> None:
        """Measure all and print it."""
        from support.flops import Products, Work

        self.say(f"rows of {self.chosen.row}{', recomputed' * self.chosen.recompute}")
        model = self.model(quantised=False)
        work = Work(model)
        some = mails(self.chosen.row, model.config.vocab_size)
        batch = some[:BATCH]
        learned = sum(len(one.tokens) - one.learned for one in batch)
        size = sum(len(one.tokens) for one in batch)
        rate, _ = Products(work, size, learned, torch.bfloat16, self.chosen.device).rates()
        self.ours("bf16", model, some)
        self.ours("LoRA in bf16", model, some)
        self.peft(model, some)
        useful = sum(
            work.of(some[i : i + BATCH], rank=8, sparse=True) for i in range(0, len(some), BATCH)
        )
        per_token = useful / sum(len(one.tokens) for one in some)
        done = self.steps["bf16"].tokens / self.steps["bf16"].seconds * per_token
        self.say(
            f"{done / 1e12:.3g} TFLOP/s of {rate / 1e12:.3g} by torch.mm at these shapes: "
            f"{done / rate:.2f} of it, {done / 989e12:.2f} of an H100's 989 on paper"
        )
        self.compare("bf16", "LoRA in bf16", "1.6")
        self.compare("bf16", "PEFT's LoRA in bf16", "1.6")
        del model
        if importlib.util.find_spec("bitsandbytes") is None:
            self.say("4-bit skipped: there is no bitsandbytes")
            return
        self.ours("4-bit", self.model(quantised=True), some)
        self.compare("4-bit", "bf16", "1.25")

    def say(self, text: str) -> None:
        """Print a line."""
        print(f"{self.name}: {text}", flush=True)

    def compare(self, one: str, other: str, bar: str) -> None:
        """Print a ratio of two kinds of steps."""
        seconds = self.steps[one].seconds, self.steps[other].seconds
        self.say(f"a step of {one} / {other}: {seconds[0] / seconds[1]:.2f}; bar {bar}")

    def model(self, *, quantised: bool) -> PreTrainedModel:
        """Make a model with random weights on the device, a module at a time."""
        import transformers

        kind, shape = SHAPES[self.name]
        config = getattr(transformers, kind)(**shape)
        with torch.device("meta"):
            model: PreTrainedModel = transformers.AutoModelForCausalLM.from_config(
                config, dtype=torch.bfloat16, attn_implementation="sdpa"
            )
        rotary: Any = model.model.rotary_emb
        model.model.rotary_emb = type(rotary)(config).to(self.device)
        for module in list(model.modules()):
            for name, parameter in list(module.named_parameters(recurse=False)):
                if quantised and type(module) is nn.Linear and module is not model.lm_head:
                    continue
                made = torch.empty(parameter.shape, dtype=torch.bfloat16, device=self.device)
                made = made.normal_(0, 0.02) if made.dim() > 1 else made.fill_(1)
                setattr(module, name, nn.Parameter(made, requires_grad=False))
        for module in list(model.modules()) if quantised else ():
            for name, layer in list(module.named_children()):
                if type(layer) is nn.Linear and layer is not model.lm_head:
                    setattr(module, name, in_4_bits(layer, self.device))
        if quantised:
            model.is_loaded_in_4bit = True  # what transformers notes of such a model
        return model.eval()

    def ours(self, name: str, model: PreTrainedModel, some: list[Example]) -> None:
        """Time our mask and our steps."""
        from support.peers import Ours

        from trainer.base_model import LanguageModel

        lm = LanguageModel(
            model=model,
            tokenizer=None,  # type: ignore[arg-type]  # the mails are in tokens already
            name=self.name,
            hash="0" * 64,
            device=self.device,
            dtype=torch.bfloat16,
            context_length=model.config.max_position_embeddings,
        )
        self.settle()
        density = 0.0 if "LoRA" in name else 0.01
        side = Ours(lm, self.chosen.row, density=density, recompute=self.chosen.recompute)
        begun, before = self.now(), _memory("VmRSS:")
        side.choose_masks(some[:BATCH])
        if density:
            seconds, host = self.now() - begun, max(0, _memory("VmHWM:") - before)
            self.say(
                f"{name}, mask: {seconds:.2f} s; bar 5. Host memory {host / 1e9:.2f} GB more; bar 2"
            )
        layers = side.rosa.base.model.layers if self.chosen.compile else ()
        for layer in layers:
            layer.compile(dynamic=True)
        self.time(name, side.step, some, bar=name if density else "")
        for layer in layers:
            layer._compiled_call_impl = None
        side.rosa.unload()

    def peft(self, model: PreTrainedModel, some: list[Example]) -> None:
        """Time the steps of PEFT's own LoRA."""
        from support.peers import Peer, lora

        from trainer.base_model import LanguageModel

        head = model.get_output_embeddings()
        names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head]
        lm = LanguageModel(model, None, "", "", self.device, torch.bfloat16, 0)  # type: ignore[arg-type]
        self.settle()
        side = Peer(lm, self.chosen.row, lora(names))
        if self.chosen.recompute:
            model.activation_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        self.time("PEFT's LoRA in bf16", side.step, some)
        side.model.unload()
        model.requires_grad_(requires_grad=False)

    def time(
        self,
        name: str,
        step: Callable[[Sequence[Example]], None],
        some: list[Example],
        bar: str = "",
    ) -> None:
        """Time steps, after some that warm up."""
        whole = [some[i : i + BATCH] for i in range(0, len(some), BATCH)]
        for batch in whole[: self.chosen.warm]:
            step(batch)
        batches = [batch for _ in range(EPOCHS) for batch in whole]
        if not self.chosen.full or not bar:
            batches = batches[: self.chosen.steps]
        begun = self.now()
        for batch in batches:
            step(batch)
        seconds = self.now() - begun
        tokens = sum(len(one.tokens) for batch in batches for one in batch)
        peak = (0, 0)
        if self.cuda:
            peak = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        measured = Measured(seconds / len(batches), tokens / len(batches), *peak)
        self.steps[name] = measured
        whole_job = MAILS * EPOCHS * TOKENS * seconds / tokens
        bars = {"bf16": ("; bar 110, stretch 80", "; bar 22"), "4-bit": ("", "; bar 11")}
        of_time, of_memory = bars.get(bar, ("", ""))
        self.say(
            f"{name}: {1000 * measured.seconds:.0f} ms a step of {measured.tokens:.0f} tokens, "
            f"{tokens / seconds:.0f} tokens/s, 1.0 M tokens in {whole_job:.0f} s "
            f"({'all' if len(batches) > self.chosen.steps else 'from'} {len(batches)} steps)"
            f"{of_time}. Peak {peak[0] / 2**30:.1f} GiB of tensors, {peak[1] / 2**30:.1f} held"
            f"{of_memory}"
        )

    def settle(self) -> None:
        """Forget the peaks that were."""
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the largest resident set

    def now(self) -> float:
        """Return the time at which all that was asked for is done."""
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


def in_4_bits(layer: nn.Linear, device: torch.device) -> nn.Module:
    """Return a layer of the same shape in nf4 with double quantisation, its weights random."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    shape = layer.out_features, layer.in_features
    with torch.device("meta"):
        made = Linear4bit(*reversed(shape), bias=False, compute_dtype=torch.bfloat16)
    dense = torch.empty(shape, dtype=torch.bfloat16, device=device).normal_(0, 0.02)
    made.weight = Params4bit(dense, requires_grad=False, quant_type="nf4", module=made).to(device)
    return made


def mails(row: int, vocabulary: int) -> list[Example]:
    """Return mails of random tokens, as long as people's with their prompts: 200 on average."""
    from trainer.examples import Example

    dice = random.Random(0)
    sizes = [dice.lognormvariate(5.2, 0.45) for _ in range(MAILS)]
    scale = TOKENS * MAILS / sum(sizes)
    made = []
    for number, size in enumerate(sizes):
        count = max(24, min(row, round(size * scale)))
        tokens = tuple(dice.choices(range(3, vocabulary), k=count))
        made.append(Example(str(number), tokens, learned=count * 2 // 5, words=count * 2 // 5 + 6))
    return made


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _lacks(chosen: argparse.Namespace) -> Iterator[str]:
    if chosen.device == "cuda" and not torch.cuda.is_available():
        yield "a GPU that torch sees"


def main() -> None:
    """Run the bench and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["mistral-7b", "llama-3-8b"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--row", type=int, default=640, help="the most tokens in one row")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warm", type=int, default=5)
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--full", action="store_true", help="all of the job, in bf16 and 4-bit")
    chosen, _ = parser.parse_known_args()  # `make bench` gives the same words to all
    if lacking := list(_lacks(chosen)):
        print(f"skipped: lacks {', '.join(lacking)}")
        return
    if chosen.device == "cuda":
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    for name in chosen.shapes:
        Bench(chosen, name).run()


if __name__ == "__main__":
    main()
