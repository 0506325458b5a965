"""The embedded photographic CLIP: its size, its format, and that it tells plain things apart without a network."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import emerdiff.fetch
import ovseg.fetch
from fusion.models.load import load_diffusion
from fusion.models.presets import config_hash, load_preset
from ovseg import OpenVocabSegmenter
from ovseg.fetch import CONFIG_FILE, WEIGHTS_FILE
from toyworld import KINDS, scene

CLIP = Path(__file__).parent.parent / "ovseg/weights/photo"
RESEARCH = CLIP.parent / "research/overlay.safetensors"
NOT_LEARNED = ("running_mean", "running_var", "num_batches_tracked")
SEEDS = range(1_000_000, 1_000_004)

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def segmenter() -> OpenVocabSegmenter:
    return OpenVocabSegmenter.from_preset("mini", device="cpu")


def test_it_stays_below_thirty_five_megabytes_and_names_no_file_of_its_maker() -> None:
    assert sum(path.stat().st_size for path in CLIP.iterdir()) < 35e6
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


def test_what_learned_from_images_for_research_is_in_the_overlay_alone() -> None:
    """Of both, the head learned, and `training.balance` changed the projection of the texts: `mini` shares none."""
    research, mini = load_preset("mini-research"), load_preset("mini")
    assert [(preset.emerdiff.model, preset.ovseg.model, preset.ovseg.overlay) for preset in (research, mini)] == [
        ("builtin:research", "builtin:photo", "builtin:research"),
        ("builtin:mini", "builtin:photo", None),
    ]
    assert replace(research.emerdiff, model=mini.emerdiff.model, license=mini.emerdiff.license) == mini.emerdiff
    learned = {"logit_scale", "text.proj.weight"} | {
        name
        for name in load_file(CLIP / WEIGHTS_FILE)
        if name.startswith(("visual.trunk.conv_head.", "visual.trunk.bn2.", "visual.trunk.classifier."))
    }
    # Counts and moments of the norm, which no training moved, are equal in both.
    assert learned - set(load_file(RESEARCH)) <= {f"visual.trunk.bn2.{name}" for name in NOT_LEARNED}
    assert set(load_file(RESEARCH)) <= learned


def test_without_the_weights_for_research_one_line_says_where_they_are(tmp_path, monkeypatch) -> None:
    """As in a wheel, which leaves them out."""
    monkeypatch.setattr(emerdiff.fetch, "_BUILTIN", tmp_path / "emerdiff/weights")
    monkeypatch.setattr(ovseg.fetch, "_BUILTIN", tmp_path / "ovseg/weights")
    preset = load_preset("mini-research")
    with pytest.raises(FileNotFoundError) as masks:
        load_diffusion("emerdiff", preset)
    with pytest.raises(FileNotFoundError) as labels:
        config_hash(preset)  # before anything is loaded
    for told, setting in (
        (str(masks.value), "emerdiff.model=CLONE/emerdiff/weights/research"),
        (str(labels.value), "ovseg.overlay=CLONE/ovseg/weights/research/overlay.safetensors"),
    ):
        assert (
            "for research, and lie in the source repository alone" in told
            and told.endswith(f"or set {setting}")
            and "\n" not in told
        )


def test_mini_finds_much_of_a_scene_without_windows() -> None:
    made = scene(SEEDS[0])
    kinds = np.array([KINDS.index(kind) for kind in made.kinds])
    found = OpenVocabSegmenter.from_preset("mini", device="cpu").segment(made.image, KINDS).label_map
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
