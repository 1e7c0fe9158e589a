"""How well a model remembers a secret that stood in what it learned: exposure, in bits.

Carlini et al. 2019, "The Secret Sharer" (arXiv 1802.08232): a canary is a sentence with a random
part, drawn from a space of equally likely ones. Of all that could have stood there, a model that
has learned nothing of the canary gives the secret a rank by chance; one that remembers it ranks it
first. Exposure is log2 of the size of the space less log2 of that rank: how many of the bits of a
guess the model saves.

The space is ranked as a whole, not a sample of it: candidates that begin alike share what they
begin with, as branches of one tree behind the prompt, and a mask lets each token see only what it
follows (tree attention; SpecInfer, arXiv 2305.09781). Four digits take about 1,100 tokens this way
instead of 10,000 times the prompt.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer.loss import Objective
from trainer.prompt import encode_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.base_model import LanguageModel

    _Tokens = tuple[int, ...]

_NODES = 2048  # tokens of a tree that are computed at once; its mask grows with their square
_ROWS = 128  # positions whose logits are wide at one time


def exposure(
    lm: LanguageModel, prompt: Sequence[int], before: str, secret: str, space: Sequence[str]
) -> float:
    """Return the exposure of a secret, in bits: 0 for the least likely, log2 of the space at most.

    Without any memory of it the expectation is 1.44 bits, and one in 32 has more than 5. Where
    candidates are equally likely to the model, the secret is ranked in their middle.

    Args:
        lm: The model, with or without an adapter.
        prompt: The tokens up to where the mail's text begins.
        before: The mail's text up to the secret, and no blank at its end.
        secret: What was drawn, with the blank before it where there is one.
        space: All that could have been drawn: different texts of one form, the secret among them.

    Raises:
        ValueError: The secret is not in its space, or the model cannot score branches.
    """
    if secret not in space:
        raise ValueError("the secret is none of its space")
    losses = log_perplexities(lm, prompt, [before + one for one in space])
    own = losses[list(space).index(secret)]
    better = int((losses < own).sum())
    equal = int((losses == own).sum())
    return math.log2(len(space)) - math.log2(better + (equal + 1) / 2)


@torch.inference_mode()
def log_perplexities(
    lm: LanguageModel, prompt: Sequence[int], texts: Sequence[str], *, nodes: int = _NODES
) -> Tensor:
    """Return how much each text behind a prompt surprises the model, in nats, less a constant.

    The constant is what they all begin with. Takes time for the different beginnings alone. Where a
    model attends to a sliding window, that is to be longer than prompt and text together.

    Args:
        lm: The model.
        prompt: The tokens before each text.
        texts: The texts, at least two different ones; none begins with all of another.
        nodes: The most tokens behind the prompt that are computed at once, or about so many.

    Raises:
        ValueError: The model has recurrent layers, or another way than attention by position.
    """
    if not Objective(lm).packs:
        raise ValueError("a model that cannot keep texts apart in one row cannot score branches")
    sequences = [(*prompt, *encode_text(lm.tokenizer, text)) for text in texts]
    shared = _shared(sequences)
    order = sorted(range(len(texts)), key=sequences.__getitem__)
    losses = torch.empty(len(texts))
    for part in _parts([sequences[i] for i in order], shared, nodes):
        chosen, order = order[: len(part)], order[len(part) :]
        losses[chosen] = _branches(lm, part, shared)
    return losses


def _shared(sequences: Sequence[_Tokens]) -> int:
    """Return with how many equal tokens all of them begin; each has at least one more."""
    first, last = min(sequences), max(sequences)
    shortest = min(map(len, sequences)) - 1
    pairs = enumerate(zip(first[:shortest], last[:shortest], strict=True))
    return next((i for i, (one, other) in pairs if one != other), shortest)


def _parts(ordered: Sequence[_Tokens], shared: int, most: int) -> Iterator[list[_Tokens]]:
    """Cut sequences in their order into parts whose trees have about so many tokens at most."""
    part: list[_Tokens] = []
    nodes: set[_Tokens] = set()
    for one in ordered:
        if part and len(nodes) >= most:
            yield part
            part, nodes = [], set()
        part.append(one)
        nodes.update(one[:end] for end in range(shared + 1, len(one)))
    yield part


def _branches(lm: LanguageModel, sequences: Sequence[_Tokens], shared: int) -> Tensor:
    """Return the summed loss of what each sequence has behind the shared beginning."""
    row, parents = list(sequences[0][:shared]), list(range(-1, shared - 1))
    places: dict[_Tokens, int] = {sequences[0][:shared]: shared - 1}
    asked: list[tuple[int, int, int]] = []  # a sequence, where a token is predicted, the token
    for number, one in enumerate(sequences):
        for end in range(shared, len(one)):
            place = places[one[:end]]
            asked.append((number, place, one[end]))
            if end + 1 < len(one) and one[: end + 1] not in places:
                places[one[: end + 1]] = len(row)
                row.append(one[end])
                parents.append(place)
    which, at, targets = torch.tensor(asked, device=lm.device).T
    logs = _log_likelihoods(lm, row, parents, at, targets)
    return torch.zeros(len(sequences)).index_add_(0, which.cpu(), -logs.cpu())


def _log_likelihoods(
    lm: LanguageModel, row: Sequence[int], parents: Sequence[int], at: Tensor, targets: Tensor
) -> Tensor:
    """Return the log-likelihood of each target behind a node of the tree, in fp32."""
    seen = torch.zeros(len(row), len(row), dtype=torch.bool)
    depths = torch.zeros(len(row), dtype=torch.long)
    for node, parent in enumerate(parents):
        if parent >= 0:
            seen[node] = seen[parent]
            depths[node] = depths[parent] + 1
        seen[node, node] = True
    closed = torch.finfo(lm.dtype).min
    mask = torch.zeros(seen.shape, dtype=lm.dtype).masked_fill_(~seen, closed)
    logits: Tensor = lm.model(
        input_ids=torch.tensor([list(row)], device=lm.device),
        attention_mask=mask[None, None].to(lm.device),
        position_ids=depths[None].to(lm.device),
        use_cache=False,
    ).logits[0]
    found = torch.empty(len(at), device=lm.device)
    for first in range(0, len(row), _ROWS):
        here = ((at >= first) & (at < first + _ROWS)).nonzero()[:, 0]
        if len(here):
            logs = logits[first : first + _ROWS].float().log_softmax(-1)
            found[here] = logs[at[here] - first, targets[here]]
    return found
