"""Masks without a diffusion model, as controls: image → superpixels (SLIC), or cells of a regular grid."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import slic

from emerdiff.masks import Masks
from ground.images import ImageLike, as_rgb

_SLIC_TRIES = 4
_SLIC_PREVIEW = 512  # px, longest side of the reduced image that SLIC is tried on


def slic_masks(image: ImageLike, clusters: int) -> Masks:
    """Superpixels (SLIC, Achanta et al. 2012, compactness 10) of a PIL image or (H, W, 3) uint8 array.

    About `clusters` of them: SLIC starts from a regular grid, which rarely has just as many cells, and merges small
    superpixels. `features` are mean RGB in 0..1, (K, 3); `low_res` is the label map itself.
    """
    rgb = as_rgb(image)
    _check_clusters(clusters)
    step = -(-max(rgb.shape[:2]) // _SLIC_PREVIEW)
    label_map = _superpixels(rgb, _segments_to_ask_for(np.ascontiguousarray(rgb[::step, ::step]), clusters))
    return Masks(label_map=label_map, low_res=label_map, features=_mean_rgb(rgb, label_map, int(label_map.max()) + 1))


def _segments_to_ask_for(rgb: NDArray[np.uint8], clusters: int) -> int:
    """The number to ask skimage for to get about `clusters` superpixels: the best of a few tries."""
    asked, missed = clusters, {}
    for _ in range(_SLIC_TRIES):
        found = int(_superpixels(rgb, asked).max()) + 1
        missed[asked] = abs(found - clusters)
        asked = max(1, round(asked * clusters / found))
        if asked in missed:
            break
    return min(missed, key=lambda tried: missed[tried])


def _superpixels(rgb: NDArray[np.uint8], asked: int) -> NDArray[np.int32]:
    segments = slic(rgb, n_segments=asked, compactness=10, channel_axis=-1, start_label=0)
    # SLIC may leave out indices.
    _, inverse = np.unique(segments, return_inverse=True)
    label_map: NDArray[np.int32] = inverse.reshape(rgb.shape[:2]).astype(np.int32)
    return label_map


def grid_masks(image: ImageLike, clusters: int) -> Masks:
    """About `clusters` cells, as square as they can be, of a PIL image or (H, W, 3) uint8 array.

    `features` are mean RGB in 0..1, (K, 3); `low_res` is the grid with one position per cell.
    """
    rgb = as_rgb(image)
    _check_clusters(clusters)
    height, width = rgb.shape[:2]
    rows = min(max(round(sqrt(clusters * height / width)), 1), height, clusters)
    columns = min(max(round(clusters / rows), 1), width)
    low_res = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    label_map = low_res[np.arange(height)[:, None] * rows // height, np.arange(width) * columns // width]
    return Masks(label_map=label_map, low_res=low_res, features=_mean_rgb(rgb, label_map, rows * columns))


def _check_clusters(clusters: int) -> None:
    if clusters < 1:
        raise ValueError(f"clusters is {clusters}, expected a whole number from 1")


def _mean_rgb(rgb: NDArray[np.uint8], label_map: NDArray[np.int32], count: int) -> NDArray[np.float32]:
    labels = label_map.ravel()
    areas = np.bincount(labels, minlength=count)
    sums = [np.bincount(labels, weights=rgb[..., channel].ravel(), minlength=count) for channel in range(3)]
    return (np.stack(sums, axis=1) / areas[:, None] / 255).astype(np.float32)
