"""The images of a folder → a tenth that is held out, and the rest to train on, as copies that the trainers read.

The copies are turned by EXIF, in sRGB and no larger than the trainers look at; each is made once.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from PIL import Image

from ground.files import write_bytes
from ground.images import read_image
from training.adapt.folder import TABLE, Collection
from training.photos import Photo, held_out

# One of so many images is held out.
TENTH = 10
# px of the shorter side of a copy, at most: the trainers look at no more.
LARGEST = 448
_QUALITY = 95  # of the copies, JPEG without chroma subsampling
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Copies of the images, in two folders that `training.photos.read_photos` reads."""

    train: Path  # a folder with captions.csv
    held: Path  # the same, of the images that nothing learns from
    train_count: int
    held_count: int
    unreadable: tuple[str, ...]  # paths and reasons of images that were left out


def split(collection: Collection, work: Path) -> Split:
    """Copy the images into `work`/train and `work`/held, those that are not there yet; ValueError if none is left.

    Where a source images/NAME has label maps in labels/NAME, every tenth of those is held out, as `emerseg eval
    --root labels/NAME:0::10` takes them; of all other images every tenth, in the order of their paths.
    """
    held = held_paths(collection)
    unreadable: list[str] = []
    counts = []
    for name in ("train", "held"):
        wanted = [photo for photo in collection.photos if (photo.path in held) == (name == "held")]
        copied = list(_copies(wanted, collection.folder, work / name, unreadable))
        _write_table(work / name, copied)
        counts.append(len(copied))
    if 0 in counts:
        raise ValueError(f"no image of {collection.folder} can be read: {unreadable[0]}")
    return Split(work / "train", work / "held", counts[0], counts[1], tuple(unreadable))


def held_paths(collection: Collection) -> frozenset[Path]:
    """The images that are held out."""
    mapped: dict[str, set[str]] = {}  # source -> stems of images with label maps
    chosen: set[Path] = set()  # without suffixes
    for source in {photo.source for photo in collection.photos}:
        tenth = held_out(collection.folder, source)
        chosen.update(tenth)
        folder = collection.folder / source.replace("images", "labels", 1)
        mapped[source] = {path.stem for path in folder.glob("*.png")} if tenth else set()
    others = [photo.path for photo in collection.photos if photo.path.stem not in mapped[photo.source]]
    with_maps = {photo.path for photo in collection.photos if photo.path.with_suffix("") in chosen}
    return frozenset(with_maps | set(others[::TENTH]))


def _copies(photos: Sequence[Photo], folder: Path, target: Path, unreadable: list[str]) -> Iterable[Photo]:
    for number, photo in enumerate(photos):
        source = PurePosixPath(*(part for part in PurePosixPath(photo.source).parts if part not in ("..", "/")))
        # The whole name, as a.jpg and a.png may be two images; the number where a table names images elsewhere.
        elsewhere = "" if photo.path.is_relative_to(folder) else f"{number}-"
        copy = target / source / f"{elsewhere}{photo.path.name}.jpg"
        if not copy.exists():
            try:
                write_bytes(copy, _reduced(photo.path))
            except (ValueError, FileNotFoundError) as error:
                unreadable.append(str(error))
                log.warning("left out: %s", error)
                continue
        yield replace(photo, path=copy)


def _reduced(path: Path) -> bytes:
    image = Image.fromarray(read_image(path))
    scale = LARGEST / min(image.size)
    if scale < 1:
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return stream.getvalue()


def _write_table(folder: Path, photos: Iterable[Photo]) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["path", "tags", "caption"])
    for photo in photos:
        writer.writerow([photo.path.relative_to(folder).as_posix(), ";".join(photo.tags), photo.caption])
    write_bytes(folder / TABLE, stream.getvalue().encode())
