"""The embedded models: they load as the libraries' own, stay small, and know the toy world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from diffusers import StableDiffusionPipeline

from emerdiff import EmerDiff
from fusion import Segmenter
from ovseg import OpenVocabSegmenter
from toyworld import KINDS, scene

ROOT = Path(__file__).parent.parent
DIFFUSION, CLIP = ROOT / "emerdiff/weights/mini", ROOT / "ovseg/weights/mini"
SEEDS = range(1_000_000, 1_000_006)

pytestmark = pytest.mark.weights


def test_both_stay_below_forty_megabytes():
    files = [path for folder in (DIFFUSION, CLIP) for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".ckpt", ".pth")]


def test_the_diffusion_model_is_a_stable_diffusion_pipeline():
    pipeline = StableDiffusionPipeline.from_pretrained(DIFFUSION, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    made = pipeline(
        "a red ball on grass", num_inference_steps=2, height=256, width=256, generator=generator, output_type="np"
    )
    assert made.images.shape == (1, 256, 256, 3) and np.isfinite(made.images).all()


def test_the_autoencoder_gives_a_scene_back():
    model = EmerDiff.from_preset("mini", device="cpu")
    image = scene(1_000_000).image
    with torch.inference_mode():
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
        decoded = model.backbone.decode(model.backbone.encode(pixels))[0].permute(1, 2, 0).clamp(0, 1).numpy()
    assert 10 * np.log10(1 / np.mean((decoded - image / 255) ** 2)) > 22  # dB


def test_the_clip_loads_as_open_clip_and_tells_ground_from_sky():
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{CLIP}")
    assert preprocess is not None and model.visual.pool_type == "tok"
    segmenter = OpenVocabSegmenter.from_preset("toy", device="cpu")
    right = []
    for seed in SEEDS:
        made = scene(seed)
        coarse = segmenter.segment(made.image, KINDS)
        kinds = np.array([KINDS.index(kind) for kind in made.kinds])
        surfaces = made.label_map < 2  # sky and ground
        right.append((coarse.label_map == kinds[made.label_map])[surfaces].mean())
    assert np.mean(right) > 0.6


@pytest.mark.slow
def test_the_whole_flow_names_the_sky_and_the_ground_of_a_scene():
    made = scene(1_000_000)
    words = [made.kinds[0], made.kinds[1], *(kind for kind in KINDS if kind not in made.kinds[:2])][:6]
    result = Segmenter.from_preset("toy", device="cpu", overrides=["emerdiff.clusters=6"]).segment(made.image, words)
    assert result.label_map.shape == made.label_map.shape
    assert {str(segment.label) for segment in result.segments} <= set(words)
    for region, label in ((0, 1), (1, 2)):
        assert (result.label_map == label)[made.label_map == region].mean() > 0.6
