"""The protocol: what the steps of the method ask of a diffusion model, whatever its family.

A family gives its denoiser, what it is conditioned on when nothing is asked for, and which of its layers to look at;
the rest is the same for all. Nothing here imports diffusers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from emerdiff.attention import attention_layers
from emerdiff.batches import items_at_once
from emerdiff.frame import frame_size
from emerdiff.schedule import Schedule
from ground.turns import Turns, in_turn


class Backbone(ABC):
    """A frozen latent diffusion model without a prompt; weights in the models' dtypes, latents always float32.

    A subclass is a frozen dataclass of these fields and those of its own.
    """

    vae: Any  # diffusers.AutoencoderKL or VQModel, eval
    schedule: Schedule
    decoder: Any  # diffusers.AutoencoderTiny, eval, that decodes in place of the VAE; None: none
    turns: Turns  # of the threads that use it

    @property
    @abstractmethod
    def denoiser(self) -> Any:
        """The module that denoises, an nn.Module of diffusers: hooks and processors go on its layers."""

    @property
    @abstractmethod
    def side_multiple(self) -> int:
        """px: the model takes images whose sides are multiples of it."""

    @property
    @abstractmethod
    def bytes_each(self) -> float:
        """Bytes that a pass of the denoiser takes for one position of a latent, roughly and with room."""

    @property
    @abstractmethod
    def affinity_layers(self) -> Sequence[Any]:
        """The self-attentions that say best what belongs together, the first to be applied first; none: none has it."""

    @property
    @abstractmethod
    def affinity_features(self) -> nn.Module:
        """The module whose output says what looks alike, for models and configs without the above.

        The output is (B, C, h, w), or (B, tokens, C) of the finest grid.
        """

    @property
    def latent_factor(self) -> int:
        """px to a side of a latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @abstractmethod
    def _denoised(self, latents: Tensor, timestep: int) -> Tensor:
        """The denoiser's output for (B, C, h, w) float32 latents without a prompt: what the schedule says it predicts,
        in its own dtype and the same shape."""

    def frame_hw(self, size_hw: tuple[int, int], image_size: int) -> tuple[int, int]:
        """(height, width) px that an image of that size is looked at, about image_size² pixels; see `frame_size`."""
        return frame_size(size_hw, image_size, self.side_multiple)

    def grid_hw(self, latents: Tensor) -> tuple[int, int]:
        """(h, w) of the finest grid of tokens that the denoiser has for (·, C, H, W) latents."""
        return latents.shape[2], latents.shape[3]

    def items_at_once(self, latents: Tensor) -> int:
        """How many latents, (·, C, h, w), one pass of the denoiser should take; see `batches.items_at_once`."""
        positions = latents.shape[2] * latents.shape[3]
        return items_at_once(self.denoiser.device, int(self.bytes_each * positions))

    def layer(self, name: str, field: str) -> Any:
        """The denoiser's attention layer of that name; `field` says in the ValueError which setting named it."""
        layers = attention_layers(self.denoiser)
        if name not in layers:
            raise ValueError(f"emerdiff.{field} is {name!r}, expected one of the layers {', '.join(layers)}")
        return layers[name]

    @in_turn
    def encode(self, pixels: Tensor) -> Tensor:
        """z0, (1, C, H/8, W/8) float32, scaled; pixels (1, 3, H, W) in −1..1.

        The mode of a KL autoencoder's posterior, or what a VQ one has before it quantises: decoding does that.
        """
        encoded = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype))
        latent = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return (latent.float() - self._shift) * self.vae.config.scaling_factor

    @in_turn
    def decode(self, latents: Tensor) -> Tensor:
        """RGB, (B, 3, H, W) float32 around 0..1, not clipped, so that values out of range count in differences too."""
        if self.decoder is not None:
            return self.decoder.decode(latents.to(self.decoder.dtype)).sample.float() / 2 + 0.5
        latents = latents / self.vae.config.scaling_factor + self._shift
        return self.vae.decode(latents.to(self.vae.dtype)).sample.float() / 2 + 0.5

    @property
    def _shift(self) -> float:
        return float(self.vae.config.get("shift_factor") or 0.0)

    @in_turn
    def predict(self, latents: Tensor, timestep: int) -> Tensor:
        """What the denoiser predicts for (B, C, h, w) latents without a prompt: float32, the same shape."""
        return self._denoised(latents, timestep).float()

    def previous_mean(self, latents: Tensor, timestep: int, previous: int | None) -> Tensor:
        """μ̂_t(x_t), one pass of the denoiser; see `schedule.Schedule`."""
        return self.schedule.previous_mean(latents, self.predict(latents, timestep), timestep, previous)


def check_channels(backbone: Backbone, what: str, *, in_token: int = 1) -> None:
    """ValueError unless denoiser (`what` it is, in words) and decoder take the latents that the VAE gives.

    `in_token` are the latents that come to the denoiser as one, side by side in its channels.
    """
    latent_channels, given = backbone.vae.config.latent_channels, backbone.denoiser.config.in_channels
    decoder = backbone.decoder
    if decoder is not None and decoder.config.latent_channels != latent_channels:
        raise ValueError(
            f"emerdiff.decoder takes {decoder.config.latent_channels} channels, expected {latent_channels}, "
            "as the VAE gives"
        )
    if given != (expected := latent_channels * in_token):
        raise ValueError(f"the {what} takes {given} channels, expected {expected}, as the VAE gives")
