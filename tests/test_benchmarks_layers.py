"""The sweep over layers and timesteps: what it clusters is what EmerDiff would, whatever the family."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_backbones import LAYERS, tiny
from tiny_emerdiff import picture, tiny_config

sys.path.append(str(Path(__file__).parent.parent))

from benchmarks.layers import bounds_of, draw, in_order, masks_of, queries_of, write_table
from emerdiff import EmerDiff
from emerdiff.attention import attention_layers
from emerdiff.frame import to_frame
from emerdiff.observe import observe
from fusion.evaluation.datasets import Sample


def model(family: str, **changes) -> EmerDiff:
    feature, modulation = LAYERS[family]
    return EmerDiff(tiny(family), tiny_config(feature_layer=feature, modulation_layer=modulation, **changes))


@pytest.mark.parametrize("family", ["vq", "pixart-sigma", "sd3"])
def test_queries_of_the_feature_layer_are_those_of_the_method(family):
    segmenter = model(family, feature_draws=2, timestep_feature=301)
    names = list(attention_layers(segmenter.backbone.denoiser))
    clean = segmenter.backbone.encode(to_frame(picture(), (64, 64)))
    found = dict(zip(names, queries_of(segmenter, names, clean, 301), strict=True))
    generator = torch.Generator().manual_seed(0)
    seen = observe(segmenter.backbone, clean, segmenter.config, generator, with_affinity=False)
    features, grid = found[segmenter.config.feature_layer]
    np.testing.assert_allclose(features, seen.features, rtol=1e-4, atol=1e-5)
    assert grid == seen.grid_hw
    assert all(len(queries) == height * width for queries, (height, width) in found.values())


def test_features_that_are_the_regions_have_a_perfect_bound():
    truth = np.repeat(np.arange(4), 4).reshape(4, 4).T
    masks = masks_of(np.eye(4, dtype=np.float32)[truth.ravel()], (4, 4), tiny_config(clusters=4), (4, 4))
    assert len(np.unique(masks)) == 4
    assert len({(a, b) for a, b in zip(masks.ravel(), truth.ravel(), strict=True)}) == 4
    one = masks_of(np.ones((1, 4), np.float32), (1, 1), tiny_config(clusters=4), (4, 4))
    assert (one == 0).all()


def test_each_layer_has_a_bound_at_each_timestep(tmp_path):
    segmenter = model("pixart-sigma")
    image = picture()
    regions = np.repeat(np.int32([[0, 1]]), 32, axis=1).repeat(64, axis=0)
    names = list(attention_layers(segmenter.backbone.denoiser))
    bounds = bounds_of(segmenter, names, (1, 901), Sample("halves", image, regions + 1, regions))
    assert bounds.shape == (len(names), 2) and (bounds > 0).all() and (bounds <= 1).all()
    write_table(tmp_path / "a.csv", names, (1, 901), bounds)
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [row["layer"] for row in rows] == names
    assert float(rows[0]["901"]) == pytest.approx(bounds[0, 1], abs=6e-4)
    draw(tmp_path / "a.png", names, (1, 901), bounds, "tiny")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG" and image.width > 200


def test_layers_stand_in_the_order_in_which_an_image_passes_them():
    assert in_order(["down_blocks.1.a", "down_blocks.2.a", "up_blocks.0.a", "mid_block.a"]) == [
        "down_blocks.1.a",
        "down_blocks.2.a",
        "mid_block.a",
        "up_blocks.0.a",
    ]
    names = list(attention_layers(tiny("pixart-sigma").denoiser))
    assert in_order(names) == names
