"""A batch under faults: damaged images, a process killed with -9 again and again, and what is there at the end.

    python -m benchmarks.soak [--images 300] [--kills 10] [--side 96] [--masks grid] [--threads 2] [--folder DIR]

Small toy scenes, 5 % of them damaged in ten ways, go through `emerseg segment` twice: once without interruption, once
killed at random moments and started again. Ends with an error unless both folders are byte-identical (but for the
times in run.json and the journal) and `emerseg validate` accepts them. With `--threads` the first run was made with one
thread, and is made once more with so many: says which files differ. With `--kills 0` there is the first run alone,
to compare the peak memory of few images and of many. Run it from the root of the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from toyworld import KINDS, scene

EMERSEG = (sys.executable, "-c", "from fusion.cli import main; main()")
# Quick: the files are what is tested.
SETTINGS = ("--preset", "toy", "--set", "ovseg.image_size=96", "--set", "ovseg.refine=none", "-q")
DAMAGED = 0.05
FIRST_SEED = 1_000_000

DAMAGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: b"",
    lambda data: data[: len(data) // 2],
    lambda data: data[:-20],
    lambda data: data[:8],
    lambda data: data[8:],
    lambda data: b"<!doctype html><title>404 Not Found</title>",
    lambda data: data[:100] + bytes(len(data) - 100),
    lambda data: random.Random(0).randbytes(len(data)),
    lambda data: data.replace(b"IDAT", b"IDAX"),
    lambda data: data[:16] + b"\xff" * 8 + data[24:],  # an image of 4 billion by 4 billion pixels
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--side", type=int, default=96, help="px of the square images")
    parser.add_argument("--masks", default="grid", help="grid is quick")
    parser.add_argument("--threads", type=int, help="compare one thread with so many")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if arguments.threads:
            os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are begun
        soak(folder, arguments.images, arguments.side, arguments.kills, arguments.masks)
        if arguments.threads:
            os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
            begin(folder / "images", folder / "threads", arguments.masks).wait()
            differing = compare(folder / "whole", folder / "threads")
            print(f"with {arguments.threads} threads {len(differing)} files differ: {', '.join(differing[:5])}")


def soak(folder: Path, images: int, side: int, kills: int, masks: str) -> None:
    rng = random.Random(0)
    damaged = draw_images(folder / "images", images, side, rng)
    print(f"{images} images of {side}x{side}, {damaged} of them damaged in {min(damaged, len(DAMAGES))} ways")

    whole, killed = folder / "whole", folder / "killed"
    start = time.perf_counter()
    process = begin(folder / "images", whole, masks)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    assert os.waitstatus_to_exitcode(status) == 1, "the damaged images must be reported, and the others done"
    print(f"uninterrupted: {seconds:.0f} s, {60 * images / seconds:.0f} images/min, {usage.ru_maxrss // 1024} MB")

    if not kills:
        subprocess.run([*EMERSEG, "validate", whole], check=True)
        return
    for moment in sorted(rng.randrange(images + 1) for _ in range(kills)):
        process = begin(folder / "images", killed, masks)
        while process.poll() is None and lines_of(killed / "journal.jsonl") <= moment:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.3)
        process.kill()
        print(f"killed (exit {process.wait()}) with {lines_of(killed / 'journal.jsonl')} lines in the journal")
    assert begin(folder / "images", killed, masks).wait() == 1

    for output in (whole, killed):
        subprocess.run([*EMERSEG, "validate", output], check=True)
    difference = compare(whole, killed)
    assert not difference, f"the folders differ: {', '.join(difference[:5])}"
    print("byte-identical")


def draw_images(folder: Path, count: int, side: int, rng: random.Random) -> int:
    """Write the scenes as PNG files of side × side px; returns how many were damaged."""
    folder.mkdir(parents=True)
    chosen = sorted(rng.sample(range(count), round(DAMAGED * count)))
    for index in range(count):
        path = folder / f"{index:05}.png"
        Image.fromarray(scene(FIRST_SEED + index).image).resize((side, side)).save(path)
        if index in chosen:
            path.write_bytes(DAMAGES[chosen.index(index) % len(DAMAGES)](path.read_bytes()))
    return len(chosen)


def begin(folder: Path, output: Path, masks: str) -> subprocess.Popen[bytes]:
    command = ["segment", folder, "--labels", ", ".join(KINDS), "--output", output, "--masks", masks, *SETTINGS]
    return subprocess.Popen([*EMERSEG, *command], stderr=subprocess.DEVNULL)


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def compare(first: Path, second: Path) -> list[str]:
    """Names of files that differ between the folders, apart from times."""
    names = {path.relative_to(folder).as_posix() for folder in (first, second) for path in folder.rglob("*")}
    return sorted(name for name in names if contents(first / name) != contents(second / name))


def contents(path: Path) -> object:
    if path.name == "journal.jsonl":  # lines of images that were tried again, in another order
        return path.is_file()
    if path.name == "run.json":
        run = json.loads(path.read_text())
        return {**run, "images": [{**image, "seconds": 0} for image in run["images"]]}
    return path.read_bytes() if path.is_file() else path.exists()


if __name__ == "__main__":
    main()
