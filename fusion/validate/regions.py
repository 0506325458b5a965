"""The segmentations of an image, decoded → whether they are what their entries say, and a map of who owns which px."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_codec

from fusion.formats.schema import INSTANCES, RESULTS
from fusion.validate.faults import Check, Fault, Json
from fusion.validate.images import ImageFacts

# Whole numbers of RLEs, each of a last character and those before it: pycocotools reads on behind one that is cut off.
_COUNTS = re.compile("(?:[P-o]{0,6}[0-O])+")


@dataclass(frozen=True, eq=False)
class DecodedRegion:
    """A decoded segmentation."""

    inside: NDArray[np.bool_]  # (h, w), within its box
    area: int  # px
    box_xywh: list[int]

    @property
    def window(self) -> tuple[slice, slice]:
        """The box as (rows, columns)."""
        left, top, width, height = self.box_xywh
        return slice(top, top + height), slice(left, left + width)

    def has_pixels_of(self, other: DecodedRegion) -> bool:
        """Whether both are the same mask."""
        return self.box_xywh == other.box_xywh and np.array_equal(self.inside, other.inside)


def paint(image: ImageFacts) -> Check[NDArray[np.int32] | None]:
    """The map (H, W) of the annotations' exact masks, 0 = none, i = annotations[i - 1]; None unless all are known.

    Exact are RLEs: those of instances.json or, where that has polygons, of results.json.
    """
    owners = np.zeros(image.size_hw, np.int32)
    known = True
    for index, annotation in enumerate(image.annotations):
        where = f"annotation {annotation['id']}"
        polygons = isinstance(annotation["segmentation"], list)
        shown = yield from _read_region(INSTANCES, where, annotation, image)
        exact = None if polygons else shown
        if image.results is not None:
            result = image.results[index]
            listed: DecodedRegion | None = shown
            if result["segmentation"] != annotation["segmentation"]:
                listed = yield from _read_region(RESULTS, f"entry of {where}", result, image)
            elif shown is not None:
                yield from _measure(RESULTS, f"entry of {where}", result, shown)
            if polygons and isinstance(result["segmentation"], dict):
                exact = listed
        if exact is None:
            known = False
            continue
        if polygons and shown is not None and not shown.has_pixels_of(exact):
            yield Fault(INSTANCES, f"{where}: its polygons are not its mask in {RESULTS}")
        before = owners[exact.window][exact.inside]
        if before.any():
            other = image.annotations[int(before.max()) - 1]["id"]
            overlap = f"{np.count_nonzero(before)} px of it belong to others as well, as to annotation {other}"
            yield Fault(RESULTS if polygons else INSTANCES, f"{where}: {overlap}; expected no overlap")
        owners[exact.window][exact.inside] = index + 1
    return owners if known else None


def _read_region(path: str, where: str, entry: Json, image: ImageFacts) -> Check[DecodedRegion | None]:
    """The segmentation of an annotation, its area and box compared; None, and a fault, if it cannot be decoded."""
    try:
        if isinstance(entry["segmentation"], dict):
            region = decode_rle(entry["segmentation"], image.size_hw)
        else:
            region = decode_polygons(entry["segmentation"], image.size_hw, centers=image.centers)
    except ValueError as error:
        yield Fault(path, f"{where}: {error}")
        return None
    yield from _measure(path, where, entry, region)
    return region


def _measure(path: str, where: str, entry: Json, region: DecodedRegion) -> Iterator[Fault]:
    if entry["area"] != region.area:
        yield Fault(path, f"{where}: area is {entry['area']}, expected {region.area}, the px of the decoded mask")
    if entry["bbox"] != region.box_xywh:
        yield Fault(path, f"{where}: bbox is {entry['bbox']}, expected {region.box_xywh}, that of the decoded mask")


def decode_rle(segmentation: Json, size_hw: tuple[int, int]) -> DecodedRegion:
    """ValueError on anything but the one RLE that pycocotools gives a mask of this size."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != list(size_hw):
        raise ValueError(f"RLE size is {reprlib.repr(size)}, expected {list(size_hw)} (height, width) of the image")
    if not isinstance(counts, str):
        raise ValueError(f"RLE counts are {reprlib.repr(counts)}, expected text")
    runs = _runs(counts) if _COUNTS.fullmatch(counts) else None
    height, width = size_hw
    if runs is None or runs.sum() != height * width or (runs[1:] < 1).any() or runs[0] < 0:
        raise ValueError(f"RLE counts are {reprlib.repr(counts)}, which do not decode and encode to themselves")
    code = rle_codec.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    if code["counts"] != counts.encode("ascii"):
        raise ValueError(f"RLE counts are {reprlib.repr(counts)}, which do not decode and encode to themselves")
    box = [int(value) for value in rle_codec.toBbox(code)]
    return DecodedRegion(_painted(runs, height, box), int(rle_codec.area(code)), box)


