"""The trainers from end to end, a step each: what they write loads in diffusers and open_clip, and they start anew."""

from __future__ import annotations

import csv
from dataclasses import replace

import open_clip
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from toyworld.data import scene_cache
from toyworld.scene import TRAIN_SEEDS, VALIDATION_SEEDS
from toyworld.train import clip, unet, vae

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder in which all three models were trained for a step, in the order that they need each other."""
    folder = tmp_path_factory.mktemp("runs")
    for trainer in (vae, unet, clip):
        train(trainer, folder)
    return folder


def train(trainer, folder, start=None):
    name = trainer.__name__.split(".")[-1]
    scenes = scene_cache(folder / "cache", TRAIN_SEEDS.start, 40)
    validation = scene_cache(folder / "cache", VALIDATION_SEEDS.start, 100)
    schedule = replace(trainer.SCHEDULE, minutes=1e-6)
    trainer.train(scenes, validation, schedule, folder / name, folder / "weights", start=start, resume=False)


def test_the_folders_load_where_they_are_used(runs):
    pipeline = StableDiffusionPipeline.from_pretrained(runs / "weights/sd", torch_dtype=torch.float32)
    assert pipeline.vae.config.scaling_factor > 0
    picture = pipeline("a red boat", num_inference_steps=2, height=256, width=256, output_type="np").images
    assert picture.shape == (1, 256, 256, 3)
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{runs}/weights/clip")
    tokens = open_clip.get_tokenizer(f"local-dir:{runs}/weights/clip")(["a red boat"])
    assert model.encode_text(tokens).shape == (1, 128)


@pytest.mark.parametrize("name", ["vae", "unet", "clip"])
def test_the_log_has_a_row(runs, name):
    (row,) = csv.DictReader((runs / name / "log.csv").open())
    assert row["step"] == "1" and all(float(value) == float(value) for value in row.values())


def test_training_starts_from_given_weights(runs, tmp_path):
    train(clip, tmp_path, start=runs / "weights/clip")
    first, second = (
        open_clip.create_model_from_pretrained(f"local-dir:{folder}/weights/clip")[0] for folder in (runs, tmp_path)
    )
    pairs = list(zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in pairs)
    assert all((a - b).abs().max() < 0.01 for a, b in pairs)  # a step of the warm-up away
    train(unet, tmp_path, start=runs / "weights/sd")
    assert (tmp_path / "weights/sd/tokenizer/vocab.json").read_bytes() == (
        runs / "weights/sd/tokenizer/vocab.json"
    ).read_bytes()


def test_a_started_autoencoder_keeps_the_latents_that_a_unet_knows(runs, tmp_path):
    train(vae, tmp_path, start=runs / "weights/sd")
    before, after = (
        AutoencoderKL.from_pretrained(folder / "weights/sd/vae", torch_dtype=torch.float32)
        for folder in (runs, tmp_path)
    )
    assert after.config.scaling_factor == before.config.scaling_factor
    for part in ("encoder", "quant_conv"):
        pairs = zip(getattr(before, part).parameters(), getattr(after, part).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    pairs = zip(before.decoder.parameters(), after.decoder.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
