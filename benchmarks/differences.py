"""What difference maps know of borders that clusters and the edges of the image do not, on drawn scenes.

    python -m benchmarks.differences oracle     # true regions on the grid of the features in place of clusters
    python -m benchmarks.differences settings   # the same masks: t_m, λ, the layer, statistics of norms
    python -m benchmarks.differences clusters   # the preset's clusters: how masks are read from difference maps
    python -m benchmarks.differences steps      # the same, of all steps, with and without statistics of norms: slow
    python -m benchmarks.differences training WEIGHTS WEIGHTS   # older weights, unpacked from the history
    python -m benchmarks.differences answer     # what becomes of the offset in the UNet
    python -m benchmarks.differences image docs/images/differences.png

with [--scenes 1000000:1000040] [--log FILE]; with a log, a second run goes on where the first one stopped.

With true regions as masks nothing is lost to clustering, so that what is measured is refinement alone. `AUC` asks no
more than which of two neighbouring regions a pixel belongs to: of pixels within 16 px of the border between them, how
many pairs (one of each) the ratio of the two planes ranks rightly, the mean over borders. A mask that is louder than
another everywhere does not change it. Every other figure is one of label maps, by argmax, without and with the guided
filter. Intervals are of the difference to the first row, or to that of `--against`: 95 %, by bootstrap over scenes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.studies.refinement import View, answer, balanced, differences, scores, viewed
from emerdiff import EmerDiff
from emerdiff.frame import resized_planes
from emerdiff.guided import shares
from fusion.evaluation.figures import resamples
from fusion.formats.palette import palette

LAYERS = [
    f"up_blocks.{block}.attentions.{index}.transformer_blocks.0.attn2"
    for block, index in ((0, 2), (1, 0), (1, 1), (1, 2), (2, 0))
]
ALL = {"speed": "exact", "differences": "latents", "locality": 0.0, "difference_blur": 1.0}
ONE = {**ALL, "one_step": True, "one_side": True}
NORMS = {**ALL, "inject_norms": True}
DECODED = {"differences": "images"}

ORACLE = {
    "one step, one side, latents": ONE,
    "all steps, both sides, latents": ALL,
    "the same, decoded: the paper's": {**ALL, **DECODED},
    "norms, latents": NORMS,
    "norms, t_m = 501, λ = 10, latents": {**NORMS, "timestep_modulate": 501, "strength": 10.0},
    "norms, t_m = 501, λ = 10, decoded": {**NORMS, **DECODED, "timestep_modulate": 501, "strength": 10.0},
}
SETTINGS = {
    **{f"t_m = {t}": {**ALL, "timestep_modulate": t} for t in (101, 201, 301, 501, 701)},
    **{f"λ = {value:g}": {**ALL, "strength": value} for value in (1.0, 4.0, 10.0, 100.0)},
    **{layer[: layer.index(".tr")]: {**ALL, "modulation_layer": layer} for layer in LAYERS},
    "onward": {**ALL, "modulate": "onward"},
    "no injection": {**ALL, "inject_attention": False},
    **{f"norms, λ = {value:g}": {**NORMS, "strength": value} for value in (1.0, 4.0, 10.0, 40.0)},
    **{f"norms, t_m = {t}, λ = 10": {**NORMS, "timestep_modulate": t, "strength": 10.0} for t in (101, 501, 701)},
}
POWER = 0.5  # of areas, emerdiff.area_power
CLUSTERS = {"one step, one side, locality 1": {**ONE, "locality": 1.0}, "one step, one side": ONE}
STEPS = {"all steps, both sides": ALL, "norms, all steps, both sides": NORMS}

Planes = Iterator[tuple[str, Tensor]]
Rows = dict[str, list[list[float]]]


def oracle(view: View) -> Planes:
    yield "the masks themselves", view.masks
    yield "spread by affinity", view.spread
    yield "spread, over area^0.5", view.spread / view.masks.mean((1, 2), keepdim=True) ** POWER
    for name, changes in ORACLE.items():
        planes = differences(view, **changes)
        yield name, planes
        yield f"{name}; over their own mean", balanced(planes, view.masks)


def settings(view: View) -> Planes:
    yield "the masks themselves", view.masks
    for name, changes in SETTINGS.items():
        yield name, differences(view, **changes)


def clusters(view: View) -> Planes:
    return _read(view, CLUSTERS)


def steps(view: View) -> Planes:
    return _read(view, STEPS)


def _read(view: View, settings: dict[str, dict[str, Any]]) -> Planes:
    """Masks from clusters alone; from d; and from the product of both."""
    area = view.masks.mean((1, 2), keepdim=True)

    def both(name: str, planes: Tensor) -> Planes:
        yield name, planes
        yield f"{name}; over area^{POWER}", torch.stack(shares(list(planes))) / area**POWER

    yield from both("clusters, spread: `instant`", view.spread)
    for name, changes in settings.items():
        planes = differences(view, **changes)
        yield f"d: {name}", planes
        if changes.get("inject_norms"):
            planes = balanced(planes, view.masks)
        if changes["locality"] == 0:
            squares = torch.stack(shares(list(planes))) ** 2
            yield from both(f"d² × clusters: {name}", squares * view.spread)


def training(view: View) -> Planes:
    yield "the masks themselves", view.masks
    yield "spread by affinity", view.spread
    for name in ("one step, one side, latents", "all steps, both sides, latents", "norms, latents"):
        yield name, differences(view, **ORACLE[name])


STUDIES = {"oracle": oracle, "settings": settings, "clusters": clusters, "steps": steps, "training": training}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=(*STUDIES, "answer", "image"))
    parser.add_argument("paths", nargs="*", type=Path, help="folders of weights, or the image to write")
    parser.add_argument("--scenes", default="1000000:1000040", help="seeds of the scenes, FIRST:END")
    parser.add_argument("--log", type=Path, help="JSON lines; what stands there is not measured again")
    parser.add_argument("--against", default="", help="how the name of the row begins that intervals compare with")
    arguments = parser.parse_args()
    seeds = range(*map(int, arguments.scenes.split(":")))
    if arguments.study == "image":
        panels(EmerDiff.from_preset("toy"), seeds[0]).save(arguments.paths[0], optimize=True)
    elif arguments.study == "answer":
        with torch.inference_mode():
            found = answer(viewed(EmerDiff.from_preset("toy"), seeds[0], oracle=True))
        print("\n".join(f"{name} {value:.3g}" for name, value in found.items()))
    elif arguments.study == "training":
        for folder in arguments.paths:
            model = EmerDiff.from_preset("toy", model=str(folder))
            rows = measured(model, "training", seeds, arguments.log, folder.name)
            print(f"\n{folder.name}\n\n{table(rows, arguments.against)}")
    else:
        model = EmerDiff.from_preset("toy")
        print(table(measured(model, arguments.study, seeds, arguments.log, ""), arguments.against))


@torch.inference_mode()
def measured(model: EmerDiff, study: str, seeds: Sequence[int], log: Path | None, weights: str) -> Rows:
    """Name of a row → its scores, scene by scene."""
    known = [json.loads(line) for line in log.read_text().splitlines()] if log and log.exists() else []
    done = {(each["study"], each["weights"], each["seed"]): each["rows"] for each in known}
    rows: Rows = {}
    for seed in seeds:
        place = study, weights, seed
        if place not in done:
            view = viewed(model, seed, oracle=study not in ("clusters", "steps"))
            done[place] = {name: scores(view, planes) for name, planes in STUDIES[study](view)}
            if log:
                line = {"study": study, "weights": weights, "seed": seed, "rows": done[place]}
                with log.open("a") as stream:
                    stream.write(json.dumps(line) + "\n")
        for name, values in done[place].items():
            rows.setdefault(name, []).append(values)
    return rows


def table(rows: Rows, against: str) -> str:
    """Markdown: AUC, bound and F unfiltered, bound and F filtered; intervals of the difference to one of the rows."""
    scored = {name: np.array(values) for name, values in rows.items()}
    first = next(values for name, values in scored.items() if name.startswith(against))
    draws = resamples(len(first), 2000) / len(first)
    lines = [f"| {len(first)} scenes | AUC | bound | F | bound, filtered | F, filtered |", "|---|---|---|---|---|---|"]
    for name, values in scored.items():
        low, high = np.percentile(draws @ (values - first), (2.5, 97.5), axis=0)
        cells = [
            "" if np.isnan(mean) else f"{mean:.3f}" + ("" if values is first else f" ({least:+.3f} … {most:+.3f})")
            for mean, least, most in zip(values.mean(axis=0), low, high, strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


@torch.inference_mode()
def panels(model: EmerDiff, seed: int) -> Image.Image:
    """A scene and its regions; then masks, spread masks, d as in the paper, d with norms: a plane, the label map below.

    The plane is that of the mask of middle size.
    """
    view = viewed(model, seed, oracle=True)
    paper, norms = ORACLE["the same, decoded: the paper's"], ORACLE["norms, t_m = 501, λ = 10, decoded"]
    ways = [view.masks, view.spread, differences(view, **paper), balanced(differences(view, **norms), view.masks)]
    middle = np.argsort(view.masks.mean((1, 2)).numpy())[len(view.masks) // 2]
    colours = np.array(palette(len(view.masks)), np.uint8)
    columns = [np.vstack([view.image, colours[np.searchsorted(view.regions, view.truth).clip(max=len(colours) - 1)]])]
    for planes in ways:
        full = np.stack(list(resized_planes(planes, view.truth.shape)))
        grey = (255 * (full[middle] / np.quantile(full[middle], 0.998)).clip(0, 1)).astype(np.uint8)
        columns.append(np.vstack([np.repeat(grey[..., None], 3, axis=2), colours[full.argmax(0)]]))
    image = Image.fromarray(np.hstack(columns))
    return image.resize((image.width * 3 // 4, image.height * 3 // 4)).quantize(96)


if __name__ == "__main__":
    main()
