"""What the frame around the models takes: names, the files about all images, and a second run with nothing to do.

    python -m benchmarks.frame [--images 2000] [--side 96] [--folder DIR]

Many copies of one toy scene, all of one stem (`clip00001/frame.png`, …), are "segmented" by a model that always gives
the answer to that scene: what is timed is files alone. Then `emerseg segment` is given the same folder again. Run it
from the root of the repository.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PIL import Image

from emerseg import RunSpec, Segmenter, load_preset
from fusion.runs import exports
from fusion.runs.batch import locked, plan_run, run_batch
from fusion.runs.folder import opened_run
from fusion.runs.inputs import common_names, find_images, name_outputs
from fusion.runs.job import Finished
from fusion.runs.jobs import segment_job, segmenting
from fusion.runs.journal import Journal
from ground.images import read_image
from toyworld import KINDS, scene

SEED = 1_000_000
Value = TypeVar("Value")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=96, help="px of the square images")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measure(arguments.folder or Path(temporary), arguments.images, arguments.side)


def measure(folder: Path, count: int, side: int) -> None:
    images, output = folder / "images", folder / "out"
    first = draw_images(images, count, side)
    preset = load_preset("toy", ["ovseg.refine=none"])
    spec = RunSpec(preset, KINDS, masks="grid")
    answer = segmenting(Segmenter.from_preset(preset, masks="grid"), output, spec)(read_image(first), "frame")

    paths = timed(f"find {count} images", lambda: find_images([images]))
    timed("name them, all of one stem", lambda: name_outputs(paths, {}))
    job = segment_job(output, spec)
    with locked(output):
        journal = Journal.open(output)
        plan = plan_run(name_outputs(paths, journal.names), journal, job)
        timed("write and assemble", lambda: list(run_batch(plan, job, lambda image, name: answer)))
    sources = list(journal.entries)
    pairs = zip(journal.entries.values(), common_names(sources), strict=True)
    finished = [Finished(entry, file_name) for entry, file_name in pairs]
    timed("assemble", lambda: exports.write_exports(output, finished, spec.labels))
    timed("the same command again", lambda: again(RunSpec(preset, KINDS, masks="grid"), images, output))


def again(spec: RunSpec, images: Path, output: Path) -> None:
    with opened_run(spec, [images], output) as run:
        assert all(outcome.status == "skipped" for outcome in run.start())


def draw_images(folder: Path, count: int, side: int) -> Path:
    """Write one scene `count` times, each in a folder of its own; returns the first."""
    paths = [folder / f"clip{index:05}" / "frame.png" for index in range(count)]
    for path in paths:
        path.parent.mkdir(parents=True)
        if path == paths[0]:
            Image.fromarray(scene(SEED).image).resize((side, side)).save(path)
        else:
            path.write_bytes(paths[0].read_bytes())
    return paths[0]


def timed(what: str, call: Callable[[], Value]) -> Value:
    start, worked = time.perf_counter(), time.process_time()
    value = call()
    seconds, busy = time.perf_counter() - start, time.process_time() - worked
    print(f"{what}: {seconds:.2f} s, {busy:.2f} s of them on a processor", flush=True)
    return value


if __name__ == "__main__":
    main()
