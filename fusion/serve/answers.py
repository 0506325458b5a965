"""What is sent back: an answer of the service → COCO as `emerseg segment` writes it, or one of its PNGs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from fusion.formats import coco
from fusion.formats.palette import label_colors
from fusion.formats.panoptic import panoptic_png
from fusion.formats.schema import ImageEntry
from fusion.formats.semantic import semantic_png
from fusion.runs.outputs import png_bytes
from fusion.serve.service import Answer

IMAGE_ID = 1  # of the only image of an answer; so is its first annotation


def document(answer: Answer, file_name: str) -> dict[str, Any]:
    """instances.json of this image alone, and beside it `results` (as in results.json), `mask_token` and `absent`.

    A COCO reader takes it as it is: it does not mind the keys that it does not know.
    """
    found, _ = coco.regions(answer.result)
    annotations = coco.with_ids(found, IMAGE_ID, 1)
    height, width = answer.result.size_hw
    return {
        "info": coco.info(),
        "licenses": [],
        "annotations": [one.to_json() for one in annotations],
        "images": [ImageEntry(id=IMAGE_ID, file_name=file_name, height=height, width=width).to_json()],
        "categories": [one.to_json() for one in coco.categories(answer.result.labels)],
        "results": [coco.result(one).to_json() for one in annotations],
        "mask_token": answer.token,
        "absent": [label.name for label in answer.result.absent],
    }


def _coco(answer: Answer, file_name: str) -> bytes:
    return json.dumps(document(answer, file_name), allow_nan=False).encode("ascii")


def _semantic(answer: Answer, file_name: str) -> bytes:
    return semantic_png(answer.result.label_map, label_colors(answer.result.labels))


def _panoptic(answer: Answer, file_name: str) -> bytes:
    return panoptic_png(coco.regions(answer.result)[1])


def _overlay(answer: Answer, file_name: str) -> bytes:
    return png_bytes(answer.result.overlay(answer.image))


PNG = "image/png"
# What a client may ask for as `output` → (its media type, how it is made of (answer, file name)).
OUTPUTS: Mapping[str, tuple[str, Callable[[Answer, str], bytes]]] = {
    "coco": ("application/json", _coco),
    "semantic": (PNG, _semantic),
    "panoptic": (PNG, _panoptic),
    "overlay": (PNG, _overlay),
}
