"""What each mode of `emerdiff.speed` costs and what it is worth, side by side in one run: JSON, a table, a plot.

    python -m benchmarks.speed --output OUT                    # `toy` on eight validation scenes
    python -m benchmarks.speed --output OUT --preset mini --dataset pictures --root DIR/labels/SOURCE --limit 8
    python -m benchmarks.speed --output OUT --geometry sd1     # Stable Diffusion 1.x's size, random weights
    python -m benchmarks.speed --output OUT --modes exact,fast,fast+differences=images,instant

A mode is one of emerdiff.speed, `naive` (clusters upsampled), or a mode with choices set otherwise, joined by `+`. All
modes take each image in turn, so that a drift of the machine's speed falls out of the ratios, which are medians over
images of seconds over those of `exact`. FLOPs (multiply and add as two) are counted by torch.utils.flop_counter on the
first image. Agreement with `exact` is the mean IoU of its masks with those that Hungarian matching gives them. Bound is
the mIoU of masks that take their majority region, and F that of their borders at 2 px. With random weights the masks
mean nothing: cost alone is reported.

`--geometry sd1` also writes what the paper's settings cost at 512×512 (K = 30, 50 timesteps, t_m = 281), composed of
FLOPs that are counted without computing, on PyTorch's meta device. `--against FOLDER` times another checkout on the
same images, in a process of its own, in turn with the modes.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import yaml
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.studies.costs import counted, paper_costs, paper_table
from benchmarks.studies.sizes import SD1, SD1_PROMPT, SD_VAE, sd_schedule
from emerdiff import EmerDiff, EmerDiffConfig
from emerdiff.backbones.parts import lean
from emerdiff.backbones.unet import UNetBackbone
from emerdiff.frame import to_frame
from fusion.evaluation.datasets import open_dataset
from fusion.evaluation.measure import measured
from fusion.evaluation.metrics import boundary_f, class_counts, majority_regions, mean_iou

WITHIN = 2  # px between a border and a true one
# Served to `--against`: a line in is a .npy file of an image, a line out are the seconds of its masks.
_OTHER = """
import sys, time, numpy as np
from emerdiff import EmerDiff
model = EmerDiff.from_preset(sys.argv[1], device=sys.argv[2])
for line in sys.stdin:
    image = np.load(line.strip())
    start = time.perf_counter()
    model.segment(image)
    print(time.perf_counter() - start, flush=True)
