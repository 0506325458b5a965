"""The embedded autoencoder: a small AutoencoderKL, eight times smaller in height and width, four latent channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from toyworld.data import SceneCache
from toyworld.train.loop import Schedule, fit, generators

CROP, BATCH = 128, 8  # px, pictures
GRADIENT_WEIGHT, KL_WEIGHT = 1.0, 1e-6
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
    start: Path | None,
    resume: bool,
) -> None:
    torch.manual_seed(0)
    if start:  # a UNet knows these latents: only the decoder goes on learning
        vae = AutoencoderKL.from_pretrained(start / "vae", torch_dtype=torch.float32)
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    else:
        vae = build()

    def compute_losses(step: int) -> dict[str, Tensor]:
        seed, noise = generators(1, step)
        rng = np.random.default_rng(seed)
        crops = [
            train_scenes.crop(i, rng.choice((CROP, 192, 256)), CROP, rng)[0]
            for i in rng.integers(len(train_scenes), size=BATCH)
        ]
        images = to_model_range(np.stack(crops))
        with torch.autocast("cpu", torch.bfloat16):
            latents = vae.encode(images).latent_dist
            decoded = vae.decode(latents.mean + latents.std * torch.randn(latents.mean.shape, generator=noise)).sample
        error = decoded.float() - images
        return {
            "pixel": F.l1_loss(decoded.float(), images) + F.mse_loss(decoded.float(), images),
            "gradient": GRADIENT_WEIGHT * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2,
            "kl": KL_WEIGHT * latents.kl().mean(),
        }

    @torch.inference_mode()
    def validate(model: AutoencoderKL) -> dict[str, float]:
        images = to_model_range(validation.images[:32])
        decoded = torch.cat([model(batch).sample for batch in images.split(8)]).clamp(-1, 1)
        return {"psnr": (-10 * torch.log10(((decoded - images) / 2).square().mean(dim=(1, 2, 3)))).mean().item()}

    averaged = fit(vae, compute_losses, validate, schedule, run, resume=resume)
    if not start:
        with torch.inference_mode():
            spread = torch.cat(
                [averaged.encode(batch).latent_dist.mean for batch in to_model_range(validation.images[:64]).split(8)]
            ).std()
        # Latents of unit variance, as Stable Diffusion's.
        averaged.register_to_config(scaling_factor=round(1 / spread.item(), 4))
    averaged.half().save_pretrained(weights / "sd" / "vae")
