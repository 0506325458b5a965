"""The door: which family a folder is of, and what it says of one that is not known."""

from __future__ import annotations

import json

import pytest
from tiny_emerdiff import save_folder

from emerdiff.backbone import Backbone, load_backbone
from emerdiff.backbones.unet import UNetBackbone


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_folder(tmp_path_factory.mktemp("weights") / "sd1")


def test_the_index_of_a_folder_says_its_family(folder):
    backbone = load_backbone(folder, device="cpu")
    assert isinstance(backbone, UNetBackbone) and isinstance(backbone, Backbone)
    assert backbone.denoiser is backbone.unet


def test_a_folder_without_an_index_is_one_of_stable_diffusion(folder):
    (folder / "model_index.json").rename(folder / "index")
    try:
        assert isinstance(load_backbone(folder, device="cpu"), UNetBackbone)
    finally:
        (folder / "index").rename(folder / "model_index.json")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"transformer": ["diffusers", "WaferTransformer"]},
            "has a diffusers WaferTransformer, expected one of",
        ),
        ({"vae": ["diffusers", "AutoencoderKL"]}, "model_index.json cannot be loaded: KeyError 'unet'"),
    ],
)
def test_a_family_that_is_not_known_is_one_line(tmp_path, parts, message):
    (tmp_path / "model_index.json").write_text(json.dumps(parts))
    with pytest.raises(ValueError, match=message) as caught:
        load_backbone(tmp_path, device="cpu")
    assert "\n" not in str(caught.value)
