"""Label Studio's JSON: a task per image, with our regions as a prediction in brush RLE, and the labelling setup.

Brush RLE is the packing of @thi.ng/rle-pack, of the pixels as RGBA row by row: all four channels 255 inside, else 0.
What `brush_rle` gives are the bytes of `label_studio_sdk.converter.brush.mask2rle`, whose package, with its 25
requirements, is not needed for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from fusion.formats.coco import full_mask
from fusion.formats.palette import label_colors
from fusion.formats.schema import DIGITS, ImageRecord
from ground.versions import own_version
from ovseg.labels import Label

FROM_NAME, TO_NAME = "label", "image"  # of the tags in the labelling setup
# Where Label Studio serves files of its LOCAL_FILES_DOCUMENT_ROOT.
_LOCAL_FILES = "/data/local-files/?d="
_WORD = 8  # bits of a value
_SIZES = (3, 4, 8, 16)  # bits of lengths, by class


def config_xml(labels: Sequence[Label]) -> bytes:
    """The labelling setup of a project for these labels."""
    lines = [
        f"    <Label value={quoteattr(label.name)} background={quoteattr('#{:02x}{:02x}{:02x}'.format(*color))}/>"
        for label, color in zip(labels, label_colors(labels), strict=True)
    ]
    head = f'<View>\n  <Image name="{TO_NAME}" value="$image" zoom="true"/>\n'
    brush = f'  <BrushLabels name="{FROM_NAME}" toName="{TO_NAME}">\n'
    return (head + brush + "\n".join(lines) + "\n  </BrushLabels>\n</View>\n").encode("utf-8")


def task_line(file_name: str, predictions: bytes) -> bytes:
    """A task as JSON on one line; `predictions` are those of `image_predictions`."""
    url = _LOCAL_FILES + quote(file_name, errors="surrogateescape")
    return b'{"data": ' + json.dumps({"image": url}).encode("ascii") + b', "predictions": ' + predictions + b"}"


def image_predictions(record: ImageRecord, labels: Sequence[Label]) -> bytes:
    """The predictions of an image as JSON on one line: one, with a brush region for each of ours, in their order."""
    height, width = record.size_hw
    result = [
        {
            "id": f"region-{number}",
            "type": "brushlabels",
            "from_name": FROM_NAME,
            "to_name": TO_NAME,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": region.evidence.score,
            "value": {
                "format": "rle",
                "rle": brush_rle(full_mask(region)),
                "brushlabels": [labels[region.category_id - 1].name],
            },
        }
        for number, region in enumerate(record.regions, start=1)
    ]
    prediction: dict[str, Any] = {"model_version": f"emerseg {own_version()}", "result": result}
    if record.regions:
        areas = [region.area for region in record.regions]
        scores = [region.evidence.score for region in record.regions]
        prediction["score"] = round(float(np.average(scores, weights=areas)), DIGITS)
    return json.dumps([prediction], separators=(",", ":")).encode("ascii")


def brush_rle(mask: NDArray[np.bool_]) -> list[int]:
    """The bytes of a mask (H, W)."""
    flat = mask.ravel()
    starts = np.r_[0, np.flatnonzero(flat[1:] != flat[:-1]) + 1]
    lengths = 4 * np.diff(np.r_[starts, flat.size])
    values = np.where(flat[starts], 255, 0)
    # Runs are split where their length does not fit.
    longest = 2 ** _SIZES[-1]
    pieces = (lengths - 1) // longest + 1
    which = np.repeat(np.arange(len(lengths)), pieces)
    is_last = np.r_[which[1:] != which[:-1], True]
    parts = np.where(is_last, lengths[which] - (pieces[which] - 1) * longest, longest)
    # The rest of a long run is written like the run.
    size = np.searchsorted(2 ** np.array(_SIZES), np.where(pieces[which] > 1, longest, parts))
    bits = np.array(_SIZES)[size]
    # A bit that says "a run", the class of its length, the length less one, the value
    codes = ((4 | size) << bits | (parts - 1)) << _WORD | values[which]
    body = _bits(codes, 1 + 2 + bits + _WORD)
    head = _bits(np.array([4 * flat.size, _WORD - 1, *(size - 1 for size in _SIZES)]), np.array([32, 5, 4, 4, 4, 4]))
    packed = np.concatenate([head, body])
    # Up to the next byte, and a whole one where it ends with one
    return [*np.packbits(packed).tolist(), *([0] if len(packed) % 8 == 0 else [])]


def _bits(numbers: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The last `widths` bits of numbers, one after the other."""
    every = np.unpackbits(numbers.astype(">u4").view(np.uint8)).reshape(-1, 32)
    return every[np.arange(32) >= 32 - widths[:, None]]
