"""FLUX.1: transformers by flow matching; in the first blocks image and text are two streams of tokens, then one.

A token holds 2×2 latents, and knows its place by a rotation of its queries and keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from emerdiff.backbones.parts import Parts
from emerdiff.backbones.protocol import check_channels
from emerdiff.backbones.texts import clip_end, t5_states
from emerdiff.backbones.transformer import TransformerBackbone
from emerdiff.schedule import Schedule
from ground.turns import Turns


@dataclass(frozen=True, eq=False)
class FluxBackbone(TransformerBackbone):
    """A FLUX.1 model with the empty prompt; one that was distilled with guidance is told that there is none, 1."""

    transformer: Any  # diffusers.FluxTransformer2DModel, eval
    vae: Any
    empty_prompt: Tensor  # (1, tokens, C): T5's
    pooled: Tensor  # (1, C): CLIP's
    schedule: Schedule
    decoder: Any = None
    turns: Turns = field(default_factory=Turns, repr=False)

    def __post_init__(self) -> None:
        check_channels(self, "transformer", in_token=self.patch**2)

    @property
    def patch(self) -> int:
        """Of the pipeline: the model is given tokens."""
        return 2

    @property
    def affinity_layers(self) -> Sequence[Any]:
        """None: queries and keys come into their product rotated, which no module's output shows."""
        return []

    @property
    def affinity_features(self) -> nn.Module:
        queries: nn.Module = self._middle[0].attn.to_q
        return queries

    def layer(self, name: str, field: str) -> Any:
        """As for all; ValueError for a block of one stream, whose tokens are those of text, too."""
        if name.startswith("single_"):
            other = "transformer_blocks.0.attn"
            raise ValueError(
                f"emerdiff.{field} is {name!r}, where text is among the tokens; expected such as {other!r}"
            )
        return super().layer(name, field)

    def _denoised(self, latents: Tensor, timestep: int) -> Tensor:
        count, grid_hw, device = len(latents), self.grid_hw(latents), latents.device
        places = torch.cartesian_prod(*(torch.arange(side, device=device) for side in (1, *grid_hw)))  # N 3
        tokens = self.transformer(
            pixel_unshuffle(latents, self.patch).flatten(2).mT.to(self.transformer.dtype),
            encoder_hidden_states=self.empty_prompt.expand(count, -1, -1),
            pooled_projections=self.pooled.expand(count, -1),
            timestep=self._at(latents, timestep) / self.schedule.num_train_timesteps,
            img_ids=places,
            txt_ids=torch.zeros(self.empty_prompt.shape[1], 3, dtype=places.dtype, device=device),
            guidance=torch.ones(count, device=device) if self.transformer.config.guidance_embeds else None,
        ).sample
        return pixel_shuffle(tokens.mT.unflatten(2, grid_hw), self.patch)


def load(parts: Parts) -> FluxBackbone:
    """From a FLUX.1 folder of diffusers; ValueError as `backbone.load_backbone` says."""
    transformer = parts.denoiser(FluxTransformer2DModel, "transformer")
    # As many tokens as the models were trained with: [dev], which takes guidance, and [schnell].
    tokens = 512 if transformer.config.guidance_embeds else 256
    return FluxBackbone(
        transformer=transformer,
        vae=parts.vae(),
        empty_prompt=parts.sent(t5_states(parts, "_2", tokens=tokens)),
        pooled=parts.sent(clip_end(parts)),
        schedule=parts.schedule(),
        decoder=parts.decoder(),
    )