"""


@dataclass
class Row:
    """What one mode costs, on average of the images; None where it was not measured."""

    mode: str
    tflop: float | None = None
    unet_calls: float | None = None  # FLOPs over those of the whole UNet for one latent
    seconds: float | None = None  # median
    ratio: float | None = None  # median of seconds over those of `exact`
    peak_mb: float | None = None  # largest, of the whole process without CUDA
    agreement: float | None = None
    bound: float | None = None
    boundary_f2: float | None = None


def main() -> None:
    arguments = _arguments()
    logging.basicConfig(level=logging.WARNING)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    model = _sd1(arguments) if arguments.geometry == "sd1" else _preset(arguments)
    random = arguments.geometry == "sd1"
    samples = list(_samples(arguments, random))
    rows = measure(model, arguments.modes.split(","), samples, _other(arguments, output), quality=not random)
    report = {
        "preset": arguments.geometry or arguments.preset,
        "config": asdict(model.config),
        "device": str(model.backbone.vae.device),
        "dtype": str(model.backbone.unet.dtype),
        "threads": torch.get_num_threads(),
        "images": len(samples),
        "image_hw": [list(image.shape[:2]) for image, _ in samples],
        "rows": [asdict(row) for row in rows],
    }
    if random:
        report["paper"] = paper_costs()
    (output / "speed.json").write_text(json.dumps(report, indent=1) + "\n")
    table = _table(rows)
    if random:
        table += "\n" + paper_table(report["paper"])
    (output / "speed.md").write_text(table)
    print(table)
    _plot(rows, output / "speed.png")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="folder for speed.json, speed.md and speed.png")
    parser.add_argument("--preset", default="toy")
    parser.add_argument("--geometry", choices=["sd1"], help="random weights of this size in place of a preset")
    parser.add_argument("--modes", default="naive,exact,fast,instant")
    parser.add_argument("--dataset", default="toy")
    parser.add_argument("--root", default="1000000:1000040")
    parser.add_argument("--limit", type=int, default=8, help="images")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a setting of emerdiff")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--against", help="folder of another checkout, timed on the same images")
    return parser.parse_args()


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: yaml.safe_load(value) for name, value in (each.split("=", 1) for each in arguments.set)}


def _preset(arguments: argparse.Namespace) -> EmerDiff:
    return EmerDiff.from_preset(
        arguments.preset, device=arguments.device, dtype=arguments.dtype, **_settings(arguments)
    )


def _sd1(arguments: argparse.Namespace) -> EmerDiff:
    """Stable Diffusion 1.x with random weights; unless set otherwise, few clusters and two timesteps."""
    cuda = arguments.device in ("auto", "cuda") and torch.cuda.is_available()
    device, dtype = torch.device("cuda" if cuda else "cpu"), torch.float16 if cuda else torch.float32
    torch.manual_seed(0)
    with device:
        unet, vae = UNet2DConditionModel(**SD1), AutoencoderKL(**SD_VAE)
    models = [lean(each.eval().to(dtype)) for each in (unet, vae)]
    prompt = torch.randn(1, *SD1_PROMPT, device=device, dtype=dtype)
    backbone = UNetBackbone(*models, prompt, sd_schedule())
    settings = {"clusters": 4, "num_timesteps": 5, "timestep_modulate": 201, **_settings(arguments)}
    return EmerDiff(backbone, EmerDiffConfig(model="random", **settings))


def _samples(arguments: argparse.Namespace, random: bool) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
    """Images (H, W, 3), and their true regions (H, W)."""
    limit = 1 if random else arguments.limit
    for sample in open_dataset(arguments.dataset, arguments.root, limit).samples():
        yield sample.image, sample.regions


def _other(arguments: argparse.Namespace, output: Path) -> Callable[[NDArray[np.uint8]], float] | None:
    if not arguments.against:
        return None
    process = subprocess.Popen(
        [sys.executable, "-c", _OTHER, arguments.preset, arguments.device],
        cwd=arguments.against,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    path = (output / "image.npy").resolve()

    def seconds(image: NDArray[np.uint8]) -> float:
        assert process.stdin is not None and process.stdout is not None
        np.save(path, image)
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    return seconds


def measure(
    model: EmerDiff,
    modes: list[str],
    samples: list[tuple[NDArray[np.uint8], NDArray[np.int32]]],
    other: Callable[[NDArray[np.uint8]], float] | None = None,
    *,
    quality: bool,
) -> list[Row]:
    """A row for each mode, `exact` among them, and one for another checkout."""
    calls = {mode: _call(model, mode) for mode in modes}
    image = samples[0][0]
    whole = _unet_flops(model, image)
    flops = {mode: counted(lambda call=call: call(image)) for mode, call in calls.items()}  # warms up as well
    seconds: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    scores: dict[str, list[tuple[float, float, float]]] = {}
    for number, (image, regions) in enumerate(samples, start=1):
        print(f"image {number} of {len(samples)}", file=sys.stderr, flush=True)
        maps = {}
        for mode, call in calls.items():
            run = measured(lambda call=call, image=image: call(image))
            maps[mode] = run.value
            seconds.setdefault(mode, []).append(run.seconds)
            peaks.setdefault(mode, []).append(run.peak_mb or float("nan"))
        if other is not None:
            seconds.setdefault("other checkout", []).append(other(image))
        for mode, label_map in maps.items() if quality else ():
            agreement = matched_iou(maps["exact"], label_map) if "exact" in maps else float("nan")
            scores.setdefault(mode, []).append((agreement, *_worth(label_map, regions)))
    rows = []
    for mode, times in seconds.items():
        row = Row(mode, seconds=median(times))
        if "exact" in seconds:
            row.ratio = median(np.array(times) / np.array(seconds["exact"]))
        if mode in flops:
            row.tflop, row.unet_calls, row.peak_mb = flops[mode] / 1e12, flops[mode] / whole, max(peaks[mode])
        if mode in scores:
            row.agreement, row.bound, row.boundary_f2 = np.mean(scores[mode], axis=0).tolist()
        rows.append(row)
    return rows


def _call(model: EmerDiff, mode: str) -> Callable[[NDArray[np.uint8]], NDArray[np.int32]]:
    """Image → label map."""
    if mode == "naive":
        return lambda image: model.naive(image).label_map
    speed, *choices = mode.split("+")
    changes = {name: yaml.safe_load(value) for name, value in (choice.split("=", 1) for choice in choices)}
    segmenter = EmerDiff(model.backbone, replace(model.config, speed=speed, **changes))
    return lambda image: segmenter.segment(image).label_map


def _worth(label_map: NDArray[np.int32], regions: NDArray[np.int32]) -> tuple[float, float]:
    predicted = majority_regions(label_map, regions)
    bound = float(mean_iou(class_counts(regions, predicted, max(int(regions.max()), 0) + 1)))
    return bound, boundary_f(regions, predicted, WITHIN)


def matched_iou(expected: NDArray[np.int32], found: NDArray[np.int32]) -> float:
    """Mean over the masks of `expected` of the IoU with their partner in `found`, the best one-to-one matching."""
    size = max(int(expected.max()), int(found.max())) + 1
    counts = np.bincount(expected.ravel() * size + found.ravel(), minlength=size * size).reshape(size, size)
    unions = counts.sum(1, keepdims=True) + counts.sum(0, keepdims=True) - counts
    ious = counts / np.maximum(unions, 1)
    rows, columns = linear_sum_assignment(-ious)
    present = counts.sum(1) > 0
    return float(ious[rows, columns][present[rows]].mean())


@torch.inference_mode()
def _unet_flops(model: EmerDiff, image: NDArray[np.uint8]) -> int:
    latent = model.backbone.encode(to_frame(image, model._frame_hw(image)))
    return counted(lambda: model.backbone.predict(latent, 1))


def _table(rows: list[Row]) -> str:
    lines = ["| mode | TFLOP | UNet calls | s | of exact | peak MB | agreement | bound | F 2 px |", "|---" * 9 + "|"]
    for row in rows:
        cells = [_number(row.tflop, 4), _number(row.unet_calls, 1), _number(row.seconds, 2), _number(row.ratio, 3)]
        cells += [_number(row.peak_mb, 0), *(_number(each, 3) for each in (row.agreement, row.bound, row.boundary_f2))]
        lines.append(f"| {row.mode} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _plot(rows: list[Row], path: Path) -> None:
    """Bound over FLOPs, on a logarithmic axis."""
    shown = [row for row in rows if row.bound is not None and row.tflop]
    if not shown:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xscale="log", xlabel="TFLOP an image", ylabel="mIoU of masks that take their majority region")
    for row in shown:
        axes.plot(row.tflop, row.bound, "o")
        axes.annotate(row.mode, (row.tflop, row.bound), xytext=(5, 5), textcoords="offset points")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
