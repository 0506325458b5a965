"""UNets with cross-attention: Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from emerdiff.attention import attention_layers
from emerdiff.backbones.parts import Parts, clip_states
from emerdiff.backbones.protocol import Backbone, check_channels
from emerdiff.schedule import NoiseSchedule
from ground.turns import Turns

# Bytes that a pass of the UNet takes for one latent, over those of its first block's output. In the layouts of Stable
# Diffusion 1.x and 2.x these are 26, counted without computing; this is with some room.
_BLOCKS_OUTPUTS = 32
_LAYERS = 2  # self-attentions of the last up block, the first ones: those of CLIPer's released settings


@dataclass(frozen=True, eq=False)
class UNetBackbone(Backbone):
    """A Stable Diffusion model with the empty prompt.

    Raises ValueError for a UNet that needs more than a latent, a timestep and a prompt (inpainting, SDXL).
    """

    unet: Any  # diffusers.UNet2DConditionModel, eval
    vae: Any
    empty_prompt: Tensor  # (1, tokens, C): the text encoder's last hidden state for ""
    schedule: NoiseSchedule
    decoder: Any = None
    turns: Turns = field(default_factory=Turns, repr=False)

    def __post_init__(self) -> None:
        check_channels(self, "UNet")
        if self.unet.config.addition_embed_type or self.unet.config.class_embed_type:
            raise ValueError("the UNet takes conditions besides a prompt, expected one of Stable Diffusion 1.x or 2.x")

    @property
    def denoiser(self) -> Any:
        return self.unet

    @property
    def side_multiple(self) -> int:
        halvings = len(self.vae.config.block_out_channels) + len(self.unet.config.block_out_channels) - 2
        return 2**halvings

    @property
    def bytes_each(self) -> float:
        return _BLOCKS_OUTPUTS * self.unet.config.block_out_channels[0] * self.unet.dtype.itemsize

    @property
    def affinity_layers(self) -> Sequence[Any]:
        layers = attention_layers(self.unet.up_blocks[-1]).values()
        return [layer for layer in layers if not layer.is_cross_attention][:_LAYERS]

    @property
    def affinity_features(self) -> nn.Module:
        """What comes into the last up block."""
        return self.unet.up_blocks[max(len(self.unet.up_blocks) - 2, 0)]

    def _denoised(self, latents: Tensor, timestep: int) -> Tensor:
        prompt = self.empty_prompt.expand(len(latents), -1, -1)
        # A tensor made on the device: diffusers would send a number there, and wait for it.
        at = torch.full((), timestep, device=latents.device)
        return self.unet(latents.to(self.unet.dtype), at, encoder_hidden_states=prompt).sample


def load(parts: Parts) -> UNetBackbone:
    """From a Stable Diffusion folder of diffusers; ValueError as `backbone.load_backbone` says."""
    return UNetBackbone(
        unet=parts.model(UNet2DConditionModel, "unet"),
        vae=parts.vae(),
        empty_prompt=parts.sent(clip_states(parts.folder)),
        schedule=parts.noise_schedule(),
        decoder=parts.decoder(),
    )
