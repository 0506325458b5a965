"""EmerDiff: fine class-agnostic masks from a frozen text-to-image diffusion model (Namekata et al., ICLR 2024).

Flow: picture (H, W, 3) uint8 → latent → low-resolution clusters → inversion → modulated denoising → difference maps →
`Masks`. Names are imported on first use, so that `import emerdiff` loads neither torch nor diffusers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emerdiff.backbone import Backbone
    from emerdiff.baselines import grid_masks, slic_masks
    from emerdiff.config import EmerDiffConfig, read_preset
    from emerdiff.fetch import fetch_weights
    from emerdiff.masks import Masks
    from emerdiff.segment import EmerDiff

__all__ = [
    "Backbone",
    "EmerDiff",
    "EmerDiffConfig",
    "Masks",
    "fetch_weights",
    "grid_masks",
    "read_preset",
    "slic_masks",
]

_HOME = {
    "Backbone": "backbone",
    "EmerDiff": "segment",
    "EmerDiffConfig": "config",
    "Masks": "masks",
    "fetch_weights": "fetch",
    "grid_masks": "baselines",
    "read_preset": "config",
    "slic_masks": "baselines",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'emerdiff' has no attribute {name!r}")
    return getattr(importlib.import_module(f"emerdiff.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
