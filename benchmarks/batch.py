"""What a batch gains from reading ahead and writing behind, and from cached masks, as ratios measured in one run.

    python -m benchmarks.batch [--images 6] [--side 2000] [--preset mini]

`one by one` reads, computes and writes each image before the next; `batch` is what `emerseg segment` does, on the same
images and with the cells of a grid as masks, so that files and CLIP take most of the time. `relabel` puts new labels on
the masks that `segment` made with EmerDiff, on a toy scene. Models are loaded before the clock starts. Run it from the
root of the repository.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from emerseg import RunSpec, Segmenter, load_preset
from fusion.runs.batch import plan_run, run_batch
from fusion.runs.inputs import name_outputs
from fusion.runs.jobs import segment_job, segmenting
from fusion.runs.journal import Journal
from fusion.runs.outputs import write_outputs
from ground.images import read_image
from ovseg.labels import Label
from toyworld import KINDS, scene

FIRST_SEED = 1_000_000
LABELS = tuple(Label(kind) for kind in KINDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="toy")
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--side", type=int, default=2000, help="px of the square images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = [folder / f"{index}.jpg" for index in range(arguments.images)]
        for index, path in enumerate(images):
            drawn = Image.fromarray(scene(FIRST_SEED + index).image)
            drawn.resize((arguments.side, arguments.side), Image.Resampling.BICUBIC).save(path, quality=92)

        preset = load_preset(arguments.preset, ["ovseg.refine=none"])
        spec = RunSpec(preset, LABELS, masks="grid")
        grid = Segmenter.from_preset(preset, masks="grid")
        first = timed(lambda: one_by_one(images, folder / "serial", grid, spec))
        second = timed(lambda: batch(images, folder / "batch", grid, spec))
        print(f"{len(images)} images of {arguments.side}x{arguments.side}: {first:.1f} s one by one, {second:.1f} s")
        print(f"a batch takes {second / first:.2f} x the time of one by one")

        emerdiff = Segmenter.from_preset(arguments.preset)
        scene_path, output = folder / "scene.png", folder / "relabel"
        Image.fromarray(scene(FIRST_SEED).image).save(scene_path)
        specs = [RunSpec(arguments.preset, labels) for labels in (LABELS, LABELS[:-1])]
        first, second = (timed(lambda spec=spec: batch([scene_path], output, emerdiff, spec)) for spec in specs)
        print(f"a scene: {first:.1f} s to segment, {second:.2f} s to relabel, {second / first:.3f} x the time")


def one_by_one(images: list[Path], output: Path, segmenter: Segmenter, spec: RunSpec) -> None:
    job, how = segment_job(output, spec), segmenting(segmenter, output, spec)
    for file in name_outputs(images, {}):
        encoded = job.encode(how(read_image(file.path), file.name), lambda count: 1)
        write_outputs(output, file.name, encoded.files)


def batch(images: list[Path], output: Path, segmenter: Segmenter, spec: RunSpec) -> None:
    job, how = segment_job(output, spec), segmenting(segmenter, output, spec)
    journal = Journal.open(output)
    for _ in run_batch(plan_run(name_outputs(images, journal.names), journal, job, overwrite=True), job, how):
        pass


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
