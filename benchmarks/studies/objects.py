"""Masks and single objects of an image: IoU by the size of objects, and how many masks a thing such as the sky has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.metrics import UNKNOWN, majority_regions
from ground.label_maps import connected_components, contingency

# Name → (from, below) which share of the image an object has. What is smaller than the first counts as crumbs.
SIZES = {"tiny": (0.0005, 0.005), "small": (0.005, 0.02), "middle": (0.02, 0.1), "large": (0.1, 1.01)}


def objects(regions: NDArray[np.int32]) -> NDArray[np.int32]:
    """(H, W) int32: each connected part of the true regions (H, W) is an object 0 …; crumbs and UNKNOWN are UNKNOWN."""
    parts, owners = connected_components(regions - UNKNOWN)
    kept = (owners != 0) & (np.bincount(parts.ravel()) >= SIZES["tiny"][0] * parts.size)
    ids = np.where(kept, kept.cumsum() - 1, UNKNOWN).astype(np.int32)
    return ids[parts]


def object_ious(label_map: NDArray[np.int32], things: NDArray[np.int32]) -> NDArray[np.float64]:
    """(N, 3) of each object in `things` (H, W): its share of the image; its IoU with all masks of which it has the most
    pixels; its IoU with the one mask that fits best.

    The first grows with the number of masks, the second falls where an object is split. Pixels of the masks that are of
    nothing known do not count.
    """
    known = things != UNKNOWN
    shape = int(label_map.max()) + 1, int(things.max()) + 1
    if shape[1] == 0:
        return np.zeros((0, 3))
    shared = contingency(label_map[known], things[known], shape)  # K N
    areas, masks = shared.sum(axis=0), shared.sum(axis=1)
    owned = shared.argmax(axis=1)[:, None] == np.arange(shape[1])
    together = (shared * owned).sum(axis=0) / (areas + ((masks[:, None] - shared) * owned).sum(axis=0))
    best = (shared / np.maximum(masks[:, None] + areas - shared, 1)).max(axis=0)
    return np.stack([areas / label_map.size, together, best], axis=1)


def masks_of(label_map: NDArray[np.int32], truth: NDArray[np.int32], label: int) -> int:
    """How many masks have more pixels of `label` than of anything else in the true map (H, W)."""
    owners = majority_regions(label_map, truth)
    return len(np.unique(label_map[(owners == label) & (truth == label)]))
