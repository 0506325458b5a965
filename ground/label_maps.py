"""Label maps, (H, W) of ids: their connected components, and how two of them share their pixels.

Pixels that touch at a side or at a corner (8-connectivity) are one component, so that a thin slanted line stays whole.
Large maps are gone through in strips, which need little memory beside the maps themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as connected_nodes
from skimage.measure import label as label_components

from ground.strips import renumber, strips

# skimage's name for 8-connectivity.
_CORNERS_TOUCH = 2


def connected_components(label_map: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(components (H, W) int32, labels (N,) int32): ids 0 … N-1 by first pixel in reading order, and their labels.

    Every value of `label_map` (H, W), 0 as well, has components of its own.
    """
    components = np.empty(label_map.shape, np.int32)
    meetings: list[NDArray[np.int32]] = []  # (n, 2) of each seam between strips: ids that are one component
    labels: list[NDArray[np.int32]] = []
    count = 0
    for rows in strips(label_map.shape):
        found = label_components(label_map[rows], background=-1, connectivity=_CORNERS_TOUCH)
        of_strip = np.zeros(int(found.max()), np.int32)
        of_strip[(found - 1).ravel()] = label_map[rows].ravel()
        components[rows] = found + (count - 1)
        if rows.start:
            meetings.append(_meetings(label_map[rows.start - 1 : rows.start + 1], components[rows.start - 1 :][:2]))
        labels.append(of_strip)
        count += len(of_strip)
    all_labels = np.concatenate(labels)
    if not meetings:
        return components, all_labels
    before, after = np.concatenate(meetings).T
    _, merged = connected_nodes(coo_array((np.ones(len(before), bool), (before, after)), shape=(count, count)))
    # The first id of each component is that of its first pixel.
    _, firsts, inverse = np.unique(merged, return_index=True, return_inverse=True)
    ranks = np.empty(len(firsts), np.int32)
    ranks[np.argsort(firsts)] = np.arange(len(firsts))
    return renumber(components, ranks[inverse]), all_labels[np.sort(firsts)]


def _meetings(labels: NDArray[Any], ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """(n, 2) the ids that touch between two rows, (2, W) each, and have one label."""
    width = labels.shape[1]
    pairs = []
    for shift in (-1, 0, 1):
        above, below = slice(max(0, -shift), width - max(0, shift)), slice(max(0, shift), width - max(0, -shift))
        same = labels[0, above] == labels[1, below]
        pairs.append(np.stack([ids[0, above][same], ids[1, below][same]], axis=1))
    return np.concatenate(pairs)


def pixel_counts(ids: NDArray[Any], count: int = 0) -> NDArray[np.int64]:
    """How many pixels of a map (H, W) carry each id from 0: (N,), with N = `count` or more."""
    counts = np.zeros(max(count, int(ids.max()) + 1), np.int64)
    for rows in strips(ids.shape):
        counts += np.bincount(ids[rows].ravel(), minlength=len(counts))
    return counts


def contingency(rows: NDArray[Any], columns: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.int64]:
    """How many pixels carry id r in map `rows` and id c in map `columns`: (R, C) int64, with `shape` = (R, C).

    Both maps are (H, W) of the same frame, or (N,) of the same pixels, with ids 0 … R-1 and 0 … C-1. Each is read once,
    never mask by mask.
    """
    if rows.ndim < 2:
        rows, columns = rows[:, None], columns[:, None]
    counts = np.zeros(shape[0] * shape[1], np.int64)
    for part in strips(rows.shape):
        paired = rows[part].ravel().astype(np.int64) * shape[1]
        paired += columns[part].ravel()
        counts += np.bincount(paired, minlength=len(counts))
    return counts.reshape(shape)


def shared_pixels(rows: NDArray[Any], columns: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(pairs (N, 2) of ids that two maps (H, W) have at a pixel, in order; at how many, (N,)).

    It is `contingency` without the pairs that there are not: of many ids these are most.
    """
    width = int(columns.max()) + 1
    codes, counts = [], []
    for part in strips(rows.shape):
        paired = rows[part].astype(np.int64).ravel() * width
        paired += columns[part].ravel()
        # Neighbours mostly are alike: runs are fewer than pixels.
        starts = np.flatnonzero(np.r_[True, paired[1:] != paired[:-1]])
        found, inverse = np.unique(paired[starts], return_inverse=True)
        codes.append(found)
        counts.append(np.bincount(inverse, weights=np.diff(np.r_[starts, paired.size])).astype(np.int64))
    unique, inverse = np.unique(np.concatenate(codes), return_inverse=True)
    totals = np.bincount(inverse, weights=np.concatenate(counts)).astype(np.int64)
    return np.stack(np.divmod(unique, width), axis=1), totals
