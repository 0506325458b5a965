"""Logits at the image's resolution: (L, h, w) on the patches → (H, W) pixels, tile by tile and only where they matter.

Between the centres of patches logits are bilinear, and constant outside. A pixel's logit therefore lies between the
smallest and the largest of the patches around it: in a tile most of many labels can be told, from the patches alone, to
be nowhere near the best, and are left out. What is left of a tile fits into a processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ground.planes import largest_plane

TILE = 128  # px, the side of a tile
TOGETHER = 32  # labels of a tile, 2 MB of logits
# Labels that are lower by more than this have, all together, no part in a softmax: 1,000 e^-24 is 4e-8, the rounding of
# float32.
REACH = 24.0
_ROUNDING = 1e-5  # of logits, relative to the largest

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Tile:
    """A rectangle of n x m pixels, and the h' x w' patches between which they lie."""

    rows: slice  # px
    columns: slice  # px
    patches: tuple[slice, slice]  # rows and columns of the grid
    down: Floats  # (n, h') weights: what the patches have in each row of pixels
    across: Floats  # (m, w')

    def resolve(self, logits: Floats, labels: NDArray[np.intp]) -> Floats:
        """(c, n, m) float32 logits of c of the labels at the tile's pixels; `logits` (L, h, w)."""
        near: Floats = logits[:, self.patches[0], self.patches[1]][labels]  # c x h' x w'
        return self.down @ (near @ self.across.T)

    def in_parts(self, logits: Floats, labels: NDArray[np.intp]) -> Iterator[Floats]:
        """The same, of a few labels at once."""
        for start in range(0, len(labels), TOGETHER):
            yield self.resolve(logits, labels[start : start + TOGETHER])

    def contenders(self, logits: Floats, reach: float) -> NDArray[np.intp]:
        """The labels that may come within `reach` of the best one at some pixel of the tile, in ascending order."""
        near = logits[:, self.patches[0], self.patches[1]].reshape(len(logits), -1)
        sure = near.min(axis=1).max()
        return np.flatnonzero(near.max(axis=1) >= sure - reach - _ROUNDING * np.abs(near).max())

    def log_sum_exp(self, logits: Floats) -> Floats:
        """(n, m) float32: log of the sum over labels of exp(logit) at the tile's pixels."""
        highest, total = np.float32(-np.inf), np.float32(0)  # running, so that nothing overflows
        for planes in self.in_parts(logits, self.contenders(logits, REACH)):
            above = np.maximum(highest, planes.max(axis=0))
            planes -= above
            total = total * np.exp(highest - above) + np.exp(planes, out=planes).sum(axis=0)
            highest = above
        norm: Floats = highest + np.log(total)
        return norm


def tiles(grid_hw: tuple[int, ...], size_hw: tuple[int, ...]) -> Iterator[Tile]:
    """The tiles of an image of `size_hw` px, row by row; the grid has `grid_hw` patches."""
    down, across = (interpolation(patches, pixels) for patches, pixels in zip(grid_hw, size_hw, strict=True))
    for top in range(0, size_hw[0], TILE):
        for left in range(0, size_hw[1], TILE):
            rows, columns = slice(top, min(top + TILE, size_hw[0])), slice(left, min(left + TILE, size_hw[1]))
            patches = (_used(down[rows]), _used(across[columns]))
            yield Tile(rows, columns, patches, down[rows, patches[0]], across[columns, patches[1]])


def best_labels(logits: Floats, size_hw: tuple[int, ...]) -> NDArray[np.int32]:
    """(H, W) int32: the label with the highest logit at every pixel, of equal ones the first; `logits` (L, h, w)."""
    label_map = np.empty(size_hw, np.int32)
    for tile in tiles(logits.shape[1:], size_hw):
        labels = tile.contenders(logits, 0)
        largest = largest_plane(plane for planes in tile.in_parts(logits, labels) for plane in planes)
        label_map[tile.rows, tile.columns] = labels[largest]
    return label_map


def log_sum_exp(logits: Floats, size_hw: tuple[int, ...]) -> Floats:
    """(H, W) float32: log of the sum over labels of exp(logit) at every pixel; `logits` (L, h, w)."""
    norm = np.empty(size_hw, np.float32)
    for tile in tiles(logits.shape[1:], size_hw):
        norm[tile.rows, tile.columns] = tile.log_sum_exp(logits)
    return norm


def upsampled(logits: Floats, size_hw: tuple[int, ...]) -> Iterator[Floats]:
    """Planes (H, W) of `logits` (L, h, w), one by one and whole."""
    down, across = (interpolation(patches, pixels) for patches, pixels in zip(logits.shape[1:], size_hw, strict=True))
    for plane in logits:
        yield down @ (plane @ across.T)


def interpolation(patches: int, pixels: int) -> Floats:
    """(pixels, patches) float32 weights: bilinear between the centres of patches along one side, constant outside."""
    places = np.clip((np.arange(pixels) + 0.5) * patches / pixels - 0.5, 0, patches - 1)
    before = np.minimum(places.astype(np.intp), max(patches - 2, 0))
    weights = np.zeros((pixels, patches), np.float32)
    each = np.arange(pixels)
    weights[each, np.minimum(before + 1, patches - 1)] = places - before
    weights[each, before] += 1 - (places - before)
    return weights


def _used(weights: Floats) -> slice:
    """The patches that have a weight in some row of `weights` (n, patches): they lie side by side."""
    used = np.flatnonzero(weights.any(axis=0))
    return slice(int(used[0]), int(used[-1]) + 1)
