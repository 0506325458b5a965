"""The files about all images of a run: instances.json, results.json, panoptic.json, report.html, and further exports.

All are written together, in one pass over the records of the images: memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from fusion.formats.coco import categories, info, result, with_ids
from fusion.formats.documents import JsonDocument, JsonList
from fusion.formats.panoptic import panoptic_entry
from fusion.formats.report import ReportImage, ReportPage
from fusion.formats.schema import (
    INSTANCES,
    PANOPTIC,
    REPORT,
    RESULTS,
    ImageEntry,
    ImageRecord,
    JournalEntry,
)
from fusion.runs.choices import Export
from fusion.runs.extras import open_writers
from fusion.runs.job import Finished
from fusion.runs.outputs import output_file
from ground.files import read_own, replacing
from ovseg.labels import Label


def write_exports(
    output: Path, finished: Sequence[Finished], labels: Sequence[Label], exports: Iterable[Export] = ()
) -> dict[str, str]:
    """Write these files, with the images in the order of `finished` and with the ids that the journal gave them.

    Returns which images had to be left out, and why: source → what is wrong with the record of it.
    """
    head = {"info": info(), "licenses": []}
    images: list[ImageEntry] = []
    damaged: dict[str, str] = {}
    with ExitStack() as files:
        instances = JsonDocument(files.enter_context(replacing(output / INSTANCES)), head, "annotations")
        panoptic = JsonDocument(files.enter_context(replacing(output / PANOPTIC)), head, "annotations")
        results = JsonList(files.enter_context(replacing(output / RESULTS)))
        report = ReportPage(files.enter_context(replacing(output / REPORT)), labels, "Segmentation report")
        writers = open_writers(files, output, exports, labels)
        for image in finished:
            entry, record, reason = image.entry, None, image.entry.reason
            if entry.status == "done":
                try:
                    record = read_record(output, entry)
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
                results.add(result(annotation))
            png = output_file(output, "panoptic", entry.name).name
            panoptic.add(panoptic_entry(entry.image_id, png, annotations))
            for writer in writers:
                writer.add(image, record, annotations)
        tail = {"images": images, "categories": categories(labels)}
        instances.close(tail)
        panoptic.close(tail)
        results.close()
        report.close()
        for writer in writers:
            writer.close(images)
    return damaged


def read_record(output: Path, entry: JournalEntry) -> ImageRecord:
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
