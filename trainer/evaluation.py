"""Scores of a model on mails it has not seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trainer.loss import Objective

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.base_model import LanguageModel
    from trainer.examples import Example

_ROW = 512  # tokens in one packed row


def perplexity(
    lm: LanguageModel,
    examples: Sequence[Example],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> float:
    """Return the perplexity of the owner's own words over all the examples.

    Raises:
        ValueError: There are no examples.
    """
    total, count = nats(Objective(lm), examples, _ROW, progress)
    if not count:
        raise ValueError("there are no words to score")
    return math.exp(total / count)


def nats(
    objective: Objective,
    examples: Sequence[Example],
    row: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[float, int]:
    """Return how much the owner's own words surprise a model in evaluation mode, and their tokens.

    Args:
        objective: The model's loss.
        examples: The mails.
        row: The most tokens in one row.
        progress: Called with the rows done and their total.
    """
    total, count = 0.0, 0
    rows = objective.rows(examples, row)
    for done, mails in enumerate(rows):
        progress(done, len(rows))
        losses = objective.losses(mails, words_only=True)
        total += float(losses.double().sum())
        count += losses.numel()
    progress(len(rows), len(rows))
    return total, count


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
