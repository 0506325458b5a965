"""A folder of photographs with tags or captions: captions.csv → photos, squares and feature maps.

FOLDER/captions.csv has the columns path, tags, caption. The path is relative to FOLDER; tags are separated by `;`, what
fills most of the image first where that is known; either may be empty. Images of one folder are one source: they are
tagged in one manner.
"""

from __future__ import annotations

import csv
import itertools
import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ovseg.pixels import patch_grid
from toyworld.scene import SIZE
from training.data import SceneCache

# How many times larger a photograph is made at most; more adds no detail.
ENLARGED = 2
# The same of a part of a scene, whose things are small.
SCENE_ENLARGED = 3
# Share of a part's pixels below which a region is not named.
SCENE_MIN_SHARE = 0.02
# The source of parts of scenes.
SCENES = "scenes"
# Sides in px of the smallest and the largest part of a scene.
SCENE_SIDES = 56, SIZE
# Squares of a photograph at most, and the share of its shorter side that a square must have to keep its text.
SQUARES, TEXT_SHARE = 8, 0.7
# Px of the larger squares, and how many there are at most for each scene.
LARGE, LARGE_SHARE = 384, 0.4
# Of a source with label maps every tenth image is for measuring.
HOLD_OUT = 10
# Of the images to train on every fiftieth is for validation instead.
KEPT_ASIDE = 50
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Photo:
    """An image and its description."""

    path: Path
    source: str  # its folder, relative to the folder of all images
    tags: tuple[str, ...]
    caption: str
    names: tuple[str, ...] = ()  # full names of the same regions, such as "red striped boat"; of scenes alone


def read_table(folder: Path) -> list[Photo]:
    """All images that `folder`/captions.csv names, in its order.

    ValueError on a file that lacks the columns or lists no images, FileNotFoundError if it is not there.
    """
    table = folder / "captions.csv"
    if not table.is_file():
        raise FileNotFoundError(f"no {table}: expected a table path,tags,caption beside the images")
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"path", "tags", "caption"} <= rows[0].keys():
        raise ValueError(f"{table} has the columns {', '.join(rows[0]) if rows else '-'}, expected path, tags, caption")
    photos = []
    for row in rows:
        # A line may be shorter than the head of the table.
        path, tags, caption = (row[name] or "" for name in ("path", "tags", "caption"))
        named = tuple(dict.fromkeys(tag.strip() for tag in tags.split(";") if tag.strip()))
        photos.append(Photo(folder / path, str(Path(path).parent), named, caption.strip()))
    return photos


def read_photos(folder: Path) -> list[Photo]:
    """The images of `folder`/captions.csv to train on, by path; errors as of `read_table`.

    Where a source images/NAME has label maps labels/NAME, every tenth of them in the order of names, the first
    included, is left out with its image: those are for `emerseg eval --dataset pictures --root labels/NAME:0::10`.
    """
    photos = read_table(folder)
    held = {path for source in sorted({photo.source for photo in photos}) for path in held_out(folder, source)}
    return sorted((photo for photo in photos if photo.path.with_suffix("") not in held), key=lambda photo: photo.path)


def held_out(folder: Path, source: str) -> list[Path]:
    """Every tenth image of a source with label maps, in the order of their names, without suffixes: for measuring."""
    if not source.startswith("images"):
        return []
    label_maps = sorted((folder / source.replace("images", "labels", 1)).glob("*.png"))
    return [folder / source / label_map.stem for label_map in label_maps[::HOLD_OUT]]


