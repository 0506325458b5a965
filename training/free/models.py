"""Furniture, vehicles, plants, animals and persons as 3D models, seen from several sides: cut-outs of true size.

The catalogues (.sh3f) are those of Debian's sweethome3d-furniture; each is a zip with one properties file.
"""

from __future__ import annotations

import io
import logging
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.free.cutouts import Cutout
from training.free.names import Noun, Nouns
from training.free.render import read_mtl, read_obj, sample_points, view

# Licence of each catalogue, as Debian's copyright file says it.
CATALOGUES = {
    "Reallusion": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0",
    "Scopia": "CC-BY-3.0",
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
}
POINTS, SIZE = 300_000, 224
# Larger models take too long to read: megabytes of text.
LARGEST = 6e6
# Smaller things are switches and plugs, which no image shows: cm.
SMALLEST = 4.0
# Views of what is wanted most, and of all else.
MANY, FEW = 10, 3
WANTED = frozenset(
    ["man", "woman", "boy", "girl", "person", "car", "bus", "truck", "van", "motorcycle", "bicycle", "boat", "rowboat"]
) | frozenset(["dog", "cat", "horse", "rabbit", "deer", "tree", "palm tree", "hedge", "bush", "rock", "fence"])
# Words of names that are no things to be found in an image.
LEFT_OUT = re.compile(
    r"plug|socket|switch|\barrow|parking|crossing|slot|€|\\u|conditioning|\bunit$|game|living room|tower|station|"
    r"stand$|server|strip|player|device|base$|press$|holder|maker|\bscale|puff|flipper|island|sidewalk|detector|"
    r"swimming pool|rails$|brewer",
    re.I,
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A model of a catalogue."""

    name: str
    path: str  # of the OBJ file in the zip
    size_cm: tuple[float, float, float]  # width, height, depth
    rotation: np.ndarray  # (3, 3): turns the model upright
    on_wall: bool


def read_catalogue(text: str) -> list[Entry]:
    """The models of a PluginFurnitureCatalog.properties."""
    values: dict[int, dict[str, str]] = {}
    for key, index, value in re.findall(r"^(\w+)#(\d+)\s*=\s*(.*?)\s*$", text, re.M):
        values.setdefault(int(index), {})[key] = value
    entries = []
    for entry in values.values():
        if not {"name", "model", "width", "depth", "height"} <= entry.keys():
            continue
        size = (float(entry["width"]), float(entry["height"]), float(entry["depth"]))
        rotation = np.array(entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split(), np.float32).reshape(3, 3)
        flat = entry.get("doorOrWindow") == "true" or float(entry.get("elevation", 0)) > 60
        entries.append(Entry(entry["name"], entry["model"].lstrip("/"), size, rotation, flat))
    return entries


def model_cutouts(folder: Path, source: str, nouns: Nouns) -> Iterator[tuple[Cutout, np.ndarray]]:
    """Views of all models of the catalogues in `folder` that have a name; the same for the same packages."""
    for catalogue, licence in CATALOGUES.items():
        with zipfile.ZipFile(folder / f"{catalogue}.sh3f") as archive:
            text = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
            for entry in read_catalogue(text):
                noun = None if LEFT_OUT.search(entry.name) else nouns.noun(entry.name)
                if noun is None or max(entry.size_cm) < SMALLEST or archive.getinfo(entry.path).file_size > LARGEST:
                    continue
                stem = f"{catalogue}-{Path(entry.path).stem}".lower()
                try:
                    images = _views(archive, entry, noun)
                except (ValueError, KeyError, IndexError, OSError) as error:
                    log.warning("left out the model %s: %s", entry.path, error)
                    continue
                place = "wall" if entry.on_wall else "ground"
                for number, image in enumerate(images):
                    path = f"{source}/{stem}-{number:02}.png"
                    yield Cutout(path, noun.word, ";".join(noun.broad), licence, entry.size_cm[1], place), image


def _views(archive: zipfile.ZipFile, entry: Entry, noun: Noun) -> list[np.ndarray]:
    folder = posixpath.dirname(entry.path)
    text = archive.read(entry.path).decode("latin-1")
    library = re.search(r"^mtllib\s+(.*?)\s*$", text, re.M)
    names = set(archive.namelist())
    known = library is not None and f"{folder}/{library[1]}" in names
    materials = read_mtl(archive.read(f"{folder}/{library[1]}").decode("latin-1")) if library and known else {}

    def image_of(name: str) -> np.ndarray | None:
        path = f"{folder}/{name}"
        return np.asarray(Image.open(io.BytesIO(archive.read(path))).convert("RGB")) if path in names else None

    mesh = read_obj(text)
    upright = mesh.vertices @ entry.rotation.T
    mesh.vertices = upright * (np.array(entry.size_cm, np.float32) / np.maximum(np.ptp(upright, axis=0), 1e-6))
    rng = np.random.default_rng(zlib.crc32(entry.path.encode()))
    points = sample_points(mesh, materials, image_of, POINTS, rng)
    wanted = noun.word in WANTED or not WANTED.isdisjoint(noun.broad)
    count = MANY if wanted else FEW
    widest = 0.9 if entry.on_wall else np.pi
    turns = np.linspace(-widest, widest, count, endpoint=entry.on_wall) + rng.uniform(-0.2, 0.2, count)
    lights = rng.uniform((-1, 0.3, 0.3), (1, 1, 1), (count, 3))
    return [view(points, SIZE, turn, rng.uniform(0.0, 0.35), light) for turn, light in zip(turns, lights, strict=True)]
