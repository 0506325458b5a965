"""Edges, beyond the paper: planes at the model's size → planes at the image's, whose borders lie on its own edges.

Guided image filtering (He, Sun and Tang, TPAMI 2013) with the image as a colour guide: within every window a plane is
a linear function of red, green and blue. The coefficients are found at the model's size and applied at the image's,
as in the fast guided filter (He and Sun, arXiv 1505.00996): borders in an image of 12 megapixels follow its own pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emerdiff.frame import resize_plane, to_frame

EPSILON = 1e-3  # RGB spans 0..1: where colours vary less (variance), the filter smooths and follows no edge


def guided_planes(planes: Sequence[Tensor], rgb: NDArray[np.uint8], radius: int) -> Iterator[NDArray[np.float32]]:
    """Yields the share of each plane (h, w) float32, filtered, at the size (H, W) of its image `rgb` (H, W, 3) uint8.

    `radius` is in px of the planes: so far a window of the filter reaches to each side.
    """
    guide = GuidedFilter(rgb, (planes[0].shape[0], planes[0].shape[1]), radius)
    for share in shares(planes):
        yield guide(share).numpy()


def shares(planes: Sequence[Tensor]) -> list[Tensor]:
    """Each plane (h, w) over the sum of all: a quiet mask then counts as much as a loud one beside it."""
    total = torch.stack(list(planes)).sum(dim=0).clamp(min=torch.finfo(torch.float32).tiny)
    return [plane / total for plane in planes]


class GuidedFilter:
    """The filter for planes (h, w) of one image: (H, W, 3) uint8.

    `frame_hw` is the size of the planes; the square windows reach `radius` px of it to each side.
    """

    def __init__(self, rgb: NDArray[np.uint8], frame_hw: tuple[int, int], radius: int) -> None:
        self.rgb = rgb
        self.window = (2 * radius + 1, 2 * radius + 1)
        pixels = to_frame(rgb, frame_hw)[0].permute(1, 2, 0).numpy()
        self.guide = np.asarray(pixels / 2 + 0.5, np.float32)  # h w 3
        self.mean = self._mean(self.guide)
        products = self.guide[..., :, None] * self.guide[..., None, :]  # h w 3 3
        covariance = self._mean(products.reshape(*frame_hw, 9)).reshape(products.shape)
        covariance -= self.mean[..., :, None] * self.mean[..., None, :]
        self.inverse = np.linalg.inv(covariance + EPSILON * np.eye(3, dtype=np.float32))

    def __call__(self, plane: Tensor) -> Tensor:
        """(H, W) float32, at the image's size, from a plane (h, w) float32."""
        values = plane.numpy()
        average = self._mean(values)
        covariance = self._mean(self.guide * values[..., None]) - self.mean * average[..., None]
        slopes = np.einsum("hwij,hwj->hwi", self.inverse, covariance)
        offset = average - (slopes * self.mean).sum(axis=-1)
        slopes, offset = self._mean(slopes), self._mean(offset)
        size_hw = (self.rgb.shape[0], self.rgb.shape[1])
        result = resize_plane(torch.from_numpy(offset), size_hw)
        for channel in range(3):
            colour = torch.from_numpy(self.rgb[..., channel].astype(np.float32) / 255)
            result += resize_plane(torch.from_numpy(slopes[..., channel]), size_hw) * colour
        return result

    def _mean(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean of every channel over each window; beyond its sides the image is continued by reflection."""
        channels = np.atleast_3d(values)
        means = [cv2.blur(np.ascontiguousarray(channels[..., i]), self.window) for i in range(channels.shape[2])]
        return np.asarray(np.stack(means, axis=-1).reshape(values.shape), np.float32)
