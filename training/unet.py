"""The embedded latent diffusion model: a small UNet on the VAE's latents, conditioned by a CLIP's text tower."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTokenizer

from training import denoiser
from training.denoiser import Captioned, Family
from training.loop import Schedule
from training.weights import forget_origin, half_copy, write_model
from training.widen import widened_unet, with_fine_attention

SCHEDULE = Schedule(minutes=75, learning_rate=1e-3, warmup_steps=300)


class CaptionedUNet(Captioned):
    """As in Stable Diffusion: the last hidden states of a frozen text tower go to the cross-attentions."""

    def forward(self, noisy: Tensor, timesteps: Tensor, ids: Tensor) -> Tensor:
        with torch.no_grad():
            context = self.text_encoder(ids).last_hidden_state.to(self.dtype)
        predicted: Tensor = self.denoiser(noisy.to(self.dtype), timesteps, context).sample
        return predicted


def build_unet(latent_channels: int) -> UNet2DConditionModel:
    """As in Stable Diffusion, up_blocks.1 has three cross-attentions at 16×16 (the latents are 32×32). At the finest
    level there is one transformer block alone: a call takes a fifth more time for it at 32×32, a third at 48×48."""
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(48, 96, 128),
        layers_per_block=2,
        attention_head_dim=4,
        norm_num_groups=16,
        cross_attention_dim=128,
    )
    return with_fine_attention(unet)


def train(*data: Any, text: Path, start: Path | None, **options: Any) -> None:
    """Train a UNet in weights/sd; see `denoiser.train`.

    `text`: an open_clip folder whose text tower embeds the captions, frozen. `start`: begin from the UNet of that
    folder, too. Latent channels that the VAE has and the UNet has not begin at zero.
    """

    def make(vae: AutoencoderKL, tokenizer: Any, tower: Any) -> CaptionedUNet:
        if not start:
            return CaptionedUNet(build_unet(vae.config.latent_channels), tower)
        unet = UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32)
        return CaptionedUNet(with_fine_attention(widened_unet(unet, vae.config.latent_channels)), tower)

    def write_all(folder: Path, model: CaptionedUNet, vae: AutoencoderKL, noiser: DDIMScheduler) -> None:
        (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
        # save_pretrained does not write these two with every version of transformers.
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(text / name, folder / "tokenizer" / name)
        parts = {"vae": vae, "text_encoder": model.text_encoder, "unet": model.denoiser}
        StableDiffusionPipeline(
            **{name: half_copy(part) for name, part in parts.items()},
            tokenizer=CLIPTokenizer.from_pretrained(text),
            scheduler=noiser,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder)
        forget_origin(folder)

    def write(folder: Path, model: CaptionedUNet) -> None:
        write_model(model.denoiser, folder / "unet")

    family = Family("sd", make, write_all, write)
    denoiser.train(family, *data, text=text, start=start, **options)
