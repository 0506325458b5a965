"""Colours, overlays and semantic PNGs: right pixels, right sizes, any name."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from tiny_fusion import coarse_of, masks_of

from fusion import fuse
from fusion.formats.palette import label_colors, palette
from fusion.formats.render import draw_legend, draw_overlay, draw_regions
from fusion.formats.semantic import semantic_png
from ovseg import Label

NAMES = ["cat", "日本語 \u202e 🐈 \n", "a name so long that no legend can ever hold all of it " * 3]


def halves(height: int, width: int) -> np.ndarray:
    label_map = np.zeros((height, width), np.int32)
    label_map[:, width // 3 :] = 1
    label_map[height // 2 :, width // 3 :] = 2
    return label_map


def test_palette_is_distinct_and_a_prefix_of_itself():
    colors = palette(255)
    assert len(set(colors)) == 255
    assert colors[:10] == palette(10)
    assert (0, 0, 0) not in colors
    assert label_colors([Label("a"), Label("b", color=(1, 2, 3))]) == (colors[0], (1, 2, 3))


@pytest.mark.parametrize("size_hw", [(1, 1), (30, 40), (256, 256), (40, 900)])
def test_overlay_keeps_the_size_and_takes_any_name(size_hw):
    image = np.full((*size_hw, 3), 200, np.uint8)
    painted = draw_overlay(image, halves(*size_hw), NAMES, palette(3))
    assert painted.shape == image.shape
    assert painted.dtype == np.uint8


def test_regions_are_tinted_outlined_in_their_colour_and_other_is_left_alone():
    image = np.full((60, 60, 3), 100, np.uint8)
    label_map = halves(60, 60)
    painted = draw_regions(image, label_map, [(255, 0, 0), (0, 0, 255)])
    assert (painted[label_map == 0] == 100).all()
    assert painted[10, 40].tolist() == [170, 55, 55]
    assert painted[29, 40].tolist() == [255, 0, 0]
    assert painted[30, 40].tolist() == [0, 0, 255]
    assert (image == 100).all(), "the picture itself was painted on"


def test_the_legend_is_in_the_least_busy_corner_and_shows_the_colours():
    image = np.zeros((300, 300, 3), np.uint8)
    busy = np.ones((300, 300), bool)
    busy[150:, 150:] = False
    drawn = draw_legend(image, [("cat", (255, 0, 0)), ("sky", (0, 0, 255))], busy)
    changed = (drawn != image).any(axis=2)
    assert changed[150:, 150:].any()
    assert not changed[:150].any()
    assert not changed[:, :150].any()
    assert (drawn == (255, 0, 0)).all(axis=2).any()
    assert (drawn == (0, 0, 255)).all(axis=2).any()


def test_a_legend_that_cannot_be_legible_or_has_nothing_to_say_is_left_out():
    small, large = np.zeros((30, 40, 3), np.uint8), np.zeros((300, 300, 3), np.uint8)
    assert draw_legend(small, [("cat", (255, 0, 0))], np.zeros((30, 40), bool)) is small
    assert draw_legend(large, [], np.zeros((300, 300), bool)) is large


def test_a_hundred_labels_stay_inside_the_picture():
    image = np.zeros((300, 300, 3), np.uint8)
    entries = list(zip((f"label {i}" for i in range(100)), palette(100), strict=True))
    drawn = draw_legend(image, entries, np.zeros((300, 300), bool))
    assert 0 < (drawn != image).any(axis=2).mean() < 0.4


def test_result_draws_itself():
    label_map = np.array([[0, 1], [0, 1]])
    labels = ("cat", Label("grass", color=(9, 8, 7)), "sky")
    result = fuse(masks_of(label_map), coarse_of(label_map, labels=labels))
    painted = result.overlay(Image.new("L", (2, 2)))
    assert painted[0, 1].tolist() == [9, 8, 7]
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        result.overlay(np.zeros((3, 3, 3), np.uint8))


def test_semantic_png_holds_the_ids_themselves_with_their_colours():
    label_map = np.array([[0, 1], [2, 255]], np.int32)
    picture = Image.open(io.BytesIO(semantic_png(label_map, palette(255))))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.array(picture), label_map)
    assert picture.convert("RGB").getpixel((0, 0)) == (0, 0, 0)
    assert picture.convert("RGB").getpixel((1, 0)) == palette(1)[0]


def test_semantic_png_of_more_labels_than_a_palette_holds_is_16_bit_grey():
    label_map = np.array([[0, 1], [255, 300]], np.int32)
    picture = Image.open(io.BytesIO(semantic_png(label_map, palette(300))))
    assert picture.mode == "I;16"
    np.testing.assert_array_equal(np.array(picture), label_map)
