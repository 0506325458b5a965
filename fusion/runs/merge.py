"""Several output folders, and perhaps a COCO file that is there already → one COCO file. What was there stays.

Sources come one after the other: the file, then the folders. Ids of the file stay, as does every entry, letter by
letter, with whatever else the file holds; what comes later gets the next free ids, from 1. Categories are one if their
names are, images if their file names are. Entries are decoded one at a time: memory is about that of the text.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fusion.formats.coco_file import LISTS, CocoFile, read_coco
from fusion.formats.schema import INSTANCES, JOURNAL, PANOPTIC, RESULTS, RUN
from fusion.runs.choices import Keep
from fusion.runs.inputs import common_names, shown_path
from fusion.runs.journal import located, read_lines
from fusion.runs.outputs import holds_run
from fusion.runs.spec import read_run
from ground.files import replacing

log = logging.getLogger(__name__)

_SHOWN = 5  # images whose names an error says
_OF_RUNS = (INSTANCES, RESULTS, PANOPTIC, RUN, JOURNAL)


@dataclass(frozen=True)
class MergeCounts:
    """What a merged file holds."""

    images: int
    annotations: int
    categories: int
    shared: int  # images that more than one source had


def merge(
    folders: Sequence[Path],
    output: Path,
    *,
    into: Path | None = None,
    keep: str | None = None,
    root: Path | None = None,
) -> MergeCounts:
    """Write the instances of `folders`, output folders of `emerseg segment`, as one COCO file `output`.

    They are added to those of the COCO file `into`, if there is one, which may be `output` itself. File names of images
    are relative to `root`, or else to the deepest folder that holds all images of `folders`. If several sources have an
    image, `keep` says whose annotations it has: "theirs", of the source that comes first, or "ours", of the last one.

    ValueError, in one line, if several sources have an image and `keep` is None, if "ours" would be kept of an image of
    another size, and on files that are none; OSError on what cannot be read or written.
    """
    if not folders:
        raise ValueError("no folder given, expected output folders of `emerseg segment`")
    if output.is_dir() or (output.name in _OF_RUNS and holds_run(output.parent)):
        what = "a folder" if output.is_dir() else "a file of a run"
        raise ValueError(f"output {output} is {what}, expected another file, such as merged.json")
    merged = _Merged(None if keep is None else Keep.of(keep, "keep"))
    if into is not None:
        merged.add(_Source(read_coco(into), into))
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


@dataclass(frozen=True, eq=False)
class _Source:
    """A COCO file that is merged."""

    file: CocoFile
    path: Path  # that the user gave
    names: dict[str, str] | None = None  # its file names → those in the merged file; None: all of it stays as it is

    @property
    def stays(self) -> bool:
        return self.names is None

    def name(self, image: dict[str, Any]) -> str:
        return (self.names or {}).get(image["file_name"], image["file_name"])


def _opened(folders: Sequence[Path], root: Path | None) -> Iterator[_Source]:
    """The folders' instances.json, with names for their images that are relative to one root."""
    paths = [_sources_of(folder) for folder in folders]
    every = [path for of_folder in paths for path in of_folder.values()]
    names = iter(common_names(every) if root is None else [_relative(path, root) for path in every])
    for folder, of_folder in zip(folders, paths, strict=True):
        yield _Source(read_coco(folder / INSTANCES), folder, {name: next(names) for name in of_folder})


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


@dataclass(frozen=True)
class _Image:
    """An image that is known already."""

    id: int
    size_hw: tuple[Any, Any]
    source: Path


