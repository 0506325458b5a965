"""YOLO's segmentation labels: a row per connected piece, `class x1 y1 x2 y2 …`, in fractions of the image's sides.

Classes are category ids minus one. Polygons run through the pixels of the border (`polygons.center_polygons`): readers
that fill by OpenCV, as ultralytics does, draw the very masks again, be it that they cut off decimals or round. A hole
is reached by a line without width. A label of stuff has a row for each of its pieces, which ultralytics' own converter
would tie together with lines that its loader paints.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from fusion.formats.coco import region_mask
from fusion.formats.polygons import center_polygons
from fusion.formats.schema import ImageRecord
from ovseg.labels import Label

# Suffixes of images that ultralytics looks for.
SUFFIXES = (
    ".avif",
    ".bmp",
    ".heic",
    ".heif",
    ".jp2",
    ".jpeg",
    ".jpg",
    ".mpo",
    ".png",
    ".tif",
    ".tiff",
    ".webp",
)
# px, from the index of a pixel to its point: nearly the centre, so that readers that cut off decimals stay on diagonals
# between two points as well (ultralytics puts a thousand points on each line); below it, so that rounding comes back.
_CENTER = 0.499
_HEAD = """\
# `yolo segment train data=PATH_OF_THIS_FILE` reads it as it is. train and val are the same images: split them yourself.
"""


def data_yaml(labels: Sequence[Label]) -> bytes:
    """data.yaml: images/ and labels/ lie beside it; class i is labels[i]."""
    data = {"train": "images", "val": "images", "names": {i: label.name for i, label in enumerate(labels)}}
    return (_HEAD + yaml.safe_dump(data, allow_unicode=True, sort_keys=False)).encode("utf-8")


def is_ours(data: bytes) -> bool:
    """Whether a data.yaml is one of these."""
    return data.startswith(_HEAD.encode("utf-8"))


def label_rows(record: ImageRecord) -> bytes:
    """labels/NAME.txt of an image: the pieces of its regions, in their order, the largest piece of each first."""
    height, width = record.size_hw
    rows = []
    for region in record.regions:
        left, top, *_ = region.bbox
        for polygon in center_polygons(region_mask(region), left, top):
            points = (np.floor(np.reshape(polygon, (-1, 2))) + _CENTER) / (width, height)
            rows.append(f"{region.category_id - 1} " + " ".join(map("%.8f".__mod__, points.ravel().tolist())) + "\n")
    return "".join(rows).encode("ascii")


def drawn(text: str, size_hw: tuple[int, int]) -> tuple[NDArray[np.int32], int]:
    """(the class of each pixel (H, W) plus 1, 0 where there is none; px that were drawn more than once).

    As ultralytics reads it: fractions as float32, decimals of pixels cut off. ValueError, in one line, on other text.
    """
    height, width = size_hw
    classes, times = np.zeros(size_hw, np.int32), np.zeros(size_hw, np.int32)
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            index, points = int(line.split()[0]), np.array(line.split()[1:], np.float32)
        except (ValueError, IndexError):
            raise ValueError(f"row {number} is no class and coordinates") from None
        if len(points) < 6 or len(points) % 2:
            raise ValueError(f"row {number} has {len(points)} coordinates, expected x, y of three corners or more")
        if index < 0 or not ((points >= 0) & (points <= 1)).all():
            raise ValueError(f"row {number} has a class below 0, or coordinates that are not in 0..1")
        corners = (points.reshape(-1, 2) * (width, height)).astype(np.int32)
        left, top = corners.min(axis=0)
        right, bottom = np.minimum(corners.max(axis=0) + 1, (width, height))
        piece = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(piece, [corners - (left, top)], 1)
        classes[top:bottom, left:right][piece > 0] = index + 1
        times[top:bottom, left:right] += piece
    return classes, int(np.count_nonzero(times > 1))
