"""Settings that differ in what is made of the UNet's features alone share one look at an image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from emerdiff import Backbone, EmerDiffConfig, segment
from emerdiff.observe import Observation

# Looks that are kept, at an image and at crops of it.
_KEPT = 64
# What has no part in what the UNet is looked at for, at any value.
_NO_PART: dict[str, Any] = {
    "clusters": 1,
    "clustering": "kmeans",
    "ncut_threshold": 0.5,
    "ncut_power": 10.0,
    "merge": 1.0,
    "merge_attention": 0.0,  # any number: what merging needs is looked at, too
    "zoom": 0,
    "position_weight": 0.0,
    "area_power": 0.0,
    "guided_radius": None,
    "speed": "exact",
}


@contextmanager
def looked_once() -> Iterator[None]:
    """Inside, the last observations answer once more for the same latent, settings and noise."""
    compute, kept = segment.observe, dict[Any, tuple[Observation, Tensor]]()

    def observe(
        backbone: Backbone, clean: Tensor, config: EmerDiffConfig, generator: torch.Generator, *, with_affinity: bool
    ) -> Observation:
        tensors = clean.cpu(), generator.get_state()
        config = replace(config, **_NO_PART)
        key = (config, with_affinity, *(each.numpy().tobytes() for each in tensors))
        if key not in kept:
            while len(kept) >= _KEPT:
                kept.pop(next(iter(kept)))
            seen = compute(backbone, clean, config, generator, with_affinity=with_affinity)
            kept[key] = seen, generator.get_state()
        seen, state = kept[key]
        generator.set_state(state)
        return seen

    with patch.object(segment, "observe", observe):
        yield
