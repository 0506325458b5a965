"""Label maps as PNGs of class indices → truth and regions, checked against the image and the classes there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.evaluation.datasets.base import Sample
from fusion.evaluation.metrics import UNKNOWN
from ground.images import read_image

NO_CLASS = -2  # in a table of ids: no class has this index


def read_indices(path: Path, size_hw: tuple[int, ...]) -> NDArray[np.int32]:
    """(H, W) int32 indices of a PNG with a palette, or with 8 or 16 bits of grey.

    ValueError with the path on what cannot be read, has other colours or is not of its image's size.
    """
    try:
        with Image.open(path) as label_map:
            indices = np.asarray(label_map)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: label map cannot be decoded: {' '.join(str(error).split())}") from None
    if indices.dtype not in (np.uint8, np.uint16, np.int32) or indices.shape != size_hw:
        raise ValueError(f"{path} is {indices.shape} {indices.dtype}, expected indices of its image's size {size_hw}")
    return indices.astype(np.int32)


def truth_of(indices: NDArray[np.int32], ids: NDArray[np.int32], path: Path) -> NDArray[np.int32]:
    """(H, W) int32: `ids` (N,) of the indices 0 … N-1; ValueError with `path` on an index whose id is NO_CLASS."""
    inside = (indices >= 0) & (indices < len(ids))
    truth = np.where(inside, ids[np.where(inside, indices, 0)], NO_CLASS).astype(np.int32)
    if (truth == NO_CLASS).any():
        known = np.flatnonzero(ids != NO_CLASS)
        found = int(indices[truth == NO_CLASS][0])
        raise ValueError(f"{path} has the class {found}, expected one of {_ranges(known)}")
    return truth


def sample_of(name: str, image: Path, label_map: Path, ids: NDArray[np.int32]) -> Sample:
    """The sample of an image file and its label map; label maps tell no objects apart: regions are the classes."""
    pixels = read_image(image)
    truth = truth_of(read_indices(label_map, pixels.shape[:2]), ids, label_map)
    return Sample(name, pixels, truth, class_regions(truth))


def class_regions(truth: NDArray[np.int32]) -> NDArray[np.int32]:
    """(H, W) int32: each class as one region, with ids from 0; what is none of them is unknown."""
    return np.where(truth > 0, truth - 1, UNKNOWN).astype(np.int32)


def _ranges(numbers: NDArray[np.int64]) -> str:
    """Rising numbers as text: "0…9, 255"."""
    groups = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(group[0]) if len(group) == 1 else f"{group[0]}…{group[-1]}" for group in groups)
