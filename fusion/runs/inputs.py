"""What to work on: files, folders and globs as given → the image files, in order, each with a name for its outputs."""

from __future__ import annotations

import codecs
import glob
import hashlib
import itertools
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.runs.search import SUFFIXES, Search
from ground.paths import user_path
from ground.video import NEEDS_EVERY, frame_name, frames_of, is_video, split_frame

log = logging.getLogger(__name__)

MAX_STEM = 200  # bytes of an output's name without its suffix


@dataclass(frozen=True)
class ImageFile:
    """An image on disk and what its outputs are called."""

    path: Path  # absolute; of a frame of a video see `ground.video.frame_path`
    name: str  # stem of its outputs, unique in the output folder

    @property
    def fingerprint(self) -> list[int]:
        """[bytes, modification time in ns]: another one means that the file was changed."""
        stat = split_frame(self.path)[0].stat()
        return [stat.st_size, stat.st_mtime_ns]


def find_images(inputs: Sequence[str | Path], *, outside: Sequence[Path] = (), every: int | None = None) -> list[Path]:
    """Absolute paths of the images that `inputs` name: in the order given, each file once, whatever links lead to it.

    "-" stands for the lines of standard input, a .txt file, or any file after "@", for its own: inputs again.
    Another file counts whatever its suffix; a folder stands for all files in it, at any depth, that have one of
    SUFFIXES and are not hidden, sorted by path; what is no existing path is tried as a glob
    (`photos/**/*.jpg`). Folders and globs find nothing in the folders `outside`, nor in the output folder of another
    run, by whatever link they are reached: outputs are never taken for inputs. One warning says what was left out.
    With `every` videos count as well, in folders too, and give every so many of their frames (see `ground.video`).

    Raises FileNotFoundError on an input that matches nothing, ValueError on a folder without images, and on videos
    alone without `every`. In a list only one
    of its lines must be right: a missing file of the others is an image that cannot be read, what else is wrong with
    them is a warning.
    """
    if every is not None and (not isinstance(every, int) or every < 1):
        raise ValueError(f"every is {every!r}, expected a whole number from 1")
    search = Search(outside, videos=every is not None)
    found: dict[str, Path] = {}
    for given in inputs:
        for path in _of_input(given, search):
            found.setdefault(search.real(str(path)), path)
    if search.skipped:
        log.warning("skipped: %s", search.skipped)
    paths = list(found.values())
    if every is not None:
        return [image for path in paths for image in (frames_of(path, every) if is_video(path) else [path])]
    if paths and all(map(is_video, paths)):
        raise ValueError(f"{paths[0]} {NEEDS_EVERY}")
    return paths


def _of_input(given: str | Path, search: Search) -> list[Path]:
    """The images of one input."""
    lines = _list_of(given)
    if lines is None:
        return _found(given, search)
    paths, errors = [], []
    for line in lines:
        try:
            paths += _found(line, search)
        except (OSError, ValueError) as error:
            errors.append(str(error))
            if isinstance(error, FileNotFoundError) and not glob.has_magic(line):
                paths.append(Path(os.path.abspath(user_path(line))))
            else:
                log.warning("list of images %s: %s", given, error)
    if len(errors) == len(lines):
        raise ValueError(f"list of images {given} names none: {errors[0]}")
    return paths


def _found(given: str | Path, search: Search) -> list[Path]:
    if not str(given).strip() and not os.path.lexists(given):
        raise ValueError(f"input is {str(given)!r}, expected an image, a folder or a glob")
    paths = search.find(user_path(given))
    if not paths:
        skipped = f"; skipped: {search.skipped}" if search.skipped else ""
        raise ValueError(f"no images in {given}: expected files ending in {', '.join(SUFFIXES)}{skipped}")
    return paths


def _list_of(given: str | Path) -> list[str] | None:
    """The lines of a list, or None if `given` is none. Paths in it are relative to where the command runs."""
    text = str(given)
    is_marked = text.startswith("@") and not os.path.lexists(text)
    path = user_path(text[1:] if is_marked else text)
    if text == "-":
        data = _standard_input()
    elif is_marked or (path.suffix.lower() == ".txt" and not path.is_dir()):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ValueError(f"list of images {given} cannot be read: {error}") from None
    else:
        return None
    # File names may be any bytes but NUL.
    if b"\0" in data:
        raise ValueError(f"list of images {given} cannot be read: it is no text")
    lines = [line.strip(" \t\r") for line in os.fsdecode(data.removeprefix(codecs.BOM_UTF8)).split("\n")]
    lines = [line for line in lines if line]
    if not lines:
        raise ValueError(f"list of images {given} is empty: expected an image, folder or glob a line")
    return lines


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise ValueError("standard input is closed: expected an image, folder or glob a line")
    data = getattr(sys.stdin, "buffer", sys.stdin).read()
    return data if isinstance(data, bytes) else os.fsencode(data)


def name_outputs(paths: Iterable[Path], known: Mapping[str, str]) -> list[ImageFile]:
    """Give every path a unique output name: the one it has in `known` (path → name), else its stem, else stem-2, …

    Names differ in more than upper and lower case, for file systems that do not tell them apart. The same
    paths always get the same names, and a stem that only one file has is never changed by the numbers of
    others.
    """
    given = {str(path): path for path in paths}
    taken: set[str] = set()
    names: dict[str, str] = {}
    for source, name in known.items():
        # What a file says may be wrong: no two images share outputs.
        if name.casefold() not in taken:
            names[source] = name
            taken.add(name.casefold())
    new = {source: path for source, path in given.items() if source not in names}
    stems = {_stem(path).casefold() for path in new.values()}
    # One for all files of a stem: a candidate that was refused once will always be.
    candidates: dict[str, Iterator[str]] = {}
    for source, path in new.items():
        stem = _stem(path)
        short = _short(stem)
        numbered = candidates.setdefault(short.casefold(), (f"-{number}" for number in itertools.count(2)))
        for end in itertools.chain([""], numbered):
            name = short + end
            if name.casefold() not in taken and (name == stem or name.casefold() not in stems):
                break
        names[source] = name
        taken.add(name.casefold())
    return [ImageFile(path, names[source]) for source, path in given.items()]


def shown_path(source: str, name: str) -> Path:
    """The path of an image for a COCO file; of a frame that of a PNG beside the video, called like its outputs."""
    video, number = split_frame(source)
    return Path(source) if number is None else video.parent / f"{name}.png"


def common_names(sources: Iterable[str | Path]) -> list[str]:
    """File names for a COCO file: each path relative to the deepest folder that holds them all, with slashes."""
    paths = [Path(source) for source in sources]
    try:
        root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    except ValueError:  # on two Windows drives
        return [path.as_posix() for path in paths]
    return [path.relative_to(root).as_posix() for path in paths]


def _stem(path: Path) -> str:
    """The stem of an image's name, or all of it where the stem would be "." or ".."; with the number of a frame."""
    video, number = split_frame(path)
    if number is not None:
        return frame_name(video, number)
    return path.stem if path.stem.strip(".") else path.name


def _short(stem: str) -> str:
    """`stem`, cut where file systems, which count bytes, would not take it with a suffix; then told apart by a hash."""
    if len(os.fsencode(stem)) <= MAX_STEM:
        return stem
    mark = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
    while len(os.fsencode(stem)) > MAX_STEM - len(mark) - 1:
        stem = stem[:-1]
    return f"{stem}-{mark}"
