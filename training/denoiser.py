"""What embedded diffusion models learn, whatever their family: the noise in latents, given a caption or none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor, nn

from toyworld.captions import describe
from toyworld.wording import draw_one_word_apart
from training.crops import token_ids, uniform
from training.data import SceneCache
from training.hardware import CPU, Hardware
from training.latents import batches, encode_images
from training.loop import Schedule, fit, generators
from training.photos import Squares
from training.text_tower import text_tower
from training.tokenizer import CONTEXT_LENGTH

# Images a step: on processors, and where a GPU is to be kept busy.
BATCH, GPU_BATCH = 16, 256
# Share of captions that are dropped: EmerDiff conditions on the empty prompt alone.
EMPTY_PROMPT = 0.2
# Share of timesteps that are drawn from the first half of the schedule only, where EmerDiff works.
LOW_NOISE = 0.45


class Captioned(nn.Module):
    """A denoiser and what embeds its captions: latents (B, C, h, w), timesteps (B,), token ids (B, L) → the noise.

    A subclass says how the two go together. What has no gradient, such as a frozen text encoder, does not learn.
    """

    def __init__(self, denoiser: Any, text_encoder: Any) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.text_encoder = text_encoder

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.denoiser.dtype
        return dtype


@dataclass(frozen=True)
class Family:
    """A kind of diffusion model: how one is made, and how it is written."""

    folder: str  # of weights
    # VAE, tokenizer and text tower of a CLIP → the model to train
    make: Callable[[AutoencoderKL, Any, Any], Captioned]
    # All of a folder of diffusers: folder, model, VAE, noise schedule
    write_all: Callable[[Path, Any, AutoencoderKL, DDIMScheduler], None]
    # What has learned, in a folder where all else is: folder, model
    write: Callable[[Path, Any], None]


def noise_schedule() -> DDIMScheduler:
    """Stable Diffusion 1.x's."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def train(
    family: Family,
    train_scenes: SceneCache,
    validation: SceneCache,
    schedule: Schedule,
    run: Path,
    weights: Path,
    *,
    photos: Squares | None = None,
    large: Squares | None = None,
    text: Path,
    start: Path | None,
    resume: bool,
    batch: int | None = None,
    hardware: Hardware = CPU,
) -> None:
    """Train on latents of scenes, of parts of them and of photographs, by the VAE of weights/FOLDER.

    `photos`, `large`: squares of 256 px, that are mixed with scenes, and larger ones. `text`: an open_clip folder whose
    tokenizer the captions are read with. `start`: take the VAE of that folder where weights/FOLDER has none yet.
    `batch`: whole scenes and photographs a step (BATCH, on a GPU GPU_BATCH); the learning rate grows with its fourth
    root. weights/FOLDER is there from the beginning, and gets the averaged model at each validation.
    """
    folder = weights / family.folder
    if start and not (folder / "vae").exists():
        shutil.copytree(start / "vae", folder / "vae")
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    run.mkdir(parents=True, exist_ok=True)
    batch = batch or (GPU_BATCH if hardware.is_gpu else BATCH)
    schedule = replace(schedule, learning_rate=schedule.learning_rate * (batch / BATCH) ** 0.25)
    tokenizer, tower = text_tower(text)
    home, kinds = batches(vae, tokenizer, train_scenes, photos, large, run, batch, hardware)
    validation_latents = {"": encode_images(vae, validation.images, run, hardware)}
    if photos:
        validation_latents["_photos"] = encode_images(vae, photos.validation, run, hardware)
    noiser = noise_schedule()
    torch.manual_seed(0)
    model = family.make(vae, tokenizer, tower).train()
    if not (resume and (folder / "model_index.json").exists()):
        family.write_all(folder, model, vae, noiser)
    working = hardware.working_copy(model)
    empty = token_ids(tokenizer, [""], CONTEXT_LENGTH).to(home)

    def errors(denoiser: nn.Module, clean: Tensor, ids: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """(B,) mean squared error of the predicted noise, on the device."""
        clean, ids, timesteps, noise = (
            tensor.to(hardware.device, non_blocking=True) for tensor in (clean.float(), ids, timesteps, noise)
        )
        with hardware.autocast(denoiser):
            predicted = denoiser(noiser.add_noise(clean, noise, timesteps), timesteps, ids)
        return F.mse_loss(predicted.float(), noise, reduction="none").mean(dim=(1, 2, 3))

    def compute_losses(step: int) -> dict[str, Tensor]:
        _, rng = generators(4, step, home)
        clean, ids = kinds[step % len(kinds)](rng)
        count = len(clean)
        ids = torch.where(uniform(count, rng)[:, None] < EMPTY_PROMPT, empty, ids)
        highest = torch.where(uniform(count, rng) < LOW_NOISE, 500, 1000)
        timesteps = (uniform(count, rng) * highest).long()
        noise = torch.randn(clean.shape, generator=rng, device=home)
        return {"noise": errors(working, clean, ids, timesteps, noise).mean()}

    regions = zip(validation.names, validation.kinds, strict=True)
    right_captions = [describe(*of, np.random.default_rng(0), every=True).text for of in regions]
    wrong_captions = [draw_one_word_apart(caption, 1, np.random.default_rng(0))[0] for caption in right_captions]

    @torch.inference_mode()
    def validate(averaged: Captioned) -> dict[str, float]:
        """Errors with the empty prompt; and for how many scenes the noise is predicted better with the right caption
        than with one that differs in one word."""
        metrics = {}
        for name, all_latents in validation_latents.items():
            clean = torch.tensor(all_latents[:: max(1, len(all_latents) // 64)][:64])
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
            for t in (21, 281, 481, 781):
                timesteps = torch.full((len(clean),), t)
                error = errors(averaged, clean, empty.expand(len(clean), -1), timesteps, noise).mean()
                metrics[f"noise_{t}{name}"] = error.item()
        clean = torch.tensor(validation_latents[""])
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        timesteps = torch.full((len(clean),), 681)
        right, apart = (
            errors(averaged, clean, token_ids(tokenizer, captions, CONTEXT_LENGTH), timesteps, noise)
            for captions in (right_captions, wrong_captions)
        )
        return metrics | {"captions": (right < apart).float().mean().item()}

    def save(averaged: Captioned) -> None:
        family.write(folder, averaged)

    save(
        fit(
            model, compute_losses, validate, schedule, run, resume=resume, hardware=hardware, working=working, save=save
        )
    )
