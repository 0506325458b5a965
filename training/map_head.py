"""The head of an image tower, trained on by label maps alone, on features that are computed once: minutes on one core.

    python -m training.map_head START OUTPUT --images FOLDER --maps places --beside composite_street,composite_land

Every image of the sources is looked at once: a random view of it goes through the trunk, which stays as it is, and its
features are kept. A step takes half of its views from `--maps`, which the head is to learn, and half from `--beside`,
which it is not to forget. START is an open_clip local-dir whose head was trained, such as `training tower` writes.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from ovseg.fetch import WEIGHTS_FILE
from training import photo_clip
from training.hardware import CPU
from training.imagined import ImaginedLesson, imagine, words_of_classes
from training.tower_folder import prepare_maps
from training.tower_lessons import OTHER_NAMES, Mapped
from training.tower_losses import map_loss, taking_part
from training.tower_model import Tower, load_tower, save
from training.tower_teaching import Eyes
from training.tower_views import draw_views, seen_regions
from training.tower_words import Words

STRIDE = 32  # px per place: the trunk's own. What a place sees is the same at a finer one
SIDE = 320  # px of a view
LOOKED_AT = 8  # views at once
# Views a step, of each of the two kinds, and the side in places of the square part of each that is looked at.
BATCH, PART = 16, 5
MOST_WEIGHT = 3.0  # of a label that few places show, and one over it of one that many show
LEARNING_RATE, WARMUP = 1e-3, 10
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Seen:
    """N views of images with label maps."""

    features: Tensor  # (N, D, h, w) float16, of the trunk
    regions: Tensor  # (N, 2 h, 2 w) uint8: four to a place
    labels: Tensor  # (2, N, R + 1) int64 of each region, by its usual and by its other name; -1: none


class Head(photo_clip.Head):
    """What follows the trunk of a tower, whose modules it shares, for whole feature maps."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, P, C) float32 unit embeddings of the places; `features` (B, D, h, w)."""
        places = features.flatten(2).mT
        return super().forward(places.flatten(0, 1)).unflatten(0, places.shape[:2])


