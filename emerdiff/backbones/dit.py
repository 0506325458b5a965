"""DiT: transformers that know classes in place of texts, with self-attention alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor

from emerdiff.backbones.parts import Parts
from emerdiff.backbones.transformer import TransformerBackbone
from emerdiff.schedule import Schedule
from ground.turns import Turns


@dataclass(frozen=True, eq=False)
class DiTBackbone(TransformerBackbone):
    """A class-conditional DiT with its null class, the one behind the last."""

    transformer: Any  # diffusers.DiTTransformer2DModel, eval
    vae: Any
    schedule: Schedule
    decoder: Any = None
    turns: Turns = field(default_factory=Turns, repr=False)

    def frame_hw(self, size_hw: tuple[int, int], image_size: int) -> tuple[int, int]:
        """Square, whatever the image: diffusers lays out what the model gives as a square."""
        side = max(round(image_size / self.side_multiple), 1) * self.side_multiple
        return side, side

    def _denoised(self, latents: Tensor, timestep: int) -> Tensor:
        null = torch.full((len(latents),), self.transformer.config.num_embeds_ada_norm, device=latents.device)
        sample = self.transformer(
            latents.to(self.transformer.dtype), timestep=self._at(latents, timestep), class_labels=null
        ).sample
        return self._without_variance(sample, latents)


def load(parts: Parts) -> DiTBackbone:
    """From a DiT folder of diffusers; ValueError as `backbone.load_backbone` says."""
    return DiTBackbone(
        transformer=parts.denoiser(DiTTransformer2DModel, "transformer"),
        vae=parts.vae(),
        schedule=parts.schedule(),
        decoder=parts.decoder(),
    )
