"""The frozen diffusion model: weights folder → `Backbone`, which encodes images, denoises and decodes latents.

The only file here that imports diffusers and transformers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDPMScheduler, UNet2DConditionModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from emerdiff.attention import attention_layers
from emerdiff.batches import items_at_once
from emerdiff.fetch import weights_files, weights_variant
from emerdiff.schedule import NoiseSchedule, posterior_mean
from emerdiff.upsample import TransposedUpsample
from ground.device import resolve_device, resolve_dtype
from ground.turns import Turns, in_turn, loaded_alone
from ground.weights import check_whole, loading, refuse_code

# Of a scheduler's config: the library would take its own defaults for what is missing.
_NOISE_SETTINGS = ("num_train_timesteps", "beta_schedule")

logger = logging.getLogger(__name__)

# Bytes that a pass of the UNet takes for one latent, over those of its first block's output. In the layouts of Stable
# Diffusion 1.x and 2.x these are 26, counted without computing; this is with some room.
_BLOCKS_OUTPUTS = 32


@dataclass(frozen=True, eq=False)
class Backbone:
    """A Stable Diffusion model with the empty prompt; weights in the models' dtypes, latents always float32.

    Raises ValueError for a UNet that needs more than a latent, a timestep and a prompt (inpainting, SDXL).
    """

    unet: Any  # diffusers.UNet2DConditionModel, eval
    vae: Any  # diffusers.AutoencoderKL, eval
    empty_prompt: Tensor  # (1, tokens, C): the text encoder's last hidden state for ""
    schedule: NoiseSchedule
    decoder: Any = None  # diffusers.AutoencoderTiny, eval, that decodes in place of the VAE; None: none
    turns: Turns = field(default_factory=Turns, repr=False)  # of the threads that use it

    def __post_init__(self) -> None:
        latent_channels, unet_channels = self.vae.config.latent_channels, self.unet.config.in_channels
        if self.decoder is not None and (given := self.decoder.config.latent_channels) != latent_channels:
            raise ValueError(f"emerdiff.decoder takes {given} channels, expected {latent_channels}, as the VAE gives")
        if unet_channels != latent_channels:
            raise ValueError(f"the UNet takes {unet_channels} channels, expected {latent_channels}, as the VAE gives")
        if self.unet.config.addition_embed_type or self.unet.config.class_embed_type:
            raise ValueError("the UNet takes conditions besides a prompt, expected one of Stable Diffusion 1.x or 2.x")

    @property
    def side_multiple(self) -> int:
        """px: the model takes images whose sides are multiples of it."""
        halvings = len(self.vae.config.block_out_channels) + len(self.unet.config.block_out_channels) - 2
        return 2**halvings

    def items_at_once(self, latents: Tensor) -> int:
        """How many latents, (·, C, h, w), one pass of the UNet should take; see `batches.items_at_once`."""
        numbers = self.unet.config.block_out_channels[0] * latents.shape[2] * latents.shape[3]
        return items_at_once(self.unet.device, _BLOCKS_OUTPUTS * numbers * self.unet.dtype.itemsize)

    def layer(self, name: str, field: str) -> Any:
        """The UNet's attention layer of that name; `field` says in the ValueError which setting named it."""
        layers = attention_layers(self.unet)
        if name not in layers:
            raise ValueError(f"emerdiff.{field} is {name!r}, expected one of the layers {', '.join(layers)}")
        return layers[name]

    @in_turn
    def encode(self, pixels: Tensor) -> Tensor:
        """z0, (1, C, H/8, W/8) float32: the mode of the VAE's posterior, scaled; pixels (1, 3, H, W) in −1..1."""
        latent = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype)).latent_dist.mode().float()
        return (latent - (self.vae.config.shift_factor or 0.0)) * self.vae.config.scaling_factor

    @in_turn
    def decode(self, latents: Tensor) -> Tensor:
        """RGB, (B, 3, H, W) float32 around 0..1, not clipped, so that values out of range count in differences too."""
        if self.decoder is not None:
            return self.decoder.decode(latents.to(self.decoder.dtype)).sample.float() / 2 + 0.5
        latents = latents / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0.0)
        return self.vae.decode(latents.to(self.vae.dtype)).sample.float() / 2 + 0.5

    @in_turn
    def predict(self, latents: Tensor, timestep: int) -> Tensor:
        """The UNet's output for (B, C, h, w) latents with the empty prompt: noise or v, float32, the same shape."""
        prompt = self.empty_prompt.expand(len(latents), -1, -1)
        # A tensor made on the device: diffusers would send a number there, and wait for it.
        at = torch.full((), timestep, device=latents.device)
        return self.unet(latents.to(self.unet.dtype), at, encoder_hidden_states=prompt).sample.float()

    def previous_mean(self, latents: Tensor, timestep: int, previous: int | None) -> Tensor:
        """μ̂_t(x_t), one UNet call; see `schedule.posterior_mean`."""
        return posterior_mean(self.schedule, latents, self.predict(latents, timestep), timestep, previous)


