"""The embedded photographic CLIP: its size, its format, and that it tells plain things apart without a network."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from fusion.models.presets import load_preset
from ovseg import OpenVocabSegmenter
from ovseg.fetch import CONFIG_FILE, WEIGHTS_FILE
from toyworld import KINDS, scene

CLIP = Path(__file__).parent.parent / "ovseg/weights/photo"
FREE = CLIP.parent / "free/overlay.safetensors"
NOT_LEARNED = ("running_mean", "running_var", "num_batches_tracked")
SEEDS = range(1_000_000, 1_000_004)

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def segmenter() -> OpenVocabSegmenter:
    return OpenVocabSegmenter.from_preset("mini", device="cpu")


def test_it_stays_below_fifty_eight_megabytes_and_names_no_file_of_its_maker() -> None:
    assert sum(path.stat().st_size for path in CLIP.iterdir()) < 58e6
    settings = (CLIP / CONFIG_FILE).read_text()
    assert json.loads(settings)["model_cfg"]["text_cfg"]["hf_model_name"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert '"/' not in settings  # no absolute path


def test_the_preset_differs_from_toy_in_its_labels_and_what_suits_photographs_alone() -> None:
    mini, toy = load_preset("mini"), load_preset("toy")
    differing = [
        {name for name, value in asdict(one).items() if getattr(other, name) != value}
        for one, other in ((mini.emerdiff, toy.emerdiff), (mini.fusion, toy.fusion))
    ]
    of_masks = {"image_size", "clusters", "guided_radius", "timestep_feature", "timestep_modulate"}
    of_masks |= {"locality", "area_power"}
    assert differing == [of_masks, set()]
    assert (mini.ovseg.model, toy.ovseg.model) == ("builtin:photo", "builtin:mini")


def test_the_free_preset_takes_nothing_that_photo_has_learned() -> None:
    """The trainer of `photo` changed its head alone, and `training.balance` the projection of the texts."""
    free, mini = load_preset("mini-free"), load_preset("mini")
    assert (free.emerdiff.model, free.ovseg.model, free.ovseg.overlay) == (
        "builtin:drawn",
        "builtin:photo",
        "builtin:free",
    )
    assert replace(free.emerdiff, model=mini.emerdiff.model, license=mini.emerdiff.license) == mini.emerdiff
    learned = {"logit_scale", "text.proj.weight"} | {
        name
        for name in load_file(CLIP / WEIGHTS_FILE)
        if name.startswith(("visual.trunk.conv_head.", "visual.trunk.bn2.", "visual.trunk.classifier."))
    }
    # Counts and moments of the norm, which no training moved, are equal in both.
    assert learned - set(load_file(FREE)) <= {f"visual.trunk.bn2.{name}" for name in NOT_LEARNED}
    assert set(load_file(FREE)) <= learned


def test_the_free_preset_tells_plain_things_apart() -> None:
    segmenter = OpenVocabSegmenter.from_preset("mini-free", device="cpu")
    puppy, dog, road, street = segmenter.encode_labels(["puppy", "dog", "road", "street"])
    assert puppy @ dog > puppy @ road + 0.3
    assert street @ road > street @ dog + 0.2
    made = scene(SEEDS[0])
    kinds = np.array([KINDS.index(kind) for kind in made.kinds])
    found = segmenter.segment(made.image, KINDS).label_map
    assert (found == kinds[made.label_map]).mean() > 0.4


def test_words_are_near_in_meaning_and_in_space(segmenter: OpenVocabSegmenter) -> None:
    puppy, dog, road, street = segmenter.encode_labels(["puppy", "dog", "road", "street"])
    assert puppy @ dog > puppy @ road + 0.3
    assert street @ road > street @ dog + 0.2


def test_it_names_drawn_scenes_too() -> None:
    segmenter = OpenVocabSegmenter.from_preset("mini", device="cpu", image_size=768, window=384)
    right = []
    for seed in SEEDS:
        made = scene(seed)
        kinds = np.array([KINDS.index(kind) for kind in made.kinds])
        right.append((segmenter.segment(made.image, KINDS).label_map == kinds[made.label_map]).mean())
    assert np.mean(right) > 0.75
