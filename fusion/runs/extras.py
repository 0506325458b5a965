"""Exports that are asked for beside COCO: what each image has of them, and the files about all images.

Both are made of the images' records alone, so that a finished folder gets them without a model, and a run that goes on
makes only what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from fusion.formats import labelstudio, parquet, yolo
from fusion.formats.coco import categories, info, region_mask
from fusion.formats.documents import JsonDocument, JsonList
from fusion.formats.polygons import center_polygons, side_polygons
from fusion.formats.schema import (
    LABELSTUDIO,
    LABELSTUDIO_CONFIG,
    PARQUET,
    POLYGON,
    POLYGON_CENTERS,
    YOLO_DATA,
    Annotation,
    ImageEntry,
    ImageRecord,
)
from fusion.runs.choices import Export
from fusion.runs.job import Finished
from fusion.runs.outputs import output_file
from ground.files import read_own, replacing, write_bytes
from ovseg.labels import Label

Encode = Callable[[ImageRecord, Sequence[Label]], bytes]


def _polygons(polygons_of: Callable[..., list[list[int | float]]]) -> Encode:
    def encode(record: ImageRecord, labels: Sequence[Label]) -> bytes:
        every = [polygons_of(region_mask(region), *region.bbox[:2]) for region in record.regions]
        return json.dumps(every, separators=(",", ":")).encode("ascii") + b"\n"

    return encode


# What an image has of an export: the kind of its file, see `outputs.SUFFIXES`, and what that holds.
_OF_IMAGES: Mapping[Export, tuple[str, Encode]] = {
    Export.YOLO: ("yolo/labels", lambda record, labels: yolo.label_rows(record)),
    Export.LABELSTUDIO: (
        "labelstudio",
        lambda record, labels: labelstudio.image_predictions(record, labels) + b"\n",
    ),
    Export.POLYGON: ("polygon", _polygons(side_polygons)),
    Export.POLYGON_CENTERS: ("polygon-centers", _polygons(center_polygons)),
}
# The files about all images.
_FILES: Mapping[Export, tuple[str, ...]] = {
    Export.YOLO: (YOLO_DATA,),
    Export.LABELSTUDIO: (LABELSTUDIO, LABELSTUDIO_CONFIG),
    Export.PARQUET: (PARQUET,),
    Export.POLYGON: (POLYGON,),
    Export.POLYGON_CENTERS: (POLYGON_CENTERS,),
}


def exports_of(names: Iterable[str]) -> tuple[Export, ...]:
    """The exports of these names, each once, in the order of `Export`. ValueError if one is none."""
    asked = {Export.of(name, "export") for name in names}
    return tuple(export for export in Export if export in asked)


def check_exports(exports: Iterable[Export]) -> None:
    """ValueError, with what installs it, if a package is missing that one of these needs."""
    if Export.PARQUET in exports:
        parquet.check_parquet()


def kinds_of(exports: Iterable[Export]) -> tuple[str, ...]:
    """The kinds of files that images have of these exports."""
    return tuple(_OF_IMAGES[export][0] for export in exports if export in _OF_IMAGES)


def files_of(exports: Iterable[Export]) -> tuple[str, ...]:
    """The names of the files about all images."""
    return tuple(name for export in exports for name in _FILES[export])


def encode_kinds(record: ImageRecord, labels: Sequence[Label], kinds: Iterable[str]) -> dict[str, bytes]:
    """What the files of these kinds hold for an image."""
    encoders = dict(_OF_IMAGES.values())
    return {kind: encoders[kind](record, labels) for kind in kinds}


class Writer(Protocol):
    """A file about all images that grows."""

    def add(self, image: Finished, record: ImageRecord, annotations: Sequence[Annotation]) -> None:
        """An image that is done; the annotations have RLE."""

    def close(self, images: Sequence[ImageEntry]) -> None:
        """All images are through."""


def open_writers(files: ExitStack, output: Path, exports: Iterable[Export], labels: Sequence[Label]) -> list[Writer]:
    """What writes the files of these exports, which are whole once `files` are closed."""
    made: Mapping[Export, Callable[..., Writer]] = {
        Export.YOLO: _Yolo,
        Export.LABELSTUDIO: _LabelStudio,
        Export.PARQUET: _Parquet,
        Export.POLYGON: _Polygons,
        Export.POLYGON_CENTERS: _Polygons,
    }
    return [made[export](files, output, export, labels) for export in exports]


class _Of:
    """What writers have in common."""

    def __init__(self, files: ExitStack, output: Path, export: Export, labels: Sequence[Label]) -> None:
        self._output, self._export, self._labels = output, export, labels
        self._file = files.enter_context(replacing(output / _FILES[export][0]))

    def _of_image(self, image: Finished, record: ImageRecord) -> bytes:
        """What the file of an image holds: made again should it be gone meanwhile."""
        kind, encode = _OF_IMAGES[self._export]
        try:
            return read_own(output_file(self._output, kind, image.entry.name))
        except OSError:
            return encode(record, self._labels)


class _Yolo(_Of):
    def add(self, image: Finished, record: ImageRecord, annotations: Sequence[Annotation]) -> None:
        pass

    def close(self, images: Sequence[ImageEntry]) -> None:
        self._file.write(yolo.data_yaml(self._labels))


class _LabelStudio(_Of):
    def __init__(self, files: ExitStack, output: Path, export: Export, labels: Sequence[Label]) -> None:
        super().__init__(files, output, export, labels)
        self._tasks = JsonList(self._file)

    def add(self, image: Finished, record: ImageRecord, annotations: Sequence[Annotation]) -> None:
        self._tasks.add_line(labelstudio.task_line(image.file_name, self._of_image(image, record).rstrip()))

    def close(self, images: Sequence[ImageEntry]) -> None:
        self._tasks.close()
        write_bytes(self._output / LABELSTUDIO_CONFIG, labelstudio.config_xml(self._labels))


class _Parquet(_Of):
    def __init__(self, files: ExitStack, output: Path, export: Export, labels: Sequence[Label]) -> None:
        super().__init__(files, output, export, labels)
        self._table = parquet.ParquetFile(self._file, labels)

    def add(self, image: Finished, record: ImageRecord, annotations: Sequence[Annotation]) -> None:
        self._table.add(image.file_name, record.size_hw, annotations)

    def close(self, images: Sequence[ImageEntry]) -> None:
        self._table.close()


class _Polygons(_Of):
    def __init__(self, files: ExitStack, output: Path, export: Export, labels: Sequence[Label]) -> None:
        super().__init__(files, output, export, labels)
        self._document = JsonDocument(self._file, {"info": info(), "licenses": []}, "annotations")

    def add(self, image: Finished, record: ImageRecord, annotations: Sequence[Annotation]) -> None:
        shapes = json.loads(self._of_image(image, record))
        for annotation, shape in zip(annotations, shapes, strict=True):
            self._document.add(annotation.model_copy(update={"segmentation": shape}))

    def close(self, images: Sequence[ImageEntry]) -> None:
        self._document.close({"images": list(images), "categories": categories(self._labels)})
