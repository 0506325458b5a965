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
differences to the first row, 95 % by bootstrap over images. With --labels masks get labels, too: the column has their
mIoU over all images of a root, and over several roots the mean. One coarse map, by the preset's CLIP, serves all ways.

Where to zoom is said by the UNet's features; for a way with doubts=entropy by the entropy of CLIP's labels of the data
set. Masks depend on labels then, which is why this is here alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.studies.labelling import Labelling, entropy
from benchmarks.studies.looking import looked_once
from benchmarks.studies.objects import Found, Log, judged, tables
from benchmarks.studies.ways import Way, masks_of_way, way_of
from emerdiff import EmerDiff
from fusion.evaluation.datasets import Dataset, Sample, open_dataset
from fusion.evaluation.metrics import UNKNOWN, majority_regions
from fusion.formats.palette import palette
from fusion.models.presets import Preset, load_preset
from fusion.models.segmenter import Segmenter

BASE = "as the preset is"
HEIGHT = 192  # px of an image that is drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", metavar="ROOT")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--dataset", default="pictures")
    parser.add_argument("--way", action="append", default=[], metavar="NAME:FIELD=VALUE,...")
    parser.add_argument("--thing", default="sky", help="the label whose masks are counted")
    parser.add_argument("--limit", type=int, help="images of each root")
    parser.add_argument("--log", type=Path, help="JSON lines; what stands there is not measured again")
    parser.add_argument("--labels", action="store_true", help="the mIoU of labels, too")
    parser.add_argument("--time", action="store_true", help="no look is shared: seconds are those of each way")
    parser.add_argument("--image", type=Path, help="where to draw masks; nothing is measured")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    ways = [Way(BASE, {}), *map(way_of, arguments.way)]
    clip = arguments.labels or any(way.doubts for way in ways)
    segmenter = Segmenter.from_preset(arguments.preset, device=arguments.device) if clip else None
    preset = load_preset(arguments.preset)
    model = (segmenter and segmenter.emerdiff) or EmerDiff.from_config(preset.emerdiff, device=arguments.device)
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
                labelling = segmenter and Labelling(segmenter, data)
                found = measured(model, preset, ways, data, arguments.thing, log, labelling, arguments.labels)
            for name, of_images in found.items():
                everything[name] += [replace(each, source=root) for each in of_images]
            print(f"\n{root}\n\n{tables(found, arguments.thing)}", flush=True)
    if len(arguments.roots) > 1:
        print(f"\nAll {len(arguments.roots)}\n\n{tables(everything, arguments.thing)}")
    if arguments.time:
        for name, of_images in everything.items():
            print(f"{name}: {np.median([each.seconds for each in of_images]):.2f} s an image, the median")


def measured(
    model: EmerDiff,
    preset: Preset,
    ways: Sequence[Way],
    data: Dataset,
    thing: str,
    log: Log,
    labelling: Labelling | None = None,
    labels: bool = False,
) -> dict[str, list[Found]]:
    """Name of a way → what was found on each image of a data set, with labels if they are asked for."""
    names = [label.name for label in data.labels]
    label = names.index(thing) + 1 if thing in names else None
    found: dict[str, list[Found]] = {way.name: [] for way in ways}
    for number, sample in enumerate(data.samples(), start=1):
        clusters: dict[str, int] = {}
        for way in ways:
            segmenter = way.model(model, clusters)
            place = [preset.name, sample.name, repr(segmenter.config), *([way.doubts] if way.doubts else [])]
            one = log.known(place)
            if one is None or (labels and not one.classes):
                doubts = entropy(labelling.coarse(sample)) if labelling and way.doubts else None
                start = time.perf_counter()
                masks = masks_of_way(segmenter, sample, doubts)
                one = judged(masks, preset, sample, label, time.perf_counter() - start)
                if labelling and labels:
                    one = replace(one, classes=labelling.classes(masks, sample))
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
