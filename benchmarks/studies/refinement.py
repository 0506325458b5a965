"""One scene, masks to refine, and how well planes (K, h, w) find the true regions: for benchmarks.differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.edges import WITHIN
from emerdiff import EmerDiff
from emerdiff.attention import first_outputs, offset_output
from emerdiff.cluster import low_resolution_masks, one_hot
from emerdiff.difference import difference_planes, near_masks
from emerdiff.frame import frame_size, resize_plane, resized_planes, to_frame
from emerdiff.guided import guided_planes, shares
from emerdiff.modulate import modulated_pairs
from emerdiff.observe import Observation, observe
from emerdiff.schedule import add_noise, timesteps_from
from fusion.evaluation.metrics import boundary_f, class_counts, majority_regions, mean_iou
from ground.planes import largest_plane
from toyworld import scene

REACH = 16  # px to each side of a border: a position of the features


@dataclass(frozen=True, eq=False)
class View:
    """A scene, what the UNet holds of it, and masks to refine."""

    model: EmerDiff
    image: np.ndarray
    truth: np.ndarray
    frame_hw: tuple[int, int]
    clean: Tensor
    seen: Observation
    noise: Tensor  # state of the generator after the features
    low_res: np.ndarray  # h w
    regions: np.ndarray | None  # of each mask, if known

    @property
    def masks(self) -> Tensor:
        """(K, h, w) float32, 0 or 1."""
        return one_hot(self.low_res)

    @cached_property
    def spread(self) -> Tensor:
        """(K, h', w') float32: what `instant` makes of the masks, before the filter."""
        assert self.seen.affinity is not None
        return torch.stack(shares(list(self.seen.affinity.spread(self.masks))))


def viewed(model: EmerDiff, seed: int, *, oracle: bool) -> View:
    drawn = scene(seed)
    truth = drawn.label_map.astype(np.int32)
    frame_hw = frame_size(truth.shape, model.config.image_size, model.backbone.side_multiple)
    clean = model.backbone.encode(to_frame(drawn.image, frame_hw))
    generator = torch.Generator().manual_seed(0)
    seen = observe(model.backbone, clean, model.config, generator, with_affinity=True)
    if oracle:
        low_res, regions = true_clusters(truth, seen.grid_hw)
    else:
        low_res, regions = low_resolution_masks(seen.features, seen.grid_hw, model.config)[0], None
    return View(model, drawn.image, truth, frame_hw, clean, seen, generator.get_state(), low_res, regions)


def true_clusters(truth: np.ndarray, grid_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) int32: the region that fills most of each position of a grid, counted from 0; and which region that is."""
    areas = [
        cv2.resize((truth == region).astype(np.float32), grid_hw[::-1], interpolation=cv2.INTER_AREA)
        for region in range(truth.max() + 1)
    ]
    regions, low_res = np.unique(np.argmax(areas, axis=0), return_inverse=True)
    return low_res.reshape(grid_hw).astype(np.int32), regions.astype(np.int32)


def differences(view: View, **changes: Any) -> Tensor:
    """(K, h, w): d of each mask, with these changes of the preset's config."""
    config, backbone = replace(view.model.config, **changes), view.model.backbone
    timesteps = timesteps_from(config.timestep_modulate, config.num_timesteps, len(backbone.schedule.alphas_cumprod))
    generator = torch.Generator().set_state(view.noise)
    pairs = modulated_pairs(backbone, view.clean, timesteps, view.masks, config, generator)
    planes = near_masks(difference_planes(backbone, *pairs, config), view.low_res, config.locality)
    return torch.stack(list(planes))


