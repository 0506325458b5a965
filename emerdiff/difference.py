"""Difference maps (step 4): latents of the −λ and +λ replays → one plane d^i = ‖I⁻ − I⁺‖₂ per mask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emerdiff.backbone import Backbone
from emerdiff.batches import Batches
from emerdiff.config import EmerDiffConfig
from emerdiff.frame import resize_plane


def difference_planes(backbone: Backbone, ends: Tensor, config: EmerDiffConfig) -> Iterator[Tensor]:
    """Yields K planes (H, W) float32 in the model's image frame, RGB distances (RGB spans 0..1), on the CPU.

    `ends` is (2K, C, h, w): −λ and +λ of the first mask, of the second, … One pair is decoded at a time, because one
    image already keeps the device busy. Raises ValueError if a plane is not finite (float16 overflows).
    """

    def decoded(part: slice) -> Tensor:
        return backbone.decode(ends[part]).cpu()

    images = (image for batch in Batches(2).run(decoded, len(ends)) for image in batch)
    for minus, plus in zip(images, images, strict=True):
        change = blur((minus - plus).permute(1, 2, 0).numpy(), config.image_blur)  # H W 3
        plane = blur(np.linalg.norm(change, axis=2), config.difference_blur)
        if not np.isfinite(plane).all():
            raise ValueError("a difference map is not finite in this dtype; try bfloat16 or float32")
        yield torch.from_numpy(plane)


def near_masks(planes: Iterable[Tensor], low_res: NDArray[np.int32], sigma: float) -> Iterator[Tensor]:
    """Yields each plane (H, W) times its mask M^i of the (h, w) label map, smoothed by a Gaussian and resized to H × W.

    This is ours, not the paper's: a small model also changes pixels far from the modulated mask, and there the weight
    is 0. `sigma` is in positions of the (h, w) grid; 0 yields the planes unchanged.
    """
    for index, plane in enumerate(planes):
        if sigma > 0:
            near = cv2.GaussianBlur(
                (low_res == index).astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE
            )
            plane = plane * resize_plane(torch.from_numpy(near), (plane.shape[0], plane.shape[1]))
        yield plane


def blur(plane: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur of (H, W) or (H, W, 3) float32, sigma in px; 0 leaves it unchanged."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32) if sigma > 0 else plane
