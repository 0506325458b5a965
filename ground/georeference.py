"""Where an image lies on earth: the tags of a GeoTIFF, read from it and written into another of the same size.

They are copied as they stand, so that whatever reads them (rasterio, GDAL, QGIS) finds the coordinates of the source.
What a file beside the image says (.tfw, .aux.xml) is not looked at.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, TiffImagePlugin

SUFFIXES = (".tif", ".tiff")
_KEYS = 34735  # the directory of keys, which every GeoTIFF has
# ModelPixelScale, ModelTiepoint, ModelTransformation, the keys, and the numbers and texts that these point to.
_TAGS = (33550, 33922, 34264, _KEYS, 34736, 34737)
_ORIENTATION = 274


@dataclass(frozen=True)
class Georeference:
    """The tags of a GeoTIFF: number → (type, value)."""

    tags: dict[int, tuple[int, Any]]


def georeference(path: Path) -> Georeference | None:
    """What a GeoTIFF says; None of any other file, of one that cannot be read, and of an image that is turned."""
    if path.suffix.lower() not in SUFFIXES:
        return None
    try:
        with warnings.catch_warnings(), Image.open(path, formats=["TIFF"]) as image:
            warnings.simplefilter("ignore")  # large images are fine
            tags = getattr(image, "tag_v2", None)
            if tags is None or _KEYS not in tags or tags.get(_ORIENTATION, 1) != 1:
                return None
            return Georeference({tag: (tags.tagtype[tag], tags[tag]) for tag in _TAGS if tag in tags})
    except Exception:  # damaged files raise almost anything; those who read their pixels say what is wrong
        return None


def geotiff(png: bytes, where: Georeference) -> bytes:
    """The image of a PNG as a GeoTIFF, compressed without loss, with its palette if it has one."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, (kind, value) in where.tags.items():
        tags.tagtype[tag] = kind
        tags[tag] = value
    buffer = io.BytesIO()
    with warnings.catch_warnings(), Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        warnings.simplefilter("ignore")
        image.save(buffer, format="TIFF", compression="tiff_adobe_deflate", tiffinfo=tags)
    return buffer.getvalue()