def answer(view: View) -> dict[str, float]:
    """What the last mask's offset does in the UNet at t_m, on its way from the layer that it is added to."""
    config, backbone = view.model.config, view.model.backbone
    unet = backbone.unet
    transformer = unet.get_submodule(config.modulation_layer.partition(".transformer_blocks")[0])
    layer = backbone.layer(config.modulation_layer, "modulation_layer")
    places = {
        "layer": layer,
        "its transformer block": transformer.transformer_blocks[0],
        "its transformer": transformer,
        "first residual block after it": unet.up_blocks[2].resnets[0],
    }
    noise = torch.randn(view.clean.shape, generator=torch.Generator().set_state(view.noise))
    noisy = add_noise(backbone.schedule, view.clean, noise, config.timestep_modulate)
    mask = view.masks[-1:]
    found = {}
    for name, module in places.items():
        outputs = []
        for strength in (0.0, config.strength):
            with first_outputs([module]) as output, offset_output(layer, strength * mask, noisy.shape[2:]):
                backbone.predict(noisy, config.timestep_modulate)
            outputs.append(torch.as_tensor(output[module][0] if isinstance(output[module], tuple) else output[module]))
        plain, offset = (each if each.dim() == 4 else tokens_as_map(each, view) for each in outputs)
        change = (offset - plain)[0]  # C h w
        inside = resize_plane(mask[0], change.shape[1:])
        vectors = change[:, inside > 0.99]
        found[f"{name}: RMS"] = float(plain.square().mean().sqrt())
        if module is not layer:  # whose output is read before it is offset
            mean = vectors.mean(1).norm()
            found[f"{name}: how much the change varies within the mask"] = float(vectors.std(1).norm() / mean)
            found[f"{name}: mean change outside over inside"] = float(change.norm(dim=0)[inside == 0].mean() / mean)
    return found


def tokens_as_map(tokens: Tensor, view: View) -> Tensor:
    """(1, C, h, w) of (1, N, C)."""
    return tokens.mT.unflatten(2, view.low_res.shape)


def balanced(planes: Tensor, masks: Tensor) -> Tensor:
    """Each plane over its mean within its own mask."""
    inside = torch.stack([resize_plane(mask, tuple(planes.shape[1:])) for mask in masks])
    return planes / ((planes * inside).sum((1, 2)) / inside.sum((1, 2)))[:, None, None]


def scores(view: View, planes: Tensor) -> list[float]:
    """AUC (nan if it is not known which region a mask is), bound and F as they are, bound and F when filtered."""
    radius = max(1, round(view.model.config.choices.guided_radius * view.frame_hw[0] / view.low_res.shape[0]))
    full = list(resized_planes(planes, view.truth.shape))
    auc = float("nan") if view.regions is None else border_auc(full, view)
    maps = largest_plane(full), largest_plane(guided_planes(list(planes), view.image, view.frame_hw, radius))
    return [auc, *(figure for label_map in maps for figure in _of_map(view, label_map))]


def _of_map(view: View, label_map: np.ndarray) -> tuple[float, float]:
    found = majority_regions(label_map, view.truth) if view.regions is None else view.regions[label_map]
    bound = mean_iou(class_counts(view.truth, found, int(view.truth.max()) + 1))
    return float(bound), boundary_f(view.truth, found, WITHIN)


def border_auc(planes: Sequence[np.ndarray], view: View) -> float:
    assert view.regions is not None
    logs = [np.log(np.maximum(plane, np.finfo(np.float32).tiny)) for plane in planes]
    inside = [view.truth == region for region in view.regions]
    near = [cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, 5) <= REACH for region in inside]
    values = []
    for first, second in combinations(range(len(logs)), 2):
        here, there = inside[first] & near[second], inside[second] & near[first]
        if min(here.sum(), there.sum()) >= 64:  # else they do not touch
            ratio = logs[first] - logs[second]
            values.append(ranked_rightly(ratio[here], ratio[there]))
    return float(np.mean(values))


def ranked_rightly(high: np.ndarray, low: np.ndarray) -> float:
    """Share of the pairs (one of each) in which the value of `high` is larger; ties count half."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(below.mean() / (2 * len(low)))
