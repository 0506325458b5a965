"""Label maps, (H, W) of ids: their connected components, and how two of them share their pixels.

Pixels that touch at a side or at a corner (8-connectivity) are one component, so that a thin slanted line stays whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as label_components

# skimage's name for 8-connectivity.
_CORNERS_TOUCH = 2


def connected_components(label_map: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(components (H, W) int32, labels (N,) int32): ids 0 … N-1 by first pixel in reading order, and their labels.

    Every value of `label_map` (H, W), 0 as well, has components of its own.
    """
    components = label_components(label_map, background=-1, connectivity=_CORNERS_TOUCH).astype(np.int32) - 1
    labels = np.zeros(components.max() + 1, np.int32)
    labels[components] = label_map
    return components, labels


def contingency(rows: NDArray[np.int32], columns: NDArray[np.int32], shape: tuple[int, int]) -> NDArray[np.int64]:
    """How many pixels carry id r in map `rows` and id c in map `columns`: (R, C) int64, with `shape` = (R, C).

    Both maps are (H, W) of the same frame, with ids 0 … R-1 and 0 … C-1. Each is read once, never mask by mask.
    """
    paired = rows.ravel().astype(np.int64) * shape[1]
    paired += columns.ravel()
    return np.bincount(paired, minlength=shape[0] * shape[1]).reshape(shape)
