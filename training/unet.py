"""The embedded latent diffusion model: a small UNet on the VAE's latents, conditioned by a CLIP's text tower."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

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
from training.weights import half_copy, write_model
from training.widen import widened_unet, with_fine_attention

# Images a step: on processors, and where a GPU is to be kept busy.
BATCH, GPU_BATCH = 16, 256
# Share of captions that are dropped: EmerDiff conditions on the empty prompt alone.
EMPTY_PROMPT = 0.2
# Share of timesteps that are drawn from the first half of the schedule only, where EmerDiff works.
LOW_NOISE = 0.45
SCHEDULE = Schedule(minutes=75, learning_rate=1e-3, warmup_steps=300)


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


def train(
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
    """Train on latents of scenes, of parts of them and of photographs, by the VAE of weights/sd.

    `photos`, `large`: squares of 256 px, that are mixed with scenes, and larger ones. `text`: an open_clip folder whose
    text tower embeds the captions, frozen, as in Stable Diffusion. `start`: begin from the UNet of that folder, and
    from its VAE where weights/sd has none yet. Latent channels that the VAE has and the UNet has not begin at zero.
    `batch`: whole scenes and photographs a step (BATCH, on a GPU GPU_BATCH); the learning rate grows with its fourth
    root. weights/sd is there from the beginning, and gets the averaged UNet at each validation.
    """
    folder = weights / "sd"
    if start and not (folder / "vae").exists():
        shutil.copytree(start / "vae", folder / "vae")
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    run.mkdir(parents=True, exist_ok=True)
    batch = batch or (GPU_BATCH if hardware.is_gpu else BATCH)
    schedule = replace(schedule, learning_rate=schedule.learning_rate * (batch / BATCH) ** 0.25)
    tokenizer, text_encoder = text_tower(text)
    home, kinds = batches(vae, tokenizer, train_scenes, photos, large, run, batch, hardware)
    validation_latents = {"": encode_images(vae, validation.images, run, hardware)}
    if photos:
        validation_latents["_photos"] = encode_images(vae, photos.validation, run, hardware)
    noiser = noise_schedule()
    torch.manual_seed(0)
    if start:
        model = UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32)
        model = with_fine_attention(widened_unet(model, vae.config.latent_channels)).train()
    else:
        model = build_unet(vae.config.latent_channels)
    if not (resume and (folder / "model_index.json").exists()):
        _write_all(folder, vae, text_encoder, tokenizer, model, noiser, text)
    working, embed = hardware.working_copy(model), hardware.working_copy(text_encoder)
    empty = token_ids(tokenizer, [""], CONTEXT_LENGTH).to(home)

    def errors(unet: UNet2DConditionModel, clean: Tensor, ids: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """(B,) mean squared error of the predicted noise, on the device."""
        clean, ids, timesteps, noise = (
            tensor.to(hardware.device, non_blocking=True) for tensor in (clean.float(), ids, timesteps, noise)
        )
        with torch.no_grad():
            context = embed(ids).last_hidden_state.to(unet.dtype)
        with hardware.autocast(unet):
            noisy = noiser.add_noise(clean, noise, timesteps).to(unet.dtype)
            predicted = unet(noisy, timesteps, context).sample
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
    def validate(averaged: UNet2DConditionModel) -> dict[str, float]:
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

    def save(averaged: UNet2DConditionModel) -> None:
        write_model(averaged, folder / "unet")

    save(
        fit(
            model, compute_losses, validate, schedule, run, resume=resume, hardware=hardware, working=working, save=save
        )
    )


def _write_all(
    folder: Path,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    noiser: DDIMScheduler,
    text: Path,
) -> None:
    """All of a Stable Diffusion folder; the UNet's files are written anew at each validation."""
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    # save_pretrained does not write these two with every version of transformers.
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(text / name, folder / "tokenizer" / name)
    parts = {"vae": vae, "text_encoder": text_encoder, "unet": unet}
    StableDiffusionPipeline(
        **{name: half_copy(part) for name, part in parts.items()},
        tokenizer=tokenizer,
        scheduler=noiser,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
