"""Scenes on disk, as the trainers read them: what the generator draws, and crops of it."""

from __future__ import annotations

import numpy as np

from toyworld import scene
from training.data import scene_cache


def test_cached_scenes_and_crops_agree_with_the_generator(tmp_path):
    cache = scene_cache(tmp_path, 5, 3)
    assert len(cache) == 3 and np.array_equal(cache.images[1], scene(6).image)
    crop = cache.crop(1, 96, 64, np.random.default_rng(0))
    assert crop.image.shape == (64, 64, 3) and crop.image.dtype == np.uint8
    assert crop.caption.mentions <= crop.shown <= {*scene(6).names, *scene(6).kinds}
    assert np.array_equal(scene_cache(tmp_path, 5, 3).label_maps, cache.label_maps)
