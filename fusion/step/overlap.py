"""The overlap vote, the default rule: how masks and labels share their pixels → labels of each mask, best first."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def mean_scores(
    mask_map: NDArray[np.int32], planes: Iterable[NDArray[np.float32]], areas: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(K, L) float64: the mean of every score plane (H, W) inside every mask; 0 for a mask without a pixel.

    `areas` (K,) are the masks' pixels. Planes are taken one at a time, so L of them never lie in memory at
    once.
    """
    flat = mask_map.ravel()
    sums = [np.bincount(flat, weights=plane.ravel(), minlength=len(areas)) for plane in planes]
    return np.stack(sums, axis=1) / np.maximum(areas, 1)[:, None]


def rank_labels(counts: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """(K, L) label indices of every mask, the winner first: by pixels, then the mean score, then the lower index.

    `counts` and `scores` are (K, L): pixels and mean score of every label inside every mask.
    """
    # The last key sorts first; a stable sort keeps the lower index first.
    return np.lexsort((-scores, -counts), axis=-1)
