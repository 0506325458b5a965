"""Strips: work on maps (H, W) a few rows at a time, so that what it needs beside them does not grow with the image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIXELS = 2**20  # of a strip


def strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """The rows of a map (H, W, …), in slices of about PIXELS px; those of a smaller one together."""
    rows = max(1, PIXELS // max(1, shape[1]))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def gathered(values: NDArray[Any], ids: NDArray[Any]) -> NDArray[Any]:
    """`values[ids]`, (H, W) of the values' dtype."""
    found = np.empty(ids.shape, values.dtype)
    for rows in strips(ids.shape):
        found[rows] = values[ids[rows]]
    return found


def narrowed(ids: NDArray[Any], highest: int) -> NDArray[Any]:
    """`ids`, 0 … highest, in as few bytes as they need."""
    return ids.astype(np.min_scalar_type(highest))


def renumber(ids: NDArray[np.int32], numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    """`numbers[ids]` in the place of `ids` (H, W), which are lost."""
    for rows in strips(ids.shape):
        ids[rows] = numbers[ids[rows]]
    return ids
