"""The picture as CLIP's input: image -> (3, h, w) normalised pixels; their patch grid covers the whole image.

Unlike in CLIP's own preprocessing nothing is cropped or padded: all patches are equal shares of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_ASPECT = 4  # a longer side than this many shorter ones is squeezed: attention costs grow with its square
_DEEP_MODES = (
    "I",
    "F",
)  # PIL modes of more than 8 bits (with "I;16" and the like); convert("RGB") would clip them


def as_rgb(image: Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a PIL image or of such an array; anything else is a ValueError.

    PIL images of other 8-bit modes are converted (transparency dropped); EXIF rotation is left to the caller.
    """
    if isinstance(image, Image.Image):
        if image.mode.split(";")[0] in _DEEP_MODES:
            raise ValueError(f"image is a PIL image of mode {image.mode!r}, expected one of 8 bits a channel")
        image = np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image is {type(image).__name__}, expected a PIL.Image or an (H, W, 3) uint8 array")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image is an array {image.shape} {image.dtype}, expected (H, W, 3) uint8 with H and W from 1")
    return image


def patch_grid(size_hw: tuple[int, int], image_size: int, patch_hw: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of patches for a picture of `size_hw` px: about `image_size` px on the shorter side.

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
