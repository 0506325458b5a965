"""The embedded model from nothing: what is there at the end, and how a run that was stopped goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image

from training import mini
from training.hardware import CPU

TEXT = Path(__file__).parents[1] / "ovseg/weights/mini"


@pytest.fixture
def images(tmp_path):
    """A folder of 4 photographs."""
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for index in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(folder / f"{index}.png")
    (folder / "captions.csv").write_text("path,tags,caption\n" + "".join(f"{i}.png,dog;grass,\n" for i in range(4)))
    return folder


@pytest.mark.slow
def test_a_vae_then_a_unet_on_its_equal_latents_and_on_with_the_unet_alone(images, tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "VALIDATION", 2)
    monkeypatch.setattr(mini, "IMAGES", 4)
    runs, options = tmp_path / "runs", {"text": TEXT, "batch": 2, "hardware": CPU}
    ends = []

    def a_step(schedule):
        ends.append(schedule.end)
        return replace(schedule, end=None, minutes=1e-6)

    whole = mini.unet.train
    monkeypatch.setattr(
        mini.unet, "train", lambda a, b, schedule, *rest, **more: whole(a, b, a_step(schedule), *rest, **more)
    )
    before = mini.time.perf_counter()
    mini.train(images, 8, 1e-3, runs, resume=False, **options)
    assert ends[0] < before + 60 and json.loads((runs / "mini.json").read_text()) == {"scenes": 8}
    pipeline = StableDiffusionPipeline.from_pretrained(runs / "weights/sd", torch_dtype=torch.float32)
    assert pipeline.unet.config.in_channels == pipeline.vae.config.latent_channels == mini.CHANNELS
    assert pipeline.vae.config.scaling_factor == 1
    first = (runs / "weights/sd/vae/diffusion_pytorch_model.safetensors").read_bytes()

    learned = (runs / "weights/sd/unet/diffusion_pytorch_model.safetensors").read_bytes()
    monkeypatch.setattr("training.denoiser.fit", lambda *_, **__: pytest.fail("enough"))
    with pytest.raises(pytest.fail.Exception, match="enough"):
        mini.train(images, 8, 1e-3, runs, resume=True, **options)
    assert (runs / "weights/sd/unet/diffusion_pytorch_model.safetensors").read_bytes() == learned
    monkeypatch.undo()
    monkeypatch.setattr(mini, "VALIDATION", 2)
    monkeypatch.setattr(mini.vae, "train", lambda *_, **__: pytest.fail("the VAE is what it is"))
    monkeypatch.setattr(mini, "drawing", lambda *_: pytest.fail("all scenes are there"))
    mini.train(images, 8, 1e-3, runs, resume=True, **options)
    assert (runs / "weights/sd/vae/diffusion_pytorch_model.safetensors").read_bytes() == first
    assert AutoencoderKL.from_pretrained(runs / "weights/sd/vae").config.scaling_factor == 1


def test_drawing_that_fails_is_told_and_drawing_ends_with_its_context(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="0 drawn, then the drawing ended with 3"):
        mini.wait_for_scenes(tmp_path, 5, SimpleNamespace(poll=lambda: 3))
    monkeypatch.setattr(mini, "COMMAND", ["-c", "import time; time.sleep(60)"])
    with mini.drawing(5, tmp_path) as process:
        assert process.poll() is None
    assert process.poll() < 0
