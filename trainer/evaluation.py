"""Scores of a model on mails it has not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trainer.examples import pack, token_losses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.base_model import LanguageModel
    from trainer.examples import Example

_ROW = 512


@dataclass(frozen=True, slots=True)
class Scores:
    """How well a model does on held-out mails.

    Attributes:
        perplexity: Of the owner's own words, given prompt and subject: exp of the mean negative
            log-likelihood of a token, in the base model's tokens.
        bleu: Corpus BLEU of the model's drafts against the owner's mails, 0 to 100 (sacrebleu);
            None where nothing was written.
        rouge_l: Mean ROUGE-L F1 of the same, 0 to 1; None likewise.
    """

    perplexity: float
    bleu: float | None = None
    rouge_l: float | None = None


@torch.inference_mode()
def perplexity(
    lm: LanguageModel,
    examples: Sequence[Example],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> float:
    """Return the perplexity of the owner's own words over all the examples.

    Raises:
        ValueError: There are no examples.
    """
    total, count = 0.0, 0
    rows = pack(examples, _ROW)
    for done, row in enumerate(rows):
        progress(done, len(rows))
        losses = token_losses(lm, row, words_only=True)
        total += float(losses.double().sum())
        count += losses.numel()
    progress(len(rows), len(rows))
    if not count:
        raise ValueError("there are no words to score")
    return math.exp(total / count)


def overlap(written: Sequence[str], own: Sequence[str]) -> tuple[float, float]:
    """Return corpus BLEU (0 to 100) and mean ROUGE-L F1 (0 to 1) of drafts against own mails.

    BLEU: Papineni et al. 2002, as sacrebleu computes it. ROUGE-L: Lin 2004, without stemming.
    """
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    rouge = [
        scorer.score(target, draft)["rougeL"].fmeasure
        for draft, target in zip(written, own, strict=True)
    ]
    bleu = sacrebleu.corpus_bleu(list(written), [list(own)]).score
    return float(bleu), sum(rouge) / len(rouge)
