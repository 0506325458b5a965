"""The auto rule: a mask whose vote is not clear is left to its pixels → pieces of masks that take one label each.

A pixel's scores say what is there; the vote of its mask says what to expect there. Their product is what decides, as a
likelihood and a prior would, and a mask whose vote is clear is one piece. That a region of low quality should not force
one label upon its pixels is the idea of robust higher-order potentials (Kohli, Ladicky, Torr, CVPR 2008).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ground.label_maps import connected_components, contingency

if TYPE_CHECKING:
    from ovseg.coarse import ScoreTile


@dataclass(frozen=True, eq=False)
class Pieces:
    """What takes one label each: whole masks, or the parts of a mask that its pixels divide it into."""

    piece_map: NDArray[np.int32]  # (H, W), 0 … P-1
    masks: NDArray[np.intp]  # (P,) the mask of each piece, in ascending order
    labels: NDArray[np.intp]  # (P,) the label of each piece, an index


def left_to_pixels(
    mask_map: NDArray[np.int32],
    tiles: Iterable[ScoreTile],
    counts: NDArray[np.int64],
    winners: NDArray[np.intp],
    unclear: NDArray[np.bool_],
    min_area: int = 0,
) -> Pieces:
    """The `unclear` masks (K,) by the labels of their pixels, one piece for each label in a mask; the others whole.

    `mask_map` (H, W) with ids 0 … K-1; `counts` (K, L) the pixels of labels in masks, `winners` (K,) the label of each
    mask. The tiles cover the image. Connected parts of an unclear mask that have fewer than `min_area` px take its
    winner: they are noise, not things. A label that no pixel of a mask has in the coarse map has no piece in it.
    """
    label_map = _pixel_labels(mask_map, tiles, counts, winners, unclear)
    if min_area > 1:
        divided = np.where(unclear[mask_map], mask_map * counts.shape[1] + label_map + 1, 0)
        parts, owners = connected_components(divided)
        crumbs = (np.bincount(parts.ravel()) < min_area) & (owners > 0)
        if crumbs.any():
            label_map = np.where(crumbs[parts], winners[mask_map], label_map)
    found = contingency(mask_map, label_map, counts.shape) > 0  # K x L
    masks, labels = np.nonzero(found)
    numbers = np.zeros(counts.shape, np.int32)
    numbers[masks, labels] = np.arange(len(masks))
    return Pieces(numbers[mask_map, label_map], masks, labels)


def _pixel_labels(
    mask_map: NDArray[np.int32],
    tiles: Iterable[ScoreTile],
    counts: NDArray[np.int64],
    winners: NDArray[np.intp],
    unclear: NDArray[np.bool_],
) -> NDArray[np.int32]:
    """(H, W) int32: in unclear masks argmax over labels of score · share of the mask's pixels, elsewhere its winner."""
    shares = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32)  # K x L
    label_map = winners.astype(np.int32)[mask_map]
    for tile in tiles:
        shown = mask_map[tile.rows, tile.columns]
        undecided = unclear[shown]  # n x m
        if not undecided.any():
            continue
        masks = shown[undecided]
        labels = np.flatnonzero(counts[np.bincount(masks, minlength=len(counts)) > 0].any(axis=0))
        products = tile.scores(labels)[:, undecided] * shares[:, labels].T[:, masks]  # c x pixels
        label_map[tile.rows, tile.columns][undecided] = labels[products.argmax(axis=0)]
    return label_map
