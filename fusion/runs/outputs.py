"""The output folder: where each picture's files go."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ground.files import write_bytes

# subfolder → what its files end in
SUFFIXES = {"semantic": ".png", "panoptic": ".png", "overlays": ".png", "masks": ".npz"}
INSTANCES, RESULTS, PANOPTIC, REPORT = "instances.json", "results.json", "panoptic.json", "report.html"


def output_file(output: Path, kind: str, name: str) -> Path:
    """The file of picture `name` in the subfolder `kind`, one of SUFFIXES."""
    return output / kind / f"{name}{SUFFIXES[kind]}"


def folders(output: Path) -> list[Path]:
    """The folders of `output` that pictures and masks are written to."""
    return [output / kind for kind in SUFFIXES]


def has_outputs(output: Path, name: str, kinds: Sequence[str]) -> bool:
    """Whether picture `name` has its files of these kinds."""
    return all(output_file(output, kind, name).is_file() for kind in kinds)


def remove_outputs(output: Path, name: str, keep_masks: bool) -> None:
    """Delete the files of picture `name`; its masks may stay, they are checked before they are used again."""
    for kind in SUFFIXES:
        if not (kind == "masks" and keep_masks):
            output_file(output, kind, name).unlink(missing_ok=True)


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 RGB as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())
