"""Balanced labels: what is put after the two towers, and what stays as it was."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from test_training_photos import VISION
from tiny_ovseg import save_with_bert

from ovseg import OvsegConfig
from ovseg.backbone import load_backbone
from training.balance import balance, balancing, places, spread_of_logits


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny model, and what it becomes by five blurred images."""
    folder = tmp_path_factory.mktemp("balance")
    save_with_bert(folder / "before", VISION)
    paths = [folder / f"{index}.png" for index in range(5)]
    for index, path in enumerate(paths):
        blobs = np.random.default_rng(index).integers(0, 256, (4, 6, 3), np.uint8)
        Image.fromarray(blobs).resize((96, 64), Image.Resampling.BICUBIC).save(path)
    balance(folder / "before", folder / "after", paths, 0.25)
    return folder


def test_the_two_maps_are_inverse_and_at_a_half_all_directions_vary_alike():
    rng = np.random.default_rng(0)
    embeddings = (rng.standard_normal((500, 6)) * [3, 2, 1, 1, 1, 0.9]).astype(np.float32)
    for power in (0.0, 0.25, 0.5):
        transform, inverse = balancing(embeddings, power)
        np.testing.assert_allclose(transform @ inverse, np.eye(6), atol=1e-10)
    spread = np.cov(embeddings @ inverse.numpy(), rowvar=False)
    np.testing.assert_allclose(spread - np.diag(spread.diagonal()), 0, atol=0.02)
    assert spread.diagonal().max() < 1.5 * spread.diagonal().min()


def test_the_product_of_the_towers_is_as_before_and_only_lengths_differ(folders):
    before, after = (load_backbone(OvsegConfig(model=f"local-dir:{folders / name}")) for name in ("before", "after"))
    state = load_file(folders / "after" / "open_clip_model.safetensors")
    texts = ["a photo of a dog", "grass"]
    pixels = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    old = [np.tensordot(before.encode_text(texts), before.encode_patches(pixels, "maskclip")[0], axes=1)]
    new = [np.tensordot(after.encode_text(texts), after.encode_patches(pixels, "maskclip")[0], axes=1)]
    # Cosines of one place differ by its length, those of one label by the label's: what remains is equal.
    ratio = new[0] / old[0]
    np.testing.assert_allclose(ratio[0] / ratio[1], (ratio[0] / ratio[1]).mean(), rtol=2e-2)
    assert not np.allclose(ratio, ratio.mean(), rtol=1e-2)
    assert state["text.proj.weight"].shape == (12, 16)


def test_logits_vary_as_much_as_before(folders):
    settings = json.loads((folders / "after" / "open_clip_config.json").read_text())
    assert settings["model_cfg"]["text_cfg"]["hf_proj_type"] == "linear"
    spread = {}
    for name in ("before", "after"):
        scale = load_backbone(OvsegConfig(model=f"local-dir:{folders / name}")).logit_scale
        found = places(folders / name, sorted(folders.glob("*.png")))
        spread[name] = scale * spread_of_logits(folders / name, found)
    assert spread["after"] == pytest.approx(spread["before"], rel=1e-3)


def test_another_image_tower_is_refused(folders, tmp_path):
    save_with_bert(tmp_path / "start", VISION | {"timm_model_name": "test_convnext", "timm_proj": "linear"})
    with pytest.raises(ValueError, match=r"has no visual\.trunk\.classifier\.weight: expected the image tower"):
        balance(tmp_path / "start", tmp_path / "after", [], 0.25)
