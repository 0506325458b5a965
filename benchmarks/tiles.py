"""Large images: peak memory of `emerseg segment --tile`, and what seams do to masks, on a mosaic of toy scenes.

    python -m benchmarks.tiles [--sides 2000,10000] [--scene 1000] [--tile 1024] [--overlap 128] [--folder DIR]

Each mosaic is a square of scenes, enlarged to `--scene` px each; those at its right and lower sides are cut off. It is
segmented by a process of its own, whose peak of resident memory is that of the system's accounting, and checked by
`emerseg validate` in another. A folder that has these figures keeps them: a second call goes on with the bounds.

Bounds are means over scenes. By region: the mIoU of masks that take the region that has most of their pixels, as in
`emerseg eval`; regions of different scenes differ, and a mask is one in the whole mosaic. By class: the same with
classes, so that a mask over the sky of two scenes is right in both. "Alone" are the same scenes, each segmented as an
image of its own without tiles. Run it from the root of the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emerseg import EmerDiff, Masks
from fusion.evaluation.metrics import class_counts, majority_regions, mean_iou
from ground.files import write_json
from ground.label_maps import shared_pixels
from toyworld import KINDS, scene

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Placed:
    """A scene in a mosaic."""

    image: NDArray[np.uint8]  # (h, w, 3)
    regions: NDArray[np.int32]  # (h, w), ids from 0
    classes: NDArray[np.int32]  # (h, w), indices of KINDS
    window: Window  # of the mosaic, px


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default="2000", help="px of the mosaics, comma-separated")
    parser.add_argument("--scene", type=int, default=1000, help="px that each scene is enlarged to")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--overlap", type=int, default=128)
    parser.add_argument("--preset", default="toy")
    parser.add_argument("--speed", default="instant")
    parser.add_argument("--first", type=int, default=1_000_000, help="seed of the first scene")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--no-validate", action="store_true")
    arguments = parser.parse_args()
    model = EmerDiff.from_preset(arguments.preset, speed=arguments.speed)
    columns = ["side, px", "seconds", "peak, MB", "masks", "valid"]
    columns += [
        f"bound by {what}: {where}" for what in ("region", "class") for where in ("alone", "tiles", "difference")
    ]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for side in map(int, arguments.sides.split(",")):
        with nullcontext(arguments.folder) if arguments.folder else tempfile.TemporaryDirectory() as folder:
            print(row_of(side, Path(folder), arguments, model), flush=True)


def row_of(side: int, folder: Path, arguments: argparse.Namespace, model: EmerDiff) -> str:
    image, output, kept = folder / f"mosaic-{side}.png", folder / f"out-{side}", folder / f"costs-{side}.json"
    limit = ["--max-megapixels", str(side * side / 1e6 + 1)]
    if not kept.exists():
        draw(image, side, arguments)
        write_json(kept, segmented(image, output, limit, arguments))
    costs = json.loads(kept.read_text())
    valid = "not asked" if arguments.no_validate else str(emerseg(["validate", str(output), *limit])[0] == 0)
    masks = Masks.load(output / "masks" / f"{image.stem}.npz", size_hw=(side, side), affinity=False)
    cells = [str(side), f"{costs['seconds']:.0f}", f"{costs['peak_mb']:.0f}", str(masks.num_masks), valid]
    for alone, tiled in bounds(masks.label_map, side, arguments, model):
        cells += [f"{alone:.3f}", f"{tiled:.3f}", f"{tiled - alone:+.3f}"]
    return "| " + " | ".join(cells) + " |"


def segmented(image: Path, output: Path, limit: list[str], arguments: argparse.Namespace) -> dict[str, float]:
    """Segments the mosaic, and says what that took."""
    start = time.perf_counter()
    command = ["segment", str(image), "--labels", ", ".join(KINDS), "--output", str(output), "-q"]
    command += ["--preset", arguments.preset, "--speed", arguments.speed, "--threads", "1"]
    code, peak = emerseg([*command, "--tile", str(arguments.tile), "--overlap", str(arguments.overlap), *limit])
    if code:
        raise SystemExit(f"emerseg ended with {code}")
    return {"seconds": time.perf_counter() - start, "peak_mb": peak}


def emerseg(arguments: list[str]) -> tuple[int, float]:
    """(exit code, peak resident memory in MB) of the command line in a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "emerseg", *arguments], stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def scenes(side: int, arguments: argparse.Namespace) -> Iterator[Placed]:
    """The scenes of a mosaic, row by row."""
    size = arguments.scene
    count = -(-side // size)
    for number in range(count * count):
        drawn = scene(arguments.first + number)
        top, left = (place * size for place in divmod(number, count))
        window = slice(top, min(top + size, side)), slice(left, min(left + size, side))
        inside = slice(0, window[0].stop - top), slice(0, window[1].stop - left)
        image = Image.fromarray(drawn.image).resize((size, size), Image.Resampling.BICUBIC)
        regions = Image.fromarray(drawn.label_map.astype(np.int32)).resize((size, size), Image.Resampling.NEAREST)
        shown = np.asarray(regions)[inside]
        classes = np.array([KINDS.index(kind) for kind in drawn.kinds], np.int32)[shown]
        yield Placed(np.ascontiguousarray(np.asarray(image)[inside]), shown, classes, window)


def draw(path: Path, side: int, arguments: argparse.Namespace) -> None:
    canvas = np.zeros((side, side, 3), np.uint8)
    for placed in scenes(side, arguments):
        canvas[placed.window] = placed.image
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(canvas).save(path, compress_level=1)


def bounds(
    label_map: NDArray[np.int32], side: int, arguments: argparse.Namespace, model: EmerDiff
) -> tuple[tuple[float, float], tuple[float, float]]:
    """(alone, by the masks of the mosaic, whose `label_map` this is): by region, and by class."""
    regions, classes = np.zeros((side, side), np.int32), np.zeros((side, side), np.int32)
    firsts, alone, windows = [0], [], []
    for placed in scenes(side, arguments):
        # Ids that are not in what is left of a scene count nowhere.
        regions[placed.window] = placed.regions + firsts[-1]
        classes[placed.window] = placed.classes
        firsts.append(firsts[-1] + int(placed.regions.max()) + 1)
        windows.append(placed.window)
        masks = model.segment(placed.image).label_map
        alone.append([bound(truth, majority_regions(masks, truth)) for truth in (placed.regions, placed.classes)])
    counts = mosaic_counts(label_map, regions, firsts[-1])
    by_region = np.mean([mean_iou(counts[first:end]) for first, end in pairwise(firsts)])
    best = majority_regions(label_map, classes)
    by_class = np.mean([bound(classes[window], best[window]) for window in windows])
    means = np.mean(alone, axis=0)
    return (float(means[0]), float(by_region)), (float(means[1]), float(by_class))


def bound(truth: NDArray[np.int32], best: NDArray[np.int32]) -> float:
    return float(mean_iou(class_counts(truth, best, int(max(truth.max(), best.max())) + 1)))


def mosaic_counts(label_map: NDArray[np.int32], regions: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """(N, 3) as `class_counts`, of masks that take the region that has most of their pixels."""
    pairs, pixels = shared_pixels(label_map, regions)
    order = np.lexsort((pairs[:, 1], -pixels, pairs[:, 0]))
    firsts = order[np.r_[True, np.diff(pairs[order, 0]) > 0]]
    best = np.zeros(int(pairs[-1, 0]) + 1, np.int64)
    best[pairs[firsts, 0]] = pairs[firsts, 1]
    counts = np.zeros((count, 3), np.int64)
    right = best[pairs[:, 0]] == pairs[:, 1]
    np.add.at(counts[:, 0], pairs[right, 1], pixels[right])
    np.add.at(counts[:, 1], pairs[:, 1], pixels)
    np.add.at(counts[:, 2], best[pairs[:, 0]], pixels)
    return counts


if __name__ == "__main__":
    main()
