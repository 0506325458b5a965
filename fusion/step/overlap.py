"""The overlap vote, the default rule: how masks and labels share their pixels → labels of each mask, best first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ovseg.coarse import ScoreTile


def mean_scores(
    mask_map: NDArray[np.int32], tiles: Iterable[ScoreTile], areas: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(K, L) float64: the mean score of labels inside masks, where it is `wanted` (K, L); elsewhere 0.

    `mask_map` (H, W) with ids 0 … K-1, `areas` (K,) the masks' pixels. The tiles cover the image; of each, the scores
    of those labels are resolved that a mask in it wants.
    """
    sums = np.zeros(wanted.shape)
    places = np.empty(len(areas), np.intp)
    for tile in tiles:
        shown = mask_map[tile.rows, tile.columns].ravel()
        masks = np.flatnonzero(np.bincount(shown))
        places[masks] = np.arange(len(masks))
        ids = places[shown]
        labels = np.flatnonzero(wanted[masks].any(axis=0))
        for label, plane in zip(labels, tile.scores(labels), strict=True):
            sums[masks, label] += np.bincount(ids, weights=plane.ravel(), minlength=len(masks))
    return np.where(wanted, sums, 0) / np.maximum(areas, 1)[:, None]


def rank_labels(counts: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """(K, L) label indices of every mask, the winner first: by pixels, then the mean score, then the lower index.

    `counts` and `scores` are (K, L): pixels and mean score of every label inside every mask.
    """
    # The last key sorts first; a stable sort keeps the lower index first.
    return np.lexsort((-scores, -counts), axis=-1)


def vote_margins(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K,) by what share of its pixels each mask's first label leads the second; `counts` (K, L). 0 without a pixel."""
    best = np.sort(np.pad(counts, ((0, 0), (1, 0))), axis=1)
    return (best[:, -1] - best[:, -2]) / np.maximum(counts.sum(axis=1), 1)
