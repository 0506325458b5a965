"""Where masks come from: an image, or its coarse map → class-agnostic masks, by diffusion or by a control."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.step.choices import MaskSource

if TYPE_CHECKING:
    from emerdiff import EmerDiff, Masks
    from emerdiff.config import EmerDiffConfig
    from ovseg import CoarseMap

MaskMaker = Callable[[NDArray[np.uint8], int], "Masks"]  # (image (H, W, 3) uint8 RGB, seed) → Masks


def mask_maker(source: str, config: EmerDiffConfig, model: EmerDiff | None) -> MaskMaker:
    """What makes the masks of `source`, one of MaskSource but "none"; `model` may be None where they need no diffusion.

    "naive" has the very clusters that "emerdiff" has for the same seed.
    """
    from emerdiff.baselines import grid_masks, slic_masks

    if source == MaskSource.NONE:
        raise ValueError(f"masks is {source!r}: these are of the coarse map, not of the image (see coarse_masks)")
    if MaskSource.of(source, "masks").needs_diffusion and model is None:
        raise ValueError(f"no masks {source!r} of this image are cached, and the diffusion model is not loaded")
    makers: dict[str, MaskMaker] = {
        "slic": lambda image, _seed: slic_masks(image, config.clusters),
        "grid": lambda image, _seed: grid_masks(image, config.clusters),
    }
    if model is not None:
        makers["emerdiff"] = lambda image, seed: model.segment(image, seed=seed)
        makers["naive"] = lambda image, seed: model.naive(image, seed=seed)
    return makers[source]


def coarse_masks(coarse: CoarseMap) -> Masks:
    """The regions of the coarse map as masks, one per label that has a pixel; features: the labels' text embeddings."""
    from emerdiff import Masks

    present = np.flatnonzero(np.bincount(coarse.label_map.ravel()))
    ids = np.zeros(len(coarse.labels), np.int32)
    ids[present] = np.arange(len(present))
    return Masks(
        label_map=ids[coarse.label_map],
        low_res=np.argmax(coarse.logits[present], axis=0).astype(np.int32),  # h x w
        features=coarse.text_embeddings[present],
    )
