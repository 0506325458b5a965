"""What an image tower learns from: tagged images, and images whose label maps are known since they were made.

Images are kept as squares, whatever they were, as uint8 tensors on the device that trains; a step draws some of them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from toyworld.vocabulary import COLORS, KINDS, OBJECTS, PATTERNS, SKIES, full_name
from training.data import SceneCache
from training.photos import KEPT_ASIDE, Photo, read_photos
from training.tower_views import Drawn
from training.tower_words import Words, words_of

SQUARE = 256  # px
BROADER = "broader.csv"  # of a folder of images: labels and what covers them, such as girl,person
# How often a tag goes by one of its synonyms, only broad tags are looked for, and regions go by other
# names: those of scenes by their full ones, those of composites by broader ones.
SYNONYM, BROAD_ALONE, OTHER_NAMES = 0.4, 0.25, 0.3
# Images that are exhaustively tagged are drawn so many times as often.
EXHAUSTIVE = 3.0
# Height of a view, as a share of the image's, at least: of tagged images, exhaustively tagged ones, and label maps.
SMALLEST, SMALLEST_EXHAUSTIVE, SMALLEST_MAPPED = 0.75, 0.9, 0.25
# All that regions of scenes are called.
TOY_NAMES = (*KINDS, *SKIES, *(full_name(*of, kind) for kind in OBJECTS for of in product(COLORS, PATTERNS)))
REGIONS = 255  # of one label map, at most; this one is unknown
Some = TypeVar("Some", bound="Words | Tagged | Mapped | TagDraw | MapDraw")


@dataclass(frozen=True, eq=False)
class TagDraw(Drawn):
    """Tagged images of a step, and the labels to find in each: first its tags, then what may be there as well."""

    sets: Tensor  # (B,) their sets of tags
    labels: Tensor  # (B, N) int64, -1 where there are fewer
    companions: Tensor  # (B, N) bool
    exhaustive: Tensor  # (B,) bool
    heights: Tensor  # (B, N) where labels usually are: 1 above, -1 below
    unsure: Tensor  # (B, N) bool: labels that may as well be missing


@dataclass(frozen=True, eq=False)
class MapDraw(Drawn):
    """Images with label maps of a step."""

    labels: Tensor  # (B, R + 1) int64: of each region, -1 for none
    closed: Tensor  # (B,) int64: the row of Mapped.closed whose labels are told apart


@dataclass(frozen=True, eq=False)
class Tagged:
    """N tagged images."""

    pixels: Tensor  # (N, S, S, 3) uint8
    sets: NDArray[np.int64]  # (N,) of Words.sets
    aspects: NDArray[np.float64]  # (N,) width to height, as they were

    def __len__(self) -> int:
        return len(self.pixels)

    def odds(self, words: Words) -> NDArray[np.float64]:
        """(N,) how often each is drawn: large sources must not drown small ones; 0 for those kept aside."""
        sources = [words.sets[i].source for i in self.sets]
        names, inverse, counts = np.unique(sources, return_inverse=True, return_counts=True)
        full = {of.source for of in words.sets if of.exhaustive}
        odds = np.array([EXHAUSTIVE if name in full else 1.0 for name in names]) / counts**0.5
        learning = np.arange(len(self)) % KEPT_ASIDE > 0
        some = odds[inverse] * learning
        return some / some.sum()

    def draw(self, words: Words, index: NDArray[np.int64], rng: np.random.Generator) -> TagDraw:
        """Those of `index`, with some of their tags, which at times go by synonyms."""
        rows = []
        for i in index:
            of = words.sets[int(self.sets[i])]
            alone = not of.specific or (of.broad and rng.random() < BROAD_ALONE)
            tags = of.broad if alone else of.specific
            spoken = [_one_of(words.synonyms.get(tag, ()), tag, rng) for tag in tags]
            rows.append((spoken, of.companions, of.exhaustive))
        width = max(len(tags) + len(others) for tags, others, _ in rows)
        labels, companions = np.full((len(index), width), -1), np.zeros((len(index), width), bool)
        for row, flags, (named, others, _) in zip(labels, companions, rows, strict=True):
            row[: len(named) + len(others)] = [*named, *others]
            flags[len(named) : len(named) + len(others)] = True
        exhaustive = np.array([full for _, _, full in rows])
        heights, unsure = words.heights[labels], words.unsure[labels] & companions
        arrays = (index, self.sets[index], labels, companions, exhaustive, heights, unsure)
        index_, *rest = map(torch.from_numpy, arrays)
        smallest = np.where(exhaustive, SMALLEST_EXHAUSTIVE, SMALLEST)
        return TagDraw(index_, self.aspects[index], smallest, *rest)


@dataclass(frozen=True, eq=False)
class Mapped:
    """M images with label maps."""

    pixels: Tensor  # (M, S, S, 3) uint8
    regions: Tensor  # (M, S, S) uint8
    labels: Tensor  # (2, M, R + 1) int64 of each region, by its usual and by its other name; -1: none
    closed: Tensor  # (K, V) bool: labels that their sources tell apart, whatever they mean
    rows: Tensor  # (2, M) int64 of `closed`
    aspects: NDArray[np.float64]  # (M,)

    def __len__(self) -> int:
        return len(self.pixels)

    def draw(self, index: NDArray[np.int64], rng: np.random.Generator | None) -> MapDraw:
        """Those of `index`, by the usual names of their regions or, at times, by the others."""
        full = rng.random(len(index)) < OTHER_NAMES if rng else np.zeros(len(index), bool)
        way, at = torch.from_numpy(full.astype(np.int64)), torch.from_numpy(index)
        smallest = np.full(len(index), SMALLEST_MAPPED)
        labels, rows = self.labels.cpu()[way, at], self.rows.cpu()[way, at]
        return MapDraw(at, self.aspects[index], smallest, labels, rows)


def moved(some: Some, device: torch.device) -> Some:
    """With its tensors on `device`."""
    values = {field.name: getattr(some, field.name) for field in fields(some)}
    on_device: dict[str, Any] = {name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)}
    return replace(some, **on_device)


def prepare(
    images: Path, maps: Sequence[str], run: Path, start: Path, scenes: SceneCache | None
) -> tuple[Words, Tagged | None, Mapped | None]:
    """The words, tagged images and label maps of the folder `images` (see training.photos), kept in `run`.

    `maps`: the sources images/NAME whose label maps in labels/NAME teach. They are composites: of photographs no label
    map is read. `scenes` are more of these.
    """
    photos = read_photos(images)
    made = [photo for photo in photos if Path(photo.source).name in maps]
    if missing := set(maps) - {Path(photo.source).name for photo in made}:
        raise ValueError(f"no images of {', '.join(sorted(missing))} in {images}: expected sources with label maps")
    tagged = [photo for photo in photos if photo.tags and Path(photo.source).name not in maps]
    known, broader = _read_names(images, maps), read_broader(images / BROADER)
    others = sorted({*(TOY_NAMES if scenes else ()), *_all_names(known, broader)})
    words, sets = words_of(run, tagged, others, broader, start)
    lessons = None
    if made or scenes:
        lessons = _mapped(images, made, known, broader, scenes, words, run)
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
    photos = [photo for photo in read_photos(images) if Path(photo.source).name in maps]
    if missing := set(maps) - {Path(photo.source).name for photo in photos}:
        raise ValueError(f"no images of {', '.join(sorted(missing))} in {images}: expected sources with label maps")
    known, broader = _read_names(images, maps), read_broader(images / BROADER)
    words, _ = words_of(run, [], sorted(_all_names(known, broader)), broader, start)
    drawn: list[Photo] = []
    indices: list[NDArray[np.int64]] = []
    for names, most in kinds:
        own = [photo for photo in photos if Path(photo.source).name in names]
        some = np.random.default_rng(0).permutation(len(own))[:most]
        indices.append(np.arange(len(drawn), len(drawn) + len(some)))
        drawn += [own[i] for i in some]
    return words, _mapped(images, drawn, known, broader, None, words, run), indices


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


def _one_of(others: Sequence[int], label: int, rng: np.random.Generator) -> int:
    return others[int(rng.integers(len(others)))] if others and rng.random() < SYNONYM else label


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

    A region of another index is unknown. Copies of the images are kept in `run`.
    """
    return _joined([_lessons(paths, maps, broader, words, run)], torch.zeros(1, len(words.labels), dtype=torch.bool))


