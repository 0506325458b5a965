"""What an image costs by its pixels and by the number of labels: JSON, tables, a plot of each.

    python -m benchmarks.scaling --output OUT [--preset mini] [--modes instant,fast]

Pixels: square images of each of `--sides` px, at which the model works too, in each of `--modes`; all modes take each
size in turn. FLOPs (multiply and add as two) are counted by torch.utils.flop_counter. The exponent is the slope of the
logarithms between one size and the next: 1 is linear. Labels: one image of `--side` px with each of `--labels`, part by
part: masks (the diffusion model), text (embeddings of the labels, once for all images), CLIP (the coarse map) and the
vote. Seconds are the least of `--rounds`, models loaded.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from emerseg import EmerDiff, Label, Segmenter, fuse
from toyworld import scene

Costs = dict[str, list[float]]


def main() -> None:
    arguments = _arguments()
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter.from_preset(arguments.preset, device=arguments.device)
    modes = arguments.modes.split(",")
    pixels = costs_by_pixels(_diffusion(segmenter), modes, arguments.sides, arguments.rounds)
    labels = costs_by_labels(segmenter, arguments.labels, image_of(arguments.side), arguments.rounds)
    report = {
        "preset": arguments.preset,
        "device": str(_diffusion(segmenter).backbone.vae.device),
        "threads": torch.get_num_threads(),
        "sides": arguments.sides,
        "pixels": pixels,
        "labels": arguments.labels,
        "side": arguments.side,
        "seconds": labels,
    }
    (output / "scaling.json").write_text(json.dumps(report, indent=1) + "\n")
    tables = "\n".join([*_pixel_tables(arguments.sides, pixels), _table("labels", arguments.labels, labels, 3)])
    (output / "scaling.md").write_text(tables)
    print(tables)
    areas = [side**2 for side in arguments.sides]
    flops = {f"{mode}: TFLOP": costs["tflop"] for mode, costs in pixels.items()}
    seconds = {f"{mode}: s": costs["seconds"] for mode, costs in pixels.items()}
    _plot("pixels", areas, {**flops, **seconds}, output / "pixels.png")
    _plot("labels", arguments.labels, {f"{part}: s": costs for part, costs in labels.items()}, output / "labels.png")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="folder for scaling.json, scaling.md, pixels.png, labels.png")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--modes", default="instant,fast")
    parser.add_argument("--sides", type=_numbers, default=[192, 256, 384, 512, 768], help="px, comma-separated")
    parser.add_argument("--labels", type=_numbers, default=[1, 3, 10, 30, 100, 300], help="comma-separated")
    parser.add_argument("--side", type=int, default=384, help="px of the image that the labels are for")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _diffusion(segmenter: Segmenter) -> EmerDiff:
    assert segmenter.emerdiff is not None
    return segmenter.emerdiff


def image_of(side: int) -> NDArray[np.uint8]:
    drawn = Image.fromarray(scene(1_000_000).image)
    return np.asarray(drawn.resize((side, side), Image.Resampling.BICUBIC))


def costs_by_pixels(model: EmerDiff, modes: Sequence[str], sides: Sequence[int], rounds: int) -> dict[str, Costs]:
    """By mode: TFLOP and seconds of the masks of an image of each size."""
    costs: dict[str, Costs] = {mode: {"tflop": [], "seconds": []} for mode in modes}
    for side in sides:
        print(f"{side} px", file=sys.stderr, flush=True)
        image = image_of(side)
        models = {mode: EmerDiff(model.backbone, replace(model.config, speed=mode, image_size=side)) for mode in modes}
        for mode, of_mode in models.items():
            with FlopCounterMode(display=False) as counter:  # warms up as well
                of_mode.segment(image)
            costs[mode]["tflop"].append(counter.get_total_flops() / 1e12)
        taken = [[_seconds(partial(each.segment, image)) for each in models.values()] for _ in range(rounds)]
        for mode, seconds in zip(modes, zip(*taken, strict=True), strict=True):
            costs[mode]["seconds"].append(min(seconds))
    return costs


def costs_by_labels(segmenter: Segmenter, counts: Sequence[int], image: NDArray[np.uint8], rounds: int) -> Costs:
    """By part: its seconds for each number of labels."""
    seconds: dict[str, list[float]] = {part: [] for part in ("masks", "text", "CLIP", "vote")}
    for count in counts:
        print(f"{count} labels", file=sys.stderr, flush=True)
        labels = [Label(f"label {number}") for number in range(count)]
        text = segmenter.ovseg.encode_labels(labels)
        coarse = segmenter.ovseg.segment(image, labels, text_embeddings=text)
        masks = segmenter.make_masks(image, coarse, 0)

        parts: dict[str, Callable[[], object]] = {
            "masks": lambda coarse=coarse: segmenter.make_masks(image, coarse, 0),
            "text": lambda labels=labels: segmenter.ovseg.encode_labels(labels),
            "CLIP": lambda labels=labels, text=text: segmenter.ovseg.segment(image, labels, text_embeddings=text),
            # Of a copy: a coarse map keeps some of what it is asked for.
            "vote": lambda masks=masks, coarse=coarse: fuse(masks, replace(coarse), segmenter.fusion),
        }
        least = {part: min(_seconds(call) for _ in range(rounds)) for part, call in parts.items()}
        for part, value in least.items():
            seconds[part].append(value)
    return seconds


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def exponents(sizes: Sequence[float], costs: Sequence[float]) -> list[float]:
    """Slopes of log(cost) over log(size), from each to the next."""
    points = pairwise(zip(sizes, costs, strict=True))
    return [log(after[1] / before[1]) / log(after[0] / before[0]) for before, after in points]


def _pixel_tables(sides: Sequence[int], pixels: dict[str, Costs]) -> list[str]:
    tables = []
    for mode, costs in pixels.items():
        slopes = {f"exponent of {name}": exponents([side**2 for side in sides], costs[name]) for name in costs}
        shown = {**costs, **{name: [float("nan"), *values] for name, values in slopes.items()}}
        tables.append(f"{mode}\n\n" + _table("side, px", sides, shown, 3))
    return tables


def _table(head: str, sizes: Sequence[int], costs: dict[str, list[float]], digits: int) -> str:
    lines = [f"| {head} | {' | '.join(costs)} |", "|---" * (len(costs) + 1) + "|"]
    for index, size in enumerate(sizes):
        cells = (f"{values[index]:.{digits}f}".replace("nan", "–") for values in costs.values())
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _plot(head: str, sizes: Sequence[int], costs: dict[str, list[float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xscale="log", yscale="log", xlabel=head)
    for name, values in costs.items():
        axes.plot(sizes, values, "o-", label=name)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
