"""Inversion (step 1): clean latent → for each timestep from t_m down, a noisy latent and the residual that replays it.

Edit-friendly DDPM inversion (arXiv 2304.06140, algorithm 1), η = 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from emerdiff.attention import AttentionRecord, recorded_attention
from emerdiff.backbone import Backbone
from emerdiff.schedule import add_noise


@dataclass(frozen=True)
class InversionStep:
    """The unmodulated process at one timestep; latents are (1, C, h, w) float32."""

    timestep: int  # t
    previous: int | None  # the next timestep towards the clean latent; None when that is next
    latent: Tensor  # x_t
    residual: Tensor  # x_{t−1} − μ̂_t(x_t)
    attention: AttentionRecord  # of the pass at x_t; empty unless asked for


def invert(
    backbone: Backbone,
    clean: Tensor,
    timesteps: Sequence[int],
    generator: torch.Generator,
    *,
    record_attention: bool,
) -> Iterator[InversionStep]:
    """Yields the steps of z0 = `clean` along falling `timesteps`, one UNet call each.

    Every x_t is noised independently of the others, so that a step can be used as soon as it is there: only one
    timestep's attention is in memory. The paper stores n_t = (x_{t−1} − μ̂_t(x_t)) / σ_t and replays with σ_t n_t; the
    residual kept here is that product, which also holds at the last step, where σ is 0.
    """

    def noisy(timestep: int) -> Tensor:
        noise = torch.randn(clean.shape, generator=generator, dtype=torch.float32).to(clean)
        return add_noise(backbone.schedule, clean, noise, timestep)

    latent = noisy(timesteps[0])
    for timestep, previous in zip(timesteps, [*timesteps[1:], None], strict=True):
        target = clean if previous is None else noisy(previous)
        with recorded_attention(backbone.unet) if record_attention else nullcontext(AttentionRecord()) as attention:
            mean = backbone.previous_mean(latent, timestep, previous)
        yield InversionStep(timestep, previous, latent, target - mean, attention)
        latent = target
