"""Label map (step 5): planes in any frame, one per mask → the index of the largest at each pixel of the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from emerdiff.frame import resize_plane


def label_map_of(
    planes: Iterable[Tensor],
    size_hw: tuple[int, int],
    *,
    resize: Callable[[Tensor, tuple[int, int]], Tensor] = resize_plane,
    keep: bool = False,
) -> tuple[NDArray[np.int32], NDArray[np.float16] | None]:
    """(H, W) int32 index of the largest of the planes (h, w) float32, and, to keep, the resized (K, H, W) float16.

    Each plane is resized to `size_hw`, bilinearly unless told otherwise. One is held at that size at a time: K planes
    of a 12-megapixel picture would not fit into memory. Of equal values the first plane wins.
    """
    label_map = np.zeros(size_hw, np.int32)
    largest = np.full(size_hw, -np.inf, np.float32)
    kept = []
    for index, plane in enumerate(planes):
        resized = resize(plane, size_hw).numpy()
        label_map[resized > largest] = index
        np.maximum(largest, resized, out=largest)
        if keep:
            kept.append(resized.astype(np.float16))
    return label_map, np.stack(kept) if keep else None
