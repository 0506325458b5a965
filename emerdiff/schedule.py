"""The noise schedule: which timesteps are visited, how a latent is noised, and the mean of one reverse step.

In: how a model was trained and what its denoiser predicts. Out: x_t, and μ̂_t(x_t) of x_{t−1}. All arithmetic on latents
is float32; the coefficients are computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Protocol

from torch import Tensor

PREDICTION_TYPES = ("epsilon", "v_prediction")


class Schedule(Protocol):
    """What the model was trained with; timesteps are those of training, 0 … `num_train_timesteps` − 1."""

    @property
    def num_train_timesteps(self) -> int: ...

    def shares(self, timestep: int | None) -> tuple[float, float]:
        """(of the clean latent, of the noise) in x_t; None stands for the clean latent behind the last timestep."""

    def previous_mean(self, latents: Tensor, prediction: Tensor, timestep: int, previous: int | None) -> Tensor:
        """What one step makes of x_t, (B, C, H, W) float32, before the noise or the residual of a replay is added."""


@dataclass(frozen=True)
class NoiseSchedule:
    """Of a model that removes noise (DDPM). Raises ValueError for a prediction type other than epsilon or v."""

    alphas_cumprod: tuple[float, ...]  # ᾱ_0 … ᾱ_{T−1}, falling from about 1 to about 0
    prediction_type: str  # what the denoiser predicts: "epsilon" (the noise) or "v_prediction"

    def __post_init__(self) -> None:
        if self.prediction_type not in PREDICTION_TYPES:
            choices = ", ".join(PREDICTION_TYPES)
            raise ValueError(f"the scheduler predicts {self.prediction_type!r}, expected one of {choices}")

    @property
    def num_train_timesteps(self) -> int:
        return len(self.alphas_cumprod)

    def shares(self, timestep: int | None) -> tuple[float, float]:
        """√ᾱ_t and √(1−ᾱ_t) (DDPM, arXiv 2006.11239, eq. 4)."""
        alpha = self.alpha(timestep)
        return sqrt(alpha), sqrt(1 - alpha)

    def previous_mean(self, latents: Tensor, prediction: Tensor, timestep: int, previous: int | None) -> Tensor:
        return posterior_mean(self, latents, prediction, timestep, previous)

    def alpha(self, timestep: int | None) -> float:
        """ᾱ_t; 1 for None, which stands for the clean latent behind the last timestep."""
        return 1.0 if timestep is None else self.alphas_cumprod[timestep]


@dataclass(frozen=True)
class FlowSchedule:
    """Of a model that was trained by flow matching, on straight ways from the clean latent to noise (arXiv 2403.03206).

    The timestep is what the model is told: σ times `num_train_timesteps`. By which σ a sampler walks, its shift, does
    not matter here: the method's timesteps are its own.
    """

    num_train_timesteps: int

    def sigma(self, timestep: int | None) -> float:
        """σ_t, the noise's share; 0 for None, which stands for the clean latent behind the last timestep."""
        return 0.0 if timestep is None else timestep / self.num_train_timesteps

    def shares(self, timestep: int | None) -> tuple[float, float]:
        sigma = self.sigma(timestep)
        return 1 - sigma, sigma

    def previous_mean(self, latents: Tensor, prediction: Tensor, timestep: int, previous: int | None) -> Tensor:
        """Euler's step along the velocity that the model predicts, noise minus clean latent."""
        return latents + (self.sigma(previous) - self.sigma(timestep)) * prediction


def leading_timesteps(num_timesteps: int, num_train_timesteps: int) -> tuple[int, ...]:
    """Evenly spaced from the clean end with an offset of 1, falling: (50, 1000) → 981, 961, …, 21, 1."""
    spacing = num_train_timesteps // num_timesteps
    timesteps = tuple(index * spacing + 1 for index in reversed(range(num_timesteps)))
    if spacing == 0 or timesteps[0] >= num_train_timesteps:
        most = num_train_timesteps - 1
        raise ValueError(f"emerdiff.num_timesteps is {num_timesteps}, expected at most {most} for this model")
    return timesteps


def timesteps_from(timestep: int, num_timesteps: int, num_train_timesteps: int) -> tuple[int, ...]:
    """The timesteps of the schedule from `timestep` down. One off the schedule: ValueError naming the nearest two."""
    schedule = leading_timesteps(num_timesteps, num_train_timesteps)
    if timestep not in schedule:
        nearest = sorted(schedule, key=lambda other: abs(other - timestep))[:2]
        raise ValueError(
            f"emerdiff.timestep_modulate is {timestep}, expected a timestep of the schedule; "
            f"the nearest are {' and '.join(map(str, sorted(nearest)))}"
        )
    return schedule[schedule.index(timestep) :]


def add_noise(schedule: Schedule, clean: Tensor, noise: Tensor, timestep: int | None) -> Tensor:
    """x_t of z0 = `clean` and independent noise ε; for DDPM √ᾱ_t z0 + √(1−ᾱ_t) ε."""
    of_clean, of_noise = schedule.shares(timestep)
    return of_clean * clean + of_noise * noise


def posterior_mean(
    schedule: NoiseSchedule, latents: Tensor, prediction: Tensor, timestep: int, previous: int | None
) -> Tensor:
    """μ̂_t(x_t): the mean of q(x_{t−1} | x_t, x̂_0) with x̂_0 from the denoiser's prediction (DDPM, eq. 7; DDIM, η = 1).

    `latents` and `prediction` are (B, C, H, W) float32; `previous` is the next timestep towards the clean end, None at
    the last one: ᾱ is 1 there, so that the mean is x̂_0 and the step has no noise.
    """
    alpha, alpha_previous = schedule.alpha(timestep), schedule.alpha(previous)
    if schedule.prediction_type == "epsilon":
        clean = (latents - sqrt(1 - alpha) * prediction) / sqrt(alpha)
    else:
        # v = √ᾱ ε − √(1−ᾱ) z0 (arXiv 2202.00512, appendix D)
        clean = sqrt(alpha) * latents - sqrt(1 - alpha) * prediction
    ratio = alpha / alpha_previous  # α_t of this step
    weight_clean = sqrt(alpha_previous) * (1 - ratio) / (1 - alpha)
    weight_latent = sqrt(ratio) * (1 - alpha_previous) / (1 - alpha)
    return weight_clean * clean + weight_latent * latents
