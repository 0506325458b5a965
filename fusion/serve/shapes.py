"""Shapes as X-AnyLabeling has them: an answer of the service → a polygon for each piece of each region.

Its client closes a polygon where the first point comes again (anylabeling/views/labeling/shape.py), and fills it by
OpenCV when it exports (label_converter.py there): so polygons run through the centres of pixels, and without a
simplification they are exact.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.formats import coco
from fusion.formats.polygons import center_polygons, region_polygons
from fusion.formats.schema import Polygon
from fusion.serve.service import Answer


def shapes_of(answer: Answer, confidence: float = 0.0, epsilon_factor: float = 0.0) -> list[dict[str, Any]]:
    """A polygon for each piece of each region whose score is at least `confidence`, its first point again at its end.

    `epsilon_factor` of its length is how far a polygon may leave the pixels' centres. Pieces of one region have its
    number as their `group_id`. A piece that has no area as a polygon is left out.
    """
    regions, id_map = coco.regions(answer.result)
    shapes = []
    for number, (region, pieces) in enumerate(
        zip(regions, region_polygons(regions, id_map, center_polygons), strict=True), start=1
    ):
        if region.evidence.score < confidence:
            continue
        rings = [ring for piece in pieces if (ring := _ring(piece, epsilon_factor))]
        label = answer.result.labels[region.category_id - 1].name
        shapes += [_shape(label, ring, region.evidence.score, number if len(rings) > 1 else None) for ring in rings]
    return shapes


def _ring(polygon: Polygon, epsilon_factor: float) -> list[list[float]] | None:
    """The points of a polygon, closed; None if fewer than three differ. Its first point comes in it only once."""
    points: NDArray[Any] = np.array(polygon, np.float32).reshape(-1, 2)
    if epsilon_factor > 0:
        points = cv2.approxPolyDP(points, epsilon_factor * cv2.arcLength(points, True), True).reshape(-1, 2)
    found: list[tuple[float, float]] = [(float(x), float(y)) for x, y in points]
    if len(set(found)) < 3:
        return None
    # The client drops the first point wherever it comes again, as where a hole is joined to the outline.
    times = Counter(found)
    start = next((index for index, point in enumerate(found) if times[point] == 1), 0)
    ring = found[start:] + found[:start]
    return [list(point) for point in (*ring, ring[0])]


def _shape(label: str, ring: list[list[float]], score: float, group: int | None) -> dict[str, Any]:
    return {
        "label": label,
        "shape_type": "polygon",
        "points": ring,
        "score": score,
        "attributes": {},
        "description": None,
        "difficult": False,
        "direction": 0,
        "flags": None,
        "group_id": group,
        "kie_linking": [],
    }
