"""The page to look a run through with: thumbnails, overlays and every segment, in one HTML file that opens offline.

The page itself is `report_page.html`. What it shows stands in it as JSON, an image at a time, and is turned
into elements by its script, as text and never as markup.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.formats.palette import RGB, label_colors
from fusion.formats.render import draw_regions
from fusion.formats.schema import ImageRecord
from ovseg.labels import Label

THUMBNAIL = 240  # px, the longer side at most
QUALITY = 70  # of the JPEGs, 1..95

_PAGE = Path(__file__).with_name("report_page.html")
# The line of the page that the JSON takes the place of.
_DATA = "<!-- data -->\n"


@dataclass(frozen=True)
class ReportImage:
    """What the page says about one image."""

    name: str  # stem of its outputs
    file_name: str  # as in the COCO file
    reason: str | None  # why it failed; None if it is done
    record: ImageRecord | None  # None if it failed
    first_id: int = 1  # of its annotations


def thumbnails(image: NDArray[np.uint8], label_map: NDArray[np.int32], colors: Sequence[RGB]) -> dict[str, str]:
    """{"thumbnail", "overlay"}: base64 JPEGs of an image (H, W, 3), plain and with its regions drawn in `colors`.

    They are at most THUMBNAIL px on the longer side, never larger than the image. Label map (H, W) and
    colours as for `fusion.formats.render.draw_regions`: ValueError if the sizes differ.
    """
    height, width = label_map.shape
    if image.shape[:2] != (height, width):
        raise ValueError(f"image is {image.shape[:2]} and the label map {label_map.shape}: expected one size, (H, W)")
    scale = min(1, THUMBNAIL / max(height, width))
    rows, columns = (_sampled(length, max(1, round(length * scale))) for length in (height, width))
    small = np.asarray(cv2.resize(image, (len(columns), len(rows)), interpolation=cv2.INTER_AREA), np.uint8)
    overlay = draw_regions(small, label_map[np.ix_(rows, columns)], colors)
    return {"thumbnail": _jpeg(small), "overlay": _jpeg(overlay)}


class ReportPage:
    """The page, written image by image into an open binary file: `add` each image, then `close`.

    The same images give the same bytes. Links lead to overlays/NAME.png beside the file.
    """

    def __init__(self, file: IO[bytes], labels: Sequence[Label], title: str) -> None:
        self._file = file
        start, self._end = _PAGE.read_text(encoding="utf-8").split(_DATA)
        self._places = label_places([label.name for label in labels])
        shown = [(label.name, bytes(color).hex()) for label, color in zip(labels, label_colors(labels), strict=True)]
        file.write(start.encode())
        file.write(_script("report", {"title": title, "labels": shown}))

    def add(self, image: ReportImage) -> None:
        """Write what the page shows of one image."""
        self._file.writelines(image_lines(image, self._places))

    def close(self) -> None:
        """Write the end of the page; the file stays open."""
        self._file.write(self._end.encode())


def label_places(names: Iterable[str]) -> dict[str, int]:
    """Name of a label → its place, from 1."""
    return {name: index for index, name in enumerate(names, start=1)}


def image_lines(image: ReportImage, places: Mapping[str, int]) -> tuple[bytes, bytes]:
    """The two lines of the page about one image, given `label_places`."""
    record = image.record
    layers = [None, None] if record is None else [record.thumbnail, record.overlay]
    # Apart from the rest: the page reads the layers only when the image comes into view.
    return _script("image", _summary(image, places)), _script("layers", layers)


def _summary(image: ReportImage, places: Mapping[str, int]) -> list[Any]:
    """[file name, link, reason, [height, width], first id, segments] as lists, which take half the room of objects."""
    # A name may hold bytes that are no text.
    link = f"overlays/{quote(os.fsencode(image.name))}.png"
    record = image.record
    segments = [
        [
            region.category_id,
            region.area,
            region.bbox,
            evidence.score,
            evidence.share,
            evidence.margin,
            # A background label has no place.
            evidence.runner_up if evidence.runner_up is None else places.get(evidence.runner_up, evidence.runner_up),
        ]
        for region in (record.regions if record is not None else ())
        for evidence in (region.evidence,)
    ]
    size_hw = None if record is None else record.size_hw
    return [image.file_name, link, image.reason, size_hw, image.first_id, segments]


def _script(kind: str, value: Any) -> bytes:
    """A line of JSON that the page reads. Without "<" no text in it can end its element; all is ASCII."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" class="{kind}">{text}</script>\n'.encode("ascii")


def _sampled(length: int, count: int) -> NDArray[np.intp]:
    """The pixels, of `length` in a row, that lie in the middle of `count` equal parts."""
    return ((np.arange(count) + 0.5) * length / count).astype(np.intp)


def _jpeg(image: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
