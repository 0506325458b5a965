"""Views of square images: a box at a random place, mirrored and in another light, sampled on the images' own device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Width to height of a box in the image, at most, and one over it at least; views are squares.
LONGEST = 1.3
# Factors on brightness, contrast and saturation, at most, and one over it at least.
LIGHT = 1.35


@dataclass(frozen=True, eq=False)
class Drawn:
    """Images that were drawn for a step."""

    index: Tensor  # (B,) of the images
    aspects: np.ndarray  # (B,) width to height, as they were before they were made square
    smallest: np.ndarray  # (B,) height of a box, as a share of the image's, at least

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, eq=False)
class View:
    """Where to look: a box of each image, as an affine map from the view's −1…1 to the image's, and in what light."""

    index: Tensor  # (B,) int64
    boxes: Tensor  # (B, 2, 3)
    light: Tensor  # (B, 3) factors on brightness, contrast and saturation

    def split(self, size: int) -> list[View]:
        parts = zip(*(tensor.split(size) for tensor in (self.index, self.boxes, self.light)), strict=True)
        return [View(*part) for part in parts]

    def rows(self, count: int) -> Tensor:
        """(B, count): how far down in the image `count` rows of the view are, 0 (top) to 1."""
        centres = (torch.arange(count, device=self.boxes.device) + 0.5) / count * 2 - 1
        return (self.boxes[:, 1, 1:2] * centres + self.boxes[:, 1, 2:3] + 1) / 2


def draw_views(drawn: Drawn, rng: np.random.Generator, device: torch.device, *, still: bool = False) -> View:
    """A view of each image; with `still` its middle, as it is."""
    count, aspects = len(drawn), drawn.aspects
    height = drawn.smallest ** rng.random(count)
    longest = LONGEST ** rng.uniform(-1, 1, count)
    light = LIGHT ** rng.uniform(-1, 1, (count, 3))
    at = rng.uniform(-1, 1, (2, count))
    mirrored = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    if still:
        height, longest = np.ones(count), np.clip(aspects, 1 / LONGEST, LONGEST)
        light, at, mirrored = np.ones((count, 3)), np.zeros((2, count)), np.ones(count)
    width = height * longest / aspects
    too_wide = np.maximum(width, 1)
    width, height = width / too_wide, height / too_wide
    boxes = np.zeros((count, 2, 3), np.float32)
    boxes[:, 0, 0], boxes[:, 0, 2] = mirrored * width, at[0] * (1 - width)
    boxes[:, 1, 1], boxes[:, 1, 2] = height, at[1] * (1 - height)
    moved = (torch.from_numpy(array).to(device, torch.float32) for array in (boxes, light))
    return View(drawn.index.to(device), *moved)


def seen(images: Tensor, view: View, side: int) -> Tensor:
    """(B, 3, side, side) float32 in 0…1: the views of `images` (B, S, S, 3) uint8."""
    pixels = images.permute(0, 3, 1, 2).float() / 255
    grid = F.affine_grid(view.boxes, [len(images), 3, side, side], align_corners=False)
    pixels = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    brightness, contrast, saturation = view.light.T[..., None, None, None]
    pixels = pixels * brightness
    grey = pixels.mean(dim=1, keepdim=True)
    pixels = (pixels - grey) * saturation + grey
    middle = pixels.mean(dim=(1, 2, 3), keepdim=True)
    return ((pixels - middle) * contrast + middle).clamp(0, 1)


def seen_regions(regions: Tensor, view: View, side: int) -> Tensor:
    """(B, side, side) int64: the nearest region at each place of the views of `regions` (B, S, S) uint8."""
    grid = F.affine_grid(view.boxes, [len(regions), 1, side, side], align_corners=False)
    planes = F.grid_sample(regions[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)
    return planes[:, 0].round().long()
