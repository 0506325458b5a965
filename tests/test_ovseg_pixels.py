"""Geometry and values of CLIP's input."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from ovseg.pixels import MAX_ASPECT, patch_grid, to_pixels

SIDES = st.integers(1, 6000)


@given(SIDES, SIDES, st.sampled_from([64, 224, 336, 448]), st.sampled_from([14, 16, 32]))
def test_the_shorter_side_becomes_the_image_size_and_the_aspect_stays(
    height: int, width: int, image_size: int, patch: int
) -> None:
    rows, columns = patch_grid((height, width), image_size, (patch, patch))
    assert abs(min(rows, columns) * patch - image_size) <= patch / 2
    aspect = min(max(height, width) / min(height, width), MAX_ASPECT)
    assert abs(max(rows, columns) * patch - aspect * image_size) <= patch / 2 + 1e-6
    assert (rows >= columns) == (height >= width) or rows == columns


def test_the_usual_grids() -> None:
    assert patch_grid((480, 640), 448, (16, 16)) == (28, 37)
    assert patch_grid((3000, 4000), 224, (16, 16)) == (14, 19)
    assert patch_grid((1, 1), 448, (16, 16)) == (28, 28)
    assert patch_grid((10, 10_000), 448, (16, 16)) == (28, 112)
    assert patch_grid((100, 100), 5, (16, 8)) == (1, 1)


def test_a_square_image_gets_the_pixels_of_clips_own_preprocessing() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (150, 150, 3), np.uint8)
    mean, std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
    own = image_transform_v2(PreprocessCfg(size=64, mean=mean, std=std), is_train=False)
    np.testing.assert_allclose(to_pixels(rgb, (64, 64), mean, std), own(Image.fromarray(rgb)), atol=1e-6)


def test_the_whole_image_is_covered_without_shift() -> None:
    quarters = np.zeros((200, 300, 3), np.uint8)
    quarters[100:, :, 0], quarters[:, 150:, 1] = 255, 255
    pixels = to_pixels(quarters, (40, 80), (0, 0, 0), (1, 1, 1))
    assert pixels.shape == (3, 40, 80) and pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[0].mean(axis=1), np.repeat([0, 1], 20), atol=0.1)
    np.testing.assert_allclose(pixels[1].mean(axis=0), np.repeat([0, 1], 40), atol=0.1)


def test_fine_stripes_shrink_to_their_mean() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8)[:, None], (1000, 3)).reshape(2000, 1, 3).repeat(100, axis=1)
    pixels = to_pixels(stripes, (90, 100), (0, 0, 0), (1, 1, 1))
    assert np.abs(pixels - 0.5).max() < 0.02
