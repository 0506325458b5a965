"""PixArt-α and PixArt-Σ: transformers with self- and cross-attention, as the UNets have, and T5 for texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor

from emerdiff.backbones.parts import Parts
from emerdiff.backbones.texts import t5_states
from emerdiff.backbones.transformer import TransformerBackbone
from emerdiff.schedule import Schedule
from ground.turns import Turns


@dataclass(frozen=True, eq=False)
class PixArtBackbone(TransformerBackbone):
    """A PixArt model with the empty prompt."""

    transformer: Any  # diffusers.PixArtTransformer2DModel, eval
    vae: Any
    # (1, 1, C): T5's state for the one token of "". The pipeline pads it and masks the padding, which is the same.
    empty_prompt: Tensor
    schedule: Schedule
    decoder: Any = None
    turns: Turns = field(default_factory=Turns, repr=False)

    def layer(self, name: str, field: str) -> Any:
        """As for all; ValueError for a cross-attention whose output is to be offset, too.

        It goes as it is into a stream that norms over channels alone read: what all channels have in common is gone
        there. The output of a self-attention is multiplied by a gate first, another number for each channel.
        """
        if field == "modulation_layer" and name.endswith(".attn2"):
            other = f"{name.removesuffix('2')}1"
            raise ValueError(f"emerdiff.{field} is {name!r}, where an offset has no effect; expected such as {other!r}")
        return super().layer(name, field)

    def _denoised(self, latents: Tensor, timestep: int) -> Tensor:
        sample = self.transformer(
            latents.to(self.transformer.dtype),
            encoder_hidden_states=self.empty_prompt.expand(len(latents), -1, -1),
            timestep=self._at(latents, timestep),
            added_cond_kwargs=self._added(latents),
        ).sample
        return self._without_variance(sample, latents)

    def _added(self, latents: Tensor) -> dict[str, Tensor | None]:
        """The size and shape of the image, which PixArt-α for 1024 px is told."""
        if not self.transformer.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        count, _, height, width = latents.shape
        size_hw = torch.tensor([height, width], dtype=self.transformer.dtype, device=latents.device)
        ratio = torch.full((count, 1), height / width, dtype=self.transformer.dtype, device=latents.device)
        return {"resolution": (size_hw * self.latent_factor).expand(count, -1), "aspect_ratio": ratio}


def load(parts: Parts) -> PixArtBackbone:
    """From a PixArt folder of diffusers; ValueError as `backbone.load_backbone` says."""
    return PixArtBackbone(
        transformer=parts.denoiser(PixArtTransformer2DModel, "transformer"),
        vae=parts.vae(may_overflow=True),
        empty_prompt=parts.sent(t5_states(parts, "", tokens=1)),
        schedule=parts.schedule(),
        decoder=parts.decoder(),
    )
