"""The image as CLIP's input: (H, W, 3) uint8 → (3, h, w) normalised pixels, whose patch grid covers the whole image.

Unlike in CLIP's own preprocessing nothing is cropped or padded: all patches are equal shares of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# A side longer than this many shorter ones is squeezed: the cost of attention grows with its square.
MAX_ASPECT = 4


def patch_grid(size_hw: tuple[int, int], image_size: int, patch_hw: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of patches for an image of `size_hw` px: about `image_size` px on the shorter side.

    The aspect is kept up to rounding to whole patches, and up to MAX_ASPECT; there is at least one patch.
    """
    scale = image_size / min(size_hw)
    rows, columns = (
        max(1, round(min(side * scale, MAX_ASPECT * image_size) / patch))
        for side, patch in zip(size_hw, patch_hw, strict=True)
    )
    return rows, columns


def to_pixels(
    rgb: NDArray[np.uint8], size_hw: tuple[int, int], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """(3, h, w) float32 (x / 255 - mean) / std of `rgb` (H, W, 3) at `size_hw`, bicubic and anti-aliased."""
    height, width = size_hw
    resized = Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(resized, dtype=np.float32) / 255  # h x w x 3
    pixels = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
