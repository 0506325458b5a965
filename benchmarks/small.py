"""Small things and over-split skies: ways to masks side by side, IoU by the size of objects, and masks of one sky.

    python -m benchmarks.small 1000000:1000040 --preset toy --dataset toy --way "ncut:clustering=ncut"
    python -m benchmarks.small DIR/labels/SOURCE:10::20 ... --way "ncut:clustering=ncut,ncut_threshold=0.4" \\
        --way "ward, as many:clusters=@ncut" --way "zoom:zoom=1" [--log FILE]
    python -m benchmarks.small 1000000:1000003 --preset toy --dataset toy --way ... --image docs/images/small.png

The first row is the preset as it is; a way is a name and settings of the preset's `emerdiff` section. A number of
clusters @NAME is the number of masks that the way NAME, which stands before, has on the image. With a log (JSON lines)
a second run of the same code goes on where the first one stopped, and measures ways that are new alone. With an image
nothing is measured: a row for each image of the roots, with the image, its true regions, and the masks of each way.

Masks are those that fusion gets: where the preset says so (`fusion.split`), each connected part is one, and crumbs are
gone. Bound is the mean over images of the mIoU of masks that take their majority region, F that of their borders at
2 px. An object is a connected part of a true region (benchmarks/studies/objects.py has the sizes). In brackets are
differences to the first row, 95 % by bootstrap over images.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from benchmarks.studies.looking import looked_once
from benchmarks.studies.objects import Found, Log, judged, tables
from emerdiff import EmerDiff
from fusion.evaluation.datasets import Dataset, Sample, open_dataset
from fusion.evaluation.metrics import UNKNOWN, majority_regions
from fusion.formats.palette import palette
from fusion.models.presets import Preset, load_preset

BASE = "as the preset is"
HEIGHT = 192  # px of an image that is drawn


@dataclass(frozen=True)
class Way:
    """A way to masks: settings in place of the preset's."""

    name: str
    settings: dict[str, Any]

    def model(self, base: EmerDiff, masks: dict[str, int]) -> EmerDiff:
        """What makes its masks for an image on which the other ways have so many."""
        numbers = {
            field: max(masks[value[1:]], 1)
            for field, value in self.settings.items()
            if isinstance(value, str) and value.startswith("@")
        }
        return EmerDiff(base.backbone, replace(base.config, **{**self.settings, **numbers}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", metavar="ROOT")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--dataset", default="pictures")
    parser.add_argument("--way", action="append", default=[], metavar="NAME:FIELD=VALUE,...")
    parser.add_argument("--thing", default="sky", help="the label whose masks are counted")
    parser.add_argument("--limit", type=int, help="images of each root")
    parser.add_argument("--log", type=Path, help="JSON lines; what stands there is not measured again")
    parser.add_argument("--time", action="store_true", help="no look is shared: seconds are those of each way")
    parser.add_argument("--image", type=Path, help="where to draw masks; nothing is measured")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    preset = load_preset(arguments.preset)
    model = EmerDiff.from_config(preset.emerdiff, device=arguments.device)
    ways = [Way(BASE, {}), *map(way_of, arguments.way)]
    if arguments.image:
        sets = [open_dataset(arguments.dataset, root, arguments.limit) for root in arguments.roots]
        rows = [panels(model, ways, sample) for data in sets for sample in data.samples()]
        Image.fromarray(np.vstack(rows)).quantize(128).save(arguments.image, optimize=True)
        return
    everything: dict[str, list[Found]] = {way.name: [] for way in ways}
    with Log(arguments.log) as log:
        for root in arguments.roots:
            data = open_dataset(arguments.dataset, root, arguments.limit)
            with nullcontext() if arguments.time else looked_once():
                found = measured(model, preset, ways, data, arguments.thing, log)
            for name, of_images in found.items():
                everything[name] += of_images
            print(f"\n{root}\n\n{tables(found, arguments.thing)}", flush=True)
    if len(arguments.roots) > 1:
        print(f"\nAll {len(arguments.roots)}\n\n{tables(everything, arguments.thing)}")
    if arguments.time:
        for name, of_images in everything.items():
            print(f"{name}: {np.median([each.seconds for each in of_images]):.2f} s an image, the median")


def way_of(text: str) -> Way:
    """The way that "NAME:FIELD=VALUE,FIELD=VALUE" says; values are YAML."""
    name, _, settings = text.partition(":")
    pairs = [pair.split("=", 1) for pair in settings.split(",") if pair]
    # A YAML value cannot begin with @.
    return Way(name, {key: value if value.startswith("@") else yaml.safe_load(value) for key, value in pairs})


def measured(
    model: EmerDiff, preset: Preset, ways: Sequence[Way], data: Dataset, thing: str, log: Log
) -> dict[str, list[Found]]:
    """Name of a way → what was found on each image of a data set."""
    names = [label.name for label in data.labels]
    label = names.index(thing) + 1 if thing in names else None
    found: dict[str, list[Found]] = {way.name: [] for way in ways}
    for number, sample in enumerate(data.samples(), start=1):
        clusters: dict[str, int] = {}
        for way in ways:
            segmenter = way.model(model, clusters)
            place = [preset.name, sample.name, repr(segmenter.config)]
            if (one := log.known(place)) is None:
                start = time.perf_counter()
                masks = segmenter.segment(sample.image)
                seconds = time.perf_counter() - start
                one = judged(masks, preset, sample, label, seconds)
                log.add(place, one)
            clusters[way.name] = one.clusters
            found[way.name].append(one)
        print(f"\r{number}", end="", file=sys.stderr, flush=True)
    return found


def panels(model: EmerDiff, ways: Sequence[Way], sample: Sample) -> NDArray[np.uint8]:
    """(192, W, 3): the image, its true regions, the masks of each way; masks that share a region vary its colour."""
    truth = np.where(sample.regions == UNKNOWN, sample.regions.max() + 1, sample.regions)
    colours = np.array(palette(int(truth.max()) + 1), np.float64)
    drawn = [sample.image, colours[truth]]
    numbers: dict[str, int] = {}
    for way in ways:
        masks = way.model(model, numbers).segment(sample.image)
        numbers[way.name] = masks.num_masks
        shades = np.random.default_rng(0).uniform(0.55, 1.1, masks.num_masks)
        drawn.append(colours[majority_regions(masks.label_map, truth)] * shades[masks.label_map][..., None])
    size = (round(HEIGHT * truth.shape[1] / truth.shape[0]), HEIGHT)
    tiles = [
        Image.fromarray(each.clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.NEAREST) for each in drawn
    ]
    return np.hstack([np.asarray(tile) for tile in tiles])


if __name__ == "__main__":
    main()
