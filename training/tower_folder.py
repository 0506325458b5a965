"""A folder of images → what an image tower learns from: its words, tagged images, and images with label maps."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from toyworld.vocabulary import COLORS, KINDS, OBJECTS, PATTERNS, SKIES, full_name
from training.data import SceneCache
from training.photos import Photo, read_photos
from training.tower_lessons import Mapped, Tagged
from training.tower_words import Words, words_of

SQUARE = 256  # px
BROADER = "broader.csv"  # of a folder of images: labels and what covers them, such as girl,person
# All that regions of scenes are called.
TOY_NAMES = (*KINDS, *SKIES, *(full_name(*of, kind) for kind in OBJECTS for of in product(COLORS, PATTERNS)))
REGIONS = 255  # of one label map, at most; this one is unknown


def prepare(
    images: Path, maps: Sequence[str], run: Path, start: Path, scenes: SceneCache | None
) -> tuple[Words, Tagged | None, Mapped | None]:
    """The words, tagged images and label maps of the folder `images` (see training.photos), kept in `run`.

    `maps`: the sources images/NAME whose label maps in labels/NAME teach. They are composites: of photographs no label
    map is read. `scenes` are more of these.
    """
    photos = read_photos(images)
    made = _of_sources(photos, maps, images)
    tagged = [photo for photo in photos if photo.tags and Path(photo.source).name not in maps]
    known, broader = _read_names(images, maps), read_broader(images / BROADER)
    others = sorted({*(TOY_NAMES if scenes else ()), *_all_names(known, broader)})
    words, sets = words_of(run, tagged, others, broader, start)
    lessons = _read_mapped(images, made, known, broader, words, run) if made else None
    if scenes:
        lessons = _with_scenes(lessons, scenes, words)
    if not tagged:
        return words, None, lessons
    pixels, aspects = _squares([photo.path for photo in tagged], run / "tagged.npy")
    return words, Tagged(pixels, np.array(sets), aspects), lessons


def prepare_maps(
    images: Path, kinds: Sequence[tuple[Sequence[str], int]], run: Path, start: Path
) -> tuple[Words, Mapped, list[NDArray[np.int64]]]:
    """The words and label maps of some images, by lot, kept in `run`, and the indices of those of each kind.

    `kinds`: sources images/NAME whose label maps in labels/NAME teach, and how many images of them, at most. ValueError
    if a source has none.
    """
    maps = [name for names, _ in kinds for name in names]
    photos = _of_sources(read_photos(images), maps, images)
    known, broader = _read_names(images, maps), read_broader(images / BROADER)
    words, _ = words_of(run, [], sorted(_all_names(known, broader)), broader, start)
    drawn: list[Photo] = []
    indices: list[NDArray[np.int64]] = []
    for names, most in kinds:
        own = [photo for photo in photos if Path(photo.source).name in names]
        some = np.random.default_rng(0).permutation(len(own))[:most]
        indices.append(np.arange(len(drawn), len(drawn) + len(some)))
        drawn += [own[i] for i in some]
    return words, _read_mapped(images, drawn, known, broader, words, run), indices


def _of_sources(photos: Sequence[Photo], maps: Sequence[str], images: Path) -> list[Photo]:
    """Those of the sources `maps`; ValueError if one of these has none."""
    found = [photo for photo in photos if Path(photo.source).name in maps]
    if missing := set(maps) - {Path(photo.source).name for photo in found}:
        raise ValueError(f"no images of {', '.join(sorted(missing))} in {images}: expected sources with label maps")
    return found


def _read_names(images: Path, maps: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names of the labels of each source, in order."""
    return {name: tuple((images / "labels" / name / "names.txt").read_text("utf-8").splitlines()) for name in maps}


def _all_names(known: dict[str, tuple[str, ...]], broader: dict[str, tuple[str, ...]]) -> set[str]:
    """All labels, and the broader words for them."""
    labels = {label for of in known.values() for label in of}
    return labels | {word for label in labels & broader.keys() for word in broader[label]}


def read_broader(table: Path) -> dict[str, tuple[str, ...]]:
    """label → words that cover it, of a table label,broader, separated by `;`; nothing where there is none."""
    if not table.is_file():
        return {}
    with table.open(newline="", encoding="utf-8") as file:
        return {row["label"]: tuple(row["broader"].split(";")) for row in csv.DictReader(file)}


