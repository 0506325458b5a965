"""The output folder: where each picture's files go, and `instances.json`, assembled image by image."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.batch import Finished
from fusion.coco import categories, image_entry, info
from fusion.files import replacing, write_bytes
from ovseg.labels import Label

SUFFIXES = {"semantic": ".png", "overlays": ".png", "masks": ".npz"}  # subfolder → what its files end in
INSTANCES = "instances.json"


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


def write_instances(path: Path, finished: Sequence[Finished], labels: Sequence[Label]) -> None:
    """Write the COCO file of all finished images, in their order; ids of images and annotations count from 1.

    A payload holds `size_hw` and `annotations`. One image's annotations are in memory at a time.
    """
    with replacing(path) as file:
        _write_part(file, '{"info": ', json.dumps(info()))
        _write_part(file, ',\n"licenses": [],\n"images": ')
        _write_list(file, _images(finished))
        _write_part(file, ',\n"annotations": ')
        _write_list(file, _annotations(finished))
        _write_part(file, ',\n"categories": ')
        _write_list(file, categories(labels))
        _write_part(file, "}\n")


def _images(finished: Sequence[Finished]) -> Iterator[dict[str, Any]]:
    for image_id, image in enumerate(finished, start=1):
        height, width = image.payload()["size_hw"]
        yield image_entry(image_id, image.file_name, (height, width))


def _annotations(finished: Sequence[Finished]) -> Iterator[dict[str, Any]]:
    annotation_id = 0
    for image_id, image in enumerate(finished, start=1):
        for annotation in image.payload()["annotations"]:
            annotation_id += 1
            yield {"id": annotation_id, "image_id": image_id, **annotation}


def _write_list(file: IO[bytes], values: Iterable[dict[str, Any]]) -> None:
    """A JSON list with a line per value."""
    separator = "[\n"
    for value in values:
        _write_part(file, separator, json.dumps(value))
        separator = ",\n"
    _write_part(file, "[]" if separator == "[\n" else "\n]")


def _write_part(file: IO[bytes], *texts: str) -> None:
    file.writelines(text.encode("ascii") for text in texts)
