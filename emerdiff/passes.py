"""Shared passes, beyond the paper: far-apart masks are modulated together, and each reads the difference near itself.

A mask's difference errs in two places: where the model's answer to it reaches beyond its territory (half-way to the
next mask of its pass), and where that to another mask of the pass reaches into it. Where each mask has its own pass,
its territory is the whole image and nothing errs.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emerdiff.cluster import one_hot
from emerdiff.frame import resize_plane


def passes_of(low_res: NDArray[np.int32], most: int) -> NDArray[np.int32]:
    """(K,) int32: the pass of each mask of an (h, w) label map, 0 … P−1 with P = min(K, most); 0 is no limit.

    One after the other, the largest first, each mask joins the pass whose nearest member is farthest from it.
    """
    distances = mask_distances(low_res)
    count = len(distances)
    if most == 0 or most >= count:
        return np.arange(count, dtype=np.int32)
    gaps = np.stack([distances[:, low_res == index].min(axis=1) for index in range(count)])  # K K
    passes = np.full(count, -1, np.int32)
    for index in np.argsort(-np.bincount(low_res.ravel()), kind="stable"):
        nearest = [gaps[index, passes == number].min(initial=np.inf) for number in range(most)]
        passes[index] = int(np.argmax(nearest))
    return passes


def pass_masks(low_res: NDArray[np.int32], passes: NDArray[np.int32]) -> Tensor:
    """(P, h, w) float32, 0 or 1: the masks of each pass together."""
    return one_hot(passes[low_res])


def planes_of_masks(planes: Sequence[Tensor], low_res: NDArray[np.int32], passes: NDArray[np.int32]) -> list[Tensor]:
    """K planes (H, W) from those of P passes: each mask's is that of its pass, within the mask's territory."""
    if len(planes) == len(passes):
        return [planes[number] for number in passes]
    return [
        planes[number] * resize_plane(torch.from_numpy(territory), (planes[number].shape[0], planes[number].shape[1]))
        for number, territory in zip(passes, territories(low_res, passes), strict=True)
    ]


def territories(low_res: NDArray[np.int32], passes: NDArray[np.int32]) -> NDArray[np.float32]:
    """(K, h, w) float32: 1 where a mask is nearer than the others of its pass, 0 where another is, halves between."""
    distances = mask_distances(low_res)
    weights = np.zeros_like(distances)
    for number in np.unique(passes):
        members = np.flatnonzero(passes == number)
        nearest = distances[members] == distances[members].min(axis=0)
        weights[members] = nearest / nearest.sum(axis=0)
    return weights


def mask_distances(low_res: NDArray[np.int32]) -> NDArray[np.float32]:
    """(K, h, w) float32: how far each position is from the nearest one of each mask, in positions."""
    masks = low_res == np.arange(int(low_res.max()) + 1)[:, None, None]
    outside = (~masks).astype(np.uint8)
    return np.stack([cv2.distanceTransform(plane, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for plane in outside])