def _squares(paths: Sequence[Path], file: Path) -> tuple[Tensor, NDArray[np.float64]]:
    """(N, S, S, 3) uint8 of images made square, memory-mapped, and how wide they were for their height."""

    def read(path: Path) -> tuple[NDArray[Any], float]:
        with Image.open(path) as image:
            rgb = np.asarray(image.convert("RGB"))
        shrinks = min(rgb.shape[:2]) > SQUARE
        square = cv2.resize(rgb, (SQUARE, SQUARE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return square, rgb.shape[1] / rgb.shape[0]

    marks = file.with_suffix(".json")
    named = ["/".join(path.parts[-2:]) for path in paths]
    if not marks.exists():
        array = np.lib.format.open_memmap(file, "w+", np.uint8, (len(paths), SQUARE, SQUARE, 3))
        aspects = []
        with ThreadPoolExecutor() as pool:
            for i, (square, aspect) in enumerate(pool.map(read, paths)):
                array[i] = square
                aspects.append(aspect)
        array.flush()
        # Last: its presence says that the rest is complete.
        marks.write_text(json.dumps({"images": named, "aspects": aspects}))
    known = json.loads(marks.read_text())
    if known["images"] != named:
        raise ValueError(f"{file} holds other images: remove it, or give another --runs")
    return torch.from_numpy(np.load(file, mmap_mode="c")), np.array(known["aspects"])


def mapped_of(
    paths: Sequence[Path],
    maps: Iterable[tuple[Sequence[str], NDArray[np.uint8]]],
    broader: Mapping[str, Sequence[str]],
    words: Words,
    run: Path,
) -> Mapped:
    """Images and their label maps, which `maps` gives in turn: names of regions, and (H, W) indices of these.

    A region of another index is unknown; a label in `broader` goes by one of its words at times. Copies of the images
    are kept in `run`.
    """
    pixels, aspects = _squares(paths, run / "mapped.npy")
    regions = np.full((len(paths), SQUARE, SQUARE), REGIONS, np.uint8)
    labels = np.full((2, len(paths), REGIONS + 1), -1)
    for row, (plane, (names, label_map)) in enumerate(zip(regions, maps, strict=True)):
        found, inverse = np.unique(label_map, return_inverse=True)
        small = inverse.reshape(label_map.shape).astype(np.uint8)
        plane[:] = cv2.resize(small, (SQUARE, SQUARE), interpolation=cv2.INTER_NEAREST)
        own = [names[i] if i < len(names) else "" for i in found]
        covering = [broader[name][row % len(broader[name])] if name in broader else name for name in own]
        for way, of in enumerate((own, covering)):
            labels[way, row, : len(found)] = [words.index.get(name, -1) for name in of]
    closed = torch.zeros(1, len(words.labels), dtype=torch.bool)
    rows = torch.zeros(2, len(paths), dtype=torch.int64)
    return Mapped(pixels, torch.from_numpy(regions), torch.from_numpy(labels), closed, rows, aspects)


def _read_mapped(
    images: Path,
    photos: Sequence[Photo],
    known: Mapping[str, tuple[str, ...]],
    broader: Mapping[str, Sequence[str]],
    words: Words,
    run: Path,
) -> Mapped:
    """The photos with their label maps in `images`/labels."""

    def read(photo: Photo) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
        source = Path(photo.source).name
        with Image.open(images / "labels" / source / f"{photo.path.stem}.png") as image:
            return known[source], np.asarray(image)

    return mapped_of([photo.path for photo in photos], map(read, photos), broader, words, run)


def _with_scenes(made: Mapped | None, scenes: SceneCache, words: Words) -> Mapped:
    """`made`, if there are any, and then the scenes, whose kinds are told apart, and their full names."""
    index = words.index
    closed = torch.zeros(3, len(words.labels), dtype=torch.bool)  # none, kinds, full names
    closed[1, [index[kind] for kind in KINDS]] = True
    closed[2, [index[name] for name in TOY_NAMES if name not in OBJECTS]] = True
    labels = torch.full((2, len(scenes), REGIONS + 1), -1)
    for way, of_scenes in enumerate((scenes.kinds, scenes.names)):
        for row, of_scene in enumerate(of_scenes):
            labels[way, row, : len(of_scene)] = torch.tensor([index[name] for name in of_scene])
    rows = torch.tensor([[1], [2]]).repeat(1, len(scenes))
    pixels, regions = torch.tensor(scenes.images), torch.tensor(scenes.label_maps)
    if made is None:
        return Mapped(pixels, regions, labels, closed, rows, np.ones(len(scenes)))
    return Mapped(
        torch.cat([made.pixels, pixels]),
        torch.cat([made.regions, regions]),
        torch.cat([made.labels, labels], dim=1),
        closed,
        torch.cat([made.rows, rows], dim=1),
        np.concatenate([made.aspects, np.ones(len(scenes))]),
    )
