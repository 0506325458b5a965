from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_emerdiff import picture, tiny_backbone, tiny_config

from emerdiff import EmerDiff, Masks
from emerdiff.zoom import CROPS, doubtful_windows, joined, mixed, zoomed


def masks_of(label_map: np.ndarray, grid: tuple[int, int] = (16, 16), first: float = 0.0) -> Masks:
    """Whose features are numbers from `first` on."""
    count = int(label_map.max()) + 1
    features = first + np.arange(count, dtype=np.float32)[:, None]
    return Masks(label_map.astype(np.int32), np.zeros(grid, np.int32), features)


def halves() -> np.ndarray:
    """(64, 64): 0 above, 1 below."""
    return np.repeat([0, 1], 32)[:, None].repeat(64, axis=1)


WINDOW = slice(0, 32), slice(16, 48)  # at the upper side of the image


def found(*squares: tuple[int, int, int]) -> Masks:
    """In the window, masks from 1 on: squares (row, column, side) of it; 0 is all around."""
    label_map = np.zeros((32, 32), np.int32)
    for index, (row, column, side) in enumerate(squares, start=1):
        label_map[row : row + side, column : column + side] = index
    return masks_of(label_map, (8, 8), first=100.0)


def test_what_a_crop_shows_whole_becomes_a_mask():
    masks = masks_of(halves())
    result = joined(masks, found((10, 12, 6), (20, 3, 5)), WINDOW)
    assert result.num_masks == 4 and result.features.ravel().tolist() == [0, 1, 101, 102]
    assert (result.label_map[10:16, 28:34] == 2).all() and (result.label_map == 2).sum() == 36
    assert (result.label_map[20:25, 19:24] == 3).all() and (result.label_map == 3).sum() == 25
    rest = result.label_map < 2
    assert np.array_equal(result.label_map[rest], masks.label_map[rest])
    assert np.array_equal(result.low_res, masks.low_res)


def test_what_a_side_of_the_crop_cuts_does_not():
    masks = masks_of(halves())
    for row, column in ((10, 0), (10, 26), (26, 10)):
        assert joined(masks, found((row, column, 6)), WINDOW) is masks
    # The upper side of this window is that of the image: nothing is cut there.
    assert joined(masks, found((0, 10, 6)), WINDOW).num_masks == 3


def test_what_is_a_mask_already_stays_it():
    label_map = halves()
    label_map[10:16, 28:34] = 2
    masks = masks_of(label_map)
    assert joined(masks, found((10, 12, 6)), WINDOW) is masks
    assert joined(masks, found((10, 12, 7)), WINDOW) is masks  # 36 of 49
    assert joined(masks, found((10, 12, 9)), WINDOW).num_masks == 4  # 36 of 81: another thing
    assert joined(masks, found((10, 12, 4)), WINDOW).num_masks == 4  # 16 of 36: a part of it


def test_what_is_smaller_than_a_position_of_the_crop_does_not():
    masks = masks_of(halves())
    assert joined(masks, found((10, 12, 3)), WINDOW) is masks  # 9 px of a position's 16
    assert joined(masks, found((10, 12, 4)), WINDOW).num_masks == 3


def test_each_part_of_a_mask_that_is_apart_counts_by_itself():
    crop = found((10, 12, 6), (20, 3, 5))
    both = replace(crop, label_map=crop.label_map.clip(0, 1))
    assert joined(masks_of(halves()), both, WINDOW).features.ravel().tolist() == [0, 1, 101, 101]


def test_the_same_crop_twice_is_the_same():
    once = joined(masks_of(halves()), found((10, 12, 6)), WINDOW)
    assert joined(once, found((10, 12, 6)), WINDOW) is once
    own = masks_of(once.label_map[WINDOW], (8, 8))
    assert joined(once, own, WINDOW) is once


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_crop_changes_nothing_outside_itself_and_leaves_a_partition(data):
    numbers = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    coarse = numbers.integers(0, 4, (6, 6))
    masks = masks_of(np.unique(coarse, return_inverse=True)[1].reshape(6, 6).repeat(6, 0).repeat(6, 1))
    rows, columns = (sorted(data.draw(st.lists(st.integers(0, 36), min_size=2, max_size=2, unique=True))) for _ in "xy")
    window = slice(*rows), slice(*columns)
    crop = numbers.integers(0, 3, masks.label_map[window].shape)
    result = joined(masks, masks_of(np.unique(crop, return_inverse=True)[1].reshape(crop.shape), (4, 4)), window)
    outside = np.ones((36, 36), bool)
    outside[window] = False
    assert np.array_equal(result.label_map[outside], masks.label_map[outside])
    assert result.num_masks >= masks.num_masks and result.label_map.dtype == np.int32
    old = result.label_map < masks.num_masks
    assert np.array_equal(result.label_map[old], masks.label_map[old])
    new = set(range(masks.num_masks, result.num_masks))
    assert new <= set(np.unique(result.label_map).tolist())  # a new mask has pixels
    assert np.array_equal(result.features[: masks.num_masks], masks.features)