@dataclass
class _Merged:
    """What the merged file will hold; annotations are read again when it is written."""

    keep: Keep | None
    sources: list[_Source] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)  # JSON of every entry
    images: list[str] = field(default_factory=list)  # likewise
    category_ids: list[dict[int, int]] = field(default_factory=list)  # of each source: its id → that in the file
    image_ids: list[dict[int, int]] = field(default_factory=list)  # likewise
    owner: dict[int, int] = field(default_factory=dict)  # image → place of the source whose annotations it has
    known_categories: dict[str, int] = field(default_factory=dict)  # by name
    known_images: dict[str, _Image] = field(default_factory=dict)  # by file name
    shared: dict[str, str] = field(default_factory=dict)  # images that several sources have → which

    def add(self, source: _Source) -> None:
        """Take its categories and images up. ValueError as for `merge`."""
        place = len(self.sources)
        self.sources.append(source)
        self.category_ids.append(self._add_categories(source))
        self.image_ids.append(self._add_images(source, place))

    def _add_categories(self, source: _Source) -> dict[int, int]:
        ids: dict[int, int] = {}
        seen: set[str] = set()
        next_id = max([0, *self.known_categories.values()]) + 1
        for entry in source.file.entries("categories"):
            name = entry.value["name"]
            if name in seen or entry.value["id"] in ids:
                raise ValueError(f"{source.file.path} has two categories {name!r} or of its id, expected one")
            seen.add(name)
            if name not in self.known_categories:
                number = entry.value["id"] if source.stays else next_id
                next_id = max(next_id, number) + 1
                self.known_categories[name] = number
                self.categories.append(_with(entry.text, entry.value, id=number))
            ids[entry.value["id"]] = self.known_categories[name]
        return ids

    def _add_images(self, source: _Source, place: int) -> dict[int, int]:
        ids: dict[int, int] = {}
        next_id = max([0, *self.owner]) + 1
        for entry in source.file.entries("images"):
            name, size_hw = source.name(entry.value), (entry.value.get("height"), entry.value.get("width"))
            known = self.known_images.get(name)
            if source.stays or known is None:
                number = entry.value["id"] if source.stays else next_id
                next_id = max(next_id, number) + 1
                self.known_images[name] = _Image(number, size_hw, source.path)
                self.owner[number] = place
                self.images.append(_with(entry.text, entry.value, id=number, file_name=name))
            else:
                number = known.id
                self.shared[name] = f"{known.source} and {source.path}"
                if self.keep == Keep.OURS:
                    if size_hw != known.size_hw:
                        sizes = " and ".join(f"{height} x {width}" for height, width in (known.size_hw, size_hw))
                        raise ValueError(f"image {name} of {self.shared[name]} has {sizes} px, expected one size")
                    self.owner[number] = place
            ids[entry.value["id"]] = number
        return ids

    def check(self) -> None:
        """ValueError if it is not said whose annotations an image has that several sources have."""
        if self.keep is None and self.shared:
            names = list(self.shared)
            count = f"{len(names)} images are" if len(names) > 1 else "1 image is"
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise ValueError(
                f"{count} in both {self.shared[names[0]]}: {', '.join(names[:_SHOWN])}{more}; "
                "say whose annotations to keep: --keep theirs (what comes first) or --keep ours (the last)"
            )

    def called_alike(self) -> list[tuple[str, str]]:
        """(ours, theirs): file names of images that only their folder tells from one of the first source."""
        first = set(self.image_ids[0].values())
        theirs = {name.split("/")[-1]: name for name, image in self.known_images.items() if image.id in first}
        names = [name for name, image in self.known_images.items() if image.id not in first]
        return [(name, theirs[base]) for name in names if (base := name.split("/")[-1]) in theirs]

    def write(self, file: IO[bytes]) -> MergeCounts:
        """The document, with whatever the first source holds beside the lists."""
        first, count = self.sources[0].file, 0
        separator = "{"
        for key in dict.fromkeys((*first.places, *LISTS)):
            file.write(f"{separator}{json.dumps(key)}: ".encode())
            separator = ",\n"
            if key not in LISTS:
                file.write(first.raw(key).encode())
                continue
            inner = "[\n"
            for text in self._annotations() if key == "annotations" else getattr(self, key):
                file.write((inner + text).encode())
                inner = ",\n"
                count += key == "annotations"
            file.write(b"[]" if inner == "[\n" else b"\n]")
        file.write(b"}\n")
        return MergeCounts(len(self.images), count, len(self.categories), len(self.shared))

    def _annotations(self) -> Iterator[str]:
        """JSON of every annotation whose image has those of its source."""
        next_id = 1
        for place, (source, images, categories) in enumerate(
            zip(self.sources, self.image_ids, self.category_ids, strict=True)
        ):
            for entry in source.file.entries("annotations"):
                value = entry.value
                image = images.get(value["image_id"], value["image_id"])
                if source.stays:
                    next_id = max(next_id, value["id"] + 1)
                if self.owner.get(image, place) != place:
                    continue
                if source.stays:
                    yield entry.text
                else:
                    category = categories.get(value["category_id"])
                    if category is None or value["image_id"] not in images:
                        where = f"{source.file.path}: annotation {value['id']}"
                        raise ValueError(f"{where} is of an image or a category that is not there")
                    yield _with(entry.text, value, id=next_id, image_id=image, category_id=category)
                    next_id += 1


def _with(text: str, value: dict[str, Any], **changed: Any) -> str:
    """JSON of `value` with other members; its own text if they are the same."""
    return text if changed.items() <= value.items() else json.dumps(value | changed)
