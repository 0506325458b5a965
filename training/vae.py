"""The embedded autoencoder: a small AutoencoderKL, eight times smaller in height and width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from training.crops import random_squares, shrunk, to_model_range
from training.data import SceneCache
from training.hardware import CPU, Hardware
from training.loop import Schedule, fit, generators
from training.photos import Squares
from training.weights import write_model
from training.widen import widened_vae

# Side of a training image in px, and images a step: on processors, and where a GPU is to be kept busy.
CROP, BATCH, GPU_BATCH = 128, 8, 64
# Sides in px of the squares that are cut out and resized to CROP.
SIDES = (CROP, 192, 256)
SQUARED_WEIGHT, GRADIENT_WEIGHT, KL_WEIGHT = 5.0, 1.0, 1e-6
# The loss of colours compares means over squares of COLOR_BLOCK px. Without it the latents hardly told pink from beige.
COLOR_WEIGHT, COLOR_BLOCK = 1.0, 8
SCHEDULE = Schedule(minutes=20, learning_rate=2e-3, warmup_steps=200)


def build(latent_channels: int = 4) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=8,
        sample_size=256,
        mid_block_add_attention=False,
    )


def train(
    train_scenes: SceneCache,
    validation: SceneCache,
    schedule: Schedule,
    run: Path,
    weights: Path,
    *,
    photos: Squares | None = None,
    start: Path | None,
    decoder_only: bool = False,
    latent_channels: int | None = None,
    resume: bool,
    batch: int | None = None,
    hardware: Hardware = CPU,
) -> None:
    """Train on scenes and, with `photos`, on as many photographs; from the weights of the folder `start` if given.

    `decoder_only`: the encoder and so the latents stay as they are, for a UNet that was trained on them.
    `latent_channels`: how many; those that `start` does not have begin at zero. `batch`: images a step (BATCH, on a GPU
    GPU_BATCH). weights/sd/vae is written at each validation.
    """
    batch = batch or (GPU_BATCH if hardware.is_gpu else BATCH)
    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(start / "vae", torch_dtype=torch.float32) if start else None
    if vae is None:
        vae = build(latent_channels or 4)
    elif latent_channels:
        vae = widened_vae(vae, latent_channels)
    vae.train()
    if decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)

    scenes, places = torch.as_tensor(train_scenes.images), torch.as_tensor(train_scenes.places)
    squares = [torch.as_tensor(photos.images)] if photos else []
    home = hardware.home(scenes, places, *squares)
    scenes, places, *squares = (tensor.to(home) for tensor in (scenes, places, *squares))
    drawn = batch - batch // 2 if photos else batch
    working = hardware.working_copy(vae)

    def compute_losses(step: int) -> dict[str, Tensor]:
        seed, rng = generators(1, step, home)
        side = int(np.random.default_rng(seed).choice(SIDES))
        crops = [random_squares(scenes, drawn, side, rng, places)]
        crops += [random_squares(some, batch - drawn, side, rng) for some in squares]
        images = torch.cat(crops).to(hardware.device, non_blocking=True)
        images = shrunk(to_model_range(images), CROP)
        with hardware.autocast(working):
            latents = working.encode(images.to(working.dtype)).latent_dist
            noise = torch.randn(latents.mean.shape, generator=rng, device=home).to(latents.mean)
            decoded = working.decode(latents.mean + latents.std * noise).sample
        error = decoded.float() - images
        return {
            "pixel": error.abs().mean() + SQUARED_WEIGHT * error.square().mean(),
            "gradient": GRADIENT_WEIGHT * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2,
            "color": COLOR_WEIGHT * F.avg_pool2d(error, COLOR_BLOCK).abs().mean(),
            "kl": KL_WEIGHT * latents.kl().mean(),
        }

    @torch.inference_mode()
    def psnr(model: AutoencoderKL, images: np.ndarray) -> float:
        pixels = to_model_range(torch.as_tensor(images).to(hardware.device))
        decoded = torch.cat([model(batch).sample for batch in pixels.split(8)]).clamp(-1, 1)
        return (-10 * torch.log10(((decoded - pixels) / 2).square().mean(dim=(1, 2, 3)))).mean().item()

    def validate(model: AutoencoderKL) -> dict[str, float]:
        metrics = {"psnr": psnr(model, validation.images[:32])}
        if photos:
            metrics["psnr_photos"] = psnr(model, photos.validation[:: max(1, len(photos.validation) // 64)])
        return metrics

    seen = np.concatenate([validation.images[:16], photos.validation[:16] if photos else validation.images[16:32]])

    @torch.inference_mode()
    def save(averaged: AutoencoderKL) -> None:
        # With `start` the scale stays: a UNet may have been trained with it.
        if not start:
            batches = to_model_range(seen).to(averaged.device).split(8)
            spread = torch.cat([averaged.encode(some).latent_dist.mean for some in batches]).std()
            # Latents of unit variance, as Stable Diffusion's.
            averaged.register_to_config(scaling_factor=round(1 / spread.item(), 4))
        write_model(averaged, weights / "sd" / "vae")

    save(
        fit(vae, compute_losses, validate, schedule, run, resume=resume, hardware=hardware, working=working, save=save)
    )
