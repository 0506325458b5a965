"""Looking (step 2a): latent → what the UNet's layers hold of it: features to cluster, and the affinity of positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emerdiff.affinity import Affinity, affinity_modules, affinity_of, projections
from emerdiff.attention import first_outputs, token_grid
from emerdiff.backbones.protocol import Backbone
from emerdiff.batches import Batches, sent_to
from emerdiff.config import EmerDiffConfig
from emerdiff.merging import SelfAttention, self_attention, self_attentions
from emerdiff.schedule import add_noise


@dataclass(frozen=True, eq=False)
class Observation:
    """What the UNet holds of one latent."""

    features: NDArray[np.float32]  # (N, C) queries of the feature layer at t_f, row by row of its grid
    grid_hw: tuple[int, int]  # of the feature layer, N positions
    affinity: Affinity | None  # if asked for
    attention: SelfAttention | None = None  # about the feature layer at t_f, if clusters are merged by it


def observe(
    backbone: Backbone, clean: Tensor, config: EmerDiffConfig, generator: torch.Generator, *, with_affinity: bool
) -> Observation:
    """Looks at z0 = `clean`, (1, C, H, W) float32, in one UNet call: two if affinity is asked for at another timestep.

    The timesteps need not be on the schedule. Each call takes all of `config.feature_draws` in one batch, as far as
    memory holds it, and ends at the last layer that is looked at. Raises ValueError if features are not finite
    (float16 overflows).
    """
    queries_of = [backbone.layer(config.feature_layer, "feature_layer").to_q]
    layers = [] if config.merge_attention is None else self_attentions(backbone, config.feature_layer)
    flowing = projections(layers)
    finest = affinity_modules(backbone, config.affinity) if with_affinity else []
    together = config.timestep_feature == config.timestep_affinity
    first, second = ([*queries_of, *flowing, *finest], []) if together else ([*queries_of, *flowing], finest)
    queries, *outputs = _means(backbone, clean, config.timestep_feature, first, config, generator)
    attention = self_attention(layers, outputs[: len(flowing)]) if layers else None
    outputs = outputs[len(flowing) :]
    if second:
        # Noise of its own: what is drawn after the features is the same with affinity and without.
        its_own = torch.Generator().set_state(generator.get_state())
        outputs = _means(backbone, clean, config.timestep_affinity, second, config, its_own)
    features = queries.cpu().numpy()
    if not np.isfinite(features).all():
        raise ValueError(f"features of {config.feature_layer} are not finite in this dtype; try bfloat16 or float32")
    finest_hw = backbone.grid_hw(clean)
    affinity = affinity_of(backbone, outputs, finest_hw, config.affinity) if with_affinity else None
    return Observation(features, token_grid(finest_hw, len(features)), affinity, attention)


def observe_affinity(backbone: Backbone, clean: Tensor, config: EmerDiffConfig, generator: torch.Generator) -> Affinity:
    """The affinity that `observe` gives for a generator in the same state, in one UNet call, which ends with it."""
    if config.timestep_feature != config.timestep_affinity:
        _noise(clean, config, generator)  # that of the features
    finest = affinity_modules(backbone, config.affinity)
    outputs = _means(backbone, clean, config.timestep_affinity, finest, config, generator)
    return affinity_of(backbone, outputs, backbone.grid_hw(clean), config.affinity)


def _noise(clean: Tensor, config: EmerDiffConfig, generator: torch.Generator) -> Tensor:
    """(feature_draws, C, H, W) float32 of independent noises, one after the other."""
    draws = [torch.randn(clean.shape, generator=generator, dtype=torch.float32) for _ in range(config.feature_draws)]
    return torch.cat(draws)


def _means(
    backbone: Backbone,
    clean: Tensor,
    timestep: int,
    modules: Sequence[nn.Module],
    config: EmerDiffConfig,
    generator: torch.Generator,
) -> list[Tensor]:
    """What each module gives for z0 at this timestep: float32, without a batch, the mean over independent noises."""
    noise = sent_to(_noise(clean, config, generator), clean)

    def sums(part: slice) -> list[Tensor]:
        with first_outputs(modules) as outputs:
            backbone.predict(add_noise(backbone.schedule, clean, noise[part], timestep), timestep)
        return [outputs[module].float().sum(0) for module in modules]

    parts = list(Batches(config.batch_size or backbone.items_at_once(clean)).run(sums, config.feature_draws))
    return [torch.stack(list(each)).sum(0) / config.feature_draws for each in zip(*parts, strict=True)]
