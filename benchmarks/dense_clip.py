"""How fast dense CLIP is: images per second by size, with and without windows, beside plain `encode_image` at 224 px.

    python -m benchmarks.dense_clip [--sizes 224,336,448,896] [--clip naclip] [--rounds 3] [--json FILE]

A ViT-B/16 with random weights labels a square image of that many pixels a side, from 8-bit pixels to a label map of 20
labels whose text embeddings are there already. The floor is open_clip's own class token of one image of 224 px, from
pixels that are ready. All cases take turns, round after round; a case's time is its median. Run it from the root of the
repository, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import open_clip
import torch

from fusion.evaluation.measure import Measured, measured
from ground.device import resolve_device, resolve_dtype
from ground.files import write_json
from ovseg import OpenVocabSegmenter, OvsegConfig
from ovseg.backbone import Backbone
from ovseg.choices import DenseVariant

MODEL = "ViT-B-16"
SIDE = 224  # px, what it was made for
WINDOW, STRIDE = 224, 112  # px, as SCLIP, ClearCLIP and NACLIP were published
LABELS = [f"label {number}" for number in range(20)]


@dataclass(frozen=True)
class Row:
    """What is measured of one case."""

    case: str
    images_per_second: float
    seconds: float  # an image, the median of the rounds
    ratio: float  # to the seconds of the floor
    peak_memory_mb: float | None  # of the process, or of the GPU's allocations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="224,336,448,896", help="px of the image's side, comma-separated")
    parser.add_argument("--clip", default="naclip", choices=DenseVariant.values())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    backbone = random_backbone(arguments.device, arguments.dtype)
    rows = measure(cases(backbone, arguments.clip, sizes), arguments.rounds)
    print(markdown(rows))
    if arguments.json:
        about = {"model": MODEL, "clip": arguments.clip, "rounds": arguments.rounds, "threads": torch.get_num_threads()}
        device = str(backbone.model.logit_scale.device), str(backbone.model.logit_scale.dtype)
        write_json(arguments.json, {**about, "device": device, "rows": [asdict(row) for row in rows]})


def random_backbone(device: str, dtype: str) -> Backbone:
    torch.manual_seed(0)
    model = open_clip.create_model(MODEL, pretrained=None)
    place = resolve_device(device)
    model.eval().requires_grad_(False).to(device=place, dtype=resolve_dtype(dtype, place))
    half = (0.5, 0.5, 0.5)
    return Backbone(model, open_clip.get_tokenizer(MODEL), mean=half, std=half, logit_scale=100.0)


def cases(backbone: Backbone, variant: str, sizes: list[int]) -> dict[str, Callable[[], Any]]:
    """What is timed, by its name; the floor first."""
    pixels = torch.zeros(1, 3, SIDE, SIDE).to(backbone.model.logit_scale)
    found: dict[str, Callable[[], Any]] = {f"encode_image, {SIDE} px": partial(encode_image, backbone, pixels)}
    text = np.random.default_rng(0).standard_normal((len(LABELS), backbone.model.visual.output_dim)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    for size in sizes:
        image = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
        for window in (0, WINDOW) if size > WINDOW else (0,):
            config = OvsegConfig(
                model=MODEL, dense=variant, image_size=size, window=window, stride=STRIDE if window else 0
            )
            segmenter = OpenVocabSegmenter(backbone, config)
            name = f"{variant}, {size} px" + (f", windows of {window} px" if window else "")
            found[name] = partial(segmenter.segment, image, LABELS, text_embeddings=text)
    return found


def encode_image(backbone: Backbone, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        embedding: torch.Tensor = backbone.model.encode_image(pixels)
    return embedding


def measure(calls: dict[str, Callable[[], Any]], rounds: int) -> list[Row]:
    """A row per call; before the first round each runs once, unmeasured."""
    costs: dict[str, list[Measured[Any]]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            cost = measured(call)
            if number:
                costs[name].append(cost)
        print(f"[{number}/{rounds}]", file=sys.stderr, flush=True)
    seconds = {name: median(cost.seconds for cost in some) for name, some in costs.items()}
    floor = next(iter(seconds.values()))
    peaks = {name: [cost.peak_mb for cost in some if cost.peak_mb is not None] for name, some in costs.items()}
    return [
        Row(name, 1 / taken, taken, taken / floor, max(peaks[name], default=None)) for name, taken in seconds.items()
    ]


def markdown(rows: list[Row]) -> str:
    lines = ["| case | images a second | times the floor | peak MB |", "|---|---|---|---|"]
    for row in rows:
        peak = "-" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}"
        lines.append(f"| {row.case} | {row.images_per_second:.3g} | {row.ratio:.2f} | {peak} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
