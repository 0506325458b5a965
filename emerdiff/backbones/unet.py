"""UNets with cross-attention: Stable Diffusion 1.x and 2.x, and XL with what was distilled from it (SSD-1B)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from emerdiff.attention import attention_layers
from emerdiff.backbones.parts import Parts
from emerdiff.backbones.protocol import Backbone, check_channels
from emerdiff.backbones.texts import clip_penultimate, clip_pooled, clip_states
from emerdiff.schedule import NoiseSchedule
from ground.turns import Turns

# Bytes that a pass of the UNet takes for one latent, over those of its first block's output. In the layouts of Stable
# Diffusion 1.x and 2.x these are 26, counted without computing; this is with some room.
_BLOCKS_OUTPUTS = 32
_TOKENS = 77  # of a prompt
_LAYERS = 2  # self-attentions of the last up block, the first ones: those of CLIPer's released settings


@dataclass(frozen=True, eq=False)
class UNetBackbone(Backbone):
    """A Stable Diffusion model with the empty prompt.

    Raises ValueError for a UNet that needs more than a latent, a timestep and a prompt, in XL with its size.
    """

    unet: Any  # diffusers.UNet2DConditionModel, eval
    vae: Any
    empty_prompt: Tensor  # (1, tokens, C): the text encoder's hidden states for "", or zeros
    schedule: NoiseSchedule
    decoder: Any = None
    pooled: Tensor | None = None  # (1, C): the same, pooled; Stable Diffusion XL alone has it
    turns: Turns = field(default_factory=Turns, repr=False)

    def __post_init__(self) -> None:
        check_channels(self, "UNet")
        conditions = self.unet.config.addition_embed_type
        if self.unet.config.class_embed_type or conditions != (None if self.pooled is None else "text_time"):
            raise ValueError(
                "the UNet takes conditions besides a prompt, expected one of Stable Diffusion 1.x, 2.x or XL"
            )

    @property
    def denoiser(self) -> Any:
        return self.unet

    @property
    def side_multiple(self) -> int:
        return self.latent_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

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
        return self.unet(
            latents.to(self.unet.dtype), at, encoder_hidden_states=prompt, added_cond_kwargs=self._added(latents)
        ).sample

    def _added(self, latents: Tensor) -> dict[str, Tensor] | None:
        """What XL is told besides a prompt: pooled text, and that the image has its own size and is not cropped."""
        if self.pooled is None:
            return None
        count, _, height, width = latents.shape
        size_hw = (height * self.latent_factor, width * self.latent_factor)
        times = torch.tensor([*size_hw, 0, 0, *size_hw], dtype=torch.float32, device=latents.device)
        return {"text_embeds": self.pooled.expand(count, -1), "time_ids": times.expand(count, -1)}


def load(parts: Parts) -> UNetBackbone:
    """From a Stable Diffusion folder of diffusers; ValueError as `backbone.load_backbone` says."""
    unet = parts.denoiser(UNet2DConditionModel, "unet")
    extra_large = unet.config.addition_embed_type == "text_time"
    prompt, pooled = _xl_condition(parts, unet) if extra_large else (clip_states(parts), None)
    return UNetBackbone(
        unet=unet,
        vae=parts.vae(may_overflow=extra_large),
        empty_prompt=parts.sent(prompt),
        schedule=parts.noise_schedule(),
        decoder=parts.decoder(),
        pooled=None if pooled is None else parts.sent(pooled),
    )


def _xl_condition(parts: Parts, unet: Any) -> tuple[Tensor, Tensor]:
    """(1, tokens, C) and (1, C) float32: the states of both text encoders side by side, and the second's embedding.

    Zeros, if the model was trained with zeros in place of an empty prompt: the encoders need not be there then.
    """
    if not parts.layout.tokenizers:
        times = 6 * unet.config.addition_time_embed_dim
        pooled = torch.zeros(1, unet.config.projection_class_embeddings_input_dim - times)
        return torch.zeros(1, _TOKENS, unet.config.cross_attention_dim), pooled
    second, embedding = clip_pooled(parts, "_2")
    return torch.cat([clip_penultimate(parts, ""), second], dim=2), embedding
