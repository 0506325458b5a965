"""Planes: one (H, W) map of values per candidate → the index of the largest at each pixel."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def largest_plane(planes: Iterable[NDArray[np.float32]]) -> NDArray[np.int32]:
    """(H, W) int32 index of the largest of the planes (H, W) float32, of which there is at least one.

    Of equal values the first plane wins. The planes are taken one at a time: many of them, at the size of a photograph,
    would not fit into memory together.
    """
    planes = iter(planes)
    largest = next(planes).copy()
    label_map = np.zeros(largest.shape, np.int32)
    for index, plane in enumerate(planes, start=1):
        np.putmask(label_map, plane > largest, index)
        np.maximum(largest, plane, out=largest)
    return label_map
