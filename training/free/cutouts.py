"""Cut-outs: single things with a transparent background, their names and what is known of them, as a folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

# Where a thing is found: on the ground, on a wall, above all, or anywhere.
PLACES = ("ground", "wall", "air", "any")


@dataclass(frozen=True)
class Cutout:
    """A thing without what is about it; the image is at `path`, in red, green, blue and opacity."""

    path: str  # relative to the folder of cut-outs: SOURCE/NAME.png
    label: str
    broad: str  # broader words, separated by `;`
    licence: str
    height_cm: float  # of the thing itself; 0 if unknown
    place: str  # of PLACES

    @property
    def source(self) -> str:
        return self.path.partition("/")[0]


def save_cutouts(folder: Path, source: str, found: Iterable[tuple[Cutout, np.ndarray]]) -> list[Cutout]:
    """Writes the images (H, W, 4) uint8 and the table SOURCE.csv; a source that is complete is not made again."""
    table = folder / f"{source}.csv"
    if not table.exists():
        (folder / source).mkdir(parents=True, exist_ok=True)
        cutouts = []
        for cutout, image in found:
            Image.fromarray(image).save(folder / cutout.path)
            cutouts.append(cutout)
        with table.with_suffix(".part").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Cutout)])
            writer.writeheader()
            writer.writerows(asdict(cutout) for cutout in cutouts)
        # Last: its presence says that the rest is complete.
        table.with_suffix(".part").replace(table)
    return read_cutouts(table)


def read_cutouts(table: Path) -> list[Cutout]:
    """The cut-outs of SOURCE.csv."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [Cutout(path, label, broad, licence, float(cm), place) for path, label, broad, licence, cm, place in rows]


def trimmed(image: np.ndarray, size: int) -> np.ndarray | None:
    """(h, w, 4) uint8: `image` (H, W, 4) cut to its visible part, at most `size` px long; None if little is visible."""
    rows, columns = np.nonzero(image[..., 3] > 127)
    if len(rows) < 64:
        return None
    part = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = part.shape[:2]
    if min(height, width) < 8:
        return None
    scale = min(1.0, size / max(height, width))
    new = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(part).resize(new, Image.Resampling.LANCZOS))
