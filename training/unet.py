"""The embedded latent diffusion model: a small UNet on the VAE's latents, conditioned by a CLIP's text tower."""

from __future__ import annotations

import logging
import shutil
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from toyworld.captions import describe
from toyworld.wording import draw_one_word_apart
from training.data import SceneCache
from training.hardware import CPU, Hardware
from training.loop import Schedule, fit, generators
from training.photos import Squares
from training.text_tower import text_tower
from training.tokenizer import CONTEXT_LENGTH
from training.vae import to_model_range
from training.widen import widened_unet, with_fine_attention

# Images a step, and how many of them are photographs where there are any.
BATCH, PHOTOS = 16, 6
# Every other step learns from parts of scenes: their side in latents (8 px each), and parts a step.
PART, PARTS = 16, 48
# Share of captions that name all that is visible.
EVERY = 0.7
# Share of captions that are dropped: EmerDiff conditions on the empty prompt alone.
EMPTY_PROMPT = 0.2
# Share of timesteps that are drawn from the first half of the schedule only, where EmerDiff works.
LOW_NOISE = 0.45
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


@torch.inference_mode()
def encode_images(vae: AutoencoderKL, images: np.ndarray, folder: Path, hardware: Hardware = CPU) -> np.ndarray:
    """Scaled latent means (N, C, 32, 32) float16 of (N, 256, 256, 3) uint8 images, kept in `folder`.

    The file's name holds a checksum of the encoder's weights and of some images, so that others get their own latents.
    """
    mark = zlib.crc32(images[:: max(1, len(images) // 16)].tobytes())
    for part in (vae.encoder, vae.quant_conv):
        for weights in part.state_dict().values():
            mark = zlib.crc32(weights.cpu().numpy().tobytes(), mark)
    path = folder / f"latents-{len(images)}-{mark:08x}.npy"
    if not path.exists():
        vae.to(hardware.device)
        parts = []
        for start in range(0, len(images), 16):
            with hardware.autocast():
                batch = to_model_range(images[start : start + 16]).to(hardware.device)
                mean = vae.encode(batch).latent_dist.mean
            parts.append((mean.float() * vae.config.scaling_factor).half().cpu().numpy())
            if start % 1600 == 0:
                log.info("encoded %d of %d images for %s", start, len(images), path.name)
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
    text: Path,
    start: Path | None,
    resume: bool,
    hardware: Hardware = CPU,
) -> None:
    """Train on latents of scenes, of parts of them and, with `photos`, of photographs, by the VAE of weights/sd.

    `text`: an open_clip folder whose text tower embeds the captions, frozen, as in Stable Diffusion. `start`: begin
    from the UNet of that folder, and from its VAE where weights/sd has none yet. Latent channels that the VAE has and
    the UNet has not begin at zero.
    """
    folder = weights / "sd"
    if start and not (folder / "vae").exists():
        shutil.copytree(start / "vae", folder / "vae")
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    run.mkdir(parents=True, exist_ok=True)
    latents = encode_images(vae, train_scenes.images, run, hardware)
    validation_latents = {"": encode_images(vae, validation.images, run, hardware)}
    if photos:
        photo_latents = encode_images(vae, photos.images, run, hardware)
        validation_latents["_photos"] = encode_images(vae, photos.validation, run, hardware)
    tokenizer, text_encoder = text_tower(text)
    text_encoder.to(hardware.device)
    noiser = noise_schedule()
    torch.manual_seed(0)
    if start:
        model = UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32)
        model = with_fine_attention(widened_unet(model, vae.config.latent_channels)).train()
    else:
        model = build_unet(vae.config.latent_channels)

    def errors(
        unet: UNet2DConditionModel, clean: Tensor, captions: list[str], timesteps: Tensor, noise: Tensor
    ) -> Tensor:
        """(B,) mean squared error of the predicted noise; the tensors are on the CPU, the errors on the device."""
        clean, timesteps, noise = (tensor.to(hardware.device) for tensor in (clean, timesteps, noise))
        ids = tokenizer(
            captions, padding="max_length", max_length=CONTEXT_LENGTH, truncation=True, return_tensors="pt"
        ).input_ids
        with hardware.autocast():
            with torch.no_grad():
                context = text_encoder(ids.to(hardware.device)).last_hidden_state
            predicted = unet(noiser.add_noise(clean, noise, timesteps), timesteps, context).sample
        return F.mse_loss(predicted.float(), noise, reduction="none").mean(dim=(1, 2, 3))

    def whole_images(rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        chosen = rng.integers(len(train_scenes), size=BATCH - PHOTOS if photos else BATCH)
        captions = [
            describe(train_scenes.names[i], train_scenes.kinds[i], rng, every=rng.random() < EVERY).text for i in chosen
        ]
        if not photos:
            return latents[chosen], captions
        taken = rng.integers(len(photos), size=PHOTOS)
        captions += [photos.texts[i] for i in taken]
        return np.concatenate([latents[chosen], photo_latents[taken]]), captions

    def parts_of_scenes(rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        """Latents and captions of parts, where it is clearer than in a whole scene what a caption refers to."""
        parts, captions = [], []
        scale = train_scenes.images.shape[1] // latents.shape[2]  # px
        for i in rng.integers(len(train_scenes), size=PARTS):
            y, x = (at // scale for at in train_scenes.corner(i, scale * PART, rng))
            rows, columns = slice(y, y + PART), slice(x, x + PART)
            parts.append(latents[i, :, rows, columns])
            region = train_scenes.label_maps[i, scale * y : scale * rows.stop, scale * x : scale * columns.stop]
            captions.append(describe(*train_scenes.shown(i, region), rng, every=rng.random() < EVERY).text)
        return np.stack(parts), captions

    def compute_losses(step: int) -> dict[str, Tensor]:
        seed, torch_rng = generators(4, step)
        rng = np.random.default_rng(seed)
        some, captions = parts_of_scenes(rng) if step % 2 else whole_images(rng)
        clean, count = torch.from_numpy(some).float(), len(some)
        captions = ["" if rng.random() < EMPTY_PROMPT else caption for caption in captions]
        low = rng.random(count) < LOW_NOISE
        timesteps = torch.from_numpy(np.where(low, rng.integers(0, 500, count), rng.integers(0, 1000, count)))
        noise = torch.randn(clean.shape, generator=torch_rng)
        return {"noise": errors(model, clean, captions, timesteps, noise).mean()}

    regions = zip(validation.names, validation.kinds, strict=True)
    right_captions = [describe(*of, np.random.default_rng(0), every=True).text for of in regions]
    wrong_captions = [draw_one_word_apart(caption, 1, np.random.default_rng(0))[0] for caption in right_captions]

    @torch.inference_mode()
    def validate(averaged: UNet2DConditionModel) -> dict[str, float]:
        """Errors with the empty prompt; and for how many scenes the noise is predicted better with the right caption
        than with one that differs in one word."""
        metrics = {}
        for name, all_latents in validation_latents.items():
            clean = torch.tensor(all_latents[:: max(1, len(all_latents) // 64)][:64]).float()
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
            for t in (21, 281, 481, 781):
                timesteps = torch.full((len(clean),), t)
                error = errors(averaged, clean, [""] * len(clean), timesteps, noise).mean()
                metrics[f"noise_{t}{name}"] = error.item()
        clean = torch.tensor(validation_latents[""]).float()
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        timesteps = torch.full((len(clean),), 681)
        right, apart = (
            errors(averaged, clean, captions, timesteps, noise) for captions in (right_captions, wrong_captions)
        )
        return metrics | {"captions": (right < apart).float().mean().item()}

    averaged = fit(model, compute_losses, validate, schedule, run, resume=resume, hardware=hardware)
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    # save_pretrained does not write these two with every version of transformers.
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(text / name, folder / "tokenizer" / name)
    StableDiffusionPipeline(
        vae=vae.cpu(),
        text_encoder=text_encoder.cpu(),
        tokenizer=tokenizer,
        unet=averaged,
        scheduler=noiser,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16).save_pretrained(folder)
