from __future__ import annotations

import pytest
import torch
from tiny_emerdiff import tiny_backbone

from emerdiff.attention import AttentionRecord
from emerdiff.inversion import invert

TIMESTEPS = (281, 261, 241, 21, 1)  # need not be evenly spaced


def clean_latent() -> torch.Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))


def inversion(backbone, seed: int = 0, record_attention: bool = False):
    generator = torch.Generator().manual_seed(seed)
    return invert(backbone, clean_latent(), TIMESTEPS, generator, record_attention=record_attention)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_replaying_the_residuals_gives_the_latent_back(prediction_type):
    backbone = tiny_backbone(prediction_type=prediction_type)
    steps = list(inversion(backbone))
    latent = steps[0].latent
    for step in steps:
        torch.testing.assert_close(latent, step.latent, rtol=1e-4, atol=1e-5)
        latent = backbone.previous_mean(latent, step.timestep, step.previous) + step.residual
    torch.testing.assert_close(latent, clean_latent(), rtol=1e-4, atol=1e-5)


def test_steps_follow_the_schedule_with_independent_noise():
    backbone = tiny_backbone()
    steps = list(inversion(backbone))
    assert [(step.timestep, step.previous) for step in steps] == [(281, 261), (261, 241), (241, 21), (21, 1), (1, None)]
    noises = []
    for step in steps:
        alpha = backbone.schedule.alpha(step.timestep)
        noises.append((step.latent - alpha**0.5 * clean_latent()).flatten() / (1 - alpha) ** 0.5)
    correlation = torch.corrcoef(torch.stack(noises))
    assert (correlation - torch.eye(len(steps))).abs().max() < 0.25
    assert all(0.85 < noise.std() < 1.15 for noise in noises)


def test_the_seed_decides():
    backbone = tiny_backbone()
    first, again, other = (next(inversion(backbone, seed)).latent for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_one_unet_call_per_timestep_and_attention_only_if_asked_for():
    backbone = tiny_backbone()
    calls = []
    hook = backbone.unet.register_forward_hook(lambda module, args, output: calls.append(args[1]))
    without = list(inversion(backbone))
    with_attention = list(inversion(backbone, record_attention=True))
    hook.remove()
    assert calls == [*TIMESTEPS, *TIMESTEPS]
    assert all(step.attention == AttentionRecord() for step in without)
    assert all(step.attention.queries and step.attention.outputs for step in with_attention)
