"""Views of photographed panoramas whose parts were named by hand: the only label maps of photographs that are free."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from training.free.choose import ANIMALS, OUTDOORS, PERSONS, VEHICLES, Kind, SceneMaker
from training.free.cutouts import Cutout
from training.free.dataset import MOST_LABELS, QUALITY, Row
from training.free.panoramas import UNKNOWN, read_panorama, view
from training.free.scenes import Scene
from training.free.textures import Rng, tinted

SOURCE = "places"
SKY = "sky"
# package, panorama, label, corners "x y x y …": areas, the later ones over the earlier ones; no label: unknown again.
TABLE = Path(__file__).with_name("places.csv")
SIZE = (1024, 512)  # px, width and height, of the panorama that the corners are meant on
# Folder of each package that has panoramas, and what follows their names.
FILES = {
    "@pmndrs/assets": ("@pmndrs/assets/package/hdri", ".exr.js"),
    "blender-data": ("blender-data/usr/share/blender/datafiles/studiolights/world", ".exr"),
}
# Places with many labels are looked at so many times as often as those of sky and ground alone.
FULL, LABELS = 3.0, 5
# What regions go by at times, as in broader.csv.
OTHER_NAMES = {
    "building": "house;buildings",
    "bush": "vegetation",
    "grass": "lawn;meadow",
    "path": "gravel",
    "pavement": "sidewalk",
    "road": "roadway",
    "rock": "stone",
    "sea": "water",
    "tree": "vegetation;trees",
}
# What a view shows across, in radians, and how far it looks up or down, usually and at times.
ACROSS, TILT, STEEP, OFTEN_STEEP = (0.9, 2.0), (-0.05, 0.2), (-0.7, 0.5), 0.15


@dataclass(frozen=True, eq=False)
class Place:
    """A panorama, and what is where in it."""

    image: np.ndarray  # (H, W, 3) float32, 0 … 255
    regions: np.ndarray  # (H, W) uint8: indices of `labels`, MOST_LABELS is unknown
    labels: tuple[str, ...]

    @property
    def odds(self) -> float:
        return FULL if len(np.unique(self.regions)) > LABELS else 1.0

    def shows(self, label: str) -> bool:
        return label in self.labels and bool((self.regions == self.labels.index(label)).any())


def read_areas(table: Path = TABLE) -> dict[tuple[str, str], list[tuple[str, np.ndarray]]]:
    """(package, panorama) → its areas in order: label and corners (N, 2) int32 in px."""
    areas: dict[tuple[str, str], list[tuple[str, np.ndarray]]] = {}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            corners = np.array(row["corners"].split(), np.int32).reshape(-1, 2)
            areas.setdefault((row["package"], row["panorama"]), []).append((row["label"], corners))
    return areas


def read_places(packages: Path) -> list[Place]:
    """The panoramas of TABLE; `packages` holds the unpacked packages. Needs the package OpenEXR."""
    areas = read_areas()
    labels = tuple(sorted({label for of in areas.values() for label, _ in of if label}))
    places = []
    for (package, name), of in areas.items():
        folder, suffix = FILES[package]
        image = cv2.resize(read_panorama(packages / folder / f"{name}{suffix}"), SIZE, interpolation=cv2.INTER_CUBIC)
        places.append(Place(image.clip(0, 255), painted(of, labels), labels))
    return places


def painted(areas: list[tuple[str, np.ndarray]], labels: tuple[str, ...]) -> np.ndarray:
    """(H, W) uint8 of a panorama: the index of the label of the last of `areas` at each pixel, else MOST_LABELS."""
    regions = np.full(SIZE[::-1], MOST_LABELS, np.uint8)
    for label, corners in areas:
        cv2.fillPoly(regions, [corners], labels.index(label) if label else MOST_LABELS)
    return regions


def write_places(folder: Path, places: Sequence[Place], count: int, side: int) -> list[Row]:
    """`count` square views of `places` with label maps, `side` px; view i is the same for the same panoramas."""
    images, maps = (folder / of / SOURCE for of in ("images", "labels"))
    for some in (images, maps):
        some.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(count):
        rng = np.random.default_rng([index, *SOURCE.encode()])
        place = _drawn(places, rng)
        image, regions, _ = look(place, (side, side), rng)
        Image.fromarray(image.round().astype(np.uint8)).save(images / f"{index:05}.jpg", quality=QUALITY)
        Image.fromarray(regions).save(maps / f"{index:05}.png", optimize=True)
        areas = np.bincount(regions.ravel(), minlength=MOST_LABELS + 1)[:MOST_LABELS]
        shown = [place.labels[i] for i in np.argsort(-areas, kind="stable") if areas[i]]
        rows.append((f"images/{SOURCE}/{index:05}.jpg", ";".join(shown), ""))
    (maps / "names.txt").write_text("\n".join(places[0].labels) + "\n", encoding="utf-8")
    return rows


def outdoors(places: Sequence[Place], cutouts: Sequence[Cutout]) -> Kind:
    """Composites of things of known size in those of `places` that have a sky."""
    standing = {cutout.label for cutout in cutouts if cutout.height_cm}
    groups = (VEHICLES, VEHICLES, PERSONS, PERSONS, OUTDOORS, ANIMALS)
    things = tuple(tuple(sorted(standing & set(group))) for group in groups)
    open_air = [place for place in places if place.shows(SKY)]
    return Kind("place_outdoors", place_scene(open_air), tuple(group for group in things if group), 5, 0.0)


def place_scene(places: Sequence[Place]) -> SceneMaker:
    """A maker of scenes: a random view of a random one of `places`."""

    def scene(rng: Rng, size_hw: tuple[int, int]) -> Scene:
        place = _drawn(places, rng)
        image, regions, horizon = look(place, size_hw, rng)
        names = [*place.labels, UNKNOWN]
        indices = np.minimum(regions, len(place.labels)).astype(np.int32)
        return Scene(tinted(rng, image, 0.05), indices, names, horizon, rng.uniform(140, 180))

    return scene


def look(place: Place, size_hw: tuple[int, int], rng: Rng) -> tuple[np.ndarray, np.ndarray, float]:
    """A random view: (H, W, 3) float32, 0 … 255, its regions (H, W) uint8, and the row of the horizon."""
    across, turn = rng.uniform(*ACROSS), rng.uniform(0, 2 * np.pi)
    tilt = rng.uniform(*STEEP) if rng.random() < OFTEN_STEEP else rng.normal(*TILT)
    image = view(place.image, size_hw, across, turn, tilt).clip(0, 255)
    regions = view(place.regions, size_hw, across, turn, tilt, interpolation=cv2.INTER_NEAREST)
    focal = size_hw[1] / 2 / np.tan(across / 2)
    return image, regions, float(size_hw[0] / 2 + focal * np.tan(tilt))


def _drawn(places: Sequence[Place], rng: Rng) -> Place:
    odds = np.array([place.odds for place in places])
    return places[rng.choice(len(places), p=odds / odds.sum())]
