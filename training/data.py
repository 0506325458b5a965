"""Scenes drawn once and kept on disk: images and label maps as memory-mapped arrays, names as JSON."""

from __future__ import annotations

import json
import logging
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from toyworld.captions import FULL_NAMES, Caption, describe
from toyworld.scene import SIZE, scene

# Share of a crop's pixels below which a region is not named.
MIN_SHARE = 0.04
# The same for crops with a side of less than CLOSE px: their captions name what fills them.
CLOSE, CLOSE_MIN_SHARE = 40, 0.1
# In the regions of a crop: one that is too small to be named.
HIDDEN = 255
log = logging.getLogger(__name__)


class Crop(NamedTuple):
    """A square of a scene as a training image."""

    image: np.ndarray  # (size, size, 3) uint8
    caption: Caption  # of what the square shows, or of one region in it
    regions: np.ndarray  # (side, side) uint8, in the frame of `image`: index into the names, or HIDDEN
    names: list[str]  # of what it shows
    kinds: list[str]

    @property
    def shown(self) -> frozenset[str]:
        """All that is true of it."""
        return frozenset(self.names) | frozenset(self.kinds)


@dataclass(frozen=True, eq=False)
class SceneCache:
    """Many scenes; index i belongs to seed first_seed + i."""

    images: np.ndarray  # (N, 256, 256, 3) uint8, memory-mapped
    label_maps: np.ndarray  # (N, 256, 256) uint8, memory-mapped
    names: list[list[str]]  # per scene and region
    kinds: list[list[str]]

    def __len__(self) -> int:
        return len(self.images)

    def captions(self, count: int) -> list[str]:
        """A caption of each of the first `count` scenes, for a tokenizer to learn from."""
        rng = np.random.default_rng(0)
        return [describe(self.names[i], self.kinds[i], rng).text for i in range(min(len(self), count))]

    def corner(self, index: int, side: int, rng: np.random.Generator) -> tuple[int, int]:
        """(y, x) of a square of `side` px about a random place of a random region."""
        places = np.flatnonzero(self.label_maps[index].ravel() == rng.integers(len(self.names[index])))
        centre = np.array(divmod(int(places[rng.integers(len(places))]), SIZE))
        y, x = np.clip(centre - side // 2, 0, SIZE - side)
        return int(y), int(x)

    def part(self, index: int, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The square at such a corner: its image (h, w, 3) and label map (h, w)."""
        y, x = self.corner(index, side, rng)
        return self.images[index, y : y + side, x : x + side], self.label_maps[index, y : y + side, x : x + side]

    def visible(self, regions: np.ndarray) -> np.ndarray:
        """The regions of a part of a label map (h, w) that are not small in it."""
        side = len(regions)
        counts = np.bincount(regions.ravel())
        return np.flatnonzero(counts > (CLOSE_MIN_SHARE if side < CLOSE else MIN_SHARE) * side * side)

    def shown(self, index: int, regions: np.ndarray) -> tuple[list[str], list[str]]:
        """Names and kinds of what a part of the label map (h, w) shows; what is small in it is left out."""
        visible = self.visible(regions)
        return [self.names[index][i] for i in visible], [self.kinds[index][i] for i in visible]

    def crop(
        self,
        index: int,
        side: int,
        size: int,
        rng: np.random.Generator,
        full_names: float = FULL_NAMES,
        alone: float = 0.0,
    ) -> Crop:
        """A square of `side` px about a random place of a random region, mirrored half of the time, resized to `size`.

        Its caption is about all that the square shows or, with the probability `alone`, about one region in it.
        """
        image, regions = self.part(index, side, rng)
        names, kinds = self.shown(index, regions)
        if rng.random() < 0.5:
            image, regions = image[:, ::-1], regions[:, ::-1]
        described = slice(None)
        if rng.random() < alone:
            first = int(rng.integers(len(names)))
            described = slice(first, first + 1)
        caption = describe(names[described], kinds[described], rng, full_names)
        places = np.full(256, HIDDEN, np.uint8)
        places[self.visible(regions)] = np.arange(len(names))
        return Crop(resized(image, size), caption, places[regions], names, kinds)


def resized(square: np.ndarray, size: int) -> np.ndarray:
    """(size, size, 3) uint8 of a square image."""
    side = len(square)
    if side != size:
        square = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
    return np.ascontiguousarray(square)


def scene_cache(folder: Path, first_seed: int, count: int) -> SceneCache:
    """The scenes first_seed … first_seed + count − 1, drawn into `folder` first where they are not there yet."""
    target = folder / f"scenes-{first_seed}-{count}"
    if not (target / "names.json").exists():
        _draw_all(target, first_seed, count)
    names, kinds = json.loads((target / "names.json").read_text())
    return SceneCache(
        np.load(target / "images.npy", mmap_mode="r"),
        np.load(target / "labels.npy", mmap_mode="r"),
        names,
        kinds,
    )


def _draw_all(target: Path, first_seed: int, count: int) -> None:
    target.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(target / "images.npy", "w+", np.uint8, (count, SIZE, SIZE, 3))
    labels = np.lib.format.open_memmap(target / "labels.npy", "w+", np.uint8, (count, SIZE, SIZE))
    names, kinds = [], []
    with ProcessPoolExecutor(max(1, (os.cpu_count() or 1))) as pool:
        for i, drawn in enumerate(pool.map(scene, range(first_seed, first_seed + count), chunksize=64)):
            images[i], labels[i] = drawn.image, drawn.label_map
            names.append(drawn.names)
            kinds.append(drawn.kinds)
            if (i + 1) % 1000 == 0:
                log.info("drew %d of %d scenes", i + 1, count)
    images.flush()
    labels.flush()
    # Last: its presence says that the rest is complete.
    (target / "names.json").write_text(json.dumps([names, kinds]))
