"""The output folder: where each image's files go."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ground.files import write_bytes

# Subfolder → what its files end in.
SUFFIXES = {"semantic": ".png", "panoptic": ".png", "overlays": ".png", "masks": ".npz", "annotations": ".json"}


def output_file(output: Path, kind: str, name: str) -> Path:
    """The file of image `name` in the subfolder `kind`, one of SUFFIXES."""
    return output / kind / f"{name}{SUFFIXES[kind]}"


def folders(output: Path) -> list[Path]:
    """The folders of `output` that files of images are written to."""
    return [output / kind for kind in SUFFIXES]


def has_outputs(output: Path, name: str, kinds: Sequence[str]) -> bool:
    """Whether image `name` has its files of these kinds."""
    return all(output_file(output, kind, name).is_file() for kind in kinds)


def remove_outputs(output: Path, name: str, keep_masks: bool) -> None:
    """Delete the files of image `name`; its masks may stay, they are checked before they are used again."""
    for kind in SUFFIXES:
        if not (kind == "masks" and keep_masks):
            output_file(output, kind, name).unlink(missing_ok=True)


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 RGB as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())