def test_windows_are_where_doubts_are():
    doubts = np.zeros((8, 8), np.float32)
    assert doubtful_windows(doubts, (64, 80), 2) == []
    doubts[1, 6] = 1.0
    (first, *rest) = doubtful_windows(doubts, (64, 80), 2)
    assert first == (slice(0, 32), slice(40, 80)) and not rest
    quarter = doubtful_windows(doubts, (64, 80), 4)[0]
    assert quarter[0].start <= 12 <= quarter[0].stop and quarter[1].start <= 65 <= quarter[1].stop


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("size_hw", [(64, 64), (67, 131), (200, 65)])
def test_windows_lie_in_the_image_and_are_few(scale, size_hw):
    doubts = np.random.default_rng(0).uniform(1, 2, (9, 7)).astype(np.float32)
    windows = doubtful_windows(doubts, size_hw, scale)
    assert 1 <= len(windows) <= CROPS and len({str(window) for window in windows}) == len(windows)
    for window in windows:
        for span, length in zip(window, size_hw, strict=True):
            assert 0 <= span.start < span.stop <= length and span.stop - span.start == -(-length // scale)


def test_a_small_image_has_no_windows():
    assert doubtful_windows(np.ones((4, 4), np.float32), (300, 30), 2) == []
    masks = masks_of(np.zeros((1, 1), np.int32))
    assert zoomed(masks, np.ones((1, 1), np.float32), lambda window: pytest.fail("a crop"), 2) is masks


def test_doubts_are_distances_to_the_mean_of_the_mask():
    features = np.float32([[0, 0], [0, 0], [6, 0], [5, 5]])
    low_res = np.int32([[0, 0], [0, 1]])
    np.testing.assert_allclose(mixed(features, low_res), [[4, 4], [16, 0]])


@pytest.mark.parametrize(("layout", "speed"), [("mini", "exact"), ("sd1", "fast"), ("sd2", "instant")])
def test_every_layout_and_speed_zooms(layout, speed):
    backbone = tiny_backbone(layout)
    config = tiny_config(speed=speed, ncut_threshold=2.0, timestep_modulate=11)
    image = picture(96, 64)
    plain = EmerDiff(backbone, config).segment(image, seed=1, keep_affinity=True)
    zoom = 1 if speed == "exact" else 2
    near = EmerDiff(backbone, replace(config, zoom=zoom)).segment(image, seed=1, keep_affinity=True)
    assert near.label_map.shape == (96, 64) and near.num_masks >= plain.num_masks
    old = near.label_map < plain.num_masks
    assert np.array_equal(near.label_map[old], plain.label_map[old])
    assert np.array_equal(near.low_res, plain.low_res) and near.affinity is not None


def test_without_zoom_no_crop_is_looked_at():
    backbone, image, passes = tiny_backbone(), picture(), []
    backbone.unet.register_forward_pre_hook(lambda *_: passes.append(1))
    counts = []
    for zoom in (0, 1):
        EmerDiff(backbone, tiny_config(speed="instant", zoom=zoom)).segment(image)
        counts.append(len(passes))
        passes.clear()
    assert counts[0] == 2 and counts[0] < counts[1] <= 2 + 2 * CROPS


def test_difference_maps_are_of_the_whole_image():
    with pytest.raises(ValueError, match=r"emerdiff\.zoom is 1, expected 0 where difference maps are kept"):
        EmerDiff(tiny_backbone(), tiny_config(zoom=1)).segment(picture(), keep_difference=True)
