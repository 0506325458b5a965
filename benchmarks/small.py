"""Small things and over-split skies: ways to masks side by side, IoU by the size of objects, and masks of one sky.

    python -m benchmarks.small 1000000:1000040 --preset toy --dataset toy --way "ncut:clustering=ncut"
    python -m benchmarks.small DIR/labels/SOURCE:10::20 ... --way "ncut:clustering=ncut,ncut_threshold=0.4" \\
        --way "ward, as many:clusters=@ncut"

The first row is the preset as it is; a way is a name and settings of the preset's `emerdiff` section. A number of
clusters @NAME is the number of clusters that the way NAME has on the image. Masks are those that fusion gets: where the
preset says so (`fusion.split`), each connected part is one, and crumbs are gone. Bound is the mean over images of the
mIoU of masks that take their majority region. An object is a connected part of a true region; `all` is its IoU with all
masks that are mostly of it, `best` that with the one mask that fits best. In brackets are differences to the first row,
95 % by bootstrap over images.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import nan
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.studies.looking import looked_once
from benchmarks.studies.objects import SIZES, masks_of, object_ious, objects
from emerdiff import EmerDiff, Masks
from fusion.evaluation.datasets import Dataset, Sample, open_dataset
from fusion.evaluation.figures import DRAWS, interval, resamples
from fusion.evaluation.metrics import boundary_f, class_counts, majority_regions, mean_iou
from fusion.models.presets import Preset, load_preset
from fusion.step.components import connected_parts

WITHIN = 2  # px between a border and a true one
BASE = "as the preset is"


@dataclass(frozen=True)
class Way:
    """A way to masks: settings in place of the preset's."""

    name: str
    settings: dict[str, Any]

    def model(self, base: EmerDiff, clusters: dict[str, int]) -> EmerDiff:
        """What makes its masks for an image on which the other ways have so many clusters."""
        numbers = {
            field: max(clusters[value[1:]], 1)
            for field, value in self.settings.items()
            if isinstance(value, str) and value.startswith("@")
        }
        return EmerDiff(base.backbone, replace(base.config, **{**self.settings, **numbers}))


@dataclass(frozen=True, eq=False)
class Found:
    """Of one way on one image."""

    masks: int
    seconds: float
    bound: float
    border: float
    things: NDArray[np.float64]  # as `object_ious`
    skies: int | None  # masks of the sky; None where there is none


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", metavar="ROOT")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--dataset", default="pictures")
    parser.add_argument("--way", action="append", default=[], metavar="NAME:FIELD=VALUE,...")
    parser.add_argument("--thing", default="sky", help="the label whose masks are counted")
    parser.add_argument("--limit", type=int, help="images of each root")
    parser.add_argument("--time", action="store_true", help="the seconds of each way, too: nothing is used twice then")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    preset = load_preset(arguments.preset)
    model = EmerDiff.from_config(preset.emerdiff, device=arguments.device)
    ways = [Way(BASE, {}), *map(way_of, arguments.way)]
    everything: dict[str, list[Found]] = {way.name: [] for way in ways}
    for root in arguments.roots:
        data = open_dataset(arguments.dataset, root, arguments.limit)
        with nullcontext() if arguments.time else looked_once():
            found = measured(model, preset, ways, data, arguments.thing)
        if not arguments.time:
            found = {name: [replace(each, seconds=nan) for each in of_images] for name, of_images in found.items()}
        for name, of_images in found.items():
            everything[name] += of_images
        print(f"\n{root}\n\n{table(found, arguments.thing)}", flush=True)
    if len(arguments.roots) > 1:
        print(f"\nAll {len(arguments.roots)}\n\n{table(everything, arguments.thing)}")


def way_of(text: str) -> Way:
    """The way that "NAME:FIELD=VALUE,FIELD=VALUE" says; values are YAML."""
    name, _, settings = text.partition(":")
    pairs = [pair.split("=", 1) for pair in settings.split(",") if pair]
    # A YAML value cannot begin with @.
    return Way(name, {key: value if value.startswith("@") else yaml.safe_load(value) for key, value in pairs})


