from __future__ import annotations

from itertools import pairwise

import torch
from tiny_emerdiff import tiny_backbone

from emerdiff.inversion import InversionStep, inverted

TIMESTEPS = (281, 261, 241, 21, 1)  # need not be evenly spaced
SCHEDULE = tiny_backbone().schedule


def clean_latent() -> torch.Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))


def inversion(seed: int = 0) -> list[InversionStep]:
    return list(inverted(SCHEDULE, clean_latent(), TIMESTEPS, torch.Generator().manual_seed(seed)))


def test_each_step_leads_to_the_next_and_the_last_to_the_clean_latent():
    steps = inversion()
    assert [(step.timestep, step.previous) for step in steps] == [(281, 261), (261, 241), (241, 21), (21, 1), (1, None)]
    for step, following in pairwise(steps):
        assert torch.equal(step.target, following.latent)
    assert torch.equal(steps[-1].target, clean_latent())


def test_every_timestep_has_its_own_noise():
    noises = []
    for step in inversion():
        alpha = SCHEDULE.alpha(step.timestep)
        noises.append((step.latent - alpha**0.5 * clean_latent()).flatten() / (1 - alpha) ** 0.5)
    correlation = torch.corrcoef(torch.stack(noises))
    assert (correlation - torch.eye(len(noises))).abs().max() < 0.25
    assert all(0.85 < noise.std() < 1.15 for noise in noises)


def test_the_seed_decides():
    first, again, other = (inversion(seed)[0].latent for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_one_timestep_leads_to_the_clean_latent():
    (step,) = inverted(SCHEDULE, clean_latent(), (281,), torch.Generator().manual_seed(0))
    assert step.previous is None
    assert torch.equal(step.target, clean_latent()) and torch.equal(step.latent, inversion()[0].latent)
