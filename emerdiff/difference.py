"""Difference maps (step 4): latents at the ends of modulated passes → one plane d = ‖I⁻ − I⁺‖₂ for each pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emerdiff.backbones.protocol import Backbone
from emerdiff.batches import Batches, on_cpu
from emerdiff.config import EmerDiffConfig
from emerdiff.frame import resize_plane


def difference_planes(backbone: Backbone, minus: Tensor, plus: Tensor, config: EmerDiffConfig) -> Iterator[Tensor]:
    """Yields P planes (H, W) float32 on the CPU: at each place the distance between what two clean latents show.

    `plus` is (P, C, h, w), `minus` the same or (1, C, h, w), one for all. The distance is that of their decoded images
    in RGB, which spans 0..1, in the model's image frame; or, if the config says so, of the latents in their own frame.
    Raises ValueError if a plane is not finite (float16 overflows).
    """
    latents = config.choices.differences == "latents"
    for plane in _latent_distances(minus, plus) if latents else _image_distances(backbone, minus, plus, config):
        if not torch.isfinite(plane).all():
            raise ValueError("a difference map is not finite in this dtype; try bfloat16 or float32")
        yield plane


def _latent_distances(minus: Tensor, plus: Tensor) -> Tensor:
    return torch.linalg.vector_norm(plus - minus, dim=1).cpu()


def _image_distances(backbone: Backbone, minus: Tensor, plus: Tensor, config: EmerDiffConfig) -> Iterator[Tensor]:
    """One pair is decoded at a time, because one image already keeps the device busy."""
    if len(minus) == 1:
        known = backbone.decode(minus)
        changes = (image - known for image in _decoded(backbone, plus))
    else:
        images = _decoded(backbone, torch.stack([minus, plus], dim=1).flatten(0, 1))
        changes = (second - first for first, second in zip(images, images, strict=True))
    for change in on_cpu(changes):
        blurred = blur(change[0].permute(1, 2, 0).numpy(), config.image_blur)  # H W 3
        yield torch.from_numpy(blur(np.linalg.norm(blurred, axis=2), config.difference_blur))


def _decoded(backbone: Backbone, latents: Tensor) -> Iterator[Tensor]:
    """Yields an image (1, 3, H, W) of each."""
    for images in Batches(2).run(lambda part: backbone.decode(latents[part]), len(latents)):
        yield from images.split(1)


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
