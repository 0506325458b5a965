"""What to work on: files, folders and globs as given → the image files, in order, each with a name for its outputs."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.runs.outputs import SUFFIXES as OUTPUTS
from fusion.runs.outputs import holds_run

SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".jp2",
    ".avif",
)
MAX_STEM = 200  # bytes of an output's name without its suffix


@dataclass(frozen=True)
class ImageFile:
    """An image on disk and what its outputs are called."""

    path: Path  # absolute
    name: str  # stem of its outputs, unique in the output folder

    @property
    def fingerprint(self) -> list[int]:
        """[bytes, modification time in ns]: another one means that the file was changed."""
        stat = self.path.stat()
        return [stat.st_size, stat.st_mtime_ns]


def find_images(inputs: Sequence[str | Path], *, outside: Sequence[Path] = ()) -> list[Path]:
    """Absolute paths of the images that `inputs` name: in the order given, each file once, whatever links lead to it.

    "-" stands for the lines of standard input, a .txt file, or any file after "@", for its own: inputs again.
    Another file counts whatever its suffix; a folder stands for all files in it, at any depth, that have one of
    SUFFIXES and are not hidden, sorted by path; what is no existing path is tried as a glob
    (`photos/**/*.jpg`). Folders and globs find nothing in the folders `outside`, nor in the output folder of another
    run, by whatever link they are reached: outputs are never taken for inputs.

    Raises FileNotFoundError on an input that matches nothing, ValueError on a folder without images.
    """
    places = _Places(outside)
    found: dict[str, Path] = {}
    for given in _listed(inputs):
        paths = [Path(os.path.abspath(path)) for path in _expand(Path(given).expanduser())]
        if not Path(given).expanduser().is_file():
            root = _searched_folder(Path(given).expanduser())
            paths = [path for path in paths if not places.hold_output(str(path), root)]
        if not paths:
            raise ValueError(f"no images in {given}: expected files ending in {', '.join(SUFFIXES)}")
        for path in paths:
            found.setdefault(places.real(str(path)), path)
    return list(found.values())


class _Places:
    """Where paths lead to, and whether that is in an output folder of a run. Every folder is looked at once."""

    def __init__(self, outside: Sequence[Path]) -> None:
        self._real: dict[str, str] = {}
        self._barred: dict[tuple[str, str], bool] = {}
        self._outputs = {os.path.realpath(folder): True for folder in outside}
        # Images may lie in the very folder that is written to, beside its outputs.
        self._current = {os.path.dirname(folder) for folder in self._outputs}

    def real(self, path: str) -> str:
        """The real path of an absolute one."""
        folder, name = os.path.split(path)
        real = os.path.join(self._real_folder(folder), name)
        return os.path.realpath(real) if os.path.islink(real) else real

    def _real_folder(self, folder: str) -> str:
        if folder not in self._real:
            self._real[folder] = folder if os.path.dirname(folder) == folder else self.real(folder)
        return self._real[folder]

    def hold_output(self, path: str, root: str) -> bool:
        """Whether a file that was found in the folder `root` lies in an output folder, or is a link into one."""
        folder, real = os.path.dirname(path), self.real(path)
        return self._is_barred(folder, root) or self._is_output(os.path.dirname(real))

    def _is_barred(self, folder: str, root: str) -> bool:
        """Whether a folder, or one between it and `root`, is an output folder."""
        if (folder, root) not in self._barred:
            parent = os.path.dirname(folder)
            above = len(folder) > len(root) and self._is_barred(parent, root)
            self._barred[folder, root] = above or self._is_output(self._real_folder(folder))
        return self._barred[folder, root]

    def _is_output(self, folder: str) -> bool:
        """Whether a folder, a real path, is the output folder of a run or one of its subfolders for outputs."""
        if folder not in self._outputs:
            parent, name = os.path.split(folder)
            is_run = folder not in self._current and holds_run(folder)
            self._outputs[folder] = is_run or (name in OUTPUTS and holds_run(parent))
        return self._outputs[folder]


def _searched_folder(given: Path) -> str:
    """The folder that an input is searched from: of a glob, what stands before its first wildcard."""
    if given.is_dir():
        return os.path.abspath(given)
    return os.path.abspath(Path(*itertools.takewhile(lambda part: not glob.has_magic(part), given.parts)))


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


def common_names(sources: Iterable[str]) -> list[str]:
    """File names for a COCO file: each path relative to the deepest folder that holds them all, with slashes."""
    paths = [Path(source) for source in sources]
    try:
        root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    except ValueError:  # on two Windows drives
        return [path.as_posix() for path in paths]
    return [path.relative_to(root).as_posix() for path in paths]


def _listed(inputs: Iterable[str | Path]) -> Iterator[str | Path]:
    """The inputs, with the lines of each list in its place; paths in a list are relative to where the command runs."""
    for given in inputs:
        if str(given) == "-":
            lines = sys.stdin.read().splitlines()
        elif str(given).startswith("@") or str(given).lower().endswith(".txt"):
            try:
                lines = Path(str(given).removeprefix("@")).expanduser().read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"list of images {given} cannot be read: {error}") from None
        else:
            yield given
            continue
        listed = [line.strip() for line in lines if line.strip()]
        if not listed:
            raise ValueError(f"list of images {given} is empty: expected an image, folder or glob a line")
        yield from listed


def _expand(given: Path) -> list[Path]:
    """The files that an input stands for."""
    if given.is_dir():
        walked = [Path(parent, file) for parent, _, files in os.walk(given) for file in files]
        return sorted(path for path in walked if _is_image(path.relative_to(given)))
    if given.exists():
        return [given]
    matches = [Path(match) for match in sorted(glob.glob(str(given), recursive=True))]
    matches = [match for match in matches if match.exists()]  # not so where links lead nowhere or in circles
    if not matches:
        raise FileNotFoundError(f"no file {'matches' if glob.has_magic(str(given)) else 'or folder'} {given}")
    return [file for match in matches for file in _expand(match)]


def _is_image(path: Path) -> bool:
    """Has an image's suffix and no hidden part; `path` is relative to the folder it was found in."""
    return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _stem(path: Path) -> str:
    """The stem of an image's name, or all of it where the stem would be "." or ".."."""
    return path.stem if path.stem.strip(".") else path.name


def _short(stem: str) -> str:
    """`stem`, cut where file systems, which count bytes, would not take it with a suffix; then told apart by a hash."""
    if len(os.fsencode(stem)) <= MAX_STEM:
        return stem
    mark = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
    while len(os.fsencode(stem)) > MAX_STEM - len(mark) - 1:
        stem = stem[:-1]
    return f"{stem}-{mark}"
