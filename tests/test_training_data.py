"""Scenes on disk, as the trainers read them: what the generator draws, and crops of it."""

from __future__ import annotations

import numpy as np

from toyworld import scene
from training import data
from training.data import CAPTIONS, LATENT, PART, PARTS, SIZE, drawn_scenes, scene_cache


def test_cached_scenes_and_crops_agree_with_the_generator(tmp_path):
    cache = scene_cache(tmp_path, 5, 3)
    assert len(cache) == 3 and np.array_equal(cache.images[1], scene(6).image)
    crop = cache.crop(1, 96, 64, np.random.default_rng(0))
    assert crop.image.shape == (64, 64, 3) and crop.image.dtype == np.uint8
    assert crop.caption.mentions <= crop.shown <= {*scene(6).names, *scene(6).kinds}
    assert np.array_equal(scene_cache(tmp_path, 5, 3).label_maps, cache.label_maps)


def test_places_and_captions_are_of_what_is_there(tmp_path):
    cache = scene_cache(tmp_path, 5, 2)
    for index, places in enumerate(cache.places.astype(int)):
        assert len(np.unique(cache.label_maps[index][places[:, 0], places[:, 1]])) > 1
        assert len(cache.texts[index]) == CAPTIONS + PARTS
        for (y, x), text in zip(cache.corners[index].astype(int), cache.texts[index][CAPTIONS:], strict=True):
            assert y % LATENT == x % LATENT == 0 and max(y, x) + PART <= SIZE
            kinds = cache.shown(index, cache.label_maps[index, y : y + PART, x : x + PART])[1]
            other = set(cache.kinds[index]) - set(kinds)
            assert text and not any(f" {kind} " in f" {text.replace(',', '')} " for kind in other)


def test_scenes_are_there_block_by_block_and_drawing_goes_on_after_them(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_BLOCK", 2)
    cache, folder = scene_cache(tmp_path, 5, 5), tmp_path / "scenes-5-5"
    assert len(drawn_scenes(tmp_path, 5, 5)) == 5 and len(drawn_scenes(tmp_path, 6, 5)) == 0
    (folder / "texts-000002.json").unlink()
    some, kept = drawn_scenes(tmp_path, 5, 5), (folder / "texts-000000.json").stat().st_mtime_ns
    assert len(some) == len(some.texts) == len(some.images) == 2
    assert np.array_equal(some.images, cache.first(2).images) and cache.first(2).names == some.names
    assert scene_cache(tmp_path, 5, 5).texts == cache.texts
    assert (folder / "texts-000000.json").stat().st_mtime_ns == kept
