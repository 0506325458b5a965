"""The recipe: image + labels → `CoarseMap`, with a frozen CLIP; nothing is kept between calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ground.cache import remembered
from ground.images import ImageLike, as_rgb
from ground.presets import read_section
from ovseg.absence import find_absent, neutral_prompts, without
from ovseg.backbone import Backbone, load_backbone
from ovseg.choices import Refinement, Scope, SynonymRule
from ovseg.coarse import CoarseMap
from ovseg.config import OvsegConfig
from ovseg.labels import Label, as_labels
from ovseg.pixels import patch_grid, to_pixels
from ovseg.prompts import embed_names, highest_of_names, mean_of_names, names_of, unit
from ovseg.refine import Affinity, refined
from ovseg.resolve import best_labels
from ovseg.templates import resolve_templates
from ovseg.windows import encode_windows


class OpenVocabSegmenter:
    """Training-free open-vocabulary segmentation with dense CLIP embeddings (MaskCLIP, Zhou et al. 2022).

    Nothing is kept between calls, and calls of several threads take turns. It can be pickled, for a worker process; see
    `ground.turns.Turns` for workers that are forked.

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

        Raises what `from_config` raises, and ValueError for an unknown preset or field.
        """
        config = OvsegConfig.from_mapping({**read_section(preset, "ovseg"), **overrides})
        return cls.from_config(config, device=device, dtype=dtype)

    @classmethod
    def from_config(cls, config: OvsegConfig, *, device: str = "auto", dtype: str = "auto") -> OpenVocabSegmenter:
        """Segmenter of a config, in a precision of `ground.choices.Dtype`. Nothing is downloaded.

        What is not on this machine is a FileNotFoundError (of the hub: WeightsMissing), in one line that names it.
        ValueError on bad arguments, files that do not load, and models that are not supported.
        """
        return cls(load_backbone(config, device=device, dtype=dtype), config)

    def encode_labels(
        self, labels: Sequence[str | Label], *, background: Sequence[str | Label] = ()
    ) -> NDArray[np.float32]:
        """(L, C) float32 unit text embeddings of the labels, to be computed once for many images.

        With synonyms "max" a row per name, the names of one label after another; with `absence` one row more, that of
        the neutral prompt. They are kept on disk, see `ground.cache`.
        """
        wanted = as_labels(labels, background)
        names, templates = names_of(wanted), resolve_templates(self.config.templates)
        vectors = remembered(
            "text",
            partial(self.backbone.text_key, names, templates),
            partial(embed_names, names, templates, self.backbone.encode_text),
            len(names),
        )
        rows = unit(vectors) if self._names_compete else mean_of_names(wanted, vectors)
        return rows if self.config.absence is None else np.concatenate([rows, self._encode_neutral()])

    def _encode_neutral(self) -> NDArray[np.float32]:
        """(1, C) float32 unit text embedding of the templates without a name."""
        prompts = neutral_prompts(resolve_templates(self.config.templates))
        key = partial(self.backbone.text_key, prompts, ("{}",))
        vectors = remembered("text", key, partial(self.backbone.encode_text, prompts), len(prompts))
        return unit(vectors.mean(axis=0, keepdims=True))

    @property
    def _names_compete(self) -> bool:
        return self.config.synonyms == SynonymRule.MAX

    def segment(
        self,
        image: ImageLike,
        labels: Sequence[str | Label],
        *,
        background: Sequence[str | Label] = (),
        text_embeddings: NDArray[np.float32] | None = None,
        regions: NDArray[np.int32] | None = None,
        affinity: Affinity | None = None,
    ) -> CoarseMap:
        """Where each label is in `image` (PIL.Image or (H, W, 3) uint8), at the size of `image`.

        `background` labels compete like the others; their pixels are meant to become "other" later. `text_embeddings`
        is what `encode_labels` gave for the same labels. `regions` (H, W), the number of each pixel's mask, are for
        `scope` "masks" of the config, `affinity` is for `refine`: help that is used if it is given and the config asks
        for it. ValueError on a bad image, bad regions or bad labels (see `as_labels`).
        """
        wanted = as_labels(labels, background)
        rgb = as_rgb(image)
        if text_embeddings is None:
            text_embeddings = self.encode_labels(labels, background=background)

        size_hw = (rgb.shape[0], rgb.shape[1])
        patch_hw = self.backbone.patch_hw
        grid_hw = patch_grid(size_hw, self.config.image_size, patch_hw)
        pixels_hw = (grid_hw[0] * patch_hw[0], grid_hw[1] * patch_hw[1])
        pixels = to_pixels(rgb, pixels_hw, self.backbone.mean, self.backbone.std)

        def encode(part: NDArray[np.float32], within: NDArray[np.int32] | None = None) -> NDArray[np.float32]:
            return self.backbone.encode_patches(part, self.config.dense, within)

        window = self.config.window or max(pixels_hw)
        stride = self.config.stride or max(1, window // 2)
        within = self._regions_of_patches(regions, size_hw, grid_hw)
        embeddings = encode_windows(encode, pixels, patch_hw, window, stride, within)  # C x h x w
        count, each = (len(names_of(wanted)), "name") if self._names_compete else (len(wanted), "label")
        margin = self.config.absence
        with_neutral = ", and one of the neutral prompt" if margin is not None else ""
        if text_embeddings.shape != (expected := (count + bool(with_neutral), len(embeddings))):
            given = text_embeddings.shape
            raise ValueError(f"text_embeddings is {given}, expected {expected}: a row per {each}{with_neutral}")
        scale = self.config.logit_scale or self.backbone.logit_scale
        logits = scale * np.tensordot(text_embeddings, embeddings, axes=1)  # L x h x w
        logits, neutral, text_embeddings = logits[:count], logits[count:], text_embeddings[:count]
        if self._names_compete:
            logits, text_embeddings = highest_of_names(wanted, logits), mean_of_names(wanted, text_embeddings)
        is_absent = np.zeros(len(wanted), bool) if margin is None else find_absent(logits, neutral[0], margin)
        logits = without(logits, is_absent)
        if self.config.refine != Refinement.NONE and affinity is not None:
            logits = refined(logits, affinity, self.config.refine_times)
        return CoarseMap(
            labels=wanted,
            label_map=best_labels(logits, size_hw),
            logits=logits,
            embeddings=embeddings,
            text_embeddings=text_embeddings,
            background=wanted[len(labels) :],
            absent=tuple(compress(wanted, is_absent)),
        )

    def _regions_of_patches(
        self, regions: NDArray[np.int32] | None, size_hw: tuple[int, int], grid_hw: tuple[int, int]
    ) -> NDArray[np.int32] | None:
        """(h, w) int32, the region in the middle of each patch, if the config asks for it."""
        if self.config.scope == Scope.NONE or regions is None:
            return None
        if regions.shape != size_hw:
            raise ValueError(f"regions are {regions.shape}, expected (H, W) = {size_hw}, the size of the image")
        rows, columns = (
            ((np.arange(count) + 0.5) * side / count).astype(np.intp)
            for count, side in zip(grid_hw, size_hw, strict=True)
        )
        return np.ascontiguousarray(regions[np.ix_(rows, columns)], dtype=np.int32)
