"""The files about all images of a run: instances.json, results.json, panoptic.json and report.html.

All four are written together, in one pass over the records of the images: memory does not grow with their number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from fusion.formats.coco import categories, info, with_ids
from fusion.formats.panoptic import panoptic_entry
from fusion.formats.record import Record
from fusion.formats.report import ReportImage, ReportPage
from fusion.formats.schema import (
    INSTANCES,
    PANOPTIC,
    REPORT,
    RESULTS,
    Annotation,
    ImageEntry,
    ImageRecord,
    JournalEntry,
    Result,
)
from fusion.runs.job import Finished
from fusion.runs.outputs import output_file
from ground.files import read_own, replacing
from ovseg.labels import Label


def write_exports(output: Path, finished: Sequence[Finished], labels: Sequence[Label]) -> dict[str, str]:
    """Write the four files, with the images in the order of `finished` and with the ids that the journal gave them.

    Returns which images had to be left out, and why: source → what is wrong with the record of it.
    """
    head = {"info": info(), "licenses": []}
    images: list[ImageEntry] = []
    damaged: dict[str, str] = {}
    with ExitStack() as files:
        instances = _Document(files.enter_context(replacing(output / INSTANCES)), head, "annotations")
        panoptic = _Document(files.enter_context(replacing(output / PANOPTIC)), head, "annotations")
        results = _List(files.enter_context(replacing(output / RESULTS)))
        report = ReportPage(files.enter_context(replacing(output / REPORT)), labels, "Segmentation report")
        for image in finished:
            entry, record, reason = image.entry, None, image.entry.reason
            if entry.status == "done":
                try:
                    record = _read_record(output, entry)
                except (OSError, ValueError) as error:
                    damaged[entry.source] = reason = _damage(entry, error)
            if record is None:
                report.add(ReportImage(entry.name, image.file_name, reason, None, 0))
                continue
            report.add(ReportImage(entry.name, image.file_name, None, record, entry.first_id))
            height, width = record.size_hw
            images.append(ImageEntry(id=entry.image_id, file_name=image.file_name, height=height, width=width))
            annotations = with_ids(record.regions, entry.image_id, entry.first_id)
            for number, annotation in enumerate(annotations):
                shape = annotation.segmentation if record.polygons is None else record.polygons[number]
                instances.add(annotation.model_copy(update={"segmentation": shape}))
                results.add(_result(annotation))
            png = output_file(output, "panoptic", entry.name).name
            panoptic.add(panoptic_entry(entry.image_id, png, annotations))
        tail = {"images": images, "categories": categories(labels)}
        instances.close(tail)
        panoptic.close(tail)
        results.close()
        report.close()
    return damaged


def _read_record(output: Path, entry: JournalEntry) -> ImageRecord:
    """ValueError unless it can be the record of that image."""
    record = ImageRecord.from_bytes(read_own(output_file(output, "annotations", entry.name)))
    found, expected = (record.size_hw, len(record.regions)), (entry.size_hw, entry.num_annotations)
    if found != expected or (record.polygons is not None and len(record.polygons) != len(record.regions)):
        raise ValueError("it is of another image")
    return record


def _damage(entry: JournalEntry, error: Exception) -> str:
    path = output_file(Path(), "annotations", entry.name).as_posix()
    what = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
    return f"{path} {what}; segment the image again"


def _result(annotation: Annotation) -> Result:
    return Result.model_construct(
        image_id=annotation.image_id,
        category_id=annotation.category_id,
        segmentation=annotation.segmentation,
        area=annotation.area,
        bbox=annotation.bbox,
        score=annotation.evidence.score,
    )


class _List:
    """A JSON list in an open file, a line per record."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._separator = b"[\n"

    def add(self, record: Record) -> None:
        self._file.write(self._separator + _dumped(record))
        self._separator = b",\n"

    def close(self) -> None:
        self._file.write(b"[]\n" if self._separator == b"[\n" else b"\n]\n")


class _Document:
    """A JSON object in an open file: what is known before, one list that grows, what comes after; a line per record."""

    def __init__(self, file: IO[bytes], head: dict[str, Any], growing: str) -> None:
        self._file = file
        separator = b"{"
        for key, value in head.items():
            file.write(separator + _dumped(key) + b": " + _listed(value))
            separator = b",\n"
        file.write(separator + _dumped(growing) + b": ")
        self._separator = b"[\n"

    def add(self, record: Record) -> None:
        self._file.write(self._separator + _dumped(record))
        self._separator = b",\n"

    def close(self, tail: dict[str, Any]) -> None:
        self._file.write(b"[]" if self._separator == b"[\n" else b"\n]")
        for key, value in tail.items():
            self._file.write(b",\n" + _dumped(key) + b": " + _listed(value))
        self._file.write(b"}\n")


def _listed(value: Any) -> bytes:
    """JSON of a value; a list of records has a line for each."""
    if not isinstance(value, list) or not value:
        return _dumped(value)
    return b"[\n" + b",\n".join(map(_dumped, value)) + b"\n]"


def _dumped(value: Any) -> bytes:
    plain = value.to_json() if isinstance(value, Record) else value
    return json.dumps(plain, allow_nan=False).encode("ascii")
