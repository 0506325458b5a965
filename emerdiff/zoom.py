"""Zoom, beyond the paper: what is too small for the feature layer's grid is seen in crops, and joins the masks.

EmerDiff's authors name small things as the limit of the method: one position of the grid holds them and what is around
them. A crop is segmented as an image of its own, at a larger scale. What it shows whole, and the image has no mask for,
becomes a mask; all else stays as it is, since a crop does not know how things go on beyond it. Where to look is said by
a plane of doubts: how badly each position fits its mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from emerdiff.frame import resize_plane
from emerdiff.masks import Masks
from ground.label_maps import connected_components, contingency

# Crops of each scale: as much to compute as for an image of twice the sides.
CROPS = 4
# Of a crop, px: a smaller one shows nothing that the image does not.
_LEAST_SIDE = 16
# What overlaps a mask by more than this (intersection over union) is that mask.
SAME_IOU = 0.5

Window = tuple[slice, slice]  # rows and columns of an image, px


def zoomed(
    masks: Masks,
    doubts: NDArray[np.float32],
    segment: Callable[[Window], Masks],
    levels: int,
) -> Masks:
    """Masks of an image with those of things that crops of half its sides show, of a quarter, …: `levels` scales.

    `doubts` (h, w) is a plane over the image, on any grid; crops are where it is high. `segment` gives the masks of a
    part of the image. New masks come after the others; they have no positions in `low_res`.
    """
    for level in range(1, levels + 1):
        for window in doubtful_windows(doubts, masks.label_map.shape, 2**level):
            masks = joined(masks, segment(window), window)
    return masks


def mixed(features: NDArray[np.float32], low_res: NDArray[np.int32]) -> NDArray[np.float32]:
    """(h, w) float32: how far the features (N, C) of each position are from the mean of its mask in `low_res` (h, w).

    The squared distance: a position with something small in it is unlike the others of the mask that it was given to.
    """
    assignment = low_res.ravel()
    sums = np.zeros((int(assignment.max()) + 1, features.shape[1]))
    np.add.at(sums, assignment, features)
    means = sums / np.maximum(np.bincount(assignment), 1)[:, None]
    doubts: NDArray[np.float32] = np.square(features - means[assignment]).sum(axis=1).reshape(low_res.shape)
    return doubts.astype(np.float32)


def doubtful_windows(doubts: NDArray[np.float32], size_hw: tuple[int, ...], scale: int) -> list[Window]:
    """At most CROPS windows of 1/`scale` of the sides of an image (H, W), those with the most doubt in them.

    They lie half a window apart, or more. What one shows is no longer in doubt for the next, and none is taken without
    any doubt left. None at all of an image that is too small.
    """
    height, width = size_hw
    sides = -(-height // scale), -(-width // scale)
    if min(sides) < _LEAST_SIDE:
        return []
    left = resize_plane(torch.from_numpy(doubts), (height, width)).numpy().clip(0)
    windows = [
        (slice(top, top + sides[0]), slice(start, start + sides[1]))
        for top in _starts(height, sides[0], scale)
        for start in _starts(width, sides[1], scale)
    ]
    chosen: list[Window] = []
    while len(chosen) < CROPS:
        sums = [float(left[window].sum(dtype=np.float64)) for window in windows]
        best = int(np.argmax(sums))
        if sums[best] <= 0:
            break
        chosen.append(windows[best])
        left[windows[best]] = 0
    return chosen


def joined(masks: Masks, found: Masks, window: Window) -> Masks:
    """The masks of an image with what is new in those that were `found` in a window of it.

    New is a connected part that the sides of the window do not cut (sides of the image do not cut), that is no smaller
    than a position of the window's grid, and that is none of the masks already: of each the union with it is more than
    twice as large as what both share. It takes its pixels from whatever had them.
    """
    before = masks.label_map[window]
    parts, owners = connected_components(found.label_map)
    shared = contingency(parts, before, (len(owners), masks.num_masks))
    areas = shared.sum(axis=1)
    union = areas[:, None] + np.bincount(masks.label_map.ravel(), minlength=masks.num_masks)[None] - shared
    is_new = (shared <= SAME_IOU * union).all(axis=1) & (areas * found.low_res.size >= parts.size)
    is_new[list(_cut(parts, window, masks.label_map.shape))] = False
    if not is_new.any():
        return masks
    label_map = masks.label_map.copy()
    ids = masks.num_masks - 1 + is_new.cumsum()
    label_map[window] = np.where(is_new[parts], ids[parts], before)
    return replace(
        masks,
        label_map=label_map.astype(np.int32, copy=False),
        features=np.concatenate([masks.features, found.features[owners[is_new]]]),
    )


def _starts(length: int, side: int, scale: int) -> list[int]:
    """Where windows of `side` px begin along `length` px, about half a window apart."""
    count = 2 * scale - 1
    return [index * (length - side) // (count - 1) for index in range(count)]


def _cut(parts: NDArray[np.int32], window: Window, size_hw: tuple[int, ...]) -> Iterator[int]:
    """The parts of a window that lie at a side of it which is no side of the image."""
    for axis, (span, length) in enumerate(zip(window, size_hw, strict=True)):
        for inside, edge in ((span.start > 0, 0), (span.stop < length, -1)):
            if inside:
                yield from np.unique(parts.take(edge, axis=axis)).tolist()
