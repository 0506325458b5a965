"""Sliding windows: a large image in parts of the size that CLIP was trained on, and the means where they overlap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

BATCH = 16  # windows at once

# (pixels (B, 3, h patch, w patch)[, regions (B, h, w)]) → (B, C, h, w)
Encode = Callable[..., NDArray[np.float32]]


def encode_windows(
    encode: Encode,
    pixels: NDArray[np.float32],
    patch_hw: tuple[int, int],
    window: int,
    stride: int,
    regions: NDArray[np.int32] | None = None,
) -> NDArray[np.float32]:
    """(C, h, w) float32: the mean embedding of every patch of `pixels` (3, h patch, w patch) over its windows.

    Windows are squares of `window` px that begin every `stride` px; the last ones are moved in so that they end with
    the image. Both numbers are rounded down to whole patches, at least one. A side shorter than a window is taken
    whole. `regions` (h, w), if there are any, go with the pixels.
    """
    grid_hw = [side // patch for side, patch in zip(pixels.shape[1:], patch_hw, strict=True)]
    sides = [min(length, max(1, window // patch)) for length, patch in zip(grid_hw, patch_hw, strict=True)]
    steps = [max(1, stride // patch) for patch in patch_hw]
    tops, lefts = (
        _starts(length, side, step) for length, side, step in zip(grid_hw, sides, steps, strict=True)
    )  # in patches
    places = [(slice(top, top + sides[0]), slice(left, left + sides[1])) for top in tops for left in lefts]
    sums: NDArray[np.float32] | None = None
    counts = np.zeros(grid_hw, np.float32)
    for start in range(0, len(places), BATCH):
        batch = places[start : start + BATCH]
        seen = [pixels[:, _pixels(rows, patch_hw[0]), _pixels(columns, patch_hw[1])] for rows, columns in batch]
        within = [] if regions is None else [np.stack([regions[rows, columns] for rows, columns in batch])]
        parts = encode(np.stack(seen), *within)
        sums = np.zeros((parts.shape[1], *grid_hw), np.float32) if sums is None else sums
        for (rows, columns), part in zip(batch, parts, strict=True):
            sums[:, rows, columns] += part
            counts[rows, columns] += 1
    assert sums is not None  # there is a window
    return sums / counts


def _starts(length: int, side: int, step: int) -> list[int]:
    """Where windows of `side` begin along `length`, so that all of it is covered."""
    return [*range(0, length - side, step), length - side]


def _pixels(patches: slice, size: int) -> slice:
    return slice(patches.start * size, patches.stop * size)
