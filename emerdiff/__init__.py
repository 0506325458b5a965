"""EmerDiff: fine class-agnostic masks from a frozen text-to-image diffusion model (Namekata et al., ICLR 2024).

Flow: image (H, W, 3) uint8 → latent → low-resolution clusters → inversion → modulated denoising → difference maps →
`Masks`. Names are imported on first use, so that `import emerdiff` loads neither torch nor diffusers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from emerdiff.backbone import Backbone as Backbone
    from emerdiff.baselines import grid_masks as grid_masks
    from emerdiff.baselines import slic_masks as slic_masks
    from emerdiff.config import EmerDiffConfig as EmerDiffConfig
    from emerdiff.fetch import fetch_weights as fetch_weights
    from emerdiff.masks import Masks as Masks
    from emerdiff.segment import EmerDiff as EmerDiff

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "backbone": ["Backbone"],
        "baselines": ["grid_masks", "slic_masks"],
        "config": ["EmerDiffConfig"],
        "fetch": ["fetch_weights"],
        "masks": ["Masks"],
        "segment": ["EmerDiff"],
    },
)
