"""Edges, beyond the paper: planes at the model's size → planes at the image's, whose borders lie on its own edges.

Guided image filtering (He, Sun and Tang, TPAMI 2013) with the image as a colour guide: within every window a plane is
a linear function of red, green and blue. The coefficients are found at the model's size and applied at the image's,
as in the fast guided filter (He and Sun, arXiv 1505.00996): borders in an image of 12 megapixels follow its own pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emerdiff.frame import resize_plane, to_frame

Plane = NDArray[Any]  # (h, w) float32; what OpenCV's types do not say

EPSILON = 1e-3  # RGB spans 0..1: where colours vary less (variance), the filter smooths and follows no edge


def guided_planes(
    planes: Sequence[Tensor], rgb: NDArray[np.uint8], frame_hw: tuple[int, int], radius: int
) -> Iterator[NDArray[np.float32]]:
    """Yields the share of each plane (h, w) float32, filtered, at the size (H, W) of its image `rgb` (H, W, 3) uint8.

    The filter works at the size `frame_hw`, to which planes of another size are brought bilinearly; its windows reach
    `radius` px of it to each side.
    """
    guide = GuidedFilter(rgb, frame_hw, radius)
    for share in shares(planes):
        yield guide(share if share.shape == frame_hw else resize_plane(share, frame_hw))


def shares(planes: Sequence[Tensor]) -> list[Tensor]:
    """Each plane (h, w) over the sum of all: a quiet mask then counts as much as a loud one beside it."""
    total = torch.stack(list(planes)).sum(dim=0).clamp(min=torch.finfo(torch.float32).tiny)
    return [plane / total for plane in planes]


def over_areas(planes: Sequence[Tensor], low_res: NDArray[np.int32], power: float) -> list[Tensor]:
    """The share of each plane (h, w) over the area of its mask M^i in the label map `low_res`, to that power; 0: as is.

    A window of the filter holds more of a large mask than of a small one, whose plane it flattens: the small mask loses
    pixels all around to what surrounds it. Odds against that are raised here, where planes are soft: a position that is
    of one mask alone stays so. The area is a share of the image.
    """
    if power == 0:
        return list(planes)
    areas = np.bincount(low_res.ravel()) / low_res.size
    return [share * float(area**-power) for share, area in zip(shares(planes), areas, strict=True)]


class GuidedFilter:
    """The filter for planes (h, w) of one image: (H, W, 3) uint8.

    `frame_hw` is the size of the planes; the square windows reach `radius` px of it to each side. All in float32.
    """

    def __init__(self, rgb: NDArray[np.uint8], frame_hw: tuple[int, int], radius: int) -> None:
        self.size_hw = (rgb.shape[0], rgb.shape[1])
        self.window = (2 * radius + 1, 2 * radius + 1)
        self.colours = [rgb[..., channel].astype(np.float32) / 255 for channel in range(3)]  # H W each
        pixels = to_frame(rgb, frame_hw)[0].numpy() / 2 + 0.5
        self.guide = [np.ascontiguousarray(channel) for channel in pixels]  # h w each
        self.means = [self._mean(channel) for channel in self.guide]

        def covariance(first: int, second: int) -> Plane:
            product = self._mean(cv2.multiply(self.guide[first], self.guide[second]))
            plain = _minus_product(product, self.means[first], self.means[second])
            return plain + EPSILON if first == second else plain

        # Σ + εI = L D Lᵀ at each pixel, L of ones on the diagonal: solved there without any inverse, and in float32
        # with less loss than by one.
        rr, rg, rb = covariance(0, 0), covariance(0, 1), covariance(0, 2)
        self.lower_rg, self.lower_rb = cv2.divide(rg, rr), cv2.divide(rb, rr)
        gg = _minus_product(covariance(1, 1), self.lower_rg, rg)
        gb = _minus_product(covariance(1, 2), self.lower_rb, rg)
        self.lower_gb = cv2.divide(gb, gg)
        bb = _minus_product(_minus_product(covariance(2, 2), self.lower_rb, rb), self.lower_gb, gb)
        self.diagonal = rr, gg, bb

    def __call__(self, plane: Tensor) -> NDArray[np.float32]:
        """(H, W) float32, at the image's size, from a plane (h, w) float32."""
        values = plane.numpy()
        average = self._mean(values)
        covariances = [
            _minus_product(self._mean(cv2.multiply(channel, values)), mean, average)
            for channel, mean in zip(self.guide, self.means, strict=True)
        ]
        slopes = self._solved(covariances)
        offset = average
        for slope, mean in zip(slopes, self.means, strict=True):
            offset = _minus_product(offset, slope, mean)
        result = self._at_image_size(self._mean(offset))
        for slope, colour in zip(slopes, self.colours, strict=True):
            cv2.accumulateProduct(self._at_image_size(self._mean(slope)), colour, result)
        return result

    def _solved(self, right: list[Plane]) -> list[Plane]:
        """x of (Σ + εI) x = right, three planes (h, w) each."""
        red, green, blue = right
        green = _minus_product(green, self.lower_rg, red)
        blue = _minus_product(_minus_product(blue, self.lower_rb, red), self.lower_gb, green)
        blue = cv2.divide(blue, self.diagonal[2])
        green = _minus_product(cv2.divide(green, self.diagonal[1]), self.lower_gb, blue)
        red = _minus_product(cv2.divide(red, self.diagonal[0]), self.lower_rg, green)
        return [_minus_product(red, self.lower_rb, blue), green, blue]

    def _mean(self, values: Plane) -> Plane:
        """(h, w) mean over each window; beyond its sides the image is continued by reflection."""
        return cv2.blur(values, self.window)

    def _at_image_size(self, values: Plane) -> Plane:
        if self.size_hw[0] < values.shape[0] or self.size_hw[1] < values.shape[1]:
            return resize_plane(torch.from_numpy(values), self.size_hw).numpy()
        return cv2.resize(values, self.size_hw[::-1], interpolation=cv2.INTER_LINEAR)


def _minus_product(plane: Plane, first: Plane, second: Plane) -> Plane:
    return cv2.subtract(plane, cv2.multiply(first, second))
