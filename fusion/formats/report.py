"""The page to look a run through with: thumbnails, overlays and every segment, in one HTML file that opens offline.

The page itself is `report_page.html`. What it shows stands in it as JSON, a picture at a time, and is turned
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
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.formats.palette import RGB, label_colors
from fusion.formats.render import draw_regions
from ground.files import replacing
from ovseg.labels import Label

THUMBNAIL = 240  # px, the longer side at most
QUALITY = 70  # of the JPEGs, 1..95
DIGITS = 4  # decimals of scores, shares and margins in the page

_PAGE = Path(__file__).with_name("report_page.html")
_DATA = "<!-- data -->\n"  # the line of the page that the JSON takes the place of


@dataclass(frozen=True)
class ReportPicture:
    """What the page says about one picture."""

    name: str  # stem of its outputs
    file_name: str  # as in the COCO file
    reason: str | None  # why it failed; None if it is done
    payload: Mapping[
        str, Any
    ]  # {} if it failed; else size_hw, annotations and `thumbnails`


def thumbnails(image: NDArray[np.uint8], label_map: NDArray[np.int32], colors: Sequence[RGB]) -> dict[str, str]:
    """{"thumbnail", "overlay"}: base64 JPEGs of a picture (H, W, 3), plain and with its regions drawn in `colors`.

    They are at most THUMBNAIL px on the longer side, never larger than the picture. Label map (H, W) and
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


def write_report(path: Path, pictures: Iterable[ReportPicture], labels: Sequence[Label], title: str) -> None:
    """Write the page about `pictures`, in their order; the same input gives the same bytes.

    Done pictures come in the order of instances.json, whose annotation ids the page shows. One picture is in
    memory at a time. Links lead to overlays/NAME.png beside `path`.
    """
    start, end = _PAGE.read_text(encoding="utf-8").split(_DATA)
    places = {label.name: index for index, label in enumerate(labels, start=1)}
    shown = [(label.name, bytes(color).hex()) for label, color in zip(labels, label_colors(labels), strict=True)]
    with replacing(path) as file:
        file.write(start.encode())
        file.write(_script("report", {"title": title, "labels": shown}))
        for picture in pictures:
            file.write(_script("picture", _summary(picture, places)))
            # Apart from the rest: the page reads these only when the picture comes into view.
            file.write(_script("images", [picture.payload.get(kind) for kind in ("thumbnail", "overlay")]))
        file.write(end.encode())


def _summary(picture: ReportPicture, places: Mapping[str, int]) -> list[Any]:
    """[file name, link, reason, [height, width], segments] as lists, which take half the room of objects."""
    link = f"overlays/{quote(os.fsencode(picture.name))}.png"  # a name may hold bytes that are no text
    segments = [
        [
            annotation["category_id"],
            annotation["area"],
            annotation["bbox"],
            *(round(annotation[key], DIGITS) for key in ("score", "share", "margin")),
            places.get(annotation["runner_up"], annotation["runner_up"]),  # a background word has no place
        ]
        for annotation in picture.payload.get("annotations", ())
    ]
    return [picture.file_name, link, picture.reason, picture.payload.get("size_hw"), segments]


def _script(kind: str, value: Any) -> bytes:
    """A line of JSON that the page reads. Without "<" no text in it can end its element; all is ASCII."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" class="{kind}">{text}</script>\n'.encode("ascii")


def _sampled(length: int, count: int) -> NDArray[np.intp]:
    """The pixels, of `length` in a row, that lie in the middle of `count` equal parts."""
    return ((np.arange(count) + 0.5) * length / count).astype(np.intp)


def _jpeg(picture: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
