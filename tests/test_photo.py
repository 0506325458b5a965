"""The embedded photographic CLIP: its size, its format, and that it tells plain things apart without a network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fusion.presets import load_preset
from ovseg import OpenVocabSegmenter
from ovseg.fetch import CONFIG_FILE

CLIP = Path(__file__).parent.parent / "ovseg/weights/photo"

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def segmenter() -> OpenVocabSegmenter:
    return OpenVocabSegmenter.from_preset("photo", device="cpu")


def test_it_stays_below_fifty_eight_megabytes_and_names_no_file_of_its_maker() -> None:
    assert sum(path.stat().st_size for path in CLIP.iterdir()) < 58e6
    settings = (CLIP / CONFIG_FILE).read_text()
    assert json.loads(settings)["model_cfg"]["text_cfg"]["hf_model_name"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert "/tmp" not in settings and "/work" not in settings


def test_the_preset_differs_from_mini_in_its_words_alone() -> None:
    photo, mini = load_preset("photo"), load_preset("mini")
    assert photo.emerdiff == mini.emerdiff and photo.fusion == mini.fusion
    assert photo.ovseg.model == "builtin:photo"


def test_words_are_near_in_meaning_and_in_space(segmenter: OpenVocabSegmenter) -> None:
    puppy, dog, road, street = segmenter.encode_labels(["puppy", "dog", "road", "street"])
    assert puppy @ dog > puppy @ road + 0.3
    assert street @ road > street @ dog + 0.2


def test_a_smooth_blue_half_above_a_rough_green_one_is_sky_above_grass() -> None:
    segmenter = OpenVocabSegmenter.from_preset("photo", device="cpu", image_size=320)
    rng = np.random.default_rng(0)
    image = np.empty((240, 320, 3), np.uint8)
    image[:120] = np.linspace((90, 150, 225), (190, 215, 240), 120)[:, None].astype(np.uint8)
    image[120:] = np.clip(rng.normal((70, 120, 40), 25, (120, 320, 3)), 0, 255).astype(np.uint8)
    found = segmenter.segment(image, ["sky", "grass", "dog", "car"]).label_map
    assert np.bincount(found[:100].ravel()).argmax() == 0 and np.bincount(found[140:].ravel()).argmax() == 1
