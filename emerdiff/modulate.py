"""Modulated denoising (step 3): clean latent and low-resolution masks → latents at the end of offset replays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emerdiff.attention import offset_output, shared_attention
from emerdiff.backbone import Backbone
from emerdiff.batches import Batches
from emerdiff.config import EmerDiffConfig
from emerdiff.inversion import InversionStep, inverted
from emerdiff.prefix import recorded_prefix, resumed_after


def signed_offsets(low_res: NDArray[np.int32], strength: float) -> Tensor:
    """(2K, h, w) float32: −λ M^1, +λ M^1, −λ M^2, … for the binary masks M^i of an (h, w) label map."""
    masks = torch.from_numpy(low_res) == torch.arange(int(low_res.max()) + 1)[:, None, None]  # K h w
    return torch.stack([-strength * masks, strength * masks], dim=1).flatten(0, 1)


def modulated_ends(
    backbone: Backbone,
    clean: Tensor,
    timesteps: Sequence[int],
    offsets: Tensor,
    config: EmerDiffConfig,
    generator: torch.Generator,
) -> Tensor:
    """(B, C, H, W) float32 clean latents, one for each of the offsets (B, h, w), which lie on the feature layer's grid.

    Each replays x_{t−1} = μ̂_t(x_t) + residual_t of z0 = `clean` along `timesteps`, from t_m = timesteps[0] on, with its
    offset c·M^i added to the modulation layer's output (EmerDiff, section 4.2): at t_m alone, or for `config.modulate`
    "onward" at every timestep. With `config.inject_attention` the softmaxes are those of the unmodulated pass. The end
    of timesteps of one is x̂_0(t_m), shifted so that no offset gives z0. Raises ValueError for an unknown modulation
    layer.
    """
    layer = backbone.layer(config.modulation_layer, "modulation_layer")
    latent_hw = (clean.shape[2], clean.shape[3])
    offsets = offsets.to(clean.device)
    batches = Batches(config.batch_size)

    def first(step: InversionStep) -> Tensor:
        """All are the same up to the modulation layer: the unmodulated pass computes that once, the others go on."""
        with recorded_prefix(backbone.unet, layer) as prefix:
            mean = backbone.previous_mean(step.latent, step.timestep, step.previous)

        def tail(part: slice) -> Tensor:
            latents = step.latent.expand(part.stop - part.start, -1, -1, -1)
            with resumed_after(prefix, offsets[part], latent_hw):
                return backbone.previous_mean(latents, step.timestep, step.previous)

        return torch.cat(list(batches.run(tail, len(offsets)))) + (step.target - mean)

    def later(step: InversionStep, latents: Tensor) -> Tensor:
        """The unmodulated pass is the first item of the first batch, where `shared_attention` looks for it."""
        everyone = torch.cat([step.latent, latents])
        everyones_offsets = torch.cat([torch.zeros_like(offsets[:1]), offsets])

        def previous(part: slice) -> Tensor:
            onward = config.modulate == "onward"
            with offset_output(layer, everyones_offsets[part], latent_hw) if onward else nullcontext():
                return backbone.previous_mean(everyone[part], step.timestep, step.previous)

        means = torch.cat(list(batches.run(previous, len(everyone))))
        return means[1:] + (step.target - means[:1])

    latents = clean
    for step in inverted(backbone.schedule, clean, timesteps, generator):
        with shared_attention(backbone.unet) if config.inject_attention else nullcontext():
            latents = first(step) if step.timestep == timesteps[0] else later(step, latents)
    return latents
