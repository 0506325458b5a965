"""YOLO's folder of images: yolo/images/NAME.SUFFIX, a link to each image, or a copy where there can be no link."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path

from fusion.formats.schema import YOLO_DATA, JournalEntry
from fusion.formats.yolo import is_ours
from fusion.runs.outputs import output_file, png_bytes, yolo_image
from ground.files import replacing, write_bytes
from ground.images import read_image
from ground.video import split_frame

log = logging.getLogger(__name__)


def check_yolo(output: Path) -> None:
    """ValueError if `output` holds a data set of somebody else where ours would be."""
    with suppress(OSError):
        if not is_ours((output / YOLO_DATA).read_bytes()):
            raise ValueError(f"{output / YOLO_DATA} is not of a run of ours: choose another --output")


def attach_yolo_image(output: Path, bits: int | None, entry: JournalEntry) -> None:
    """Put an image where YOLO's tools look for it: yolo/images/NAME.SUFFIX, as a link to the file, relative to it.

    Where there can be no links it is a copy; and a PNG of it, if ultralytics would not look for files of that suffix.
    """
    source, path = Path(entry.source), yolo_image(output, entry.name, entry.source)
    if split_frame(source)[1] is not None:
        source = Path(os.path.abspath(output_file(output, "video-frames", entry.name)))
    known = source.suffix.lower() == path.suffix.lower()
    try:
        target = os.path.relpath(source, os.path.realpath(path.parent))
    except ValueError:  # on another drive of Windows
        target = str(source)
    if known and path.is_symlink() and os.readlink(path) == target:
        return
    if os.path.abspath(path) == entry.source or (path.exists() and not path.is_symlink()):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if not known:
        with suppress(OSError, ValueError):  # gone since: the next run does it
            write_bytes(path, png_bytes(read_image(source, bits)))
        return
    try:
        path.symlink_to(target)
    except (OSError, NotImplementedError) as error:
        _note_copies(path.parent, str(error))
        with suppress(FileNotFoundError), replacing(path) as copy, source.open("rb") as file:
            shutil.copyfileobj(file, copy)


def detach_yolo_image(output: Path, name: str, source: str) -> None:
    """Remove it: a copy is of an earlier state of the file. What lies there as an input itself stays."""
    path = yolo_image(output, name, source)
    if os.path.abspath(path) != source:
        path.unlink(missing_ok=True)


@cache
def _note_copies(folder: Path, reason: str) -> None:
    log.warning("images are copied to %s, as there can be no links (%s)", folder, reason)
