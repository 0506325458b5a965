"""What to work on: files, folders and globs as given → the image files, in order, each with a name for its outputs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")


@dataclass(frozen=True)
class ImageFile:
    """A picture on disk and what its outputs are called."""

    path: Path  # absolute
    name: str  # stem of its outputs, unique in the output folder

    @property
    def fingerprint(self) -> list[int]:
        """[bytes, modification time in ns]: another one means that the file was changed."""
        stat = self.path.stat()
        return [stat.st_size, stat.st_mtime_ns]


def find_images(inputs: Sequence[str | Path], *, outside: Path | None = None) -> list[Path]:
    """Absolute paths of the images that `inputs` name: in the order given, each once.

    A file counts whatever its suffix, a folder stands for all files in it, at any depth, that have one of SUFFIXES and are
    not hidden, sorted by path; what is no existing path is tried as a glob (`photos/**/*.jpg`). Nothing in the folder
    `outside` is found by folder or glob, so that outputs are never taken for inputs.

    Raises FileNotFoundError on an input that matches nothing, ValueError on a folder without images.
    """
    found: dict[Path, None] = {}
    for given in inputs:
        paths = _matches(str(given))
        here: list[Path] = []
        for path in paths:
            here += _in_folder(path, outside) if path.is_dir() else [path]
        if [str(path) for path in paths] != [str(given)] and outside is not None:
            here = [path for path in here if not _is_inside(path, outside)]
        if not here:
            raise ValueError(f"no images in {given}: expected files ending in {', '.join(SUFFIXES)}")
        found.update(dict.fromkeys(Path(os.path.abspath(path)) for path in here))
    return list(found)


def name_outputs(paths: Iterable[Path], known: Mapping[Path, str]) -> list[ImageFile]:
    """Give every path a unique output name: the one it has in `known`, else its stem, else stem-2, stem-3, …

    Names differ in more than upper and lower case, for file systems that do not tell them apart. The same paths always get
    the same names, and a stem that only one file has is never changed by the numbers of others.
    """
    paths = list(paths)
    new = [path for path in paths if path not in known]
    taken = {name.casefold() for name in known.values()}
    stems = {path.stem.casefold() for path in new}
    names = dict(known)
    for path in new:
        names[path] = next(
            candidate
            for candidate in _candidates(path.stem)
            if candidate.casefold() not in taken and (candidate == path.stem or candidate.casefold() not in stems)
        )
        taken.add(names[path].casefold())
    return [ImageFile(path, names[path]) for path in paths]


def common_names(paths: Sequence[Path]) -> list[str]:
    """File names for a COCO file: each path relative to the deepest folder that holds them all, with forward slashes."""
    try:
        root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    except ValueError:  # on two Windows drives
        return [path.as_posix() for path in paths]
    return [path.relative_to(root).as_posix() for path in paths]


def _matches(given: str) -> list[Path]:
    path = Path(given).expanduser()
    if path.exists():
        return [path]
    matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
    if not matches:
        kind = "file matches" if glob.has_magic(given) else "such file or folder:"
        raise FileNotFoundError(f"no {kind} {given}")
    return matches


def _in_folder(folder: Path, outside: Path | None) -> list[Path]:
    """Visible image files below `folder`, sorted."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and not _is_same(Path(parent, name), outside)]
        found += [Path(parent, file) for file in files if _is_visible_image(file)]
    return sorted(found)


def _is_visible_image(file: str) -> bool:
    return not file.startswith(".") and file.lower().endswith(SUFFIXES)


def _candidates(stem: str) -> Iterable[str]:
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1
