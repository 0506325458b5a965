"""Masks: a UNet learns to remove noise from the user's images, with the empty prompt as EmerDiff runs it.

The VAE stays as it is, so that the latents keep their meaning; how well it draws the images is measured beside the
noise.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image, ImageOps
from torch import Tensor

from emerdiff.backbone import load_backbone
from emerdiff.backbones.unet import UNetBackbone
from emerdiff.schedule import NoiseSchedule
from ground.weights import loading
from toyworld.scene import SIZE
from training.adapt.split import Split
from training.crops import to_model_range
from training.hardware import Hardware
from training.latents import encode_images
from training.loop import Schedule, fit, generators
from training.photos import Photo, read_photos, squares

# Images a step.
BATCH = 16
# A fine-tuning: a fifth of the rate that the UNet was trained with at first.
LEARNING_RATE, WARMUP_STEPS, EMA_DECAY = 2e-4, 50, 0.995
# Share of timesteps that are drawn from the first half of the schedule only, where EmerDiff works.
LOW_NOISE = 0.45
# Squares of all images together, at most.
SQUARES = 4000
# Where the noise is measured, and images of it at most.
TIMESTEPS, MEASURED = (21, 281, 481, 781), 200
# Seconds from one checkpoint to the next: what a kill loses.
CHECKPOINT_EVERY = 60.0


@dataclass(frozen=True)
class MaskFigures:
    """How well the held-out images are told from noise, and drawn."""

    images: int
    noise: dict[str, float]  # by timestep: mean squared error of the predicted noise, whose variance is 1
    noise_mean: float
    psnr: float  # dB, of the VAE, which is not adapted; mean over images


def train_masks(split: Split, start: Path, minutes: float, run: Path, target: Path, hardware: Hardware) -> None:
    """Adapt the UNet of the diffusers folder `start` to the images of `split`, into the folder `target`.

    `run` keeps squares, latents and checkpoints, from which a later call goes on. ValueError if the UNet does not
    predict noise.
    """
    backbone = _backbone(start)
    run.mkdir(parents=True, exist_ok=True)
    vae, cut = _vae(start), squares(run / "squares", split.train, SQUARES)
    latents, watched = (encode_images(vae, images, run, hardware) for images in (cut.images, cut.validation[:BATCH]))
    with loading(f"the UNet of {start}"):
        unet = UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32, use_safetensors=True)
    prompt = backbone.empty_prompt.float().to(hardware.device)

    def compute_losses(step: int) -> dict[str, Tensor]:
        seed, torch_rng = generators(6, step)
        rng = np.random.default_rng(seed)
        clean = torch.from_numpy(latents[rng.integers(len(latents), size=BATCH)]).float()
        low = rng.random(BATCH) < LOW_NOISE
        total = backbone.schedule.num_train_timesteps
        timesteps = np.where(low, rng.integers(0, total // 2, BATCH), rng.integers(0, total, BATCH))
        noise = torch.randn(clean.shape, generator=torch_rng)
        return {"noise": _errors(unet, backbone, prompt, clean, noise, timesteps, hardware).mean()}

    @torch.inference_mode()
    def validate(averaged: Any) -> dict[str, float]:
        """Of other images than those of the report."""
        clean = torch.tensor(watched).float()
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        errors = _errors(averaged, backbone, prompt, clean, noise, np.full(len(clean), TIMESTEPS[1]), hardware)
        return {f"noise_{TIMESTEPS[1]}": float(errors.mean())}

    torch.manual_seed(0)
    schedule = Schedule(minutes, LEARNING_RATE, 0.01, WARMUP_STEPS, EMA_DECAY, validate_every=CHECKPOINT_EVERY)
    averaged = fit(unet.train(), compute_losses, validate, schedule, run, resume=True, hardware=hardware)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(start, target, ignore=shutil.ignore_patterns("unet", "README.md"))
    averaged.half().save_pretrained(target / "unet")


def measure_masks(split: Split, model: Path, hardware: Hardware) -> MaskFigures:
    """The figures of the diffusers folder `model` on the images held out, at most MEASURED of them, evenly chosen."""
    backbone, vae = _backbone(model), _vae(model).to(hardware.device)
    photos = read_photos(split.held)
    photos = photos[:: -(-len(photos) // MEASURED)]
    images = np.stack([_middle(photo) for photo in photos])
    with torch.inference_mode():
        pixels = to_model_range(torch.from_numpy(images))
        drawn, latents = [], []
        for batch in pixels.split(8):
            mean = vae.encode(batch.to(hardware.device)).latent_dist.mean
            drawn.append(vae.decode(mean).sample.clamp(-1, 1).cpu())
            latents.append((mean * vae.config.scaling_factor).cpu())
        wrong = ((torch.cat(drawn) - pixels) / 2).square().mean(dim=(1, 2, 3))
        clean = torch.cat(latents)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        unet, prompt = backbone.unet.to(hardware.device), backbone.empty_prompt.float().to(hardware.device)
        errors = {
            str(t): float(
                torch.cat(
                    [
                        _errors(unet, backbone, prompt, *pair, np.full(len(pair[0]), t), hardware)
                        for pair in zip(clean.split(BATCH), noise.split(BATCH), strict=True)
                    ]
                ).mean()
            )
            for t in TIMESTEPS
        }
    psnr = float((-10 * torch.log10(wrong)).mean())
    return MaskFigures(len(photos), errors, float(np.mean(list(errors.values()))), psnr)


def _errors(
    unet: Any,
    backbone: UNetBackbone,
    prompt: Tensor,
    clean: Tensor,
    noise: Tensor,
    timesteps: np.ndarray,
    hardware: Hardware,
) -> Tensor:
    """(B,) mean squared errors of the predicted noise; `clean` and `noise` (B, C, h, w), `timesteps` (B,)."""
    shares = torch.tensor([backbone.schedule.shares(int(t)) for t in timesteps])[
        ..., None, None, None
    ]  # B x 2 x 1 x 1 x 1
    noisy = shares[:, 0] * clean + shares[:, 1] * noise
    at = torch.from_numpy(timesteps).to(hardware.device)
    with hardware.autocast():
        predicted = unet(noisy.to(hardware.device), at, prompt.expand(len(clean), -1, -1)).sample
    return F.mse_loss(predicted.float(), noise.to(hardware.device), reduction="none").mean(dim=(1, 2, 3))


def _middle(photo: Photo) -> np.ndarray:
    """(256, 256, 3) uint8: the middle square of an image."""
    with Image.open(photo.path) as image:
        return np.asarray(ImageOps.fit(image, (SIZE, SIZE), Image.Resampling.BICUBIC))


def _backbone(folder: Path) -> UNetBackbone:
    """The model as EmerDiff loads it, with the checks of that; for its schedule, its prompt and measuring."""
    backbone = load_backbone(folder, device="cpu", dtype="float32")
    if not isinstance(backbone, UNetBackbone):
        raise ValueError(f"{folder} has a {type(backbone.denoiser).__name__}, expected a UNet2DConditionModel")
    predicts = backbone.schedule.prediction_type if isinstance(backbone.schedule, NoiseSchedule) else "a flow"
    if predicts != "epsilon":
        raise ValueError(f"the UNet of {folder} predicts {predicts}, expected epsilon (noise)")
    return backbone


def _vae(folder: Path) -> AutoencoderKL:
    with loading(f"the VAE of {folder}"):
        return AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32, use_safetensors=True).eval()
