"""Settings are checked when they are made, and presets are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ovseg import OvsegConfig
from ovseg.config import read_preset


def test_a_mapping_becomes_a_config_with_the_defaults() -> None:
    values = {"model": "hf-hub:org/repo", "revision": "abc", "templates": ["a {}", "{}"], "dense": "clip"}
    expected = OvsegConfig(model="hf-hub:org/repo", revision="abc", templates=("a {}", "{}"), dense="clip")
    assert OvsegConfig.from_mapping(values) == expected
    assert (expected.image_size, expected.logit_scale, expected.pretrained) == (448, None, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": ""}, "ovseg.model is ''"),
        ({"model": "ViT-B-16", "pretrained": 3}, "ovseg.pretrained is 3"),
        ({"model": "local-dir:x", "pretrained": "openai"}, "local-dir:x has its own weights"),
        ({"model": "m", "revision": 12}, "ovseg.revision is 12"),
        ({"model": "m", "license": None}, "ovseg.license is None"),
        ({"model": "m", "download_mb": -1}, "ovseg.download_mb is -1"),
        ({"model": "m", "dense": "sam"}, "ovseg.dense is 'sam', expected one of clip, maskclip"),
        ({"model": "m", "templates": "foto"}, "unknown template set 'foto'"),
        ({"model": "m", "templates": ["a cat"]}, "template 'a cat'"),
        ({"model": "m", "templates": 3}, "templates are 3, expected one of"),
        ({"model": "m", "image_size": 0}, "ovseg.image_size is 0"),
        ({"model": "m", "image_size": 2.5}, "ovseg.image_size is 2.5"),
        ({"model": "m", "image_size": True}, "ovseg.image_size is True"),
        ({"model": "m", "logit_scale": 0}, "ovseg.logit_scale is 0"),
        ({"model": "m", "logit_scale": float("nan")}, "ovseg.logit_scale is nan"),
        ({"model": "m", "size": 3, "x": 1}, "unknown ovseg setting 'size', 'x'; known: model, pretrained,"),
        ({"image_size": 224}, "ovseg.model is missing"),
    ],
)
def test_bad_settings_are_refused_with_what_was_expected(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OvsegConfig.from_mapping(values)


def test_a_preset_file_is_read_and_bad_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("description: x\novseg: {model: 'builtin:mini'}\n")
    assert read_preset(path) == read_preset(str(path)) == {"description": "x", "ovseg": {"model": "builtin:mini"}}
    for content, message in (("- a\n", "holds list, expected a mapping"), ("a: [", "is no YAML")):
        path.write_text(content)
        with pytest.raises(ValueError, match=message) as caught:
            read_preset(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"no preset file .*other.yaml"):
        read_preset(tmp_path / "other.yaml")


@pytest.mark.parametrize("name", ["nonsense", "../pyproject", ""])
def test_an_unknown_preset_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown preset .*: give one of .*mini.*or a .yaml file"):
        read_preset(name)


def test_every_preset_of_the_project_has_a_valid_section() -> None:
    names = [path.stem for path in (Path(__file__).parents[1] / "configs").glob("*.yaml")]
    assert "mini" in names
    for name in names:
        OvsegConfig.from_mapping(read_preset(name)["ovseg"])