def scene_photos(folder: Path, scenes: SceneCache) -> list[Photo]:
    """A square part of each scene, drawn into `folder` where it is not yet, tagged with what it shows.

    The tags are the kinds of the visible regions, the names their full names, each by area, the largest first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photos = []
    for index in range(len(scenes)):
        rng = np.random.default_rng(index)
        side = round(SCENE_SIDES[0] * (SCENE_SIDES[1] / SCENE_SIDES[0]) ** rng.random())
        part, regions = scenes.part(index, side, rng)
        areas = np.bincount(regions.ravel())
        visible = [i for i in np.argsort(-areas, kind="stable") if areas[i] > SCENE_MIN_SHARE * side * side]
        path = folder / f"{index:06}.png"
        if not path.exists():
            Image.fromarray(part).save(path)
        tags, names = (tuple(dict.fromkeys(of[index][i] for i in visible)) for of in (scenes.kinds, scenes.names))
        photos.append(Photo(path, SCENES, tags, "", names))
    return photos


@dataclass(frozen=True, eq=False)
class Squares:
    """Squares of photographs, all of one size, for training beside scenes."""

    images: np.ndarray  # (N, side, side, 3) uint8, memory-mapped
    texts: list[str]  # of each: the caption of its photograph or, without one, the tags; may be empty
    validation: np.ndarray  # (V, side, side, 3) uint8: the middles of other photographs

    def __len__(self) -> int:
        return len(self.images)


def squares(cache: Path, folder: Path, limit: int, side: int = SIZE) -> Squares:
    """At most `limit` squares of photographs of `folder`, by lot, resized to `side` px, kept in the folder `cache`.

    Of a photograph there are its middle and, from random places, two squares more than its shorter side holds sides,
    each of a random size and mirrored half of the time. One with less than TEXT_SHARE of the shorter side has no text.
    `cache` is used again for the same images and numbers alone; ValueError if it holds others.
    """
    photos = read_photos(folder)
    validation = photos[::KEPT_ASIDE]
    learners = [photo for index, photo in enumerate(photos) if index % KEPT_ASIDE]
    learners = [learners[i] for i in np.random.default_rng(0).permutation(len(learners))[:limit]]
    marks = [limit, side, *(str(photo.path) for photo in (*learners, *validation))]
    done = cache / "squares.json"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        if not done.exists():
            cache.mkdir(parents=True, exist_ok=True)
            most = limit // max(1, len(learners))
            counts = [min(most, count) for count in pool.map(lambda photo: _square_count(photo, side), learners)]
            starts = np.cumsum([0, *counts])
            arrays = {
                name: np.lib.format.open_memmap(cache / f"{name}.npy", "w+", np.uint8, (count, side, side, 3))
                for name, count in (("images", int(starts[-1])), ("validation", len(validation)))
            }
            rows = [arrays["images"][start:stop] for start, stop in itertools.pairwise(starts)]
            made = list(itertools.chain.from_iterable(pool.map(_cut, learners, rows, itertools.count())))
            list(pool.map(_cut, validation, np.split(arrays["validation"], len(validation)), itertools.count()))
            # Last: its presence says that the rest is complete.
            done.write_text(json.dumps([marks, made]))
    known, texts = json.loads(done.read_text())
    if known != marks:
        raise ValueError(f"{cache} holds squares of other images: remove it, or give another --runs")
    images, kept = (np.load(cache / f"{name}.npy", mmap_mode="c") for name in ("images", "validation"))
    return Squares(images, texts, kept)


def large_squares(cache: Path, folder: Path, scenes: int) -> Squares:
    """Squares of LARGE px, to learn from beside so many scenes."""
    return squares(cache / f"squares-{LARGE}", folder, max(1, round(LARGE_SHARE * scenes)), LARGE)


def _square_count(photo: Photo, side: int) -> int:
    with Image.open(photo.path) as image:
        return min(3 + min(image.size) // side, SQUARES)


def _cut(photo: Photo, rows: np.ndarray, seed: int) -> list[str]:
    """Fill the rows (N, side, side, 3) with squares of a photograph, its middle first; returns their texts."""
    rng, side, text = np.random.default_rng(seed), rows.shape[1], photo.caption or ", ".join(photo.tags)
    texts = []
    with Image.open(photo.path) as file:
        image = file.convert("RGB")
    shorter = min(image.size)
    smallest = min(TEXT_SHARE * shorter, side / ENLARGED)
    for index in range(len(rows)):
        size = round(smallest * (shorter / smallest) ** rng.random()) if index else shorter
        x, y = (rng.integers(length - size + 1) if index else (length - size) // 2 for length in image.size)
        box = (int(x), int(y), int(x) + size, int(y) + size)
        square = image.resize((side, side), Image.Resampling.BICUBIC, box)
        mirrored = index and rng.random() < 0.5
        rows[index] = ImageOps.mirror(square) if mirrored else square
        texts.append(text if size >= TEXT_SHARE * shorter else "")
    return texts


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """Feature maps of many images: of image i the rows starts[i] … starts[i + 1], an h x w grid row by row."""

    features: np.ndarray  # (P, D) float16, memory-mapped
    classes: np.ndarray  # (P, K) int16: the teacher's likeliest classes at each place, memory-mapped
    probabilities: np.ndarray  # (P, K) float16: how likely they are
    grids: list[tuple[int, int]]
    starts: np.ndarray  # (N + 1,)


Encode = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]  # RGB, resized → the first three, (h w, …)


def feature_cache(folder: Path, photos: Sequence[Photo], largest: int, stride: int, encode: Encode) -> FeatureCache:
    """Feature maps of `photos`, computed into `folder` where they are not yet.

    Photographs are enlarged to twice their size, or as far as `largest` px of the shorter side allow, or reduced to
    that; parts of scenes always SCENE_ENLARGED times. `folder` is used again for the same images and size alone;
    ValueError if it holds others.
    """
    marks = {"largest": largest, "images": [str(photo.path) for photo in photos]}
    names = ("features", "classes", "probabilities")
    done = folder / "grids.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        grids = [_grid(photo, largest, stride) for photo in photos]
        starts = np.cumsum([0, *(height * width for height, width in grids)])
        arrays: list[np.memmap] = []
        for index, (photo, (rows, columns)) in enumerate(zip(photos, grids, strict=True)):
            with Image.open(photo.path) as image:
                side = (columns * stride, rows * stride)
                made = encode(np.asarray(image.convert("RGB").resize(side, Image.Resampling.BICUBIC)))
            if not arrays:
                named = zip(names, made, strict=True)
                arrays = [_new_array(folder / f"{name}.npy", part, starts) for name, part in named]
            for array, part in zip(arrays, made, strict=True):
                array[starts[index] : starts[index + 1]] = part
            if (index + 1) % 1000 == 0:
                log.info("computed the features of %d of %d images", index + 1, len(photos))
        for array in arrays:
            array.flush()
        # Last: its presence says that the rest is complete.
        done.write_text(json.dumps({**marks, "grids": grids}))
    known = json.loads(done.read_text())
    if {name: known.get(name) for name in marks} != marks:
        raise ValueError(f"{folder} holds features of other images or another size: remove it, or give another --runs")
    grids = [(height, width) for height, width in known["grids"]]
    starts = np.cumsum([0, *(height * width for height, width in grids)])
    features, classes, probabilities = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in names)
    return FeatureCache(features, classes, probabilities, grids, starts)


def _grid(photo: Photo, largest: int, stride: int) -> tuple[int, int]:
    with Image.open(photo.path) as image:
        size_hw = image.height, image.width
    size = SCENE_ENLARGED * min(size_hw) if photo.names else min(largest, ENLARGED * min(size_hw))
    return patch_grid(size_hw, size, (stride, stride))


def _new_array(path: Path, part: np.ndarray, starts: np.ndarray) -> np.memmap:
    """An array on disk for as many rows like those of `part` as there are places in all images."""
    return np.lib.format.open_memmap(path, "w+", part.dtype, (int(starts[-1]), part.shape[1]))
