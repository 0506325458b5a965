"""The whole flow for one image: image + labels → `Segmentation`. Holds loaded models and settings, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.models.load import load_clip, load_diffusion
from fusion.models.presets import Preset, load_preset, with_overrides
from fusion.models.sources import coarse_masks, guidance, mask_maker
from fusion.models.tiling import located, tiled
from fusion.step.choices import MaskSource
from fusion.step.config import FusionConfig
from fusion.step.pipeline import fuse
from fusion.step.segmentation import Segmentation
from ground.images import as_rgb
from ground.tiles import Tiling
from ovseg.choices import Refinement

if TYPE_CHECKING:
    from PIL import Image

    from emerdiff import EmerDiff, Masks
    from emerdiff.affinity import Affinity
    from ovseg import CoarseMap, Label, OpenVocabSegmenter


class Segmenter:
    """Labelled segmentation by any labels: masks of a frozen diffusion model, named by dense CLIP."""

    def __init__(
        self,
        preset: Preset,
        ovseg: OpenVocabSegmenter,
        emerdiff: EmerDiff | None,
        masks: str = "emerdiff",
        affinity_of: Callable[..., Affinity] | None = None,
        tiling: Tiling | None = None,
    ) -> None:
        """`masks` is one of MaskSource, else ValueError; `emerdiff` may be None where they need no diffusion model.

        `affinity_of` (image, seed=…) takes the place of `EmerDiff.affinity`, for masks that were made before. With a
        `tiling` larger images are segmented tile by tile, and the tiles joined.
        """
        self.preset = preset
        self.ovseg = ovseg
        self.emerdiff = emerdiff
        self.masks = MaskSource.of(masks, "masks")
        self.affinity_of = affinity_of or (None if emerdiff is None else emerdiff.affinity)
        self.tiling = tiling

    @classmethod
    def from_preset(
        cls,
        preset: str | Path | Preset = "sd15",
        *,
        masks: str = "emerdiff",
        speed: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        overrides: Sequence[str] = (),
        tiling: Tiling | None = None,
    ) -> Segmenter:
        """Segmenter of a preset: a name, a .yaml file or one that is loaded already; `overrides` as for `load_preset`.

        `speed` is how much of EmerDiff is computed (`emerdiff.speed.Speed`); None is what the preset says.

        Loads what `masks` and the preset's refinement need and no more. Raises FileNotFoundError, in one line,
        on weights that are not on this disk, and ValueError on anything unknown.
        """
        if speed is not None:
            overrides = [f"emerdiff.speed={speed}", *overrides]
        preset = with_overrides(preset, overrides) if isinstance(preset, Preset) else load_preset(preset, overrides)
        model = load_diffusion(masks, preset, device=device, dtype=dtype)
        return cls(preset, load_clip(preset, device=device, dtype=dtype), model, masks, tiling=tiling)

    @property
    def fusion(self) -> FusionConfig:
        """How its masks get their labels."""
        return self.preset.fusion.for_masks(self.masks)

    def segment(
        self,
        image: Image.Image | NDArray[np.uint8],
        labels: Sequence[str | Label],
        *,
        background: Sequence[str | Label] = (),
        seed: int = 0,
    ) -> Segmentation:
        """Which of `labels` is where in `image` (PIL.Image or (H, W, 3) uint8), at the size of `image`.

        Pixels that look like a `background` label become 0 = other. The same seed gives the same result.
        ValueError on a bad image or bad labels.
        """
        rgb = as_rgb(image)
        masks = None if self.masks == MaskSource.NONE else self.make_masks(rgb, seed)
        text = self.ovseg.encode_labels(labels, background=background)
        locate = partial(self.coarse_map, labels=labels, background=background, text_embeddings=text, seed=seed)
        coarse = located(locate, rgb, masks, self.tiling)
        return fuse(coarse_masks(coarse) if masks is None else masks, coarse, self.fusion)

    def make_masks(self, image: NDArray[np.uint8], seed: int) -> Masks:
        """The class-agnostic masks of `image` (H, W, 3) uint8. ValueError with masks "none": see `coarse_masks`."""
        refines = self.ovseg.config.refine != Refinement.NONE
        make = mask_maker(self.masks, self.preset.emerdiff, self.emerdiff, keep_affinity=refines)
        return tiled(make, self.tiling)(image, seed)

    def coarse_map(
        self,
        image: NDArray[np.uint8],
        masks: Masks | None,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str | Label] = (),
        text_embeddings: NDArray[np.float32] | None = None,
        seed: int = 0,
    ) -> CoarseMap:
        """Where the labels are in `image` (H, W, 3) uint8, which is not cut into tiles.

        Masks and the diffusion model help if the preset asks them. `text_embeddings` as in
        `OpenVocabSegmenter.segment`. ValueError if help is asked for that is not to be had.
        """
        affinity_of = None if self.affinity_of is None else partial(self.affinity_of, seed=seed)
        seen = guidance(self.ovseg.config, image, masks, affinity_of)
        return self.ovseg.segment(image, labels, background=background, text_embeddings=text_embeddings, **seen)
