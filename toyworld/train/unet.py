"""The embedded latent diffusion model: a small UNet and its CLIP text encoder, trained on the VAE's latents."""

from __future__ import annotations

import logging
import shutil
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from toyworld.captions import describe
from toyworld.data import SceneCache
from toyworld.photos import Squares
from toyworld.train.loop import Schedule, fit, generators
from toyworld.train.tokenizer import CONTEXT_LENGTH, learn_tokenizer
from toyworld.train.vae import to_model_range

BATCH = 16
EMPTY_PROMPT = 0.15  # of the captions are dropped: EmerDiff conditions on the empty prompt alone
LOW_NOISE = 0.5  # of the timesteps are drawn from the first half of the schedule, where EmerDiff works
SCHEDULE = Schedule(minutes=75, learning_rate=1e-3, warmup_steps=200)
log = logging.getLogger(__name__)


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


def build(vocab_size: int) -> nn.ModuleDict:
    """UNet and text encoder. As in Stable Diffusion, up_blocks.1 has three cross-attentions at 16×16 (the latents are
    32×32); the finest level has no attention, which would dominate the cost."""
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(48, 96, 128),
        layers_per_block=2,
        attention_head_dim=4,
        norm_num_groups=16,
        cross_attention_dim=128,
    )
    text = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        projection_dim=128,
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
        pad_token_id=vocab_size - 1,
    )
    return nn.ModuleDict({"unet": unet, "text_encoder": CLIPTextModel(text)})


def load(folder: Path) -> nn.ModuleDict:
    """UNet and text encoder of a diffusers folder."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    return nn.ModuleDict({"unet": unet.train(), "text_encoder": text_encoder.train()})


@torch.inference_mode()
def encode_images(vae: AutoencoderKL, images: np.ndarray, folder: Path) -> np.ndarray:
    """Scaled latent means (N, 4, 32, 32) float16 of (N, 256, 256, 3) uint8 images, kept in `folder`.

    The file's name knows the VAE's weights and a few of the images: others never get the same latents.
    """
    mark = zlib.crc32(images[:: max(1, len(images) // 16)].tobytes())
    for weights in vae.state_dict().values():
        mark = zlib.crc32(weights.numpy().tobytes(), mark)
    path = folder / f"latents-{len(images)}-{mark:08x}.npy"
    if not path.exists():
        parts = []
        for start in range(0, len(images), 16):
            with torch.autocast("cpu", torch.bfloat16):
                mean = vae.encode(to_model_range(images[start : start + 16])).latent_dist.mean
            parts.append((mean.float() * vae.config.scaling_factor).half().numpy())
            if start % 1600 == 0:
                log.info("encoded %d of %d pictures for %s", start, len(images), path.name)
        np.save(path.with_suffix(".tmp.npy"), np.concatenate(parts))
        path.with_suffix(".tmp.npy").replace(path)
    return np.load(path, mmap_mode="r")


def train(
    train_scenes: SceneCache,
    validation: SceneCache,
    schedule: Schedule,
    run: Path,
    weights: Path,
    *,
    photos: Squares | None = None,
    start: Path | None,
    resume: bool,
) -> None:
    """Train on the latents of scenes and, with `photos`, of as many photographs; the VAE is that of weights/sd.

    `start`: begin from the UNet, the text encoder and the tokenizer of that folder, and from its VAE where weights/sd
    has none yet.
    """
    folder = weights / "sd"
    if start:
        shutil.copytree(start / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
        if not (folder / "vae").exists():
            shutil.copytree(start / "vae", folder / "vae")
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    run.mkdir(parents=True, exist_ok=True)
    latents = encode_images(vae, train_scenes.images, run)
    validation_latents = {"": encode_images(vae, validation.images, run)}
    if photos:
        photo_latents = encode_images(vae, photos.images, run)
        validation_latents["_photos"] = encode_images(vae, photos.validation, run)
    if not start:
        learn_tokenizer(train_scenes.captions(10_000), folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    noiser = noise_schedule()
    torch.manual_seed(0)
    model = load(start) if start else build(len(tokenizer))

    def prediction_error(
        model: nn.ModuleDict, clean: Tensor, captions: list[str], timesteps: Tensor, noise: Tensor
    ) -> Tensor:
        ids = tokenizer(
            captions, padding="max_length", max_length=CONTEXT_LENGTH, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.autocast("cpu", torch.bfloat16):
            context = model["text_encoder"](ids).last_hidden_state
            predicted = model["unet"](noiser.add_noise(clean, noise, timesteps), timesteps, context).sample
        return F.mse_loss(predicted.float(), noise)

    def compute_losses(step: int) -> dict[str, Tensor]:
        seed, torch_rng = generators(4, step)
        rng = np.random.default_rng(seed)
        chosen = rng.integers(len(train_scenes), size=BATCH // 2 if photos else BATCH)
        captions = [describe(train_scenes.names[i], train_scenes.kinds[i], rng).text for i in chosen]
        clean = torch.from_numpy(latents[chosen]).float()
        if photos:
            taken = rng.integers(len(photos), size=BATCH - len(chosen))
            captions += [photos.texts[i] for i in taken]
            clean = torch.cat([clean, torch.from_numpy(photo_latents[taken]).float()])
        captions = ["" if rng.random() < EMPTY_PROMPT else caption for caption in captions]
        low = rng.random(BATCH) < LOW_NOISE
        timesteps = torch.from_numpy(np.where(low, rng.integers(0, 500, BATCH), rng.integers(0, 1000, BATCH)))
        return {
            "noise": prediction_error(model, clean, captions, timesteps, torch.randn(clean.shape, generator=torch_rng))
        }

    @torch.inference_mode()
    def validate(averaged: nn.ModuleDict) -> dict[str, float]:
        metrics = {}
        for name, of_all in validation_latents.items():
            clean = torch.tensor(of_all[:: max(1, len(of_all) // 64)][:64]).float()
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
            for t in (21, 281, 481, 781):
                timesteps = torch.full((len(clean),), t)
                error = prediction_error(averaged, clean, [""] * len(clean), timesteps, noise)
                metrics[f"noise_{t}{name}"] = error.item()
        return metrics

    averaged = fit(model, compute_losses, validate, schedule, run, resume=resume)
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=averaged["text_encoder"],
        tokenizer=tokenizer,
        unet=averaged["unet"],
        scheduler=noiser,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16).save_pretrained(folder)
