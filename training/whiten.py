"""Latents of equal rank: a diffusion model's VAE and UNet, rewritten so that no direction of the latents is faint.

    python -m training.whiten FOLDER OUTPUT [--scenes 8000] [--images FOLDER] [--runs runs]

A VAE may keep what matters, such as colours, in directions in which its latents hardly vary: little noise drowns them,
and a UNet never learns them. As whitening is linear, the 1×1 convolutions on both sides of the latents can do it, and
images decode as before. The UNet's first and last convolution are changed to match, with weights of zero for latent
channels that it does not have: a start for `unet --start OUTPUT`, no finished model.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from toyworld.scene import TRAIN_SEEDS
from training.crops import to_model_range
from training.data import scene_cache
from training.photos import squares
from training.weights import write_model
from training.widen import widened_unet

# Variance relative to the mean one; fainter directions are mostly noise and are not raised to the others.
FAINTEST = 0.02
# Images that the statistics are computed from.
IMAGES = 256


@torch.no_grad()
def whiten(vae: AutoencoderKL, unet: UNet2DConditionModel | None, images: np.ndarray) -> Tensor:
    """Change both in place, by the latents of `images` (N, H, W, 3) uint8; the VAE's scaling factor becomes 1.

    Returns the (C,) eigenvalues of the scaled latents' covariance as it was: how unequal their directions were. The
    variances of the latents, which only sampling from the encoder needs, become their means over the images.
    """
    posteriors = [vae.encode(batch).latent_dist for batch in to_model_range(images).to(vae.dtype).split(16)]
    latents = torch.cat([posterior.mean for posterior in posteriors]).double().transpose(0, 1).flatten(1)  # C x P
    variances = torch.cat([posterior.var for posterior in posteriors]).double().mean(dim=(0, 2, 3))
    center, (values, vectors) = latents.mean(dim=1), torch.linalg.eigh(torch.cov(latents))
    spreads = values.clamp(min=FAINTEST * values.mean().item()).sqrt()
    to_white, back = (vectors * scales @ vectors.T for scales in (1 / spreads, spreads))  # C x C

    channels = len(center)
    inward, outward = vae.quant_conv, vae.post_quant_conv
    means, doubts = inward.weight[:channels], inward.weight[channels:]
    means.copy_(_mixed(to_white, means))
    inward.bias[:channels] = to_white @ (inward.bias[:channels].double() - center)
    doubts.zero_()
    inward.bias[channels:] = (to_white.square() @ variances).log()
    outward.bias += outward.weight[..., 0, 0].double() @ center
    outward.weight.copy_(_mixed(back.T, outward.weight.transpose(0, 1)).transpose(0, 1))

    scale = vae.config.scaling_factor
    if unet is not None:
        first, last = unet.conv_in, unet.conv_out
        first.weight.copy_(_mixed(scale * back.T, first.weight.transpose(0, 1)).transpose(0, 1))
        last.weight.copy_(_mixed(to_white / scale, last.weight))
        last.bias.copy_(to_white / scale @ last.bias.double())
    vae.register_to_config(scaling_factor=1.0)
    return values * scale**2


def _mixed(matrix: Tensor, weight: Tensor) -> Tensor:
    """`matrix` (C, C) times the first dimension of `weight` (C, …)."""
    return torch.einsum("ij,j...->i...", matrix, weight.double())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a diffusers folder with vae/ and unet/")
    parser.add_argument("output", type=Path, help="a new folder, for what the other one holds")
    parser.add_argument("--scenes", type=int, default=8000, help="as for the trainers: how many are in the cache")
    parser.add_argument("--images", type=Path, help="as for the trainers: a folder with captions.csv")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="as for the trainers: holds the cache")
    arguments = parser.parse_args()
    for part in ("vae", "unet"):
        if not (arguments.folder / part / "config.json").is_file():
            parser.error(
                f"{arguments.folder} has no {part}/config.json: expected a diffusers folder with vae/ and unet/"
            )
    if arguments.output.exists():
        parser.error(f"{arguments.output} is there already: expected the name of a new folder")
    if arguments.images and not arguments.images.is_dir():
        parser.error(f"--images {arguments.images}: expected a folder with captions.csv")
    images = scene_cache(arguments.runs / "cache", TRAIN_SEEDS.start, arguments.scenes).images[:IMAGES]
    if arguments.images:
        photos = squares(arguments.runs / "cache" / "squares-256", arguments.images, arguments.scenes)
        images = np.concatenate([images[: IMAGES // 2], photos.images[: IMAGES // 2]])

    shutil.copytree(arguments.folder, arguments.output)
    vae = AutoencoderKL.from_pretrained(arguments.folder / "vae", torch_dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(arguments.folder / "unet", torch_dtype=torch.float32)
    unet = widened_unet(unet, vae.config.latent_channels)
    values = whiten(vae, unet, images)
    print("eigenvalues of the latents' covariance, all 1 or less now:", ", ".join(f"{value:.2g}" for value in values))
    write_model(vae, arguments.output / "vae")
    write_model(unet, arguments.output / "unet")


if __name__ == "__main__":
    main()
