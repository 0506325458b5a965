"""The label map as a picture file: (H, W) ids → PNG bytes whose pixel values are the ids themselves."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.formats.palette import RGB

MAX_PALETTE_LABELS = 255  # palette entry 0 is "other"


def semantic_png(label_map: NDArray[np.int32], colors: Sequence[RGB]) -> bytes:
    """PNG of `label_map` (H, W), 0 = other (black), i = the label with `colors[i - 1]`.

    An 8-bit palette PNG, or 16-bit grey if there are over 255 labels.
    """
    if len(colors) > MAX_PALETTE_LABELS:
        picture, depth = Image.fromarray(label_map.astype(np.uint16)), {}
    else:
        picture, depth = Image.fromarray(label_map.astype(np.uint8)), {"bits": 8}  # not fewer, for few labels
        # putpalette turns 8-bit grey into a palette picture of the same values
        picture.putpalette([0, 0, 0, *(channel for color in colors for channel in color)])
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", **depth)
    return buffer.getvalue()
