"""One point on one image: the masks of a setting and their clusters, upsampled, against the truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.studies.table import Value
from emerdiff import EmerDiff, EmerDiffConfig, attention, cluster, segment
from emerdiff.cluster import one_hot
from emerdiff.fetch import local_weights
from emerdiff.frame import resized_planes
from fusion.evaluation.datasets import Sample
from fusion.evaluation.metrics import boundary_f, class_counts, majority_regions, mean_iou
from fusion.models.presets import digest
from ground.planes import largest_plane
from ground.weights import file_marks

WITHIN = 2  # px between a border and a true one
_NO_RESULT = ("license", "download_mb", "batch_size")


@dataclass(frozen=True)
class Scores:
    """Of one image: of the masks, and of their clusters upsampled bilinearly."""

    bound: float  # mIoU of masks that take their majority region
    boundary_f2: float  # of their borders, within 2 px
    naive_bound: float
    naive_boundary_f2: float


def scores(model: EmerDiff, sample: Sample, value: Value, kept: dict[Any, Any]) -> Scores:
    """Of the masks with seed 0; `model` has the base config. `kept` holds what the next value may use again."""
    varied = EmerDiff(model.backbone, value.config(model.config))
    with setting(varied, value, kept):
        masks = varied.segment(sample.image)
    naive = largest_plane(resized_planes(one_hot(masks.low_res), masks.label_map.shape))
    return Scores(*worth(masks.label_map, sample.regions), *worth(naive, sample.regions))


@contextmanager
def setting(model: EmerDiff, value: Value, kept: dict[Any, Any]) -> Iterator[None]:
    """Inside, `model` does what `value` says beside its config."""
    with ExitStack() as changed:
        changed.enter_context(patch.object(cluster, "RESTARTS", value.restarts))
        if value.before:
            changed.enter_context(offset_before_projection(model))
        changed.enter_context(_pairs_kept(value, kept))
        yield


@contextmanager
def offset_before_projection(model: EmerDiff) -> Iterator[None]:
    """Inside, the offset is added to what the modulation layer's output projection f is given: f(x + c·M).

    As f is linear, that is f(x) + c·M·w with the sums w of the rows of its matrix: another direction of channels.
    """
    weight: Tensor = model.backbone.layer(model.config.modulation_layer, "modulation_layer").to_out[0].weight
    plain = attention.token_offsets

    def directed(offsets: Tensor, output: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        return plain(offsets, output, grid_hw) * weight.sum(1)

    with patch.object(attention, "token_offsets", directed):
        yield


@contextmanager
def _pairs_kept(value: Value, kept: dict[Any, Any]) -> Iterator[None]:
    """Inside, the last modulated pairs are not computed once more where only blurs differ."""
    compute = segment.modulated_pairs

    def pairs(
        backbone: Any, clean: Tensor, timesteps: Any, masks: Tensor, config: EmerDiffConfig, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        tensors = clean.cpu(), masks, generator.get_state()
        key = (
            replace(config, image_blur=0.0, difference_blur=0.0),
            value.before,
            *(tensor.numpy().tobytes() for tensor in tensors),
        )
        if key not in kept:
            kept.clear()
            kept[key] = compute(backbone, clean, timesteps, masks, config, generator)
        result: tuple[Tensor, Tensor] = kept[key]
        return result

    with patch.object(segment, "modulated_pairs", pairs):
        yield


def setting_hash(base: EmerDiffConfig, value: Value) -> str:
    """16 hex digits of all that decides the masks of an image.

    Fields that are as EmerDiffConfig has them anyway are left out: a field more changes no hash.
    """
    config = value.config(base)
    usual = {each.name: each.default for each in fields(config)}
    settings = {
        name: given for name, given in asdict(config).items() if given != usual[name] and name not in _NO_RESULT
    }
    weights = file_marks(local_weights(config))
    return digest({**settings, "weights": weights, "restarts": value.restarts, "before": value.before})[:16]


def image_hash(sample: Sample) -> str:
    """16 hex digits of the image and what is true of it."""
    return digest({name: getattr(sample, name).tobytes().hex() for name in ("image", "regions")})[:16]


def worth(label_map: NDArray[np.int32], regions: NDArray[np.int32]) -> tuple[float, float]:
    """mIoU of masks (H, W) that take their majority region, and F of their borders at 2 px."""
    best = majority_regions(label_map, regions)
    counts = class_counts(regions, best, max(int(regions.max()), 0) + 1)
    return float(mean_iou(counts)), boundary_f(regions, best, WITHIN)