def measured(model: EmerDiff, preset: Preset, ways: Sequence[Way], data: Dataset, thing: str) -> dict[str, list[Found]]:
    """Name of a way → what was found on each image of a data set."""
    names = [label.name for label in data.labels]
    label = names.index(thing) + 1 if thing in names else None
    found: dict[str, list[Found]] = {way.name: [] for way in ways}
    for number, sample in enumerate(data.samples(), start=1):
        clusters: dict[str, int] = {}
        for way in ways:
            segmenter = way.model(model, clusters)
            start = time.perf_counter()
            masks = segmenter.segment(sample.image)
            seconds = time.perf_counter() - start
            clusters[way.name] = masks.num_masks
            found[way.name].append(judged(masks, preset, sample, label, seconds))
        print(f"\r{number}", end="", file=sys.stderr, flush=True)
    return found


def judged(masks: Masks, preset: Preset, sample: Sample, label: int | None, seconds: float) -> Found:
    if preset.fusion.split:
        masks = connected_parts(masks, preset.fusion.min_area)
    best = majority_regions(masks.label_map, sample.regions)
    counts = class_counts(sample.regions, best, max(int(sample.regions.max()), 0) + 1)
    return Found(
        masks=len(np.unique(masks.label_map)),
        seconds=seconds,
        bound=float(mean_iou(counts)),
        border=boundary_f(sample.regions, best, WITHIN),
        things=object_ious(masks.label_map, objects(sample.regions)),
        skies=None if label is None or label not in sample.truth else masks_of(masks.label_map, sample.truth, label),
    )


def table(found: dict[str, list[Found]], thing: str) -> str:
    """Markdown."""
    columns = {name: figures(of_images) for name, of_images in found.items()}
    first = next(iter(columns.values()))
    heads = [f"{next(len(each) for each in found.values())} images", *(head(name, thing, found) for name in first)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, values in columns.items():
        cells = [cell(values[key], first[key], key) for key in first]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def head(name: str, thing: str, found: dict[str, list[Found]]) -> str:
    """Of a column, with the number of objects where it is of objects."""
    of_images = next(iter(found.values()))
    if (size := name.removesuffix(", all")) != name:
        count = sum(int(in_size(each.things, size).sum()) for each in of_images)
        return f"{name} ({count})"
    if name == "skies":
        return f"masks of {thing} ({sum(each.skies is not None for each in of_images)} images)"
    return name


def figures(of_images: Sequence[Found]) -> dict[str, NDArray[np.float64]]:
    """Column → (1 + DRAWS,) its mean over all images, and over each sample of them; NaN where nothing is counted."""
    count = len(of_images)
    weights = np.concatenate([np.ones((1, count), np.int64), resamples(count, DRAWS)])

    def mean(sums: Sequence[float], counts: Sequence[float]) -> NDArray[np.float64]:
        total = weights @ np.array(counts, float)
        return np.where(total > 0, weights @ np.array(sums, float) / np.maximum(total, 1), np.nan)

    ones = [1.0] * count
    columns = {name: mean([getattr(each, name) for each in of_images], ones) for name in ("masks", "bound", "border")}
    for size in SIZES:
        rows = [each.things[in_size(each.things, size)] for each in of_images]
        for column, kind in ((1, "all"), (2, "best")):
            columns[f"{size}, {kind}"] = mean([each[:, column].sum() for each in rows], [len(each) for each in rows])
    there = [each.skies is not None for each in of_images]
    columns["skies"] = mean([each.skies or 0 for each in of_images], there)
    columns["seconds"] = mean([each.seconds for each in of_images], ones)
    return columns


def in_size(things: NDArray[np.float64], size: str) -> NDArray[np.bool_]:
    low, high = SIZES[size]
    return (things[:, 0] >= low) & (things[:, 0] < high)


def cell(values: NDArray[np.float64], base: NDArray[np.float64], column: str) -> str:
    if np.isnan(values[0]):
        return ""
    if column in ("masks", "skies", "seconds"):
        return f"{values[0]:.1f}"
    if column == "border":
        column = "boundary F"
    differences = 100 * (values - base)
    bounds = interval(differences[1:])
    if bounds is None or not differences.any():
        return f"{100 * values[0]:.1f}"
    return f"{100 * values[0]:.1f} ({bounds[0]:+.1f} to {bounds[1]:+.1f})"


if __name__ == "__main__":
    main()
