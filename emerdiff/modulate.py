"""Modulated denoising (step 3): inversion steps and low-resolution masks → latents at the end of 2K offset replays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emerdiff.attention import injected_attention, offset_output
from emerdiff.backbone import Backbone
from emerdiff.batches import Batches
from emerdiff.config import EmerDiffConfig
from emerdiff.inversion import InversionStep


def signed_offsets(low_res: NDArray[np.int32], strength: float) -> Tensor:
    """(2K, h, w) float32: −λ M^1, +λ M^1, −λ M^2, … for the binary masks M^i of an (h, w) label map."""
    masks = torch.from_numpy(low_res) == torch.arange(int(low_res.max()) + 1)[:, None, None]  # K h w
    return torch.stack([-strength * masks, strength * masks], dim=1).flatten(0, 1)


def modulated_ends(
    backbone: Backbone, steps: Iterator[InversionStep], offsets: Tensor, config: EmerDiffConfig
) -> Tensor:
    """(B, C, H, W) float32 clean latents, one for each of the offsets (B, h, w), which lie on the feature layer's grid.

    Each trajectory replays x_{t−1} = μ̂_t(x_t) + residual_t from x_{t_m}, with its offset c·M^i added to the modulation
    layer's output (EmerDiff, section 4.2): at t_m alone, or for `config.modulate` "onward" at every timestep. The
    softmaxes are those that the steps recorded, where they recorded any. ValueError for an unknown modulation layer.
    """
    layer = backbone.layer(config.modulation_layer, "modulation_layer")
    batches = Batches(config.batch_size)

    def replayed(step: InversionStep, latents: Tensor, offsets: Tensor) -> Tensor:
        def previous(part: slice) -> Tensor:
            with (
                injected_attention(backbone.unet, step.attention),
                offset_output(layer, offsets[part], (latents.shape[2], latents.shape[3])),
            ):
                return backbone.previous_mean(latents[part], step.timestep, step.previous) + step.residual

        return torch.cat(list(batches.run(previous, len(latents))))

    first = next(steps)
    offsets = offsets.to(first.latent.device)
    latents = replayed(first, first.latent.expand(len(offsets), -1, -1, -1), offsets)
    if config.modulate == "once":
        offsets = torch.zeros_like(offsets)
    for step in steps:
        latents = replayed(step, latents, offsets)
    return latents
