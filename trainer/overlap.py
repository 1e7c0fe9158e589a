"""What drafts have in common with the mails that the owner wrote from the same instructions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from trainer.bootstrap import Score, mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.bootstrap import Numbers

_ORDERS = 4  # BLEU counts n-grams of one to four words


def bleu(drafts: Sequence[str], own: Sequence[str]) -> Score:
    """Return corpus BLEU, 0 to 100 (Papineni et al. 2002), as sacrebleu computes it."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU()
    found = [
        metric.corpus_score([draft], [[text]]) for draft, text in zip(drafts, own, strict=True)
    ]
    parts = [(one.sys_len, one.ref_len, *one.counts, *one.totals) for one in found]
    return Score(np.asarray(parts, dtype=np.float64), _bleu)


def _bleu(sums: Numbers) -> Numbers:
    from sacrebleu.metrics.bleu import BLEU

    def one(row: Numbers) -> float:
        drafted, written, *counts = (round(number) for number in row.tolist())
        found = BLEU.compute_bleu(
            counts[:_ORDERS], counts[_ORDERS:], drafted, written, smooth_method="exp"
        )
        return float(found.score)

    scores: Numbers = np.apply_along_axis(one, -1, sums)
    return scores


def rouge_l(drafts: Sequence[str], own: Sequence[str]) -> Score:
    """Return the mean of each mail's ROUGE-L F1, 0 to 1 (Lin 2004), without stemming."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    return mean(
        [
            scorer.score(text, draft)["rougeL"].fmeasure
            for draft, text in zip(drafts, own, strict=True)
        ]
    )


class _Words:
    """Words in small letters, of any alphabet: rouge_score's own knows a to z alone."""

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text."""
        return re.findall(r"[^\W_]+", text.casefold())


def chrf(drafts: Sequence[str], own: Sequence[str]) -> Score:
    """Return the mean of each mail's chrF2, 0 to 100 (Popović 2015), as sacrebleu computes it."""
    import sacrebleu

    return mean(
        [
            sacrebleu.sentence_chrf(draft, [text]).score
            for draft, text in zip(drafts, own, strict=True)
        ]
    )
