"""COCO polygons: the outlines of a region along the sides of its pixels, so that they decode to the same pixels.

A COCO polygon cannot hold a hole: holes are counted, and lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_codec

from fusion.formats.schema import Outline, Region

# Steps along the sides of pixels with the inside on the right, as (dy, dx), each turned right from the one before.
# East, south, west, north.
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def region_outlines(regions: Sequence[Region], id_map: NDArray[np.int32]) -> tuple[list[Outline], int]:
    """(what takes the place of each region's RLE and area in a file of polygons, the number of holes that are lost).

    `id_map` (H, W): 0 = other, i = the pixels of regions[i - 1]. The area is that of the polygons: with holes filled.
    """
    found, lost = [], 0
    for number, region in enumerate(regions, start=1):
        left, top, width, height = region.bbox
        inside = id_map[top : top + height, left : left + width] == number
        polygons, holes = outlines(inside, left, top)
        area = int(rle_codec.area(rle_codec.merge(rle_codec.frPyObjects(polygons, *id_map.shape))))
        found.append(Outline(segmentation=polygons, area=area))
        lost += holes
    return found, lost


def outlines(inside: NDArray[np.bool_], left: int = 0, top: int = 0) -> tuple[list[list[int]], int]:
    """(polygons [x0, y0, x1, y1, …] in px, number of holes) of a mask (H, W) whose corner is at (`left`, `top`).

    Corners of polygons are corners of pixels, each polygon goes clockwise around pixels that are joined by
    their sides. pycocotools decodes them to `inside` with its holes filled.
    """
    padded = np.pad(inside, 1)
    here = padded[1:-1, 1:-1]
    # Sides with the outside beyond them: where each begins as a corner (y, x), by direction
    beyond = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    begins = ((0, 0), (0, 1), (1, 1), (1, 0))
    sides = {
        (int(y) + dy, int(x) + dx, direction)
        for direction, (other, (dy, dx)) in enumerate(zip(beyond, begins, strict=True))
        for y, x in zip(*np.nonzero(here & ~other), strict=True)
    }
    polygons, holes = [], 0
    # A polygon's first side is the top of its highest pixel, so that it begins at a corner.
    for start in sorted(sides):
        if start not in sides:
            continue
        corners, doubled_area = _walk(sides, start)
        if doubled_area > 0:
            polygons.append([value for y, x in corners for value in (x + left, y + top)])
        else:
            holes += 1
    return polygons, holes


def _walk(sides: set[tuple[int, int, int]], start: tuple[int, int, int]) -> tuple[list[tuple[int, int]], int]:
    """Take one closed outline out of `sides`: its corners (y, x), and twice its area, below 0 around a hole."""
    corners, doubled_area = [], 0
    y, x, direction = start
    previous = None
    while (y, x, direction) in sides:
        sides.remove((y, x, direction))
        if direction != previous:
            corners.append((y, x))
        previous = direction
        dy, dx = _STEPS[direction]
        doubled_area += x * dy - y * dx
        y, x = y + dy, x + dx
        # Where two outlines touch at a corner, a right turn stays with this one.
        turns = (direction + 1, direction, direction - 1)
        direction = next((turn % 4 for turn in turns if (y, x, turn % 4) in sides), direction)
    return corners, doubled_area
