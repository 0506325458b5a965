"""Where masks come from: an image, or its coarse map → class-agnostic masks, by diffusion or by a control."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.step.choices import MaskSource
from ground.label_maps import pixel_counts
from ground.strips import gathered
from ovseg.choices import Refinement, Scope

if TYPE_CHECKING:
    from emerdiff import EmerDiff, Masks
    from emerdiff.affinity import Affinity
    from emerdiff.config import EmerDiffConfig
    from ovseg import CoarseMap, OvsegConfig
    from ovseg.mosaic import CoarseMosaic

MaskMaker = Callable[[NDArray[np.uint8], int], "Masks"]  # (image (H, W, 3) uint8 RGB, seed) → Masks


def mask_maker(
    source: str, config: EmerDiffConfig, model: EmerDiff | None, *, keep_affinity: bool = False
) -> MaskMaker:
    """What makes the masks of `source`, one of MaskSource but "none"; `model` may be None where they need no diffusion.

    "naive" has the very clusters that "emerdiff" has for the same seed. With `keep_affinity` "emerdiff" hands over the
    affinity of the image, too.
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
        makers["emerdiff"] = lambda image, seed: model.segment(image, seed=seed, keep_affinity=keep_affinity)
        makers["naive"] = lambda image, seed: model.naive(image, seed=seed)
    return makers[source]


def guidance(
    config: OvsegConfig,
    image: NDArray[np.uint8],
    masks: Masks | None,
    affinity_of: Callable[[NDArray[np.uint8]], Affinity] | None,
) -> dict[str, Any]:
    """What `OpenVocabSegmenter.segment` needs of masks and the diffusion model, if `config` asks for something.

    The affinity is that which the masks kept, else that of `affinity_of`; ValueError if there is neither. With `masks`
    None, those of the coarse map itself, nothing is scoped.
    """
    found: dict[str, Any] = {}
    if config.scope != Scope.NONE and masks is not None:
        found["regions"] = masks.label_map
    if config.refine != Refinement.NONE:
        if masks is not None and masks.affinity is not None:  # of the very image: see `fusion.models.tiling`
            found["affinity"] = masks.affinity
        elif affinity_of is not None:
            found["affinity"] = affinity_of(image)
        else:
            raise ValueError(f"ovseg.refine is {config.refine!r}, and the diffusion model is not loaded")
    return found


def coarse_masks(coarse: CoarseMap | CoarseMosaic) -> Masks:
    """The regions of the coarse map as masks, one per label that has a pixel; features: the labels' text embeddings."""
    from emerdiff import Masks

    present = np.flatnonzero(pixel_counts(coarse.label_map))
    ids = np.zeros(len(coarse.labels), np.int32)
    ids[present] = np.arange(len(present))
    return Masks(
        label_map=gathered(ids, coarse.label_map),
        low_res=ids[coarse.patch_labels(present)],  # h x w
        features=coarse.text_embeddings[present],
    )
