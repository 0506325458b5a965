"""COCO panoptic: a map of annotations → a PNG whose colours are their ids, and the entries that name them.

The ids are those of the annotations in instances.json: id = R + 256 G + 65536 B, 0 = void.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ground.files import write_bytes

MAX_ID = 256**3 - 1  # three bytes of colour
_FIRST_ID = "first_id"  # text in the PNG: what its annotations count from


def panoptic_png(id_map: NDArray[np.int32], first_id: int = 1) -> bytes:
    """PNG of `id_map` (H, W): 0 stays 0, i becomes first_id + i - 1.

    Raises ValueError on an id that three bytes cannot hold.
    """
    ids = np.where(id_map > 0, id_map + (first_id - 1), 0)
    if int(ids.max()) > MAX_ID:
        raise ValueError(f"annotation id {ids.max()} is over {MAX_ID}, the highest of a panoptic PNG: split the batch")
    colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
    text = PngInfo()
    text.add_text(_FIRST_ID, str(first_id))
    buffer = io.BytesIO()
    Image.fromarray(colors).save(buffer, format="PNG", pnginfo=text)
    return buffer.getvalue()


def read_ids(path: Path) -> NDArray[np.int32]:
    """(H, W) int32 ids of a panoptic PNG."""
    with Image.open(path) as picture:
        colors = np.asarray(picture.convert("RGB"), np.int32)
    return colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2]


def renumber(path: Path, first_id: int) -> None:
    """Make the annotations of a file of `panoptic_png` count from `first_id`; nothing is written if they do."""
    with Image.open(path) as picture:
        noted = picture.info.get(_FIRST_ID)  # other programs do not keep it
    if noted != str(first_id):
        ids = read_ids(path)
        current = ids[ids > 0].min(initial=MAX_ID)  # every annotation has a pixel
        write_bytes(path, panoptic_png(np.where(ids > 0, ids - (current - 1), 0).astype(np.int32), first_id))


def panoptic_entry(image_id: int, file_name: str, annotations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The panoptic annotation of a picture: `annotations` (with their ids) as `segments_info`."""
    keys = ("id", "category_id", "area", "bbox", "iscrowd")
    segments = [{key: annotation[key] for key in keys} for annotation in annotations]
    return {"image_id": image_id, "file_name": file_name, "segments_info": segments}
