"""Frames: the user's image → pixels at the size that the model takes; planes → the image's own size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate


def frame_size(size_hw: tuple[int, int], image_size: int, multiple: int) -> tuple[int, int]:
    """(height, width) px that the model works at: about image_size² pixels, the aspect kept, sides multiples of
    `multiple`.

    An image so elongated that its short side would fall below one multiple is squeezed along the long side, which
    keeps the cost of any image near that of a square one.
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


def resized_planes(planes: Iterable[Tensor], size_hw: tuple[int, int]) -> Iterator[NDArray[np.float32]]:
    """Yields each plane (h, w) float32 at (H, W), as `resize_plane` does it."""
    for plane in planes:
        yield resize_plane(plane, size_hw).numpy()
