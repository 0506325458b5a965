"""Random maps of regions: rectangles over one another, and what a poor model would make of them."""

from __future__ import annotations

import numpy as np


def rectangles(rng: np.random.Generator, size_hw: tuple[int, int], count: int) -> np.ndarray:
    """(H, W) int32: ids 0 … count, 0 for the ground; those that others cover have no pixel."""
    height, width = size_hw
    regions = np.zeros(size_hw, np.int32)
    for region in range(1, count + 1):
        y, x = rng.integers(height), rng.integers(width)
        regions[y : y + rng.integers(2, height // 2 + 2), x : x + rng.integers(2, width // 2 + 2)] = region
    return regions


def disturbed(rng: np.random.Generator, regions: np.ndarray, count: int) -> np.ndarray:
    """`regions` moved by a pixel at most, with `count` new ids over some of them."""
    moved = np.roll(regions, rng.integers(-1, 2, 2), axis=(0, 1))
    new = rectangles(rng, regions.shape, count)
    return np.where(new > 0, new + regions.max(), moved).astype(np.int32)
