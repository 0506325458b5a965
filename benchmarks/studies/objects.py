"""Masks and single objects of an image: IoU by the size of objects, and how many masks a thing such as the sky has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from emerdiff import Masks
from fusion.evaluation.datasets import Sample
from fusion.evaluation.figures import DRAWS, interval, resamples
from fusion.evaluation.metrics import UNKNOWN, boundary_f, class_counts, majority_regions, mean_iou
from fusion.models.presets import Preset
from fusion.step.components import connected_parts
from ground.label_maps import connected_components, contingency

WITHIN = 2  # px between a border and a true one
# Name → (from, below) which share of the image an object has. What is smaller than the first counts as crumbs.
SIZES = {"tiny": (0.0005, 0.005), "small": (0.005, 0.02), "middle": (0.02, 0.1), "large": (0.1, 1.01)}

Figure = NDArray[np.float64]  # (1 + DRAWS,) over all images, and over each sample of them


@dataclass(frozen=True)
class Found:
    """Of one way to masks on one image."""

    clusters: int  # masks before they are split
    masks: int
    seconds: float
    bound: float
    border: float
    things: list[list[float]]  # rows of `object_ious`
    skies: int | None  # masks of the thing that is counted; None where there is none
    classes: list[list[int]] = field(default_factory=list)  # `class_counts` of their labels; empty: none were given
    source: str = ""  # the data set


def judged(masks: Masks, preset: Preset, sample: Sample, label: int | None, seconds: float) -> Found:
    """The figures of masks, which the preset splits for fusion or not; `label` is that whose masks are counted."""
    clusters = masks.num_masks
    if preset.fusion.split:
        masks = connected_parts(masks, preset.fusion.min_area)
    best = majority_regions(masks.label_map, sample.regions)
    counts = class_counts(sample.regions, best, max(int(sample.regions.max()), 0) + 1)
    return Found(
        clusters=clusters,
        masks=len(np.unique(masks.label_map)),
        seconds=seconds,
        bound=float(mean_iou(counts)),
        border=boundary_f(sample.regions, best, WITHIN),
        things=object_ious(masks.label_map, objects(sample.regions)).tolist(),
        skies=None if label is None or label not in sample.truth else masks_of(masks.label_map, sample.truth, label),
    )


def objects(regions: NDArray[np.int32]) -> NDArray[np.int32]:
    """(H, W) int32: each connected part of the true regions (H, W) is an object 0 …; crumbs and UNKNOWN are UNKNOWN."""
    parts, owners = connected_components(regions - UNKNOWN)
    kept = (owners != 0) & (np.bincount(parts.ravel()) >= SIZES["tiny"][0] * parts.size)
    ids = np.where(kept, kept.cumsum() - 1, UNKNOWN).astype(np.int32)
    return ids[parts]


def object_ious(label_map: NDArray[np.int32], things: NDArray[np.int32]) -> NDArray[np.float64]:
    """(N, 3) of each object in `things` (H, W): its share of the image; its IoU with all masks of which it has the most
    pixels; its IoU with the one mask that fits best.

    The first grows with the number of masks, the second falls where an object is split. Pixels of the masks that are of
    nothing known do not count.
    """
    known = things != UNKNOWN
    shape = int(label_map.max()) + 1, int(things.max()) + 1
    if shape[1] == 0:
        return np.zeros((0, 3))
    shared = contingency(label_map[known], things[known], shape)  # K N
    areas, masks = shared.sum(axis=0), shared.sum(axis=1)
    owned = shared.argmax(axis=1)[:, None] == np.arange(shape[1])
    together = (shared * owned).sum(axis=0) / (areas + ((masks[:, None] - shared) * owned).sum(axis=0))
    best = (shared / np.maximum(masks[:, None] + areas - shared, 1)).max(axis=0)
    return np.stack([areas / label_map.size, together, best], axis=1)


def masks_of(label_map: NDArray[np.int32], truth: NDArray[np.int32], label: int) -> int:
    """How many masks have more pixels of `label` than of anything else in the true map (H, W)."""
    owners = majority_regions(label_map, truth)
    return len(np.unique(label_map[(owners == label) & (truth == label)]))


def tables(found: dict[str, list[Found]], thing: str) -> str:
    """Markdown, of each way: figures of images and objects with all their masks; and of objects with their best one."""
    columns = {name: _figures(of_images) for name, of_images in found.items()}
    of_images = next(iter(found.values()))
    rows = np.array([row for each in of_images for row in each.things]).reshape(-1, 3)
    sizes = {size: f"{size} ({int(_in_size(rows, size).sum())})" for size in SIZES}
    skies = f"masks of {thing} ({sum(each.skies is not None for each in of_images)} images)"
    heads = {"masks": "masks", "skies": skies, "bound": "bound", "border": "F"}
    if all(each.classes for each in of_images):
        heads = {**heads, "labels": "labels"}
    first = {**heads, **{f"{size}, all": head for size, head in sizes.items()}}
    second = {f"{size}, best": head for size, head in sizes.items()}
    corner = f"{len(of_images)} images"
    return f"{_table(columns, first, corner)}\n\nThe one mask that fits best:\n\n{_table(columns, second, corner)}"


def _table(columns: dict[str, dict[str, Figure]], heads: dict[str, str], corner: str) -> str:
    base = next(iter(columns.values()))
    lines = [f"| {' | '.join([corner, *heads.values()])} |", "|---" * (1 + len(heads)) + "|"]
    for name, values in columns.items():
        lines.append(f"| {' | '.join([name, *(_cell(values[key], base[key], key) for key in heads)])} |")
    return "\n".join(lines)


def _figures(of_images: Sequence[Found]) -> dict[str, Figure]:
    """Column → its mean; NaN where nothing is counted."""
    count = len(of_images)
    weights = np.concatenate([np.ones((1, count), np.int64), resamples(count, DRAWS)])

    def mean(sums: Sequence[float], counts: Sequence[float]) -> Figure:
        total = weights @ np.array(counts, float)
        return np.where(total > 0, weights @ np.array(sums, float) / np.maximum(total, 1), np.nan)

    columns = {
        name: mean([getattr(each, name) for each in of_images], [1] * count) for name in ("masks", "bound", "border")
    }
    there = [each.skies is not None for each in of_images]
    columns["skies"] = mean([each.skies or 0 for each in of_images], there)
    columns["labels"] = _label_miou(of_images, weights)
    for size in SIZES:
        things = [np.array(each.things).reshape(-1, 3) for each in of_images]
        rows = [each[_in_size(each, size)] for each in things]
        for column, kind in ((1, "all"), (2, "best")):
            columns[f"{size}, {kind}"] = mean([each[:, column].sum() for each in rows], [len(each) for each in rows])
    return columns


def _label_miou(of_images: Sequence[Found], weights: NDArray[np.int64]) -> Figure:
    """The mean over data sets of the mIoU of labels over all their images; NaN where images have no labels."""
    if not all(each.classes for each in of_images):
        return np.full(len(weights), np.nan)
    of_sources = []
    for source in sorted({each.source for each in of_images}):
        members = [index for index, each in enumerate(of_images) if each.source == source]
        counts = np.array([of_images[index].classes for index in members])
        of_sources.append(mean_iou(np.tensordot(weights[:, members], counts, 1)))
    return np.mean(of_sources, axis=0)


def _in_size(things: NDArray[np.float64], size: str) -> NDArray[np.bool_]:
    low, high = SIZES[size]
    return (things[:, 0] >= low) & (things[:, 0] < high)


def _cell(values: Figure, base: Figure, column: str) -> str:
    if np.isnan(values[0]):
        return ""
    if column in ("masks", "skies"):
        return f"{values[0]:.1f}"
    differences = 100 * (values - base)
    # A sample without any object of the size says nothing.
    bounds = interval(differences[1:][~np.isnan(differences[1:])])
    if bounds is None or not differences.any():
        return f"{100 * values[0]:.1f}"
    return f"{100 * values[0]:.1f} ({bounds[0]:+.1f} to {bounds[1]:+.1f})"


class Log:
    """What was found before, by place: JSON lines of a file, if there is one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stream: IO[str] | None = None
        lines = path.read_text().splitlines() if path and path.exists() else []
        self._known = {json.dumps(place): Found(**found) for place, found in map(json.loads, lines)}

    def __enter__(self) -> Log:
        self._stream = self._path.open("a") if self._path else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stream:
            self._stream.close()

    def known(self, place: list[str]) -> Found | None:
        return self._known.get(json.dumps(place))

    def add(self, place: list[str], found: Found) -> None:
        self._known[json.dumps(place)] = found
        if self._stream:
            self._stream.write(json.dumps([place, asdict(found)]) + "\n")
            self._stream.flush()
