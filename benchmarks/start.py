"""How long `emerseg segment` takes to begin: imports and models, for one image, as medians over fresh processes.

    python -m benchmarks.start [--preset mini] [--rounds 5] [--against FOLDER]

Start is the time of the whole process but for the seconds that the image took, as run.json has them. CPU seconds of all
threads, which other processes hardly change, stand beside it. `--against` takes turns with another checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from PIL import Image

from toyworld import scene

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, help="folder of another checkout")
    arguments = parser.parse_args()
    checkouts = [ROOT, *([arguments.against.resolve()] if arguments.against else [])]
    taken: dict[Path, list[tuple[float, float, float]]] = {checkout: [] for checkout in checkouts}
    with tempfile.TemporaryDirectory() as temporary:
        image = Path(temporary) / "scene.png"
        Image.fromarray(scene(1_000_000).image).save(image)
        for number in range(arguments.rounds):
            for checkout in checkouts:
                output = Path(temporary) / f"{checkout.name}{number}"
                taken[checkout].append(started(checkout, image, output, arguments.preset))
    print(table(taken))


def started(checkout: Path, image: Path, output: Path, preset: str) -> tuple[float, float, float]:
    """Seconds of one run on one image: until it begins and after it ends; all; and CPU seconds of all threads."""
    command = [sys.executable, "-m", "emerseg", "segment", str(image), "--labels", "ball", "--output", str(output)]
    before, start = cpu_seconds(), time.perf_counter()
    subprocess.run(
        [*command, "--preset", preset, "--quiet"],
        check=True,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )
    whole = time.perf_counter() - start
    entry = json.loads((output / "run.json").read_text(encoding="utf-8"))["images"][0]
    return whole - entry["seconds"], whole, cpu_seconds() - before


def cpu_seconds() -> float:
    """Of all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def table(taken: dict[Path, list[tuple[float, float, float]]]) -> str:
    lines = ["| checkout | start, s | whole, s | CPU, s |", "|---" * 4 + "|"]
    for checkout, rounds in taken.items():
        lines.append(f"| {checkout.name} | {' | '.join(f'{figure:.1f}' for figure in medians(rounds))} |")
    return "\n".join(lines)


def medians(rounds: Sequence[tuple[float, ...]]) -> list[float]:
    return [median(column) for column in zip(*rounds, strict=True)]


if __name__ == "__main__":
    main()
