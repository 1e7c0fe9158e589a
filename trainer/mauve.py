"""MAUVE: how near the distribution of drafts is to that of the owner's mails.

After Pillutla et al., "MAUVE: Measuring the Gap Between Neural Text and Human Text using Divergence
Frontiers" (NeurIPS 2021, arXiv 2102.01454), with the settings of its authors: embeddings of length
1, the principal components that hold 90 % of their variance, k-means with a tenth as many clusters
as texts (the best of five), and the area under the curve of exp(-5 KL) over mixtures of the two
histograms. The embeddings are those of retrieval, where the paper has a large model's; scores of
different embeddings cannot be compared. Its authors' package is under the GPL, which this project's
licence does not allow, and brings faiss, scikit-learn and SciPy; the tests hold this module to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trainer.bootstrap import Score, divided

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.bootstrap import Numbers

LEAST = 100
"""Mails without which there is no score: a tenth of them are the clusters, and of fewer than ten it
says little. In a real mailbox, drawn 20 times, mails against the mails' own instructions gave 0.10
to 0.88 with 50 of them and 0.16 to 0.56 with 83; mails against other mails 0.89 to 1 either way."""

_TEXTS = 10  # in a cluster, in the mean
_VARIANCE = 0.9
_SCALE = 5.0
_MIXTURES = np.linspace(1e-6, 1 - 1e-6, 25)
_RESTARTS = 5
_ROUNDS = 500


def mauve(drafts: NDArray[np.floating], own: NDArray[np.floating]) -> Score:
    """Return MAUVE, 0 to 1, of the embeddings of drafts and of mails, (mails, dimensions) each.

    For an interval the clusters stay, and mails are drawn.
    """
    clusters = max(2, round(len(own) / _TEXTS))
    both = np.vstack((drafts, own)).astype(np.float64)
    labels = _clustered(_principal(both / np.linalg.norm(both, axis=1, keepdims=True)), clusters)
    chosen = np.eye(clusters)[labels]
    return Score(np.hstack((chosen[: len(drafts)], chosen[len(drafts) :])), area)


def area(sums: Numbers) -> Numbers:
    """Return the area under the curve for two histograms, one behind the other, (..., 2k)."""
    half = sums.shape[-1] // 2
    p, q = (
        divided(one, one.sum(-1, keepdims=True))[..., None, :]
        for one in (sums[..., :half], sums[..., half:])
    )
    mixture = _MIXTURES[:, None] * p + (1 - _MIXTURES[:, None]) * q
    x, y = (np.exp(-_SCALE * _divergence(one, mixture)) for one in (q, p))
    ends = np.ones((*x.shape[:-1], 1)), np.zeros((*x.shape[:-1], 1))
    x = np.concatenate((ends[0], x, ends[1]), -1)
    y = np.concatenate((ends[1], y, ends[0]), -1)
    under: Numbers = ((x[..., :-1] - x[..., 1:]) * (y[..., :-1] + y[..., 1:])).sum(-1) / 2
    return under


def _divergence(p: Numbers, r: Numbers) -> Numbers:
    """Return KL(p | r), where what p does not have adds nothing."""
    logs = np.log(np.where(p > 0, p, 1.0)) - np.log(np.where(p > 0, r, 1.0))
    found: Numbers = (p * logs).sum(-1)
    return found


def _principal(rows: Numbers) -> Numbers:
    """Return the rows' principal components that hold 90 % of their variance."""
    left, lengths, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    share = np.cumsum(lengths**2) / max((lengths**2).sum(), np.finfo(float).tiny)
    count = int(np.argmax(share >= _VARIANCE)) + 1
    components: Numbers = left[:, :count] * lengths[:count]
    return components


def _clustered(rows: Numbers, clusters: int) -> NDArray[np.intp]:
    """Return each row's cluster by k-means (Lloyd 1982, begun as k-means++ begins)."""
    dice = np.random.default_rng(0)
    found = [_lloyd(rows, _begun(rows, clusters, dice)) for _ in range(_RESTARTS)]
    return min(found, key=lambda one: one[0])[1]


def _begun(rows: Numbers, clusters: int, dice: np.random.Generator) -> Numbers:
    """Draw centres that lie apart (Arthur and Vassilvitskii 2007)."""
    centres = rows[[dice.integers(len(rows))]]
    while len(centres) < clusters:
        far = _squares(rows, centres).min(1)
        chance = far / far.sum() if far.any() else None
        centres = np.vstack((centres, rows[dice.choice(len(rows), p=chance)]))
    return centres


def _lloyd(rows: Numbers, centres: Numbers) -> tuple[float, NDArray[np.intp]]:
    """Return the sum of squares and each row's cluster, once no row changes its own."""
    labels = _squares(rows, centres).argmin(1)
    for _ in range(_ROUNDS):
        for i in set(labels.tolist()):
            centres[i] = rows[labels == i].mean(0)
        before, labels = labels, _squares(rows, centres).argmin(1)
        if np.array_equal(before, labels):
            break
    return float(_squares(rows, centres).min(1).sum()), labels


def _squares(rows: Numbers, centres: Numbers) -> Numbers:
    """Return the squared distances, (rows, centres)."""
    apart = (rows**2).sum(1)[:, None] - 2 * rows @ centres.T + (centres**2).sum(1)
    squares: Numbers = np.maximum(apart, 0)
    return squares
