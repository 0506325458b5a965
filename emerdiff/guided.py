"""Edges, beyond the paper: planes at the model's size → planes at the picture's, whose borders lie on its own edges.

Guided image filtering (He, Sun and Tang, TPAMI 2013) with the picture as a colour guide: within every window a plane is
a linear function of red, green and blue. The coefficients are found at the model's size and applied at the picture's,
as in the fast guided filter (He and Sun, arXiv 1505.00996): a picture of 12 megapixels gets borders of its own pixels.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emerdiff.frame import resize_plane, to_frame

EPSILON = 1e-3  # RGB spans 0..1: where colours vary less (variance), the filter smooths and follows no edge


def shares(planes: Iterable[Tensor]) -> list[Tensor]:
    """Each plane (h, w) over the sum of all: a quiet mask then counts as much as a loud one beside it."""
    planes = list(planes)
    total = torch.stack(planes).sum(dim=0).clamp(min=torch.finfo(torch.float32).tiny)
    return [plane / total for plane in planes]


class GuidedFilter:
    """The filter for planes of one picture: (H, W, 3) uint8; `radius` of its square windows in px of the planes'
    frame (h, w)."""

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

    def __call__(self, plane: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """(H, W) float32 from a plane (h, w) float32; `size_hw` is the picture's."""
        values = plane.numpy()
        average = self._mean(values)
        covariance = self._mean(self.guide * values[..., None]) - self.mean * average[..., None]
        slopes = np.einsum("hwij,hwj->hwi", self.inverse, covariance)
        offset = average - (slopes * self.mean).sum(axis=-1)
        slopes, offset = self._mean(slopes), self._mean(offset)
        result = resize_plane(torch.from_numpy(offset), size_hw)
        for channel in range(3):
            colour = torch.from_numpy(self.rgb[..., channel].astype(np.float32) / 255)
            result += resize_plane(torch.from_numpy(slopes[..., channel]), size_hw) * colour
        return result

    def _mean(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean over each window, of every channel; at the picture's sides its mirror image goes on."""
        channels = np.atleast_3d(values)
        means = [cv2.blur(np.ascontiguousarray(channels[..., i]), self.window) for i in range(channels.shape[2])]
        return np.asarray(np.stack(means, axis=-1).reshape(values.shape), np.float32)
