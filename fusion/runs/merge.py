"""Several output folders, and perhaps a COCO file that is there already → one COCO file. What was there stays.

Sources come one after the other: the file, then the folders. Ids of the file stay, as does every entry, letter by
letter, with whatever else the file holds; what comes later gets the next free ids, from 1. Categories are one if their
names are, images if their file names are. Entries are decoded one at a time: memory is about that of the longest file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.formats.coco_file import read_coco
from fusion.formats.schema import INSTANCES, JOURNAL, PANOPTIC, RESULTS, RUN
from fusion.runs.choices import Keep
from fusion.runs.inputs import common_names, shown_path
from fusion.runs.journal import located, read_lines
from fusion.runs.merged import MergeCounts, Merged, Source
from fusion.runs.outputs import holds_run
from fusion.runs.spec import read_run
from ground.files import replacing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Instances:
    """A COCO file of ours that is merged as the folder of a run is."""

    path: Path
    place: str  # what the user gave
    images: Mapping[str, str]  # their file names → absolute paths, or URLs
    root: str  # folder or URL that these file names are relative to


_OF_RUNS = (INSTANCES, RESULTS, PANOPTIC, RUN, JOURNAL)


def merge(
    folders: Sequence[Path | Instances],
    output: Path,
    *,
    into: Path | None = None,
    keep: str | None = None,
    root: Path | None = None,
) -> MergeCounts:
    """Write the instances of `folders`, output folders of `emerseg segment`, as one COCO file `output`.

    An `Instances` stands for such a folder. They are added to those of the COCO file `into`, if there is one, which may
    be `output` itself. File names of images are relative to `root`, or else to the deepest folder that holds all images
    of `folders`. If several sources have an image, `keep` says whose annotations it has: "theirs", of the source that
    comes first, or "ours", of the last one.

    ValueError, in one line, if several sources have an image and `keep` is None, if "ours" would be kept of an image of
    another size, and on files that are none; OSError on what cannot be read or written.
    """
    if not folders:
        raise ValueError("no folder given, expected output folders of `emerseg segment`")
    check_target(output)
    merged = Merged(None if keep is None else Keep.of(keep, "keep"))
    if into is not None:
        merged.add(Source(read_coco(into), into))
    for source in _opened(folders, root):
        merged.add(source)
    merged.check()
    if into is not None and (alike := merged.called_alike()):
        log.warning(
            "%s, such as %s and %s: if they are the same, --root says what file names are relative to",
            f"{len(alike)} images have the name of one of {into}, but in another folder",
            *alike[0],
        )
    with replacing(output) as file:
        return merged.write(file)


def check_target(output: Path) -> None:
    """ValueError if `output` is no file that a merged one may take the place of."""
    if output.is_dir() or (output.name in _OF_RUNS and holds_run(output.parent)):
        what = "a folder" if output.is_dir() else "a file of a run"
        raise ValueError(f"output {output} is {what}, expected another file, such as merged.json")


def _opened(folders: Sequence[Path | Instances], root: Path | None) -> Iterator[Source]:
    """The folders' instances.json, with names for their images that are relative to one root."""
    paths = [one.images if isinstance(one, Instances) else _sources_of(one) for one in folders]
    every = [path for of_folder in paths for path in of_folder.values()]
    # Its keys are relative to the root of a fleet, though a folder in that may hold all of its images.
    tops = [f"{one.root}/-" for one in folders if isinstance(one, Instances)]
    names = iter(common_names([*every, *tops]) if root is None else [_relative(path, root) for path in every])
    for one, of_folder in zip(folders, paths, strict=True):
        path, place = (one.path, Path(one.place)) if isinstance(one, Instances) else (one / INSTANCES, one)
        yield Source(read_coco(path), place, {name: next(names) for name in of_folder})


def _sources_of(folder: Path) -> dict[str, str]:
    """The file names of a run's images → the absolute paths of these. ValueError if the folder is none of a run."""
    if not folder.is_dir():
        raise ValueError(f"{'no folder' if not folder.exists() else 'no folder but a file:'} {folder}")
    run, head, here = read_run(folder), read_lines(folder / JOURNAL).head, os.path.abspath(folder)
    earlier = here if head is None else head.folder
    return {image.file_name: str(shown_path(located(image.source, here, earlier), image.name)) for image in run.images}


def _relative(path: str, root: Path) -> str:
    top = os.path.abspath(root)
    if os.path.commonpath([top, path]) != top:
        raise ValueError(f"image {path} is not in the root {root}")
    return Path(os.path.relpath(path, top)).as_posix()
