"""An image of a desk → what `viewer.js` shows of it: small images, and the evidence of every part and region."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusion.formats import coco
from fusion.formats.palette import label_colors
from fusion.formats.schema import DIGITS
from fusion.web.desk import Desk, Work

MAX_SIDE = 1400  # px that a page shows of an image; files have all of them
_QUALITY = 90


def view_of(desk: Desk) -> dict[str, Any]:
    """What corrections change of the image that is looked at, as JSON. Its `key` is that of `still_of`."""
    work = desk.work
    return {
        "key": work.key,
        "labels": [
            {"name": label.name, "stuff": label.stuff, "color": "#" + bytes(color).hex()}
            for label, color in zip(desk.labels, label_colors(desk.labels), strict=True)
        ],
        "images": [one.name for one in desk.works],
        "shown": desk.shown,
        "undo": len(work.history.states) > 1,
        "redo": bool(work.history.undone),
        **_evidence(work),
    }


def still_of(work: Work) -> dict[str, Any]:
    """What stays as it is: the image, its parts as a PNG whose colours are their ids, and who is beside whom."""
    parts = work.history.parts
    height, width = parts.part_map.shape
    scale = min(1.0, MAX_SIDE / max(height, width))
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    shown = work.answer.image if scale == 1 else cv2.resize(work.answer.image, size_wh, interpolation=cv2.INTER_AREA)
    columns, rows = (
        ((np.arange(few) + 0.5) * many / few).astype(np.intp)
        for few, many in zip(size_wh, (width, height), strict=True)
    )
    ids = parts.part_map[np.ix_(rows, columns)]
    # OpenCV's order of channels is blue, green, red.
    colors = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=-1).astype(np.uint8)
    return {
        "key": work.key,
        "size": list(size_wh),
        "pixels": [width, height],
        "image": _uri(cv2.cvtColor(np.asarray(shown), cv2.COLOR_RGB2BGR), ".jpg"),
        "parts": _uri(colors, ".png"),
        "neighbours": [sorted(beside) for beside in parts.neighbours],
    }


def _evidence(work: Work) -> dict[str, Any]:
    """`ids` and `regions_of` of the parts (label id, index of the region or -1), and the evidence of both."""
    parts, now, labels = work.history.parts, work.history.now, work.history.labels
    regions, region_map = coco.regions(work.result)
    region_of = np.zeros(len(parts.masks), np.int32)
    region_of[parts.part_map.ravel()] = region_map.ravel()
    areas = np.bincount(parts.part_map.ravel(), minlength=len(parts.masks)) / parts.part_map.size
    about_parts = []
    for mask, id, before, area in zip(parts.masks, now, parts.labels, areas.tolist(), strict=True):
        segment = work.votes.segment(mask, labels[id - 1]) if id else None
        runner_up = None if segment is None or segment.runner_up is None else segment.runner_up.name
        numbers = [None] * 3 if segment is None else [segment.score, segment.share, segment.margin]
        about_parts.append([*numbers, runner_up, round(area, DIGITS), id != before])
    about_regions = [
        [one.score, one.share, one.margin, one.runner_up, round(region.area / region_map.size, DIGITS), one.edited]
        for region in regions
        for one in (region.evidence,)
    ]
    return {
        "ids": list(now),
        "region_of": (region_of - 1).tolist(),
        "about_parts": about_parts,
        "about_regions": about_regions,
    }


def _uri(image: NDArray[Any], suffix: str) -> str:
    """(H, W, 3) uint8 BGR as a data URI."""
    _, encoded = cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY] if suffix == ".jpg" else [])
    kind = "jpeg" if suffix == ".jpg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"
