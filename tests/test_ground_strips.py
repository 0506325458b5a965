"""Strips: what is done a few rows at a time is what is done at once."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import label as label_components

from fusion.formats.coco import regions
from fusion.formats.panoptic import panoptic_png
from fusion.formats.partition import Partition, Segment
from fusion.formats.render import draw_overlay
from fusion.step.components import absorb_small, border_lengths
from ground import strips
from ground.label_maps import connected_components, contingency, pixel_counts, shared_pixels
from ovseg import Label


@pytest.fixture(params=[1, 40, 2**22])
def pixels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(strips, "PIXELS", request.param)
    return request.param


def random_map(seed: int, highest: int = 3, size_hw: tuple[int, int] = (23, 17)) -> np.ndarray:
    """Blots of ids 0 … highest, and single pixels of others."""
    rng = np.random.default_rng(seed)
    blots = np.kron(rng.integers(0, highest + 1, (6, 5)), np.ones((4, 4), int))[: size_hw[0], : size_hw[1]]
    return np.where(rng.random(size_hw) < 0.2, rng.integers(0, highest + 1, size_hw), blots).astype(np.int32)


def test_strips_are_all_rows_in_order(pixels):
    rows = [row for part in strips.strips((23, 17)) for row in range(23)[part]]
    assert rows == list(range(23))


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
@pytest.mark.parametrize("seed", range(5))
def test_components_are_those_of_the_whole_map(pixels, seed, dtype):
    label_map = random_map(seed).astype(dtype)
    expected = label_components(label_map.astype(np.int32), background=-1, connectivity=2) - 1
    components, labels = connected_components(label_map)
    np.testing.assert_array_equal(components, expected)
    np.testing.assert_array_equal(labels[components], label_map)
    assert components.dtype == labels.dtype == np.int32


def test_a_spiral_is_one_component_however_it_is_cut(pixels):
    spiral = np.zeros((9, 9), np.int32)
    spiral[0], spiral[:, 8], spiral[8], spiral[2:, 0], spiral[2, :7], spiral[2:7, 6], spiral[6, 2:7] = (1,) * 7
    components, labels = connected_components(spiral)
    assert labels.tolist().count(1) == 1 and len(labels) == int(components.max()) + 1


@pytest.mark.parametrize("seed", range(3))
def test_pixels_are_counted_once(pixels, seed):
    first, second = random_map(seed), random_map(seed + 10, highest=6)
    counts = contingency(first, second, (4, 7))
    expected = np.zeros((4, 7), int)
    np.add.at(expected, (first.ravel(), second.ravel()), 1)
    np.testing.assert_array_equal(counts, expected)
    pairs, shared = shared_pixels(first, second)
    assert pairs.tolist() == np.argwhere(expected).tolist()
    np.testing.assert_array_equal(shared, expected[expected > 0])
    np.testing.assert_array_equal(pixel_counts(first, 6), np.bincount(first.ravel(), minlength=6))
    np.testing.assert_array_equal(contingency(first.ravel(), second.ravel(), (4, 7)), expected)


@pytest.mark.parametrize("seed", range(3))
def test_borders_and_crumbs_are_those_of_the_whole_map(seed, monkeypatch):
    label_map = random_map(seed)
    results = []
    for size in (1, 2**22):
        monkeypatch.setattr(strips, "PIXELS", size)
        results.append((absorb_small(label_map, 6), border_lengths(connected_components(label_map)[0])))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_files_are_those_of_the_whole_map(monkeypatch):
    labels = (Label("cat"), Label("grass", stuff=True), Label("sky", stuff=True))
    mask_map, label_map = random_map(5, highest=2), random_map(5, highest=2) + 1
    segments = tuple(Segment(mask, labels[mask], 0.5, 1.0, None, 1.0, 9) for mask in range(3))
    scores = np.random.default_rng(0).random(label_map.shape).astype(np.float32)
    image = np.random.default_rng(1).integers(0, 256, (*label_map.shape, 3)).astype(np.uint8)
    results = []
    for size in (1, 40, 2**22):
        monkeypatch.setattr(strips, "PIXELS", size)
        found, id_map = regions(Partition(label_map, labels, segments, scores, mask_map))
        drawn = draw_overlay(image, label_map, ["cat", "grass", "sky"], [(9, 8, 7)] * 3)
        results.append(([one.to_json() for one in found], panoptic_png(id_map, 300), drawn.tobytes()))
    assert results[0] == results[1] == results[2]