def _lessons(
    paths: Sequence[Path],
    maps: Iterable[tuple[Sequence[str], NDArray[np.uint8]]],
    broader: Mapping[str, Sequence[str]],
    words: Words,
    run: Path,
) -> dict[str, Any]:
    """The arrays of Mapped, but for `closed`."""
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
    rows = np.zeros((2, len(paths)), np.int64)
    return {"pixels": pixels.numpy(), "regions": regions, "labels": labels, "rows": rows, "aspects": aspects}


def _read_map(
    images: Path, photo: Photo, known: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    source = Path(photo.source).name
    with Image.open(images / "labels" / source / f"{photo.path.stem}.png") as image:
        return known[source], np.asarray(image)


def _joined(parts: Sequence[dict[str, Any]], closed: Tensor) -> Mapped:
    axes = {"pixels": 0, "regions": 0, "labels": 1, "rows": 1, "aspects": 0}
    whole = {name: np.concatenate([part[name] for part in parts], axis) for name, axis in axes.items()}
    aspects = whole.pop("aspects")
    return Mapped(closed=closed, aspects=aspects, **{name: torch.from_numpy(array) for name, array in whole.items()})


def _mapped(
    images: Path,
    photos: Sequence[Photo],
    known: dict[str, tuple[str, ...]],
    broader: dict[str, tuple[str, ...]],
    scenes: SceneCache | None,
    words: Words,
    run: Path,
) -> Mapped:
    """Composites, then scenes."""
    index = words.index
    # None; kinds of scenes; full names.
    closed = torch.zeros(3, len(words.labels), dtype=torch.bool)
    if scenes:
        closed[1, [index[kind] for kind in KINDS]] = True
        closed[2, [index[name] for name in TOY_NAMES if name not in OBJECTS]] = True
    parts: list[dict[str, Any]] = []
    if photos:
        maps = (_read_map(images, photo, known) for photo in photos)
        parts.append(_lessons([photo.path for photo in photos], maps, broader, words, run))
    if scenes:
        labels = np.full((2, len(scenes), REGIONS + 1), -1)
        for way, of_scenes in enumerate((scenes.kinds, scenes.names)):
            for row, of_scene in enumerate(of_scenes):
                labels[way, row, : len(of_scene)] = [index[name] for name in of_scene]
        rows = np.repeat([[1], [2]], len(scenes), axis=1)
        parts.append(
            {
                "pixels": scenes.images,
                "regions": scenes.label_maps,
                "labels": labels,
                "rows": rows,
                "aspects": np.ones(len(scenes)),
            }
        )
    return _joined(parts, closed)
