"""Made-up data sets: images and label maps of a few pixels, in the layouts of the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, size_hw=(2, 3), value=7):
    """An image of one grey, in a folder that is made for it; JPEG keeps such an image as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size_hw, 3), value, np.uint8)).save(path)


def write_map(path: Path, values, dtype=np.uint8, palette=False):
    """A label map; with a palette, as VOC has them, a pixel's colour is not its index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    label_map = Image.fromarray(np.array(values, dtype))
    if palette:
        label_map.putpalette([255 - value // 3 for value in range(768)])
    label_map.save(path)


def write_text(path: Path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def names_of(labels):
    return [label.name for label in labels]
