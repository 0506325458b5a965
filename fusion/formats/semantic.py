"""The label map as an image file: (H, W) ids → PNG bytes whose pixel values are the ids themselves."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.formats.palette import RGB

# Palette entry 0 is "other".
MAX_PALETTE_LABELS = 255


def semantic_png(label_map: NDArray[np.int32], colors: Sequence[RGB]) -> bytes:
    """PNG of `label_map` (H, W), 0 = other (black), i = the label with `colors[i - 1]`.

    An 8-bit palette PNG, or 16-bit grey if there are over 255 labels.
    """
    if len(colors) > MAX_PALETTE_LABELS:
        image, settings = Image.fromarray(label_map.astype(np.uint16)), {}
    else:
        # Pillow would take fewer bits for few labels.
        image, settings = Image.fromarray(label_map.astype(np.uint8)), {"bits": 8}
        # It turns 8-bit grey into a palette image of the same values.
        image.putpalette([0, 0, 0, *(channel for color in colors for channel in color)])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **settings)
    return buffer.getvalue()
