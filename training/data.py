"""Scenes drawn once and kept on disk: images and label maps as memory-mapped arrays, names and captions as JSON."""

from __future__ import annotations

import itertools
import json
import logging
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

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
# Places that a scene remembers, each in a random region of it, for crops about something.
PLACES = 16
# Captions that are made ahead: of each scene, and of parts of it, which have a side of PART px.
CAPTIONS, PARTS, PART = 4, 8, 128
# The corners of those parts are multiples of it, so that the latents of a part are a part of the scene's latents.
LATENT = 8  # px
# Share of these captions that name all that is visible.
EVERY = 0.7
# Scenes that a process draws at a time, and that a file of texts is about.
_CHUNK, _BLOCK = 32, 1024
# Chunks, at most, that are not worth other processes.
_FEW = 4
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
    places: np.ndarray  # (N, PLACES, 2) uint8: y, x of random pixels of random regions
    texts: list[list[str]]  # per scene CAPTIONS captions of it, then PARTS of its parts
    corners: np.ndarray  # (N, PARTS, 2) uint8: y, x of those parts in px

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> SceneCache:
        """The first `count` scenes."""
        return SceneCache(*(getattr(self, field.name)[:count] for field in fields(self)))

    def captions(self, count: int) -> list[str]:
        """A caption of each of the first `count` scenes, for a tokenizer to learn from."""
        rng = np.random.default_rng(0)
        return [describe(self.names[i], self.kinds[i], rng).text for i in range(min(len(self), count))]

    def corner(self, index: int, side: int, rng: np.random.Generator) -> tuple[int, int]:
        """(y, x) of a square of `side` px about a random place of a random region."""
        place = _place(self.label_maps[index], len(self.names[index]), rng)
        y, x = np.clip(place - side // 2, 0, SIZE - side)
        return int(y), int(x)

    def part(self, index: int, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The square at such a corner: its image (h, w, 3) and label map (h, w)."""
        y, x = self.corner(index, side, rng)
        return self.images[index, y : y + side, x : x + side], self.label_maps[index, y : y + side, x : x + side]

    def shown(self, index: int, regions: np.ndarray) -> tuple[list[str], list[str]]:
        """Names and kinds of what a part of the label map (h, w) shows; what is small in it is left out."""
        seen = visible(regions)
        return [self.names[index][i] for i in seen], [self.kinds[index][i] for i in seen]

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
        places[visible(regions)] = np.arange(len(names))
        return Crop(resized(image, size), caption, places[regions], names, kinds)


def resized(square: np.ndarray, size: int) -> np.ndarray:
    """(size, size, 3) uint8 of a square image."""
    side = len(square)
    if side != size:
        square = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
    return np.ascontiguousarray(square)


def visible(regions: np.ndarray) -> np.ndarray:
    """The regions of a part of a label map (h, w) that are not small in it."""
    side = len(regions)
    counts = np.bincount(regions.ravel())
    return np.flatnonzero(counts > (CLOSE_MIN_SHARE if side < CLOSE else MIN_SHARE) * side * side)


def _place(label_map: np.ndarray, regions: int, rng: np.random.Generator) -> np.ndarray:
    """(y, x) of a random pixel of a random one of so many regions."""
    places = np.flatnonzero(label_map.ravel() == rng.integers(regions))
    return np.array(divmod(int(places[rng.integers(len(places))]), SIZE))


def scene_cache(folder: Path, first_seed: int, count: int) -> SceneCache:
    """The scenes first_seed … first_seed + count − 1, drawn into `folder` first where they are not there yet."""
    if len(_blocks(folder, first_seed, count)) < -(-count // _BLOCK):
        _draw_all(_target(folder, first_seed, count), first_seed, count)
    return drawn_scenes(folder, first_seed, count)


def drawn_scenes(folder: Path, first_seed: int, count: int) -> SceneCache:
    """The first of these scenes, as many as are drawn by now: perhaps another process is drawing them."""
    columns: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for block in _blocks(folder, first_seed, count):
        for column, some in zip(columns, json.loads(block.read_text()), strict=True):
            column += some
    names, kinds, texts = columns
    target = _target(folder, first_seed, count)
    # Mode c: torch takes no arrays that may not be written to. Nothing is.
    arrays = (np.load(target / f"{name}.npy", mmap_mode="c")[: len(names)] for name in _SHAPES) if names else ()
    images, label_maps, places, corners = arrays or (np.zeros((0, *shape), np.uint8) for shape in _SHAPES.values())
    return SceneCache(images, label_maps, names, kinds, places, texts, corners)


def _target(folder: Path, first_seed: int, count: int) -> Path:
    return folder / f"scenes-{first_seed}-{count}"


def _blocks(folder: Path, first_seed: int, count: int) -> list[Path]:
    """The files of texts that are there, up to the first one that is not."""
    target = _target(folder, first_seed, count)
    return list(itertools.takewhile(Path.exists, (_texts(target, at) for at in range(0, count, _BLOCK))))


def _texts(target: Path, start: int) -> Path:
    """Names, kinds and captions of a block of scenes."""
    return target / f"texts-{start:06}.json"


# What a scene's arrays hold, a file each.
_SHAPES = {"images": (SIZE, SIZE, 3), "labels": (SIZE, SIZE), "places": (PLACES, 2), "corners": (PARTS, 2)}


def _draw_all(target: Path, first_seed: int, count: int) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name, shape in _SHAPES.items():
        if not (target / f"{name}.npy").exists():
            np.lib.format.open_memmap(target / f"{name}.npy", "w+", np.uint8, (count, *shape)).flush()
    blocks = [range(at, min(at + _BLOCK, count)) for at in range(0, count, _BLOCK)]
    blocks = [block for block in blocks if not _texts(target, block.start).exists()]
    chunks = [block[at : at + _CHUNK] for block in blocks for at in range(0, len(block), _CHUNK)]
    draw = partial(_draw_some, target, first_seed)
    with _processes() if len(chunks) > _FEW else nullcontext() as pool:
        drawn = iter(pool.map(draw, chunks) if pool else map(draw, chunks))
        for block in blocks:
            columns: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
            for part in itertools.islice(drawn, -(-len(block) // _CHUNK)):
                for column, some in zip(columns, part, strict=True):
                    column += some
            # Last: its presence says that the block is complete.
            path = _texts(target, block.start)
            path.with_suffix(".tmp").write_text(json.dumps(columns))
            path.with_suffix(".tmp").replace(path)
            log.info("drew %d of %d scenes", block.stop, count)


def _processes() -> ProcessPoolExecutor:
    """As many as there are processors, begun anew: forks of a process in which OpenCV has run threads may hang.

    A thread in each: OpenCV would take as many as there are processors.
    """
    return ProcessPoolExecutor(
        os.cpu_count(), mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    )


def _draw_some(target: Path, first_seed: int, rows: range) -> tuple[list[Any], list[Any], list[Any]]:
    """Draw scenes into those rows of the arrays in `target`; returns their names, kinds and captions."""
    arrays = {name: np.load(target / f"{name}.npy", mmap_mode="r+") for name in _SHAPES}
    names, kinds, texts = [], [], []
    for row in rows:
        drawn, rng = scene(first_seed + row), np.random.default_rng(first_seed + row)
        arrays["images"][row], arrays["labels"][row] = drawn.image, drawn.label_map
        regions = arrays["labels"][row]
        places = np.stack([_place(regions, len(drawn.names), rng) for _ in range(PLACES)])
        corners = np.clip(places[:PARTS] - PART // 2, 0, SIZE - PART) // LATENT * LATENT
        arrays["places"][row], arrays["corners"][row] = places, corners
        shown = [np.arange(len(drawn.names))] * CAPTIONS
        shown += [visible(regions[y : y + PART, x : x + PART]) for y, x in corners]
        names.append(drawn.names)
        kinds.append(drawn.kinds)
        texts.append(
            [
                describe(
                    [drawn.names[i] for i in some], [drawn.kinds[i] for i in some], rng, every=rng.random() < EVERY
                ).text
                for some in shown
            ]
        )
    return names, kinds, texts
