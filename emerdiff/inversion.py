"""Inversion (step 1): clean latent → for each timestep from t_m down, a noisy latent and the one that must follow it.

Edit-friendly DDPM inversion (arXiv 2304.06140, algorithm 1), η = 1. The UNet is not called here: see `modulate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emerdiff.batches import sent_to
from emerdiff.schedule import Schedule, add_noise


@dataclass(frozen=True)
class InversionStep:
    """The unmodulated process at one timestep; latents are (1, C, h, w) float32.

    The paper stores n_t = (x_{t−1} − μ̂_t(x_t)) / σ_t and replays x_{t−1} = μ̂_t(x_t) + σ_t n_t. Here the product,
    target − μ̂_t(latent), is what a replay adds: it also holds at the last step, where σ is 0, and for the step of a
    flow, which has no noise of its own.
    """

    timestep: int  # t
    previous: int | None  # the next timestep towards the clean latent; None when that is next
    latent: Tensor  # x_t
    target: Tensor  # x_{t−1}


def inverted(
    schedule: Schedule, clean: Tensor, timesteps: Sequence[int], generator: torch.Generator
) -> Iterator[InversionStep]:
    """Yields the steps of z0 = `clean`, (1, C, h, w), along falling `timesteps`; every x_t has its own noise."""

    def noisy(timestep: int) -> Tensor:
        noise = sent_to(torch.randn(clean.shape, generator=generator, dtype=torch.float32), clean)
        return add_noise(schedule, clean, noise, timestep)

    latent = noisy(timesteps[0])
    for timestep, previous in zip(timesteps, [*timesteps[1:], None], strict=True):
        target = clean if previous is None else noisy(previous)
        yield InversionStep(timestep, previous, latent, target)
        latent = target
