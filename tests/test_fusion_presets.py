"""Presets: sections, overrides, errors, and a hash that changes with the results and with nothing else."""

from __future__ import annotations

import pytest
import yaml

from fusion.models.load import load_clip, load_diffusion
from fusion.models.presets import config_hash, list_presets, load_preset, mask_hash
from fusion.step.choices import MaskSource
from ground.weights import WeightsMissing


@pytest.fixture
def preset_file(tmp_path):
    path = tmp_path / "own.yaml"
    values = {
        "description": "mine",
        "emerdiff": {"model": "folder", "clusters": 7},
        "ovseg": {"model": "local-dir:folder"},
        "fusion": {"min_area": 9},
    }
    path.write_text(yaml.safe_dump(values))
    return path


def test_every_bundled_preset_loads():
    large = {"sdxl", "ssd1b", "pixart-sigma", "sd3-medium", "flux-schnell"}
    assert large | {"mini", "mini-research", "toy", "sd14", "sd15", "sd21"} <= set(list_presets())
    for name in list_presets():
        assert load_preset(name).name == name
        assert load_preset(name).description


def test_a_file_is_a_preset(preset_file):
    preset = load_preset(preset_file)
    assert (preset.name, preset.description) == (str(preset_file), "mine")
    assert (preset.emerdiff.clusters, preset.fusion.min_area) == (7, 9)


def test_overrides_are_yaml_and_the_last_one_counts(preset_file):
    given = ["emerdiff.clusters=3", "emerdiff.clusters=4", "emerdiff.inject_attention=false", "fusion.min_score=1e-5"]
    given += ['ovseg.templates=["a {}", "the {}"]', "ovseg.logit_scale=null"]
    preset = load_preset(preset_file, given)
    assert (preset.emerdiff.clusters, preset.emerdiff.inject_attention) == (4, False)
    assert preset.fusion.min_score == 1e-5
    assert preset.ovseg.templates == ("a {}", "the {}")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("clusters=3", "SECTION.KEY=VALUE"),
        ("emerdiff.clusters", "SECTION.KEY=VALUE"),
        ("diffusion.clusters=3", "emerdiff, ovseg, fusion"),
        ("emerdiff.cluster=3", "clusters"),
        ("emerdiff.clusters=many", "'many'"),
        ("emerdiff.clusters=[", "no YAML"),
    ],
)
def test_bad_overrides_say_what_was_expected(preset_file, override, expected):
    with pytest.raises(ValueError, match=expected) as caught:
        load_preset(preset_file, [override])
    assert "\n" not in str(caught.value)


def test_unknown_presets_and_sections_list_the_known_ones(preset_file):
    with pytest.raises(ValueError, match="sd15"):
        load_preset("sd99")
    preset_file.write_text("emerdif: {}\n")
    with pytest.raises(ValueError, match=r"'emerdif'.*emerdiff, ovseg, fusion"):
        load_preset(preset_file)
    preset_file.write_text("emerdiff: 3\n")
    with pytest.raises(ValueError, match="emerdiff is 3"):
        load_preset(preset_file)


def test_the_hash_changes_with_the_results_only(preset_file):
    def hash_of(*overrides, **choices):
        return config_hash(load_preset(preset_file, overrides), **choices)

    assert hash_of() == hash_of("emerdiff.batch_size=1", "ovseg.license=MIT", "emerdiff.download_mb=5")
    assert hash_of("emerdiff.strength=10") == hash_of("emerdiff.strength=10.0")
    different = [hash_of("emerdiff.clusters=8"), hash_of("ovseg.dense=clip"), hash_of("fusion.min_area=1")]
    different += [hash_of(), hash_of(seed=0), hash_of(seed=1)]
    assert len(set(different)) == len(different)


def test_masks_without_diffusion_depend_on_their_number_only(preset_file):
    def hash_of(source, *overrides):
        return mask_hash(load_preset(preset_file, overrides).emerdiff, source)

    other = ("emerdiff.strength=3",)
    assert hash_of("slic") == hash_of("slic", *other) != hash_of("grid")
    assert hash_of("slic") != hash_of("slic", "emerdiff.clusters=8")
    assert hash_of("emerdiff") != hash_of("emerdiff", *other)


@pytest.mark.parametrize("load", [load_clip, lambda preset: load_diffusion("emerdiff", preset)])
def test_missing_weights_say_which_preset_they_belong_to(tmp_path, monkeypatch, load):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(WeightsMissing) as caught:
        load(load_preset("sd15"))
    assert caught.value.preset == "sd15"
    assert caught.value.size_mb > 0 and "emerseg" not in str(caught.value)


@pytest.mark.parametrize("source", [source for source in MaskSource if not source.needs_diffusion])
def test_no_diffusion_model_is_loaded_for_masks_that_need_none(source):
    assert load_diffusion(source, load_preset("sd15")) is None
