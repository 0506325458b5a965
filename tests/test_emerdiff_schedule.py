from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from emerdiff.schedule import NoiseSchedule, add_noise, leading_timesteps, posterior_mean, timesteps_from


def scheduler(prediction_type: str) -> DDIMScheduler:
    made = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )
    made.set_timesteps(50)
    return made


def schedule_of(ddim: DDIMScheduler) -> NoiseSchedule:
    return NoiseSchedule(tuple(ddim.alphas_cumprod.double().tolist()), ddim.config.prediction_type)


def test_timesteps_are_those_of_diffusers():
    assert leading_timesteps(50, 1000) == tuple(scheduler("epsilon").timesteps.tolist())
    assert leading_timesteps(50, 1000)[:2] + leading_timesteps(50, 1000)[-2:] == (981, 961, 21, 1)


@pytest.mark.parametrize("num_timesteps", [1000, 1001])
def test_too_many_timesteps(num_timesteps):
    with pytest.raises(ValueError, match=f"num_timesteps is {num_timesteps}, expected at most 999"):
        leading_timesteps(num_timesteps, 1000)


def test_timesteps_from_keeps_the_clean_end():
    assert timesteps_from(61, 50, 1000) == (61, 41, 21, 1)


@pytest.mark.parametrize(("timestep", "nearest"), [(280, "261 and 281"), (500, "481 and 501"), (999, "961 and 981")])
def test_a_timestep_off_the_schedule_names_the_nearest_two(timestep, nearest):
    with pytest.raises(ValueError, match=f"timestep_modulate is {timestep}, expected .* nearest are {nearest}$"):
        timesteps_from(timestep, 50, 1000)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("timestep", [981, 281, 21, 1])
def test_the_posterior_mean_is_that_of_diffusers(prediction_type, timestep):
    ddim = scheduler(prediction_type)
    latents, prediction = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    noiseless = torch.zeros_like(latents)
    expected = ddim.step(prediction, timestep, latents, eta=1.0, variance_noise=noiseless).prev_sample
    previous = timestep - 20 if timestep > 1 else None
    mean = posterior_mean(schedule_of(ddim), latents, prediction, timestep, previous)
    torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)


def test_noise_is_added_as_diffusers_does():
    ddim = scheduler("epsilon")
    clean, noise = torch.randn(2, 1, 4, 8, 8)
    torch.testing.assert_close(
        add_noise(schedule_of(ddim), clean, noise, 281), ddim.add_noise(clean, noise, torch.tensor([281]))
    )


def test_the_last_mean_of_a_perfect_prediction_is_the_clean_latent():
    clean, noise = torch.randn(2, 1, 4, 8, 8)
    schedule = schedule_of(scheduler("epsilon"))
    noisy = add_noise(schedule, clean, noise, 1)
    torch.testing.assert_close(posterior_mean(schedule, noisy, noise, 1, None), clean)


def test_an_unknown_prediction_type_is_refused():
    with pytest.raises(ValueError, match="'sample', expected one of epsilon, v_prediction"):
        NoiseSchedule((0.9, 0.5), "sample")
