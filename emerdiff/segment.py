"""The recipe: image → fine class-agnostic masks, in the five steps of EmerDiff (arXiv 2401.11739)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emerdiff.affinity import Affinity, affinity_modules
from emerdiff.backbone import Backbone, load_backbone
from emerdiff.cluster import low_resolution_masks, one_hot
from emerdiff.config import Clustering, EmerDiffConfig
from emerdiff.difference import difference_planes, near_masks
from emerdiff.fetch import fetch_decoder, fetch_weights
from emerdiff.frame import resized_planes, to_frame
from emerdiff.guided import guided_planes, over_areas, shares
from emerdiff.masks import Masks
from emerdiff.merging import self_attentions
from emerdiff.modulate import modulated_pairs
from emerdiff.observe import observe, observe_affinity
from emerdiff.passes import pass_masks, passes_of, planes_of_masks
from emerdiff.schedule import timesteps_from
from emerdiff.zoom import mixed, zoomed
from ground.checks import seed_of
from ground.images import ImageLike, as_rgb
from ground.planes import largest_plane
from ground.presets import read_section
from ground.turns import in_turn


class EmerDiff:
    """Segments images with a loaded backbone; nothing is kept between calls, and calls of several threads take turns.

    It can be pickled, for a worker process; see `ground.turns.Turns` for workers that are forked.

    Raises ValueError if the config's layers or timesteps do not exist in the model.
    """

    def __init__(self, backbone: Backbone, config: EmerDiffConfig) -> None:
        num_train_timesteps = backbone.schedule.num_train_timesteps
        self.timesteps = timesteps_from(config.timestep_modulate, config.num_timesteps, num_train_timesteps)
        for name in ("timestep_feature", "timestep_affinity"):
            given, last = getattr(config, name), num_train_timesteps - 1
            if given > last:
                raise ValueError(f"emerdiff.{name} is {given}, expected 0 to {last} for this model")
        backbone.layer(config.feature_layer, "feature_layer")
        backbone.layer(config.modulation_layer, "modulation_layer")
        affinity_modules(backbone, config.affinity)
        if config.merge_attention is not None:
            self_attentions(backbone, config.feature_layer)
        self.backbone = backbone
        self.turns = backbone.turns
        self.config = config

    @classmethod
    def from_preset(
        cls, preset: str | Path = "sd15", *, device: str = "auto", dtype: str = "auto", **overrides: Any
    ) -> EmerDiff:
        """From a preset's name or YAML file; `overrides` are fields of EmerDiffConfig.

        Raises ValueError for an unknown preset or field, and what `from_config` raises.
        """
        config = EmerDiffConfig.from_mapping({**read_section(preset, "emerdiff"), **overrides})
        return cls.from_config(config, device=device, dtype=dtype)

    @classmethod
    def from_config(cls, config: EmerDiffConfig, *, device: str = "auto", dtype: str = "auto") -> EmerDiff:
        """Loads the config's model: "auto" is cuda, else mps, else cpu; float16 on the first two, float32 on cpu.

        Nothing is downloaded: what is not on this machine is a FileNotFoundError (of the hub: WeightsMissing), in one
        line that names it. ValueError for a config that does not fit the model.
        """
        model = fetch_weights(config, download=False)
        decoder = fetch_decoder(config, download=False)
        backbone = load_backbone(
            model, decoder=decoder, variant=config.variant, layout=config.layout, device=device, dtype=dtype
        )
        return cls(backbone, config)

    @in_turn
    @torch.inference_mode()
    def segment(
        self, image: ImageLike, *, seed: int = 0, keep_difference: bool = False, keep_affinity: bool = False
    ) -> Masks:
        """Fine masks of a PIL.Image or (H, W, 3) uint8 RGB array, at its size; `seed` draws all the noise.

        K is `config.clusters`, or less where the features of the image do not differ; with `config.zoom` small things
        come beside them (emerdiff/zoom.py). To keep the affinity of positions costs a UNet call where masks are not
        spread by it. Raises ValueError for another kind of image, for more clusters than the feature layer has
        positions, and for difference maps together with zoom.
        """
        if self.config.zoom and keep_difference:
            raise ValueError(
                f"emerdiff.zoom is {self.config.zoom}, expected 0 where difference maps are kept: crops have none of "
                "the image"
            )
        rgb = as_rgb(image)
        masks, doubts = self._segmented(rgb, seed_of(seed), keep_difference, keep_affinity)
        if self.config.zoom == 0:
            return masks
        # Whatever lets the image say how many masks a crop has.
        merging = self.config.merge_attention is not None
        clustering = self.config.clustering if merging else Clustering.NCUT.value
        closer = EmerDiff(self.backbone, replace(self.config, zoom=0, clustering=clustering))
        return zoomed(masks, doubts, lambda window: closer.segment(rgb[window], seed=seed), self.config.zoom)

    def _segmented(
        self, rgb: NDArray[np.uint8], seed: int, keep_difference: bool, keep_affinity: bool
    ) -> tuple[Masks, NDArray[np.float32]]:
        """The masks of an image, and how badly each position of the feature layer's grid (h, w) fits its mask."""
        frame_hw = self._frame_hw(rgb)
        generator = torch.Generator().manual_seed(seed)
        clean = self.backbone.encode(to_frame(rgb, frame_hw))
        choices = self.config.choices
        seen = observe(self.backbone, clean, self.config, generator, with_affinity=choices.spread or keep_affinity)
        low_res, features = low_resolution_masks(seen.features, seen.grid_hw, self.config, seen.attention)
        planes = self._modulation_planes(clean, low_res, generator) if choices.modulation else list(one_hot(low_res))
        if choices.spread and seen.affinity is not None:
            planes = list(seen.affinity.spread(torch.stack(shares(planes))).cpu())
        weighed = planes if choices.modulation else over_areas(planes, low_res, self.config.area_power)
        label_map = largest_plane(self._at_image_size(weighed, rgb, frame_hw, low_res.shape[0]))
        masks = Masks(
            label_map,
            low_res,
            features,
            difference=_stacked(planes, rgb.shape[:2]) if keep_difference else None,
            affinity=seen.affinity if keep_affinity else None,
        )
        return masks, mixed(seen.features, low_res)

    @in_turn
    @torch.inference_mode()
    def naive(self, image: ImageLike, *, seed: int = 0) -> Masks:
        """The baseline: the clusters that `segment` finds with this seed, upsampled bilinearly, argmax."""
        rgb = as_rgb(image)
        generator = torch.Generator().manual_seed(seed_of(seed))
        clean = self.backbone.encode(to_frame(rgb, self._frame_hw(rgb)))
        seen = observe(self.backbone, clean, self.config, generator, with_affinity=False)
        low_res, features = low_resolution_masks(seen.features, seen.grid_hw, self.config, seen.attention)
        planes = one_hot(low_res)
        return Masks(largest_plane(resized_planes(planes, rgb.shape[:2])), low_res, features)

    @in_turn
    @torch.inference_mode()
    def affinity(self, image: ImageLike, *, seed: int = 0) -> Affinity:
        """Which positions of a PIL.Image or (H, W, 3) uint8 image belong together: what `segment` keeps with this seed.

        One UNet call, without masks. Raises ValueError for another kind of image.
        """
        rgb = as_rgb(image)
        clean = self.backbone.encode(to_frame(rgb, self._frame_hw(rgb)))
        return observe_affinity(self.backbone, clean, self.config, torch.Generator().manual_seed(seed_of(seed)))

    def _modulation_planes(self, clean: Tensor, low_res: NDArray[np.int32], generator: torch.Generator) -> list[Tensor]:
        """K difference maps (h, w) float32 of the masks M^i of `low_res`, weighted by locality."""
        passes = passes_of(low_res, self.config.choices.passes)
        masks = pass_masks(low_res, passes)
        pairs = modulated_pairs(self.backbone, clean, self.timesteps, masks, self.config, generator)
        planes = planes_of_masks(list(difference_planes(self.backbone, *pairs, self.config)), low_res, passes)
        return list(near_masks(planes, low_res, self.config.locality))

    def _frame_hw(self, rgb: NDArray[np.uint8]) -> tuple[int, int]:
        return self.backbone.frame_hw((rgb.shape[0], rgb.shape[1]), self.config.image_size)

    def _at_image_size(
        self, planes: Sequence[Tensor], rgb: NDArray[np.uint8], frame_hw: tuple[int, int], grid_rows: int
    ) -> Iterator[NDArray[np.float32]]:
        """The planes (h, w) at the image's size (H, W): bilinear, or by the guided filter if the config asks for it.

        `frame_hw` is the model's size, `grid_rows` the number of rows of the feature layer's grid.
        """
        if self.config.choices.guided_radius == 0:
            return resized_planes(planes, rgb.shape[:2])
        radius = max(1, round(self.config.choices.guided_radius * frame_hw[0] / grid_rows))  # px of the frame
        return guided_planes(planes, rgb, frame_hw, radius)


def _stacked(planes: Sequence[Tensor], size_hw: tuple[int, int]) -> NDArray[np.float16]:
    """(K, H, W) of planes (h, w), resized bilinearly."""
    return np.stack([plane.astype(np.float16) for plane in resized_planes(planes, size_hw)])
