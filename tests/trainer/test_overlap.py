"""BLEU, ROUGE-L and chrF beside the libraries' own figures and figures by hand."""

from __future__ import annotations

import pytest
import sacrebleu

from trainer.overlap import bleu, chrf, rouge_l

OWN = [
    "Hi Stew,\n\nplease bring two boards of larch on Friday.\n\nCheers,\nJen",
    "Dear Ana, the plumber comes at nine tomorrow. Best, Jen",
    "No, not on Monday.",
]
DRAFTS = [
    "Hi Stew,\n\nplease bring three boards of oak on Friday.\n\nCheers,\nJen",
    "Dear Ana, the plumber comes tomorrow at ten. Best, Jen",
    "Yes, gladly.",
]


def test_bleu_is_sacrebleus_for_all_mails_together() -> None:
    """Summed over mails it is corpus BLEU, to the last digit."""
    assert bleu(DRAFTS, OWN).value == pytest.approx(sacrebleu.corpus_bleu(DRAFTS, [OWN]).score)
    assert bleu(OWN, OWN).value == pytest.approx(100)
    assert bleu(["", "", ""], OWN).value == 0


def test_bleu_has_an_interval_around_it() -> None:
    """Drawing mails gives sacrebleu's figure of the mails that were drawn."""
    score = bleu(DRAFTS, OWN)
    low, high = score.interval
    assert low < score.value < high
    one, other = DRAFTS[:1] * 2 + DRAFTS[1:2], OWN[:1] * 2 + OWN[1:2]
    drawn = float(score.of(2 * score.parts[0] + score.parts[1]))
    assert drawn == pytest.approx(sacrebleu.corpus_bleu(one, [other]).score)


def test_rouge_l_is_the_longest_common_subsequence() -> None:
    """Of the words a b c d and a c e, two in order are common: 2/3 and 2/4, F1 4/7."""
    assert rouge_l(["a c e"], ["a b c d"]).value == pytest.approx(4 / 7)
    assert rouge_l(["a c e", "x"], ["a b c d", "y"]).value == pytest.approx(2 / 7)


def test_rouge_l_knows_every_alphabet() -> None:
    """Words with umlauts, and words of other alphabets, are words."""
    assert rouge_l(["Grüße, Привет мир"], ["grüße привет мир"]).value == pytest.approx(1)


def test_chrf_is_sacrebleus_of_each_mail() -> None:
    """It is the mean of the mails' own figures."""
    own = [sacrebleu.sentence_chrf(d, [o]).score for d, o in zip(DRAFTS, OWN, strict=True)]
    assert chrf(DRAFTS, OWN).value == pytest.approx(sum(own) / 3)
    assert chrf(OWN, OWN).value == pytest.approx(100)
