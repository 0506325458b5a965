"""Modulated denoising (step 3): clean latent and low-resolution masks → latents at the end of offset replays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from emerdiff.attention import offset_output, shared_attention
from emerdiff.backbones.protocol import Backbone
from emerdiff.batches import Batches, sent_to
from emerdiff.config import EmerDiffConfig
from emerdiff.inversion import InversionStep, inverted
from emerdiff.norms import shared_norms
from emerdiff.prefix import recorded_prefix, resumed_after


def modulated_pairs(
    backbone: Backbone,
    clean: Tensor,
    timesteps: Sequence[int],
    masks: Tensor,
    config: EmerDiffConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """(P|1, C, H, W) and (P, C, H, W) float32: the two clean latents that each of the masks (P, h, w) sets apart.

    The ends with −λM and +λM; or, if the config asks for one side, z0 = `clean`, which no offset gives, and that with
    +λM. If it asks for one step, the timesteps after the first, t_m, are left out: the ends are x̂_0(t_m).
    """
    steps = timesteps[:1] if config.choices.one_step else timesteps
    plus = config.strength * masks
    if config.choices.one_side:
        return clean, modulated_ends(backbone, clean, steps, plus, config, generator)
    offsets = torch.stack([-plus, plus], dim=1).flatten(0, 1)  # the two signs of a mask side by side
    ends = modulated_ends(backbone, clean, steps, offsets, config, generator)
    return ends[0::2], ends[1::2]


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
    "onward" at every timestep. With `config.inject_attention` the softmaxes are those of the unmodulated pass, with
    `config.inject_norms` the statistics of group norms. Without an offset the end is z0. Raises ValueError for an
    unknown modulation layer.
    """
    layer = backbone.layer(config.modulation_layer, "modulation_layer")
    grid_hw = backbone.grid_hw(clean)
    offsets = sent_to(offsets, clean)
    batches = Batches(config.batch_size or backbone.items_at_once(clean))

    def first(step: InversionStep) -> Tensor:
        """All are the same up to the modulation layer: the unmodulated pass computes that once, the others go on."""
        with recorded_prefix(backbone.denoiser, layer) as prefix:
            mean = backbone.previous_mean(step.latent, step.timestep, step.previous)

        def tail(part: slice) -> Tensor:
            latents = step.latent.expand(part.stop - part.start, -1, -1, -1)
            with resumed_after(prefix, offsets[part], grid_hw):
                return backbone.previous_mean(latents, step.timestep, step.previous)

        return torch.cat(list(batches.run(tail, len(offsets)))) + (step.target - mean)

    def later(step: InversionStep, latents: Tensor) -> Tensor:
        """The unmodulated pass is the first item of the first batch, where `shared_attention` looks for it."""
        everyone = torch.cat([step.latent, latents])
        everyones_offsets = torch.cat([torch.zeros_like(offsets[:1]), offsets])

        def previous(part: slice) -> Tensor:
            onward = config.modulate == "onward"
            with offset_output(layer, everyones_offsets[part], grid_hw) if onward else nullcontext():
                return backbone.previous_mean(everyone[part], step.timestep, step.previous)

        means = torch.cat(list(batches.run(previous, len(everyone))))
        return means[1:] + (step.target - means[:1])

    latents = clean
    for step in inverted(backbone.schedule, clean, timesteps, generator):
        with _injected(backbone.denoiser, config):
            latents = first(step) if step.timestep == timesteps[0] else later(step, latents)
    return latents


@contextmanager
def _injected(unet: nn.Module, config: EmerDiffConfig) -> Iterator[None]:
    """Passes inside take from the first one what the config says."""
    attention = shared_attention(unet) if config.inject_attention else nullcontext()
    norms = shared_norms(unet) if config.inject_norms else nullcontext()
    with attention, norms:
        yield
