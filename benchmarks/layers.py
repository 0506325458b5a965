"""Which layer, and which timestep, carries what things are: a sweep over all attention layers of a diffusion model.

    python -m benchmarks.layers 1000200:1000220 --preset toy --dataset toy --output docs/results/layers-unet
    python -m benchmarks.layers 1000200:1000220 --preset toy --dataset toy --set model=runs/weights/pixart \\
        --set feature_layer=transformer_blocks.3.attn1 --set modulation_layer=transformer_blocks.5.attn1 \\
        --output docs/results/layers-dit

At each timestep one look at each image gives the queries of every layer; they become the preset's number of clusters in
the preset's way, which are upsampled bilinearly. Bound is the mIoU of these masks if each takes its majority region,
the mean over images: how well the layer tells regions apart, with no modulation, spreading or filter. NAME.csv has a
row for each layer and timestep, NAME.png draws them as a map. A layer with a coarser grid has coarser borders, too.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from benchmarks.studies.measure import worth
from emerdiff import EmerDiff, EmerDiffConfig
from emerdiff.attention import attention_layers, first_outputs, token_grid
from emerdiff.batches import sent_to
from emerdiff.cluster import low_resolution_masks, one_hot
from emerdiff.frame import resized_planes, to_frame
from emerdiff.schedule import add_noise
from fusion.evaluation.datasets import Sample, open_dataset
from ground.planes import largest_plane
from ground.presets import read_section

TIMESTEPS = (1, 51, 101, 201, 301, 401, 501, 601, 701, 801, 901)


def main() -> None:
    arguments = _arguments()
    settings = dict(each.split("=", 1) for each in arguments.set)
    config = EmerDiffConfig.from_mapping(
        {
            **read_section(arguments.preset, "emerdiff"),
            **{name: yaml.safe_load(value) for name, value in settings.items()},
        }
    )
    model = EmerDiff.from_config(config, device=arguments.device)
    names = in_order(list(attention_layers(model.backbone.denoiser)))
    images = [
        sample
        for root in arguments.roots
        for sample in open_dataset(arguments.dataset, root, arguments.limit).samples()
    ]
    timesteps = [int(each) for each in arguments.timesteps.split(",")]
    bounds = np.zeros((len(names), len(timesteps)))
    for number, sample in enumerate(images, start=1):
        bounds += bounds_of(model, names, timesteps, sample) / len(images)
        print(f"\r{number} of {len(images)}", end="", file=sys.stderr, flush=True)
    write_table(arguments.output.with_suffix(".csv"), names, timesteps, bounds)
    draw(arguments.output.with_suffix(".png"), names, timesteps, bounds, arguments.title or config.model)
    layer, timestep = np.unravel_index(bounds.argmax(), bounds.shape)
    print(f"\n{len(images)} images; best: {names[layer]} at t = {timesteps[timestep]}, bound {bounds.max():.3f}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", metavar="ROOT")
    parser.add_argument("--output", type=Path, required=True, metavar="NAME", help="path of the table and of the image")
    parser.add_argument("--preset", default="toy")
    parser.add_argument("--dataset", default="pictures")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a setting of `emerdiff`")
    parser.add_argument("--timesteps", default=",".join(map(str, TIMESTEPS)))
    parser.add_argument("--limit", type=int, help="images of each root")
    parser.add_argument("--title", help="of the image (default: the model's name)")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def in_order(names: Sequence[str]) -> list[str]:
    """Layers as an image passes them; a UNet's own list has its middle at the end."""
    stages = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    return sorted(names, key=lambda name: stages.get(name.partition(".")[0], 0))


@torch.inference_mode()
def bounds_of(model: EmerDiff, names: Sequence[str], timesteps: Sequence[int], sample: Sample) -> NDArray[np.float64]:
    """(layers, timesteps): the bound of clusters of each layer's queries at each timestep."""
    height, width = sample.regions.shape
    frame_hw = model.backbone.frame_hw((height, width), model.config.image_size)
    clean = model.backbone.encode(to_frame(sample.image, frame_hw))
    columns = [
        [
            worth(masks_of(features, grid, model.config, (height, width)), sample.regions)[0]
            for features, grid in queries_of(model, names, clean, timestep)
        ]
        for timestep in timesteps
    ]
    return np.array(columns).T


def queries_of(
    model: EmerDiff, names: Sequence[str], clean: torch.Tensor, timestep: int
) -> Iterator[tuple[NDArray[np.float32], tuple[int, int]]]:
    """Queries (N, C) of each layer and its grid (h, w): means over `feature_draws` noises, the same for all calls."""
    backbone, draws = model.backbone, model.config.feature_draws
    generator = torch.Generator().manual_seed(0)
    noise = sent_to(torch.randn(draws, *clean.shape[1:], generator=generator), clean)
    modules: list[Any] = [backbone.layer(name, "feature_layer").to_q for name in names]
    with first_outputs(modules) as outputs:
        backbone.predict(add_noise(backbone.schedule, clean, noise, timestep), timestep)
    for module in modules:
        features = outputs[module].float().mean(0).cpu().numpy()
        yield features, token_grid(backbone.grid_hw(clean), len(features))


def masks_of(
    features: NDArray[np.float32], grid_hw: tuple[int, int], config: EmerDiffConfig, size_hw: tuple[int, int]
) -> NDArray[np.int32]:
    """(H, W) label map of the clusters of (N, C) features, upsampled; a coarse grid has no more than its positions."""
    few = replace(config, clusters=min(config.clusters, len(features)))
    low_res, _ = low_resolution_masks(features, grid_hw, few)
    return largest_plane(resized_planes(one_hot(low_res), size_hw))


def write_table(path: Path, names: Sequence[str], timesteps: Sequence[int], bounds: NDArray[np.float64]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["layer", *timesteps])
        writer.writerows([name, *(f"{bound:.3f}" for bound in row)] for name, row in zip(names, bounds, strict=True))


def draw(path: Path, names: Sequence[str], timesteps: Sequence[int], bounds: NDArray[np.float64], title: str) -> None:
    """A PNG: layers from the first to the last downwards, timesteps to the right, the bound as colour and number."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.8 + 0.55 * len(timesteps), 1.3 + 0.26 * len(names)), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(100 * bounds, aspect="auto", cmap="viridis")
    axes.set_xticks(range(len(timesteps)), [str(timestep) for timestep in timesteps])
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="timestep", title=title)
    middle = 50 * (bounds.max() + bounds.min())
    for row, column in np.ndindex(bounds.shape):
        value = 100 * bounds[row, column]
        colour = "black" if value > middle else "white"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(shown, label="bound, %")
    whole = io.BytesIO()
    figure.savefig(whole, format="png", dpi=90)
    with Image.open(whole) as image:
        image.convert("RGB").quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    main()
