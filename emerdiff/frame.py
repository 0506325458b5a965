"""Frames: the user's picture → pixels at the size that the model takes; planes → the picture's own size."""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

Picture = Image.Image | NDArray[np.uint8]  # what a user may give: see as_rgb

_DEEP_MODES = ("I", "F")  # PIL modes of more than 8 bits, "I;16" and the like included: "RGB" would clip them


def as_rgb(image: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a PIL image of 8-bit mode or of such an array; ValueError for anything else.

    A PIL image is taken as its pixels lie: apply an EXIF rotation and flatten transparency before.
    """
    if isinstance(image, Image.Image):
        if image.mode.split(";")[0] in _DEEP_MODES:
            raise ValueError(f"image: PIL image of mode {image.mode!r} given, one of 8 bits a channel expected")
        image = np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image: {type(image).__name__} given, a PIL.Image or (H, W, 3) uint8 array expected")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"image: {image.dtype} array of shape {image.shape} given, (H, W, 3) uint8 expected")
    return image


def frame_size(size_hw: tuple[int, int], image_size: int, multiple: int) -> tuple[int, int]:
    """(height, width) px that the model works at: about image_size² pixels, the aspect kept, sides multiples of
    `multiple`.

    Pictures so elongated that the short side would fall below one multiple are squeezed along the long side, which
    keeps the cost of any picture near that of a square one.
    """
    scale = image_size / sqrt(size_hw[0] * size_hw[1])
    longest = max(image_size // multiple, 1) ** 2  # multiples, when the short side has one
    height, width = (min(max(round(side * scale / multiple), 1), longest) * multiple for side in size_hw)
    return height, width


def to_frame(rgb: NDArray[np.uint8], size_hw: tuple[int, int]) -> Tensor:
    """(1, 3, h, w) float32 in −1..1 from (H, W, 3) uint8, resized bilinearly with anti-aliasing."""
    resized = Image.fromarray(rgb).resize(size_hw[::-1], Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].float() / 127.5 - 1


def resize_plane(plane: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(H, W) float32 from an (h, w) plane, bilinear, with anti-aliasing where it shrinks."""
    return interpolate(plane[None, None], size=size_hw, mode="bilinear", align_corners=False, antialias=True)[0, 0]
