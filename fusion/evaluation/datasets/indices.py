"""Label maps of class indices → truth and regions, checked against the image and the classes there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.evaluation.datasets.base import Dataset, Sample
from fusion.evaluation.metrics import UNKNOWN
from ground.images import read_image
from ovseg.labels import Label

NO_CLASS = -2  # in a table of ids: no class has this index

Decode = Callable[[Path], NDArray[np.generic]]  # a label map's file → its array


def id_table(ids: Mapping[int, int], size: int = 256) -> NDArray[np.int32]:
    """(size,) int32: the id of every index below `size`, and NO_CLASS for those that have none."""
    table = np.full(size, NO_CLASS, np.int32)
    table[list(ids)] = list(ids.values())
    return table


def read_png(path: Path) -> NDArray[np.generic]:
    """The values of a PNG as they are stored: (H, W) for grey or a palette, (H, W, 3) for RGB.

    ValueError with the path on what cannot be read.
    """
    try:
        with Image.open(path) as label_map:
            return np.array(label_map)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: label map cannot be decoded: {' '.join(str(error).split())}") from None


def indexed(
    labels: tuple[Label, ...],
    pairs: Mapping[str, tuple[Path, Path]],
    ids: NDArray[np.int32],
    background: tuple[Label, ...] = (),
    decode: Decode = read_png,
) -> Dataset:
    """The data set of `pairs`, name → image and label map, whose indices mean `ids` (N,).

    `decode` reads a label map. It tells no objects apart: regions are the classes.
    """

    def load(name: str) -> Sample:
        image, label_map = pairs[name]
        pixels = read_image(image)
        truth = truth_of(sized(decode(label_map), pixels, label_map), ids, label_map)
        return Sample(name, pixels, truth, class_regions(truth))

    return Dataset(labels, tuple(pairs), load, background)


def sized(values: NDArray[np.generic], image: NDArray[np.uint8], path: Path) -> NDArray[np.int32]:
    """(H, W) int32 indices of a label map; ValueError with `path` unless they are whole and of the image's size."""
    size = image.shape[:2]
    if values.dtype.kind not in "iu" or values.shape != size:
        raise ValueError(f"{path} is {values.shape} {values.dtype}, expected indices of its image's size {size}")
    return values.astype(np.int32)


def truth_of(indices: NDArray[np.int32], ids: NDArray[np.int32], path: Path) -> NDArray[np.int32]:
    """(H, W) int32: `ids` (N,) of the indices 0 … N-1; ValueError with `path` on an index whose id is NO_CLASS."""
    inside = (indices >= 0) & (indices < len(ids))
    truth = np.where(inside, ids[np.where(inside, indices, 0)], NO_CLASS).astype(np.int32)
    if (truth == NO_CLASS).any():
        found = int(indices[truth == NO_CLASS][0])
        raise ValueError(f"{path} has the class {found}, expected one of {_ranges(np.flatnonzero(ids != NO_CLASS))}")
    return truth


def class_regions(truth: NDArray[np.int32]) -> NDArray[np.int32]:
    """(H, W) int32: each class as one region, with ids from 0; what is none of them is unknown."""
    return np.where(truth > 0, truth - 1, UNKNOWN).astype(np.int32)


def _ranges(numbers: NDArray[np.int64]) -> str:
    """Rising numbers as text: "0…9, 255"."""
    groups = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(group[0]) if len(group) == 1 else f"{group[0]}…{group[-1]}" for group in groups)
