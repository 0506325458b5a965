"""Stable Diffusion 3.x: transformers with joint attention of image and text, trained by flow matching."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor
from torch.nn.functional import pad

from emerdiff.backbones.parts import Parts
from emerdiff.backbones.texts import clip_pooled, t5_states
from emerdiff.backbones.transformer import TransformerBackbone
from emerdiff.schedule import Schedule
from ground.turns import Turns

_T5_TOKENS = 256  # of a prompt, padding and all


@dataclass(frozen=True, eq=False)
class SD3Backbone(TransformerBackbone):
    """A Stable Diffusion 3 model with the empty prompt."""

    transformer: Any  # diffusers.SD3Transformer2DModel, eval
    vae: Any
    empty_prompt: Tensor  # (1, tokens, C): CLIP's tokens, then T5's
    pooled: Tensor  # (1, C): both of CLIP's text towers, pooled
    schedule: Schedule
    decoder: Any = None
    turns: Turns = field(default_factory=Turns, repr=False)

    def frame_hw(self, size_hw: tuple[int, int], image_size: int) -> tuple[int, int]:
        """About image_size² pixels; a side for which the model has no position embeddings is squeezed."""
        most = self.transformer.config.pos_embed_max_size * self.side_multiple
        height, width = super().frame_hw(size_hw, image_size)
        return min(height, most), min(width, most)

    def _denoised(self, latents: Tensor, timestep: int) -> Tensor:
        return self.transformer(
            latents.to(self.transformer.dtype),
            encoder_hidden_states=self.empty_prompt.expand(len(latents), -1, -1),
            pooled_projections=self.pooled.expand(len(latents), -1),
            timestep=self._at(latents, timestep),
        ).sample


def load(parts: Parts) -> SD3Backbone:
    """From a Stable Diffusion 3 folder of diffusers; ValueError as `backbone.load_backbone` says.

    Where T5, text_encoder_3, is not in the folder, its tokens are zeros, as in diffusers: it is not downloaded.
    """
    transformer = parts.denoiser(SD3Transformer2DModel, "transformer")
    width = transformer.config.joint_attention_dim
    states, pooled = zip(*(clip_pooled(parts, number) for number in ("", "_2")), strict=True)
    clip = torch.cat(states, dim=2)
    has_t5 = any((parts.folder / "text_encoder_3").glob("*.safetensors"))
    t5 = t5_states(parts, "_3", tokens=_T5_TOKENS) if has_t5 else torch.zeros(1, _T5_TOKENS, width)
    return SD3Backbone(
        transformer=transformer,
        vae=parts.vae(),
        empty_prompt=parts.sent(torch.cat([pad(clip, (0, width - clip.shape[2])), t5], dim=1)),
        pooled=parts.sent(torch.cat(pooled, dim=1)),
        schedule=parts.schedule(),
        decoder=parts.decoder(),
    )
