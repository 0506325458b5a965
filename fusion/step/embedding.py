"""The embedding rule (the paper's): masks + dense CLIP embeddings → how near each mask is to the text of each label."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ovseg.coarse import EmbeddingPart


def mask_similarities(
    mask_map: NDArray[np.int32],
    num_masks: int,
    parts: Iterable[EmbeddingPart],
    text_embeddings: NDArray[np.float32],
) -> NDArray[np.float32]:
    """(K, L) float32 cosine between each mask's mean dense embedding and each label's text embedding.

    `mask_map` (H, W) with ids 0 … K-1; the parts, of equally large patches, cover the image; `text_embeddings` (L, C)
    unit. A patch counts for a mask by the share of its area that the mask covers. A mask without a pixel gets zeros.
    """
    means = np.zeros((num_masks, text_embeddings.shape[1]), np.float32)  # their lengths do not matter for a cosine
    for part in parts:
        owned = mask_map[part.window][part.owned]
        masks = np.unique(owned)
        shown = np.full(mask_map[part.window].shape, -1, np.int32)
        shown[part.owned] = owned
        weights = np.stack([_patch_shares(shown == mask, part.embeddings.shape[1:]) for mask in masks])  # k x h x w
        means[masks] += np.tensordot(weights, part.embeddings, axes=([1, 2], [1, 2]))
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    return (means / np.where(lengths > 0, lengths, 1)) @ text_embeddings.T


def _patch_shares(inside: NDArray[np.bool_], grid_hw: tuple[int, ...]) -> NDArray[np.float32]:
    """(h, w) float32 in 0..1: how much of each patch of the grid lies in the mask (H, W)."""
    height, width = grid_hw
    shares = cv2.resize(inside.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return shares.astype(np.float32, copy=False)
