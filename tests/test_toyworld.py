"""The toy world: what the ground truth promises."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from toyworld import HELD_OUT, KINDS, SYNONYMS, scene
from toyworld.captions import describe
from toyworld.scene import SIZE
from toyworld.vocabulary import COLORS, GROUNDS, OBJECTS, PATTERNS, SKIES, SKY, full_name

SEEDS = (*range(40), *range(1_000_000, 1_000_010))
HELD_OUT_NAMES = {full_name(*combination) for combination in HELD_OUT}


@pytest.fixture(scope="module")
def scenes():
    return {seed: scene(seed) for seed in SEEDS}


def test_every_pixel_has_a_region_and_every_region_has_pixels(scenes):
    for drawn in scenes.values():
        assert drawn.image.shape == (SIZE, SIZE, 3) and drawn.image.dtype == np.uint8
        assert drawn.label_map.shape == (SIZE, SIZE) and drawn.label_map.dtype == np.int32
        assert len(drawn.names) == len(drawn.kinds)
        assert np.array_equal(np.unique(drawn.label_map), np.arange(len(drawn.names)))


def test_names_end_in_their_kind_and_kinds_are_known(scenes):
    for drawn in scenes.values():
        assert drawn.kinds[0] == SKY and drawn.names[0] in SKIES
        assert drawn.kinds[1] in GROUNDS
        assert 1 <= len(drawn.kinds) - 2 <= 5
        for name, kind in zip(drawn.names, drawn.kinds, strict=True):
            assert kind in KINDS and name.endswith(kind)


def test_scenes_are_the_same_every_time_and_differ_by_seed(scenes):
    again = scene(7)
    assert np.array_equal(again.image, scenes[7].image) and again.caption == scenes[7].caption
    assert not np.array_equal(scenes[7].image, scenes[8].image)


def test_scenes_are_the_same_on_every_machine(scenes):
    """The exact regions and, to a grey level of rounding, the colours that were drawn when this test was written."""
    regions = b"".join(scenes[seed].label_map.astype(np.uint8).tobytes() for seed in range(10))
    assert hashlib.sha256(regions).hexdigest()[:16] == "c7c619d975c83a36"
    means = [scenes[seed].image.mean() for seed in range(4)]
    assert means == pytest.approx([114.029, 211.762, 92.93, 70.536], abs=0.05)
    assert (
        scenes[0].caption
        == "a scene with a blossom, a red zigzag sphere and a pink checkered fish in front of snow below a night sky"
    )


def test_training_scenes_hold_no_held_out_combination(scenes):
    said = {name for seed, drawn in scenes.items() if seed < 1_000_000 for name in drawn.names}
    assert not said & HELD_OUT_NAMES


def test_validation_scenes_do():
    said = {name for seed in range(1_000_100, 1_000_160) for name in scene(seed).names}
    assert said & HELD_OUT_NAMES


def test_held_out_combinations_are_real_ones():
    assert len(HELD_OUT) == 30
    for color, pattern, kind in HELD_OUT:
        assert color in COLORS and pattern in PATTERNS and kind in OBJECTS


def test_the_world_is_as_rich_as_promised():
    assert len(OBJECTS) >= 14 and len(COLORS) == 11 and len(PATTERNS) >= 4 and len(GROUNDS) == 6 and len(SKIES) == 4


def test_patterned_objects_have_two_tones():
    """Colour alone cannot find an object: the object's own pixels are of two clearly different tones."""
    drawn = next(s for s in map(scene, range(400)) if any("checkered ball" in name for name in s.names))
    region = next(i for i, name in enumerate(drawn.names) if "checkered ball" in name)
    grey = drawn.image[drawn.label_map == region].mean(axis=1)
    assert np.percentile(grey, 85) - np.percentile(grey, 15) > 40


def test_a_caption_is_true_of_its_scene():
    rng = np.random.default_rng(0)
    names, kinds = ("clear sky", "water", "red striped boat", "blue ball"), ("sky", "water", "boat", "ball")
    synonyms = {synonym for words in SYNONYMS.values() for synonym in words}
    for _ in range(300):
        text, mentions = describe(names, kinds, rng)
        assert mentions and mentions <= {*names, *kinds}
        assert "  " not in text and text == text.strip()
        for absent in ({*KINDS} | synonyms) - {
            "sky",
            "water",
            "boat",
            "ball",
            *SYNONYMS["water"],
            *SYNONYMS["boat"],
            *SYNONYMS["ball"],
        }:
            assert f" {absent} " not in f" {text} ", text


def test_a_caption_can_be_about_a_single_region():
    assert describe(("grass",), ("grass",), np.random.default_rng(1)).mentions == {"grass"}


def test_negative_seed_is_refused():
    with pytest.raises(ValueError, match="-1; expected 0 or more"):
        scene(-1)
