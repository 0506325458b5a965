"""The recipe: picture → fine class-agnostic masks, in the five steps of EmerDiff (arXiv 2401.11739)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emerdiff.argmax import label_map_of
from emerdiff.backbone import Backbone, fetch_weights, load_backbone
from emerdiff.cluster import low_resolution_masks
from emerdiff.config import EmerDiffConfig, read_preset
from emerdiff.difference import difference_planes, near_masks
from emerdiff.frame import Picture, as_rgb, frame_size, to_frame
from emerdiff.guided import GuidedFilter, shares
from emerdiff.inversion import invert
from emerdiff.masks import Masks
from emerdiff.modulate import modulated_ends, signed_offsets
from emerdiff.schedule import timesteps_from


class EmerDiff:
    """Segments pictures with a loaded backbone; nothing is kept between calls.

    Raises ValueError if the config's layers or timesteps do not exist in the model.
    """

    def __init__(self, backbone: Backbone, config: EmerDiffConfig) -> None:
        num_train_timesteps = len(backbone.schedule.alphas_cumprod)
        self.timesteps = timesteps_from(config.timestep_modulate, config.num_timesteps, num_train_timesteps)
        if config.timestep_feature >= num_train_timesteps:
            given, last = config.timestep_feature, num_train_timesteps - 1
            raise ValueError(f"emerdiff.timestep_feature: {given} given, 0..{last} expected for this model")
        backbone.layer(config.feature_layer, "feature_layer")
        backbone.layer(config.modulation_layer, "modulation_layer")
        self.backbone = backbone
        self.config = config

    @classmethod
    def from_preset(
        cls, preset: str | Path = "sd15", *, device: str = "auto", dtype: str = "auto", **overrides: Any
    ) -> EmerDiff:
        """From a preset's name or YAML file; `overrides` are fields of EmerDiffConfig.

        Raises ValueError for an unknown preset or field, and what `from_config` raises.
        """
        values = read_preset(preset).get("emerdiff")
        if not isinstance(values, dict):
            raise ValueError(f"preset {preset} has no section `emerdiff`")
        config = EmerDiffConfig.from_mapping({**values, **overrides})
        return cls.from_config(config, device=device, dtype=dtype, preset=str(preset))

    @classmethod
    def from_config(
        cls, config: EmerDiffConfig, *, device: str = "auto", dtype: str = "auto", preset: str = "PRESET"
    ) -> EmerDiff:
        """Loads the config's model: "auto" is cuda, else mps, else cpu; float16 on the first two, float32 on cpu.

        Nothing is downloaded: weights that are not on this machine are a FileNotFoundError, in one line with the
        command that fetches them (`preset` is the name in it). ValueError for a config that does not fit the model.
        """
        folder = fetch_weights(config, download=False, preset=preset)
        return cls(load_backbone(folder, device=device, dtype=dtype), config)

    @torch.inference_mode()
    def segment(self, image: Picture, *, seed: int = 0, keep_difference: bool = False) -> Masks:
        """Fine masks of a PIL.Image or (H, W, 3) uint8 RGB array, at its size; `seed` draws all the noise.

        K is `config.clusters`, or less where the picture's features do not differ. Raises ValueError for another kind
        of image, and for more clusters than the feature layer has positions.
        """
        rgb = as_rgb(image)
        generator = torch.Generator().manual_seed(seed)
        clean = self._encoded(rgb)
        low_res, features = low_resolution_masks(self.backbone, clean, self.config, generator)
        steps = invert(self.backbone, clean, self.timesteps, generator, record_attention=self.config.inject_attention)
        offsets = signed_offsets(low_res, self.config.strength)
        ends = modulated_ends(self.backbone, steps, offsets, self.config)
        planes = near_masks(difference_planes(self.backbone, ends, self.config), low_res, self.config.locality)
        if self.config.guided_radius == 0:
            label_map, difference = label_map_of(planes, rgb.shape[:2], keep=keep_difference)
        else:
            frame_hw = self._frame_hw(rgb)
            radius = max(1, round(self.config.guided_radius * frame_hw[0] / low_res.shape[0]))  # px
            guide = GuidedFilter(rgb, frame_hw, radius)
            label_map, difference = label_map_of(shares(planes), rgb.shape[:2], resize=guide, keep=keep_difference)
        return Masks(label_map, low_res, features, difference)

    @torch.inference_mode()
    def naive(self, image: Picture, *, seed: int = 0) -> Masks:
        """The baseline: the clusters that `segment` finds with this seed, upsampled bilinearly, argmax."""
        rgb = as_rgb(image)
        generator = torch.Generator().manual_seed(seed)
        low_res, features = low_resolution_masks(self.backbone, self._encoded(rgb), self.config, generator)
        planes = (torch.from_numpy(low_res == index).float() for index in range(len(features)))
        label_map, _ = label_map_of(planes, rgb.shape[:2])
        return Masks(label_map, low_res, features)

    def _encoded(self, rgb: NDArray[np.uint8]) -> Tensor:
        """z0 of the picture at the model's size, (1, C, h, w) float32."""
        return self.backbone.encode(to_frame(rgb, self._frame_hw(rgb)))

    def _frame_hw(self, rgb: NDArray[np.uint8]) -> tuple[int, int]:
        return frame_size(rgb.shape[:2], self.config.image_size, self.backbone.side_multiple)
