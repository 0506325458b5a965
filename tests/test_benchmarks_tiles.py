"""The figures of benchmarks.tiles, and how its mosaics are laid."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import pytest

from benchmarks.tiles import mosaic_counts, scenes
from fusion.evaluation.metrics import class_counts, majority_regions


@pytest.mark.parametrize("seed", range(3))
def test_counts_of_a_mosaic_are_those_of_masks_that_take_their_best_region(seed):
    rng = np.random.default_rng(seed)
    masks, regions = (rng.integers(0, count, (12, 15)).astype(np.int32) for count in (20, 5))
    expected = class_counts(regions, majority_regions(masks, regions), 5)
    np.testing.assert_array_equal(mosaic_counts(masks, regions, 5), expected)


def test_scenes_fill_the_mosaic_and_are_cut_at_its_sides():
    covered = np.zeros((50, 50), int)
    for placed in scenes(50, Namespace(scene=20, first=1_000_000)):
        covered[placed.window] += 1
        assert placed.image.shape[:2] == placed.regions.shape == placed.classes.shape == covered[placed.window].shape
    assert (covered == 1).all()
