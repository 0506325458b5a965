"""Difference maps (step 4): latents of the −λ and +λ replays → one plane d^i = ‖I⁻ − I⁺‖₂ per mask."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emerdiff.backbone import Backbone
from emerdiff.batches import Batches
from emerdiff.config import EmerDiffConfig

PEAK = 99  # percentile of a plane that "peak" makes 1


def difference_planes(backbone: Backbone, ends: Tensor, config: EmerDiffConfig) -> Iterator[Tensor]:
    """Yields K planes (H, W) float32 in the model's image frame, RGB distances (RGB spans 0..1), on the CPU.

    With `difference_scale` "peak", which the paper does not have, each is divided by its own 99th percentile: masks
    that the model answers to weakly, of dark or smooth parts, then hold their ground against those with strong answers.

    `ends` is (2K, C, h, w): −λ and +λ of the first mask, of the second, … One pair is decoded at a time: decoding fills
    the device with one picture already, and K planes never are in memory together. Raises ValueError if a plane is not
    finite (float16 overflows).
    """

    def decoded(part: slice) -> Tensor:
        return backbone.decode(ends[part]).cpu()

    images = (image for batch in Batches(2).run(decoded, len(ends)) for image in batch)
    for minus, plus in zip(images, images, strict=True):
        change = blur((minus - plus).permute(1, 2, 0).numpy(), config.image_blur)  # H W 3
        plane = blur(np.linalg.norm(change, axis=2), config.difference_blur)
        if not np.isfinite(plane).all():
            raise ValueError("a difference map is not finite in this dtype; try bfloat16 or float32")
        if config.difference_scale == "peak":
            plane /= max(float(np.percentile(plane, PEAK)), np.finfo(np.float32).tiny)
        yield torch.from_numpy(plane)


def blur(plane: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur of (H, W) or (H, W, 3) float32, sigma in px; 0 leaves it as it is."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32) if sigma > 0 else plane
