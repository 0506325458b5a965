"""Folders and globs → the image files in them: along links, once each, and never in the output folder of a run.

What is left out is counted, so that one line can say how many files were skipped, and why.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from fusion.runs.outputs import TOP, holds_run
from ground.images import HEIF_SUFFIXES, reads_heif
from ground.video import SUFFIXES as VIDEO_SUFFIXES
from ground.video import is_video

# Of images in folders; a file that is named counts whatever its suffix.
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".apng",
    ".webp",
    ".gif",
    ".bmp",
    ".dib",
    ".tif",
    ".tiff",
    ".pbm",
    ".pgm",
    ".ppm",
    ".pnm",
    ".jp2",
    ".avif",
    ".mpo",
    ".tga",
)


class Search:
    """Finds images. Every folder is looked at once; `skipped` tells what was left out."""

    def __init__(self, outside: Sequence[Path] = (), *, videos: bool = False) -> None:
        """Nothing is found in the folders `outside`, nor in the output folders of runs. `videos` count as images."""
        self._suffixes = (*SUFFIXES, *VIDEO_SUFFIXES) if videos else SUFFIXES
        self._real: dict[str, str] = {}
        self._barred: dict[tuple[str, str], bool] = {}
        self._outputs = {os.path.realpath(folder): True for folder in outside}
        # Images may lie in the very folder that is written to, beside its outputs.
        self._current = {os.path.dirname(folder) for folder in self._outputs}
        self._other: set[str] = set()  # files that are no images by their suffix
        self._unreadable: dict[str, str] = {}  # folder → reason

    def find(self, given: Path) -> list[Path]:
        """Absolute paths of the images that a folder, a glob or an existing file stands for, sorted.

        FileNotFoundError if there is no such thing. No images in a folder are an empty list.
        """
        if os.path.exists(given) and not os.path.isdir(given):
            return [Path(os.path.abspath(given))]
        if os.path.isdir(given):
            root, found = given, self._in_folder(str(given))
        else:
            root, parts = _split(given)
            matches = [match for match in _glob(self, str(root), parts) if os.path.exists(match)]
            if not matches:
                raise FileNotFoundError(f"no file {'matches' if glob.has_magic(str(given)) else 'or folder'} {given}")
            found = [
                path for match in matches for path in (self._in_folder(match) if os.path.isdir(match) else [match])
            ]
        top = os.path.abspath(root)
        paths = {os.path.abspath(path) for path in found}
        return sorted(Path(path) for path in paths if not self._holds_output(path, top))

    def real(self, path: str) -> str:
        """The real path of an absolute one."""
        folder, name = os.path.split(path)
        real = os.path.join(self._real_folder(folder), name)
        return os.path.realpath(real) if os.path.islink(real) else real

    def _real_folder(self, folder: str) -> str:
        if folder not in self._real:
            self._real[folder] = folder if os.path.dirname(folder) == folder else self.real(folder)
        return self._real[folder]

    @property
    def skipped(self) -> str:
        """What was left out and why, on one line; empty if nothing was."""
        heif = [path for path in self._other if path.lower().endswith(HEIF_SUFFIXES)]
        videos = [path for path in self._other if is_video(path)]
        suffixes = Counter(os.path.splitext(path)[1].lower() for path in self._other.difference(heif, videos))
        reasons = []
        if suffixes:
            kinds = sorted(suffixes, key=lambda suffix: (-suffixes[suffix], suffix))[:8]
            shown = ", ".join(suffix or "none" for suffix in kinds)
            reasons.append(f"{_files(suffixes.total())} whose suffix is no image's ({shown})")
        if videos:
            reasons.append(f"{_files(len(videos))} of video (--every 10 takes each tenth frame)")
        if heif:
            reasons.append(f"{_files(len(heif))} in HEIC (pip install 'emerseg[heic]' reads them)")
        reasons += [f"the folder {folder}, which cannot be read ({why})" for folder, why in self._unreadable.items()]
        return "; ".join(reasons)

    def folders(self, top: str) -> Iterator[tuple[str, list[str]]]:
        """(folder, names of its files) of `top` and all folders in it that are not hidden and hold no outputs.

        Links are followed, after all folders that are reached without. One that leads to a folder above `top`, or to
        one that was searched before, is a loop or a second way.
        """
        above = {os.path.realpath(parent) for parent in Path(os.path.realpath(top)).parents}
        seen: set[str] = set()
        ways = [top]
        for way in ways:
            for folder, inner, names in os.walk(way, onerror=self._note_unreadable):
                real = self._real_folder(os.path.abspath(folder))
                if real in seen or (folder != top and (real in above or self._is_output(real))):
                    inner.clear()
                    continue
                seen.add(real)
                inner[:] = sorted(name for name in inner if not name.startswith("."))
                ways += (path for name in inner if os.path.islink(path := os.path.join(folder, name)))
                yield folder, names

    def _in_folder(self, top: str) -> list[str]:
        """The images in a folder, at any depth."""
        found = []
        for folder, names in self.folders(top):
            other = []
            for name in names:
                lower = name.lower()
                if name.startswith("."):
                    continue
                if lower.endswith(self._suffixes) or (lower.endswith(HEIF_SUFFIXES) and reads_heif()):
                    found.append(os.path.join(folder, name))
                else:
                    other.append(os.path.join(folder, name))
            if self._real_folder(os.path.abspath(folder)) not in self._current:
                self._other.update(other)
        return found

    def _note_unreadable(self, error: OSError) -> None:
        self._unreadable[str(error.filename)] = error.strerror or type(error).__name__

    def _holds_output(self, path: str, root: str) -> bool:
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
            self._outputs[folder] = is_run or (name in TOP and holds_run(parent))
        return self._outputs[folder]


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def _split(pattern: Path) -> tuple[Path, tuple[str, ...]]:
    """(folder, rest) of a glob: what exists as it is written, brackets and all, stands for itself."""
    root, parts = Path(), pattern.parts
    while parts and os.path.lexists(root / parts[0]):
        root, parts = root / parts[0], parts[1:]
    return root, parts


def _glob(search: Search, root: str, parts: Sequence[str]) -> list[str]:
    """What the glob `parts` matches in the folder `root`. `**` goes down as a folder is searched: never in circles."""
    if "**" in parts:
        cut = list(parts).index("**")
        tops = [top for top in _glob(search, root, parts[:cut]) if os.path.isdir(top)]
        rest = parts[cut + 1 :]
        if not rest:
            return tops
        return [match for top in tops for folder, _ in search.folders(top) for match in _glob(search, folder, rest)]
    if not parts:
        return [root]
    for pattern in (parts, [part.replace("[", "[[]") for part in parts]):
        if matches := glob.glob(os.path.join(*pattern), root_dir=root):
            return [os.path.join(root, match) for match in sorted(matches)]
    return []
