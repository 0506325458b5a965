"""COCO files one after the other → the ids that they get in one, and the file that is written of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fusion.formats.coco_file import LISTS, CocoFile
from fusion.runs.choices import Keep

_SHOWN = 5  # images whose names an error says


@dataclass(frozen=True)
class MergeCounts:
    """What a merged file holds."""

    images: int
    annotations: int
    categories: int
    shared: int  # images that more than one source had


@dataclass(frozen=True, eq=False)
class Source:
    """A COCO file that is merged."""

    file: CocoFile
    path: Path  # that the user gave
    names: dict[str, str] | None = None  # its file names → those in the merged file; None: all of it stays as it is

    @property
    def stays(self) -> bool:
        return self.names is None

    def name(self, image: dict[str, Any]) -> str:
        return (self.names or {}).get(image["file_name"], image["file_name"])


@dataclass(frozen=True)
class _Image:
    """An image that is known already."""

    id: int
    size_hw: tuple[Any, Any]
    source: Path


@dataclass
class Merged:
    """What the merged file will hold; annotations are read again when it is written."""

    keep: Keep | None
    sources: list[Source] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)  # JSON of every entry
    images: list[str] = field(default_factory=list)  # likewise
    category_ids: list[dict[int, int]] = field(default_factory=list)  # of each source: its id → that in the file
    image_ids: list[dict[int, int]] = field(default_factory=list)  # likewise
    owner: dict[int, int] = field(default_factory=dict)  # image → place of the source whose annotations it has
    known_categories: dict[str, int] = field(default_factory=dict)  # by name
    known_images: dict[str, _Image] = field(default_factory=dict)  # by file name
    shared: dict[str, str] = field(default_factory=dict)  # images that several sources have → which

    def add(self, source: Source) -> None:
        """Take its categories and images up. ValueError as for `merge`."""
        place = len(self.sources)
        self.sources.append(source)
        self.category_ids.append(self._add_categories(source))
        self.image_ids.append(self._add_images(source, place))

    def _add_categories(self, source: Source) -> dict[int, int]:
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

    def _add_images(self, source: Source, place: int) -> dict[int, int]:
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
