"""The embedded autoencoder: a small AutoencoderKL, eight times smaller in height and width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from training.data import SceneCache
from training.hardware import CPU, Hardware
from training.loop import Schedule, fit, generators
from training.photos import Squares
from training.widen import widened_vae

# Side of a training image in px, and images a step.
CROP, BATCH = 128, 8
# Sides in px of the squares that are cut out and resized to CROP.
SIDES = (CROP, 192, 256)
SQUARED_WEIGHT, GRADIENT_WEIGHT, KL_WEIGHT = 5.0, 1.0, 1e-6
# The loss of colours compares means over squares of COLOR_BLOCK px. Without it the latents hardly told pink from beige.
COLOR_WEIGHT, COLOR_BLOCK = 1.0, 8
SCHEDULE = Schedule(minutes=20, learning_rate=2e-3, warmup_steps=200)


def build() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=256,
        mid_block_add_attention=False,
    )


def to_model_range(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 → (B, 3, H, W) float32 in −1 … 1."""
    return torch.tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1


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
    hardware: Hardware = CPU,
) -> None:
    """Train on scenes and, with `photos`, on as many photographs; from the weights of the folder `start` if given.

    `decoder_only`: the encoder and so the latents stay as they are, for a UNet that was trained on them.
    `latent_channels`: how many; those that `start` does not have begin at zero.
    """
    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(start / "vae", torch_dtype=torch.float32) if start else build()
    if latent_channels:
        vae = widened_vae(vae, latent_channels)
    vae.train()
    if decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)

    def compute_losses(step: int) -> dict[str, Tensor]:
        seed, noise = generators(1, step)
        rng = np.random.default_rng(seed)
        drawn = BATCH // 2 if photos else BATCH
        crops = [
            train_scenes.crop(i, rng.choice(SIDES), CROP, rng).image
            for i in rng.integers(len(train_scenes), size=drawn)
        ]
        if photos:
            taken = rng.integers(len(photos), size=BATCH - drawn)
            crops += [photos.crop(i, rng.choice(SIDES), CROP, rng) for i in taken]
        images = to_model_range(np.stack(crops)).to(hardware.device)
        with hardware.autocast():
            latents = vae.encode(images).latent_dist
            drawn_noise = torch.randn(latents.mean.shape, generator=noise).to(hardware.device)
            decoded = vae.decode(latents.mean + latents.std * drawn_noise).sample
        error = decoded.float() - images
        return {
            "pixel": error.abs().mean() + SQUARED_WEIGHT * error.square().mean(),
            "gradient": GRADIENT_WEIGHT * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2,
            "color": COLOR_WEIGHT * F.avg_pool2d(error, COLOR_BLOCK).abs().mean(),
            "kl": KL_WEIGHT * latents.kl().mean(),
        }

    @torch.inference_mode()
    def psnr(model: AutoencoderKL, images: np.ndarray) -> float:
        pixels = to_model_range(images).to(hardware.device)
        decoded = torch.cat([model(batch).sample for batch in pixels.split(8)]).clamp(-1, 1)
        return (-10 * torch.log10(((decoded - pixels) / 2).square().mean(dim=(1, 2, 3)))).mean().item()

    def validate(model: AutoencoderKL) -> dict[str, float]:
        metrics = {"psnr": psnr(model, validation.images[:32])}
        if photos:
            metrics["psnr_photos"] = psnr(model, photos.validation[:: max(1, len(photos.validation) // 64)])
        return metrics

    averaged = fit(vae, compute_losses, validate, schedule, run, resume=resume, hardware=hardware)
    # With `start` the scale stays: a UNet may have been trained with it.
    if not start:
        seen = validation.images[:64]
        if photos:
            seen = np.concatenate([seen, photos.validation[:64]])
        with torch.inference_mode():
            spread = torch.cat(
                [averaged.encode(batch).latent_dist.mean for batch in to_model_range(seen).split(8)]
            ).std()
        # Latents of unit variance, as Stable Diffusion's.
        averaged.register_to_config(scaling_factor=round(1 / spread.item(), 4))
    averaged.half().save_pretrained(weights / "sd" / "vae")
