"""Settings are checked when they are made."""

from __future__ import annotations

from typing import Any

import pytest

from ground.presets import list_presets, read_section
from ovseg import OvsegConfig


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
        (
            {"model": "m", "templates": "foto"},
            "ovseg.templates is 'foto', expected one of photo, simple, toy, plain, imagenet80, a list",
        ),
        ({"model": "m", "templates": ["a cat"]}, r"ovseg.templates is \['a cat'\], expected .* hold {} once each"),
        ({"model": "m", "synonyms": "min"}, "ovseg.synonyms is 'min', expected one of mean, max"),
        ({"model": "m", "templates": 3}, "ovseg.templates is 3, expected one of"),
        ({"model": "m", "templates": []}, r"ovseg.templates is \[\], expected"),
        ({"model": "m", "templates": ["a {}", 3]}, r"ovseg.templates is \['a {}', 3\], expected"),
        ({"model": "m", "window": -1}, "ovseg.window is -1"),
        ({"model": "m", "window": 64, "stride": 65}, "ovseg.stride is 65, expected at most ovseg.window, 64"),
        ({"model": "m", "image_size": 0}, "ovseg.image_size is 0"),
        ({"model": "m", "image_size": 2.5}, "ovseg.image_size is 2.5"),
        ({"model": "m", "image_size": True}, "ovseg.image_size is True"),
        ({"model": "m", "logit_scale": 0}, "ovseg.logit_scale is 0"),
        ({"model": "m", "logit_scale": float("nan")}, "ovseg.logit_scale is nan"),
        (
            {"model": "m", "absence": 1e4},
            "ovseg.absence is 10000.0, expected a number of logits from -1000 to 1000, or",
        ),
        ({"model": "m", "size": 3, "x": 1}, "unknown ovseg setting 'size', 'x'; known: model, pretrained,"),
        ({"image_size": 224}, "ovseg.model is missing, expected an open_clip name, hf-hub:ORG/REPO"),
    ],
)
def test_bad_settings_are_refused_with_what_was_expected(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OvsegConfig.from_mapping(values)


def test_every_preset_of_the_project_has_a_valid_section() -> None:
    for name in list_presets():
        OvsegConfig.from_mapping(read_section(name, "ovseg"))