def look(tower: Tower, eyes: Eyes, mapped: Mapped) -> Seen:
    """A random view of each image, through the trunk."""
    trunk, rng = tower.visual.trunk, np.random.default_rng(9)
    features, regions = [], []
    for start in range(0, len(mapped), LOOKED_AT):
        draw = mapped.draw(np.arange(start, min(start + LOOKED_AT, len(mapped))), None)
        view = draw_views(draw, rng, CPU.device)
        with torch.inference_mode():
            features.append(trunk.blocks(trunk.bn1(trunk.conv_stem(eyes.pixels(mapped.pixels, view)))).half())
        regions.append(seen_regions(mapped.regions[view.index], view, 2 * eyes.side // STRIDE).byte())
        if start // LOOKED_AT % 20 == 0:
            log.info("looked at %d of %d images", start, len(mapped))
    return Seen(torch.cat(features).contiguous(), torch.cat(regions), mapped.labels)


@dataclass(frozen=True)
class Recipe:
    """How the head learns."""

    steps: int = 200
    places: int = PART  # side, in places, of the square part of each view that a step looks at
    rare: float = 0.0  # share of the views below which a label counts as rare; 0: none does
    beside: float = 1.0  # weight of what is not to be forgotten: views of other kinds than the first, imagined places


def learn(
    head: Head,
    seen: Seen,
    kinds: Sequence[NDArray[np.int64]],
    words: Words,
    recipe: Recipe,
    more: ImaginedLesson | None = None,
) -> None:
    """Train the head in place, on views of each of `kinds`, indices into `seen`, and on imagined places if any."""
    parameters = [parameter.requires_grad_(True) for parameter in head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0)
    grid = seen.features.shape[2:]
    sides = [min(recipe.places, side) for side in grid]
    nothing = torch.zeros(1, len(words.labels), dtype=torch.bool)
    odds, weights = Rarity.of(seen, kinds, len(words.labels), recipe.rare)
    for step in range(recipe.steps):
        rng = np.random.default_rng([8, step])
        rate = min(1, (step + 1) / WARMUP) * (1 + np.cos(np.pi * step / recipe.steps)) / 2
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate
        losses = []
        for kind, of in zip(kinds, odds, strict=True):
            at = torch.from_numpy(rng.choice(kind, BATCH, p=of))
            way = torch.from_numpy((rng.random(BATCH) < OTHER_NAMES).astype(np.int64))
            top, left = (int(rng.integers(side - part + 1)) for side, part in zip(grid, sides, strict=True))
            rows, columns = slice(top, top + sides[0]), slice(left, left + sides[1])
            quarters = [slice(2 * of.start, 2 * of.stop) for of in (rows, columns)]
            labels, regions = seen.labels[way, at], seen.regions[at, quarters[0], quarters[1]].long()
            among = taking_part(labels, nothing, words.similar)
            places = head(seen.features[at, :, rows, columns].float())
            losses.append(map_loss(head.logit_scale.exp(), places, regions, labels, among, words.embeddings, weights))
        if more is not None:
            losses.append(more.loss(head, head.logit_scale.exp(), rng))
        loss = losses[0] + recipe.beside * sum(losses[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == recipe.steps - 1:
            log.info("step %d: %s", step, " ".join(f"{one:.3f}" for one in losses))


class Rarity(NamedTuple):
    """What is seldom shown is looked at more often, and counts more."""

    odds: list[NDArray[np.float64]]  # of the views of each kind
    weights: Tensor  # (V,) of the labels

    @classmethod
    def of(cls, seen: Seen, kinds: Sequence[NDArray[np.int64]], count: int, rare: float) -> Rarity:
        """Views are drawn by the rarest label that they show (repeat factors, Gupta et al., CVPR 2019: LVIS).

        Labels that few places show count more, by the root of how few, within bounds. With `rare` 0 all are alike.
        """
        shown = np.zeros((len(seen.regions), count + 1), bool)
        areas = np.zeros(count + 1)
        for row, regions, labels in zip(shown, seen.regions, seen.labels[0], strict=True):
            found, counts = np.unique(labels[regions.flatten().long()].numpy(), return_counts=True)
            row[found] = True  # -1, no label, is the last
            areas[found] += counts
        shown, areas = shown[:, :-1], areas[:-1]
        odds = []
        for kind in kinds:
            shares = shown[kind].mean(axis=0)
            factors = np.sqrt(np.maximum(1, rare / np.where(shares > 0, shares, np.inf)))
            most = (shown[kind] * factors).max(axis=1, initial=1)
            odds.append(most / most.sum())
        weights = np.ones(count)
        known = areas > 0
        if rare and known.any():
            weights[known] = np.sqrt(np.median(areas[known]) / areas[known]).clip(1 / MOST_WEIGHT, MOST_WEIGHT)
        return cls(odds, torch.from_numpy(weights).float())


def teach(
    tower: Tower,
    seen: Seen,
    kinds: Sequence[NDArray[np.int64]],
    words: Words,
    recipe: Recipe,
    part: float,
    more: ImaginedLesson | None = None,
) -> None:
    """Train the head of `tower` in place, and go `part` of the way to what it learned; the rest as of `learn`.

    In between the head keeps more of what it knew (WiSE-FT, Wortsman et al., CVPR 2022).
    """
    head = Head(tower)
    before = [parameter.detach().clone() for parameter in head.parameters()]
    learn(head, seen, kinds, words, recipe, more)
    with torch.no_grad():
        for parameter, first in zip(head.parameters(), before, strict=True):
            parameter.lerp_(first, 1 - part)


def train(
    start: Path,
    output: Path,
    images: Path,
    kinds: Sequence[tuple[Sequence[str], int]],
    run: Path,
    recipe: Recipe,
    part: float,
    imagined: tuple[Path, Path] | None = None,
) -> None:
    """Write the model `start` with its head trained on into `output`; errors as of `prepare_maps`.

    `kinds`: sources with label maps, and how many images of them, at most. Features are kept in `run`. `part` as of
    `teach`. `imagined`: a folder whose tower and classifier imagine places to learn from as well
    (training/imagined.py), and one of WordNet.
    """
    tower = load_tower(start, STRIDE)
    words, mapped, indices = prepare_maps(images, kinds, run, start)
    kept = run / "seen.safetensors"
    if not kept.exists():
        seen = look(tower, Eyes(start, SIDE, CPU), mapped)
        save_file({"features": seen.features, "regions": seen.regions}, kept)
    seen = Seen(**load_file(kept), labels=mapped.labels)
    more = None
    if imagined is not None:
        real = seen.features.permute(0, 2, 3, 1).flatten(0, 2).float()
        more = ImaginedLesson(imagine(imagined[0], real), words, words_of_classes(imagined[1], words.labels))
    teach(tower, seen, indices, words, recipe, part, more)
    save(tower, start, output)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.map_head", description=__doc__.split("\n")[0])
    parser.add_argument("start", type=Path, help="an open_clip local-dir with a trained head")
    parser.add_argument("output", type=Path, help="a new folder")
    parser.add_argument("--images", type=Path, required=True, help="a folder with captions.csv and labels/")
    parser.add_argument("--maps", required=True, help="sources that the head is to learn, as NAME,NAME")
    parser.add_argument("--beside", default="", help="sources that it is not to forget")
    parser.add_argument("--views", default="600,500", help="how many images of each of the two (default: 600,500)")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--places",
        type=int,
        default=PART,
        help=f"side in places of the part of a view that is looked at (default: {PART})",
    )
    parser.add_argument(
        "--rare", type=float, default=0.0, help="labels that a smaller share of the views shows count more (default: 0)"
    )
    parser.add_argument(
        "--weight", type=float, default=1.0, help="of what is not to be forgotten, --beside and --imagine (default: 1)"
    )
    parser.add_argument(
        "--part", type=float, default=1.0, help="of the way from START to what was learned (default: 1)"
    )
    parser.add_argument(
        "--imagine", type=Path, help="a folder with classifier.safetensors, as training.photo_start makes"
    )
    parser.add_argument("--wordnet", type=Path, help="with --imagine: the folder of index.noun and data.noun")
    parser.add_argument("--run", type=Path, default=Path("runs/map-head"), help="where features are kept")
    arguments = parser.parse_args()
    if not (arguments.start / WEIGHTS_FILE).is_file():
        parser.error(f"{arguments.start} has no {WEIGHTS_FILE}: expected an open_clip local-dir")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    counts = map(int, arguments.views.split(","))
    named = (tuple(of.split(",")) for of in (arguments.maps, arguments.beside) if of)
    kinds = list(zip(named, counts, strict=False))
    imagined = (arguments.imagine, arguments.wordnet) if arguments.imagine else None
    if arguments.imagine and not arguments.wordnet:
        parser.error("--imagine needs --wordnet, a folder with index.noun and data.noun")
    train(
        arguments.start,
        arguments.output,
        arguments.images,
        kinds,
        arguments.run,
        Recipe(arguments.steps, arguments.places, arguments.rare, arguments.weight),
        arguments.part,
        imagined,
    )


if __name__ == "__main__":
    main()
