"""Parts of a model's folder: what the families load from it, each checked, in the dtype and on the device asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDPMScheduler
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from emerdiff.fetch import weights_files, weights_variant
from emerdiff.schedule import NoiseSchedule
from emerdiff.upsample import TransposedUpsample
from ground.weights import check_whole, loading

# Of a scheduler's config: the library would take its own defaults for what is missing.
_NOISE_SETTINGS = ("num_train_timesteps", "beta_schedule")


@dataclass(frozen=True)
class Parts:
    """A diffusers folder whose parts are loaded one by one; each method raises ValueError in one line for its part."""

    folder: Path
    decoder_folder: Path | None  # of an AutoencoderTiny that decodes in place of the VAE
    device: torch.device
    dtype: torch.dtype  # of the denoiser

    @property
    def vae_dtype(self) -> torch.dtype:
        # bfloat16 steps through the range of an image in 1/256: as large as the differences that masks are made of.
        return torch.float32 if self.dtype == torch.bfloat16 else self.dtype

    def model(self, cls: Any, part: str, *, dtype: torch.dtype | None = None, folder: Path | None = None) -> Any:
        """A frozen model of diffusers, as it computes best."""
        loaded = load_part(cls, folder or self.folder, part, dtype or self.dtype)
        return lean(loaded.to(self.device))

    def vae(self) -> Any:
        return self.model(AutoencoderKL, "vae", dtype=self.vae_dtype)

    def decoder(self) -> Any:
        if (folder := self.decoder_folder) is None:
            return None
        return self.model(AutoencoderTiny, folder.name, dtype=self.vae_dtype, folder=folder.parent)

    def noise_schedule(self) -> NoiseSchedule:
        """Any scheduler's config will do: only its betas and its prediction type are read."""
        with loading(f"{self.folder / 'scheduler'}"):
            scheduler = DDPMScheduler.from_pretrained(self.folder, subfolder="scheduler")
            named = DDPMScheduler.load_config(self.folder, subfolder="scheduler")
        if missing := [key for key in _NOISE_SETTINGS if key not in named]:
            raise ValueError(
                f"{self.folder / 'scheduler' / 'scheduler_config.json'} has no {missing[0]}: expected that of a model "
                "that was trained to remove noise"
            )
        return NoiseSchedule(
            alphas_cumprod=tuple(scheduler.alphas_cumprod.double().tolist()),
            prediction_type=scheduler.config.prediction_type,
        )

    def sent(self, condition: Tensor) -> Tensor:
        """What the denoiser is conditioned on, in its dtype and on its device."""
        return condition.to(self.device, self.dtype)


def lean(model: nn.Module) -> nn.Module:
    """The model, frozen, in the layout of memory and with the layers that are the quickest for the same output."""
    return with_transposed_upsampling(model.requires_grad_(False)).to(memory_format=torch.channels_last)


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


def load_part(cls: Any, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """A model of a diffusers folder, on the CPU, in eval mode; ValueError unless all its tensors are there."""
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
def clip_states(folder: Path) -> Tensor:
    """(1, tokens, C) float32 for the empty prompt, on the CPU; the text encoder serves this once and is dropped."""
    with _quiet_transformers():
        text_encoder = load_part(CLIPTextModel, folder, "text_encoder", torch.float32)
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
