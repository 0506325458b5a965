"""YOLO's folder of images: yolo/images/NAME.SUFFIX, a link to each image, or a copy where there can be no link."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path

from fusion.formats import yolo
from fusion.formats.schema import JournalEntry
from fusion.runs.outputs import YOLO_IMAGES, output_file, png_bytes, yolo_images
from ground.files import replacing, write_bytes
from ground.images import read_image
from ground.video import split_frame

log = logging.getLogger(__name__)


def attach_yolo_image(output: Path, bits: int | None, entry: JournalEntry) -> None:
    """Put an image where YOLO's tools look for it: yolo/images/NAME.SUFFIX, as a link to the file, relative to it.

    Where there can be no links it is a copy; and a PNG of it, if ultralytics would not look for files of that suffix.
    """
    source, folder = Path(entry.source), output / YOLO_IMAGES
    if split_frame(source)[1] is not None:
        source = Path(os.path.abspath(output_file(output, "frames", entry.name)))
    known = source.suffix.lower() in yolo.SUFFIXES
    path = folder / f"{entry.name}{source.suffix if known else '.png'}"
    try:
        target = os.path.relpath(source, os.path.realpath(folder))
    except ValueError:  # on another drive of Windows
        target = str(source)
    if known and path.is_symlink() and os.readlink(path) == target:
        return
    if path.exists() and not path.is_symlink():
        return
    for other in yolo_images(output, entry.name):
        other.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    if not known:
        with suppress(OSError, ValueError):  # gone since: the next run does it
            write_bytes(path, png_bytes(read_image(source, bits)))
        return
    try:
        path.symlink_to(target)
    except (OSError, NotImplementedError) as error:
        _note_copies(folder, str(error))
        with suppress(FileNotFoundError), replacing(path) as copy, source.open("rb") as file:
            shutil.copyfileobj(file, copy)


@cache
def _note_copies(folder: Path, reason: str) -> None:
    log.warning("images are copied to %s, as there can be no links (%s)", folder, reason)
