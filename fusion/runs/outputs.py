"""The output folder: where each image's files go, and whether they are still those that were written."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.formats.schema import JOURNAL, RUN
from fusion.formats.yolo import SUFFIXES as YOLO_SUFFIXES
from ground.files import open_own, own_size, write_bytes

# Subfolder → what its files end in.
SUFFIXES = {
    "semantic": ".png",
    "panoptic": ".png",
    "overlays": ".png",
    "masks": ".npz",
    "annotations": ".json",
    "video-frames": ".png",  # of videos
    "geotiff": ".tif",  # of GeoTIFFs: the semantic map where the image lies on earth
    # Of exports, see `fusion.runs.extras`
    "yolo/labels": ".txt",
    "labelstudio": ".json",
    "polygon": ".json",
    "polygon-centers": ".json",
}
YOLO_IMAGES = "yolo/images"  # links to the images, whose suffixes differ
# The subfolders at the top.
TOP = tuple(dict.fromkeys(kind.split("/")[0] for kind in SUFFIXES))
# What the journal and run.json begin with, which have names that others may use as well.
_MARK, _MARK_BYTES = b'"config_hash"', 64


def output_file(output: Path, kind: str, name: str) -> Path:
    """The file of image `name` in the subfolder `kind`, one of SUFFIXES."""
    return output / kind / f"{name}{SUFFIXES[kind]}"


def folders(output: Path) -> list[Path]:
    """The folders of `output` that files of images are written to."""
    return [output / kind for kind in dict.fromkeys((*TOP, *SUFFIXES, YOLO_IMAGES))]


def holds_run(folder: str | Path) -> bool:
    """Whether a folder is the output folder of a run."""
    for name in (JOURNAL, RUN):
        with suppress(OSError), open_own(f"{folder}/{name}") as file:
            if _MARK in file.read(_MARK_BYTES):
                return True
    return False


def output_sizes(output: Path, name: str, kinds: Iterable[str]) -> dict[str, int]:
    """Bytes of the files that image `name` has of these kinds; none of what is missing, or is a link."""
    sizes = {}
    for kind in kinds:
        with suppress(OSError):
            # Not by `output_file`: there are many, and a Path takes longer to make than the file to look up.
            sizes[kind] = own_size(f"{output}/{kind}/{name}{SUFFIXES[kind]}")
    return sizes


def write_outputs(output: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Write the files of image `name`, in that order: kind → what it holds."""
    for kind, data in files.items():
        write_bytes(output_file(output, kind, name), data)


def remove_outputs(output: Path, name: str, extras: Iterable[str] = ()) -> None:
    """Delete the files of image `name`, and those `extras` that its run writes; of others they may be somebody else's.

    Its masks stay: they are checked before they are used again.
    """
    for kind in ("semantic", "panoptic", "overlays", "geotiff", "annotations", *extras):
        output_file(output, kind, name).unlink(missing_ok=True)


def yolo_image(output: Path, name: str, source: str) -> Path:
    """What stands for an image in YOLO's folder of images: it ends like its file, if ultralytics looks for such."""
    suffix = os.path.splitext(source)[1]
    return output / YOLO_IMAGES / f"{name}{suffix if suffix.lower() in YOLO_SUFFIXES else '.png'}"


def pixel_hash(image: NDArray[np.uint8]) -> str:
    """SHA-256 (hex) of the pixels of (H, W, 3) uint8."""
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()


def masks_metadata(pixels: str, config_hash: str) -> Mapping[str, str]:
    """What a file of cached masks says beside them."""
    return {"config_hash": config_hash, "pixels": pixels}


def png_bytes(image: NDArray[np.uint8] | Image.Image) -> bytes:
    """(H, W, 3) uint8 RGB, or the same as a PIL image, as PNG."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 RGB as PNG."""
    write_bytes(path, png_bytes(image))
