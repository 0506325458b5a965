"""The recipe: image + labels -> `CoarseMap`. Holds the frozen CLIP and the settings, no state of calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ovseg.backbone import Backbone, load_backbone
from ovseg.coarse import CoarseMap, argmax_map
from ovseg.config import OvsegConfig, read_preset
from ovseg.labels import Label, as_labels
from ovseg.pixels import as_rgb, patch_grid, to_pixels
from ovseg.prompts import embed_labels
from ovseg.windows import encode_windows

if TYPE_CHECKING:
    from PIL import Image


class OpenVocabSegmenter:
    """Training-free open-vocabulary segmentation with dense CLIP embeddings (MaskCLIP, Zhou et al. 2022).

    ValueError if the config's dense variant does not fit the backbone.
    """

    def __init__(self, backbone: Backbone, config: OvsegConfig) -> None:
        backbone.check_variant(config.dense)
        self.backbone = backbone
        self.config = config

    @classmethod
    def from_preset(
        cls, preset: str | Path = "sd15", *, device: str = "auto", dtype: str = "auto", **overrides: Any
    ) -> OpenVocabSegmenter:
        """Segmenter of a preset (a name such as "mini" or a .yaml file); `overrides`: OvsegConfig fields.

        FileNotFoundError, in one line, if the weights are not on this disk; ValueError on anything unknown.
        """
        section = read_preset(preset).get("ovseg")
        if not isinstance(section, dict):
            raise ValueError(f"preset {preset} has no section ovseg")
        config = OvsegConfig.from_mapping({**section, **overrides})
        return cls(load_backbone(config, device=device, dtype=dtype, preset=str(preset)), config)

    @classmethod
    def from_config(cls, config: OvsegConfig, *, device: str = "auto", dtype: str = "auto") -> OpenVocabSegmenter:
        """Segmenter of a config; errors as for `from_preset`."""
        return cls(load_backbone(config, device=device, dtype=dtype), config)

    def encode_labels(
        self, labels: Sequence[str | Label], *, background: Sequence[str | Label] = ()
    ) -> NDArray[np.float32]:
        """(L, C) float32 unit text embeddings, for many images, encode once."""
        return embed_labels(as_labels(labels, background), self.config.templates, self.backbone.encode_text)

    def segment(
        self,
        image: Image.Image | NDArray[np.uint8],
        labels: Sequence[str | Label],
        *,
        background: Sequence[str | Label] = (),
        text_embeddings: NDArray[np.float32] | None = None,
    ) -> CoarseMap:
        """Where each label is in `image` (PIL.Image or (H, W, 3) uint8), at the size of `image`.

        `background` words compete like labels; their pixels are meant to become "other" later.
        `text_embeddings` is what `encode_labels` gave for these very words. ValueError on a bad image or bad
        labels (see `as_labels`).
        """
        words = as_labels(labels, background)
        rgb = as_rgb(image)
        if text_embeddings is None:
            text_embeddings = embed_labels(words, self.config.templates, self.backbone.encode_text)
        elif len(text_embeddings) != len(words):
            raise ValueError(f"text_embeddings has {len(text_embeddings)} rows, expected one for each of {len(words)}")

        size_hw = (rgb.shape[0], rgb.shape[1])
        patch_hw = self.backbone.patch_hw
        grid_hw = patch_grid(size_hw, self.config.image_size, patch_hw)
        pixels_hw = (grid_hw[0] * patch_hw[0], grid_hw[1] * patch_hw[1])
        pixels = to_pixels(rgb, pixels_hw, self.backbone.mean, self.backbone.std)
        encode = partial(self.backbone.encode_patches, variant=self.config.dense)
        window = self.config.window or max(pixels_hw)
        stride = self.config.stride or max(1, window // 2)
        embeddings = encode_windows(encode, pixels, patch_hw, window, stride)  # C x h x w
        scale = self.config.logit_scale or self.backbone.logit_scale
        logits = scale * np.tensordot(text_embeddings, embeddings, axes=1)  # L x h x w
        return CoarseMap(
            labels=words,
            label_map=argmax_map(logits, size_hw),
            logits=logits,
            embeddings=embeddings,
            text_embeddings=text_embeddings,
            background=words[len(labels) :],
        )
