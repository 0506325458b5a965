"""COCO polygons of a region: exact along the sides of its pixels, or through their centres, by how a reader fills them.

Readers that take a pixel for a square (pycocotools, a canvas) fill what lies within a polygon: `side_polygons`. Readers
that take it for a point (OpenCV, and what fills by it, as supervision and the YOLO tools) paint the polygon's own line
as well: `center_polygons`. Read in the other way, a region grows or shrinks by half a pixel all around.

Pixels that touch at a corner are one piece, as in `coco.regions`, and each piece is one polygon: a hole is reached by a
line without width from the outline above it, there and back (a keyhole).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.formats.schema import Polygon, Region

# A side of a pixel, walked with the inside on the right: the corner (y, x) where it begins, and its direction.
Side = tuple[int, int, int]
Point = tuple[int, int]  # x, y

# Steps along the sides as (dy, dx), each turned right from the one before: east, south, west, north.
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
# From the corner where a side begins to the index of its pixel, as (dy, dx), by direction.
_TO_PIXEL = ((0, 0), (0, -1), (-1, -1), (-1, 0))
# px, from the index of a pixel to the point that is written for it. Readers that round come back to the index, as do
# those that cut off decimals (of YOLO's labels, which are fractions of the image's size).
_CENTER = 0.25


def region_polygons(
    regions: Sequence[Region],
    id_map: NDArray[np.int32],
    polygons_of: Callable[[NDArray[np.bool_], int, int], list[Polygon]],
) -> list[list[Polygon]]:
    """What takes the place of each region's RLE in a file of polygons, by `side_polygons` or `center_polygons`.

    `id_map` (H, W): 0 = other, i = the pixels of regions[i - 1].
    """
    found = []
    for number, region in enumerate(regions, start=1):
        left, top, width, height = region.bbox
        found.append(polygons_of(id_map[top : top + height, left : left + width] == number, left, top))
    return found


def side_polygons(inside: NDArray[np.bool_], left: int = 0, top: int = 0) -> list[Polygon]:
    """[x0, y0, x1, y1, …] in px of every piece of a mask (H, W) whose corner is at (`left`, `top`), the largest first.

    Corners of polygons are corners of pixels; each goes clockwise. pycocotools decodes them to the very mask.
    """
    corner = np.array([left, top])
    return [(points + corner).ravel().tolist() for points in _outlines(inside, centers=False)]


def center_polygons(inside: NDArray[np.bool_], left: int = 0, top: int = 0) -> list[Polygon]:
    """The same through the pixels on the border. `cv2.fillPoly` of each, rounded, paints the very mask.

    A polygon has three points at least, as COCO asks: those of a single pixel are one.
    """
    center = np.array([left, top]) + _CENTER
    found = []
    for points in _outlines(inside, centers=True):
        missing = points[:1].repeat(max(0, 3 - len(points)), axis=0)
        found.append((np.concatenate([points, missing]) + center).ravel().tolist())
    return found


def _outlines(inside: NDArray[np.bool_], *, centers: bool) -> list[NDArray[np.int64]]:
    """The points (N, 2) as x, y of every piece, its holes joined to it, the largest first."""
    rings = _rings(inside)
    # Points to visit, there and back, before that of a side.
    detours: dict[Side, list[Point]] = {}

    def walked(ring: Sequence[Side]) -> list[Point]:
        return [point for side in ring for point in (*detours.get(side, ()), _point(side, centers))]

    # A hole's ring begins at the corner of its topmost pixel, the leftmost if there are several. Straight above is a
    # side of the outline, or of a hole that begins higher up: the lowest is joined first.
    for hole, _ in sorted((ring for ring in rings if ring[1] < 0), reverse=True):
        y, x, _ = hole[0]
        height = int(np.argmin(np.r_[inside[:y, x][::-1], False]))
        side = (y - height, x, 0)
        points = walked(hole)
        bridge = points[-1] if centers else points[0]
        detours.setdefault(side, []).extend([_point(side, centers), bridge, *points, bridge])
    pieces = sorted((ring for ring in rings if ring[1] > 0), key=lambda ring: -ring[1])
    return [_corners(np.array(walked(ring))) for ring, _ in pieces]


def _point(side: Side, centers: bool) -> Point:
    y, x, direction = side
    dy, dx = _TO_PIXEL[direction] if centers else (0, 0)
    return x + dx, y + dy


def _corners(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """The points (N, 2) of a closed line without those that the next one repeats, or that lie on a straight way."""
    moved = (points != np.roll(points, -1, axis=0)).any(axis=1)
    if not moved.any():
        return points[:1]
    points = points[moved]
    ways = np.sign(np.roll(points, -1, axis=0) - points)
    return points[(ways != np.roll(ways, 1, axis=0)).any(axis=1)]


def _rings(inside: NDArray[np.bool_]) -> list[tuple[list[Side], int]]:
    """The closed lines around a mask's pieces, and around their holes: their sides, and twice the area within.

    The area is below 0 around a hole. The first side is the smallest: of a piece the top of its highest pixel.
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
    return [_walk(sides, start) for start in sorted(sides) if start in sides]


def _walk(sides: set[Side], start: Side) -> tuple[list[Side], int]:
    """Take one closed line out of `sides`, from `start` on, and twice its area."""
    ring, doubled_area = [], 0
    side = start
    while side in sides:
        sides.remove(side)
        ring.append(side)
        y, x, direction = side
        dy, dx = _STEPS[direction]
        doubled_area += x * dy - y * dx
        # Where pixels touch at a corner, a left turn stays with this piece, as they are one.
        turns = ((y + dy, x + dx, turn % 4) for turn in (direction - 1, direction, direction + 1))
        side = next((turn for turn in turns if turn in sides), start)
    return ring, doubled_area