def _runs(counts: str) -> NDArray[np.int64]:
    """The lengths of runs outside, inside, outside, … that COCO's text says, in column-major order.

    Numbers of five bits a character, the lowest first, signed; from the fourth on each is what is more than two before.
    """
    digits = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(digits < 32)
    starts = np.r_[0, ends[:-1] + 1]
    places = np.arange(len(digits)) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((digits & 31) << (5 * places), starts)
    negative = (digits[ends] & 16) > 0
    values -= np.where(negative, np.int64(1) << (5 * (ends - starts + 1)), 0)
    values[1::2], values[2::2] = values[1::2].cumsum(), values[2::2].cumsum()
    return values


def _painted(runs: NDArray[np.int64], height: int, box_xywh: list[int]) -> NDArray[np.bool_]:
    """(h, w) what of a box is inside: all runs inside an image of that height lie in its columns."""
    left, top, box_width, box_height = box_xywh
    places = np.cumsum(runs) - left * height
    steps = np.zeros(box_width * height + 1, np.int8)
    steps[places[0::2][: len(places[1::2])]] += 1  # no two runs begin, or end, at one place
    steps[places[1::2]] -= 1
    inside = np.cumsum(steps[:-1], dtype=np.int8, out=steps[:-1]).reshape(box_width, height)
    return np.ascontiguousarray(inside[:, top : top + box_height].T > 0)


def decode_polygons(polygons: list[Any], size_hw: tuple[int, int], *, centers: bool) -> DecodedRegion:
    """As OpenCV does it if they run through the `centers` of pixels, else as pycocotools does.

    ValueError on anything but lists of corners within the image.
    """
    height, width = size_hw
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2 or not all(map(_is_number, polygon)):
            raise ValueError(f"polygon is {reprlib.repr(polygon)}, expected x, y of three corners or more")
        if not all(0 <= x <= width for x in polygon[::2]) or not all(0 <= y <= height for y in polygon[1::2]):
            raise ValueError(f"polygon {reprlib.repr(polygon)} has corners beyond the {width} x {height} px")
    if not polygons:
        raise ValueError("segmentation is an empty list, expected a polygon")
    if centers:
        mask = np.zeros(size_hw, np.uint8)
        for polygon in polygons:
            cv2.fillPoly(mask, [np.round(np.array(polygon).reshape(-1, 2)).astype(np.int32)], 1)
        return _region(mask, rle_codec.encode(np.asfortranarray(mask)))
    code = rle_codec.merge(rle_codec.frPyObjects(polygons, height, width))
    return _region(rle_codec.decode(code), code)


def _is_number(value: object) -> bool:
    """Whether a value of JSON can be calculated with: it may hold thousands of digits."""
    return (type(value) is int and abs(value) <= 2**53) or isinstance(value, float)


def _region(mask: NDArray[np.uint8], code: Json) -> DecodedRegion:
    box = [int(value) for value in rle_codec.toBbox(code)]
    left, top, width, height = box
    return DecodedRegion(mask[top : top + height, left : left + width] > 0, int(rle_codec.area(code)), box)