@loaded_alone()
def load_backbone(folder: Path, *, decoder: Path | None = None, device: str = "auto", dtype: str = "auto") -> Backbone:
    """Backbone from a Stable Diffusion folder of diffusers; `device` and `dtype` as in ground.device.

    `decoder` is a folder of an AutoencoderTiny that decodes in place of the VAE.

    ValueError, in one line, for a folder that names code to be run, and for a part that is damaged or not whole.
    """
    torch_device = resolve_device(device)
    torch_dtype = resolve_dtype(dtype, torch_device)
    for each in (folder, decoder):
        if each is not None:
            refuse_code(each)

    # bfloat16 steps through the range of an image in 1/256: as large as the differences that masks are made of.
    vae_dtype = torch.float32 if torch_dtype == torch.bfloat16 else torch_dtype

    def model(cls: Any, part: str, dtype: torch.dtype, folder: Path = folder) -> Any:
        lean = with_transposed_upsampling(_load_part(cls, folder, part, dtype).to(torch_device).requires_grad_(False))
        return lean.to(memory_format=torch.channels_last)

    with loading(f"{folder / 'scheduler'}"):
        # Any scheduler's config will do: only its betas and its prediction type are read.
        scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
        named = DDPMScheduler.load_config(folder, subfolder="scheduler")
    if missing := [key for key in _NOISE_SETTINGS if key not in named]:
        raise ValueError(
            f"{folder / 'scheduler' / 'scheduler_config.json'} has no {missing[0]}: expected that of a model "
            "that was trained to remove noise"
        )
    backbone = Backbone(
        unet=model(UNet2DConditionModel, "unet", torch_dtype),
        vae=model(AutoencoderKL, "vae", vae_dtype),
        empty_prompt=_embed_empty_prompt(folder).to(torch_device, torch_dtype),
        schedule=NoiseSchedule(
            alphas_cumprod=tuple(scheduler.alphas_cumprod.double().tolist()),
            prediction_type=scheduler.config.prediction_type,
        ),
        decoder=decoder and model(AutoencoderTiny, decoder.name, vae_dtype, decoder.parent),
    )
    logger.info("loaded %s on %s in %s", folder, torch_device, torch_dtype)
    return backbone


def with_transposed_upsampling(model: nn.Module) -> nn.Module:
    """The model with every upsampling by two and 3×3 convolution as one layer: the same output for less."""
    for name, layer in list(model.named_modules()):
        if (
            isinstance(layer, Upsample2D)
            and layer.use_conv
            and not layer.use_conv_transpose
            and layer.interpolate
            and layer.norm is None
            and layer.name == "conv"
            and layer.conv.kernel_size == (3, 3)
        ):
            model.set_submodule(name, TransposedUpsample(layer.conv))
    return model


def _load_part(cls: Any, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """A model of a Stable Diffusion folder, on the CPU, in eval mode; ValueError unless all its tensors are there."""
    for file in weights_files(folder, part):
        check_whole(file)
    with loading(f"{folder / part}"):
        model, info = cls.from_pretrained(
            folder,
            subfolder=part,
            torch_dtype=dtype,
            use_safetensors=True,
            variant=weights_variant(folder, part),
            ignore_mismatched_sizes=True,  # so that the tensors are named below
            output_loading_info=True,
        )
    # In their place libraries leave random numbers, and warn; releases differ in what they tell of another shape.
    mismatched = [found if isinstance(found, str) else found[0] for found in info["mismatched_keys"]]
    random = sorted([*info["missing_keys"], *mismatched])
    if random:
        files = ", ".join(file.name for file in weights_files(folder, part))
        raise ValueError(f"{folder / part} needs {len(random)} tensors that {files} lacks, such as {random[0]}")
    return model.eval()


@torch.no_grad()
def _embed_empty_prompt(folder: Path) -> Tensor:
    """(1, tokens, C) float32, on the CPU; the text encoder serves this once and is dropped."""
    with _quiet_transformers():
        text_encoder = _load_part(CLIPTextModel, folder, "text_encoder", torch.float32)
        with loading(f"{folder / 'tokenizer'}"):
            tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
            length = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
            tokens = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            return text_encoder(tokens.input_ids).last_hidden_state


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keeps transformers from drawing a progress bar for every file, even the smallest."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
