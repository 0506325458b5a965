"""COCO panoptic: a map of annotations → a PNG whose colours are their ids, and the entries that name them.

The ids are those of the annotations in instances.json: id = R + 256 G + 65536 B, 0 = void.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.formats.coco import regions, with_ids
from fusion.formats.partition import Partition
from fusion.formats.schema import MAX_ID, Annotation, PanopticEntry, SegmentInfo
from ground.strips import strips


def entry(
    partition: Partition, image_id: int = 1, file_name: str = "", first_annotation_id: int = 1
) -> tuple[dict[str, Any], bytes]:
    """(COCO panoptic annotation of an image, bytes of its PNG); `file_name` is that of the PNG.

    The ids are those of `coco.instances` with the same arguments. ValueError on ids that the PNG cannot hold.
    """
    found, id_map = regions(partition)
    annotations = with_ids(found, image_id, first_annotation_id)
    return panoptic_entry(image_id, file_name, annotations).to_json(), panoptic_png(id_map, first_annotation_id)


def panoptic_png(id_map: NDArray[np.int32], first_id: int = 1) -> bytes:
    """PNG of `id_map` (H, W): 0 stays 0, i becomes first_id + i - 1.

    Raises ValueError on an id that three bytes cannot hold.
    """
    highest = int(id_map.max()) + first_id - 1
    if id_map.any() and highest > MAX_ID:
        raise ValueError(f"annotation id {highest} is over {MAX_ID}, the highest of a panoptic PNG: split the batch")
    image = Image.new("RGB", id_map.shape[::-1])
    for rows in strips(id_map.shape):
        ids = np.where(id_map[rows] > 0, id_map[rows] + (first_id - 1), 0)
        colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
        image.paste(Image.fromarray(colors), (0, rows.start))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def read_ids(path: Path) -> NDArray[np.int32]:
    """(H, W) int32 ids of a panoptic PNG."""
    with Image.open(path) as image:
        colors = np.asarray(image.convert("RGB"))
    ids = np.empty(colors.shape[:2], np.int32)
    for rows in strips(ids.shape):
        ids[rows] = colors[rows].astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    return ids


def panoptic_entry(image_id: int, file_name: str, annotations: Iterable[Annotation]) -> PanopticEntry:
    """The panoptic annotation of an image: `annotations` as `segments_info`."""
    segments = [
        SegmentInfo(id=one.id, category_id=one.category_id, area=one.area, bbox=one.bbox, iscrowd=0)
        for one in annotations
    ]
    return PanopticEntry(image_id=image_id, file_name=file_name, segments_info=segments)
