from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emerdiff.frame import frame_size, resize_plane, resized_planes, to_frame

SIDES = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("size_hw", "image_size", "multiple", "expected"),
    [
        ((512, 512), 512, 64, (512, 512)),
        ((480, 640), 512, 64, (448, 576)),
        ((3000, 4000), 512, 64, (448, 576)),
        ((30, 40), 512, 64, (448, 576)),
        ((1, 1), 256, 32, (256, 256)),
        ((10, 5000), 512, 64, (64, 4096)),
        ((5000, 10), 256, 32, (2048, 32)),
    ],
)
def test_frame_size(size_hw, image_size, multiple, expected):
    assert frame_size(size_hw, image_size, multiple) == expected


@given(SIDES, SIDES, st.sampled_from([128, 256, 512, 768]), st.sampled_from([32, 64]))
def test_any_frame_fits_the_model_and_costs_about_the_same(height, width, image_size, multiple):
    frame = frame_size((height, width), image_size, multiple)
    assert all(side % multiple == 0 and side >= multiple for side in frame)
    assert frame[0] * frame[1] <= 2 * image_size**2


def test_a_frame_smaller_than_one_multiple():
    assert frame_size((100, 100), 8, 64) == (64, 64)


def test_pixels_are_scaled_to_minus_one_to_one():
    rgb = np.zeros((4, 6, 3), np.uint8)
    rgb[:, 3:, 0] = 255
    pixels = to_frame(rgb, (8, 12))
    assert pixels.shape == (1, 3, 8, 12) and pixels.dtype == torch.float32
    assert pixels[0, 0, 0, 0] == -1 and pixels[0, 0, 0, -1] == 1 and bool((pixels[0, 1:] == -1).all())


def test_planes_are_resized_bilinearly():
    plane = torch.tensor([[0.0, 4.0]])
    torch.testing.assert_close(resize_plane(plane, (1, 4)), torch.tensor([[0.0, 1.0, 3.0, 4.0]]))
    assert resize_plane(torch.ones(64, 64), (3, 2)).shape == (3, 2)
    stripes = torch.tensor([0.0, 1.0]).repeat(64, 32)
    torch.testing.assert_close(resize_plane(stripes, (64, 8))[:, 1:-1], torch.full((64, 6), 0.5), atol=0.02, rtol=0)


def test_planes_come_at_the_size_of_the_image_one_by_one():
    planes = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(0))
    resized = resized_planes(iter(planes), (20, 30))
    assert np.array_equal(next(resized), resize_plane(planes[0], (20, 30)))
    assert [plane.shape for plane in resized] == [(20, 30)] * 4
