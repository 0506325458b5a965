from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from emerdiff.config import EmerDiffConfig
from ground.presets import read_preset

CONFIGS = Path(__file__).parent.parent / "configs"


def test_the_papers_constants_are_the_defaults():
    config = EmerDiffConfig(model="some/model")
    assert (config.num_timesteps, config.timestep_feature, config.timestep_modulate) == (50, 1, 281)
    assert (config.strength, config.clusters, config.image_size, config.modulate) == (10.0, 30, 512, "once")
    assert (config.clustering, config.position_weight, config.locality) == ("kmeans", 0.0, 0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", ""),
        ("revision", 7),
        ("license", None),
        ("download_mb", -1),
        ("image_size", 0),
        ("num_timesteps", 0),
        ("timestep_feature", -1),
        ("timestep_modulate", 281.0),
        ("modulate", "twice"),
        ("clustering", "spectral"),
        ("position_weight", -0.5),
        ("strength", -1.0),
        ("strength", float("nan")),
        ("clusters", True),
        ("clusters", 0),
        ("ncut_threshold", 2.5),
        ("ncut_power", -1),
        ("zoom", 3),
        ("zoom", True),
        ("feature_layer", ""),
        ("modulation_layer", None),
        ("feature_draws", 0),
        ("inject_attention", 1),
        ("locality", "near"),
        ("guided_radius", -1),
        ("image_blur", "1"),
        ("difference_blur", float("inf")),
        ("batch_size", 0),
        ("timestep_affinity", -1),
        ("speed", "slow"),
        ("modulation", "once"),
        ("spread", 0),
        ("one_step", 1),
        ("differences", "pixels"),
        ("one_side", "yes"),
        ("passes", -1),
    ],
)
def test_a_bad_value_is_named_in_one_line(field, value):
    with pytest.raises(ValueError, match=rf"^emerdiff\.{field} is {re.escape(repr(value))}, expected .+$"):
        EmerDiffConfig.from_mapping({"model": "some/model", field: value})


def test_an_unknown_key_lists_the_known_ones():
    with pytest.raises(ValueError, match="'lambda'") as error:
        EmerDiffConfig.from_mapping({"model": "some/model", "lambda": 10})
    assert all(field.name in str(error.value) for field in fields(EmerDiffConfig))


def test_a_model_must_be_given():
    with pytest.raises(
        ValueError, match=r"emerdiff\.model is missing, expected a hub id, a local folder, a \.safetensors"
    ):
        EmerDiffConfig.from_mapping({})


def test_whole_and_decimal_numbers_are_one_configuration():
    whole = EmerDiffConfig(model="some/model", strength=10, image_blur=0, difference_blur=1)
    assert repr(whole) == repr(EmerDiffConfig(model="some/model"))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_is_valid_by_name_and_by_path(path):
    by_name = EmerDiffConfig.from_mapping(read_preset(path.stem)["emerdiff"])
    assert by_name == EmerDiffConfig.from_mapping(read_preset(path)["emerdiff"])


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, emerdiff; from emerdiff import EmerDiffConfig, fetch_weights; "
        "heavy = {'torch', 'diffusers', 'transformers', 'sklearn', 'skimage', 'cv2', 'huggingface_hub'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_public_name_is_there_and_others_are_not():
    import emerdiff

    assert all(getattr(emerdiff, name).__name__ == name for name in emerdiff.__all__)
    assert dir(emerdiff) == emerdiff.__all__
    with pytest.raises(AttributeError, match="Emerdiff"):
        emerdiff.Emerdiff  # noqa: B018
