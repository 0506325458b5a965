"""The files about all pictures of a run: instances.json, results.json, panoptic.json and report.html.

All are written picture by picture from the journal: memory does not grow with their number. A picture's payload holds
`size_hw`, `annotations` without ids (see `fusion.formats.coco.annotate`), and the thumbnails of the report.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from fusion.runs.batch import Outcome
from fusion.formats.coco import categories, image_entry, info, with_ids
from ground.files import replacing
from fusion.runs.outputs import INSTANCES, PANOPTIC, REPORT, RESULTS, output_file
from fusion.formats.panoptic import panoptic_entry, renumber
from fusion.formats.report import ReportPicture, write_report
from ovseg.labels import Label

log = logging.getLogger(__name__)

_RESULT = ("image_id", "category_id", "segmentation", "area", "bbox", "score")  # keys of COCO results


def write_exports(output: Path, outcomes: Sequence[Outcome], labels: Sequence[Label]) -> None:
    """Write the four files, in the order of `outcomes`; ids of images and annotations count from 1 in all of them."""
    done = [outcome for outcome in outcomes if outcome.entry.status == "done"]
    named = categories(labels)
    for name, found in ((INSTANCES, _instances(done)), (PANOPTIC, _panoptic(output, done))):
        head = {"info": info(), "licenses": [], "images": _images(done)}
        with replacing(output / name) as file:
            _write_object(file, {**head, "annotations": found, "categories": iter(named)})
    with replacing(output / RESULTS) as file:
        _write_list(file, _results(done))
        file.write(b"\n")
    _warn_of_lost_holes(done)
    pictures = (
        ReportPicture(outcome.entry.name, outcome.file_name, outcome.entry.reason, outcome.payload())
        for outcome in outcomes
    )
    write_report(output / REPORT, pictures, labels, "Segmentation report")


def _images(done: Sequence[Outcome]) -> Iterator[dict[str, Any]]:
    for image_id, outcome in enumerate(done, start=1):
        height, width = outcome.payload()["size_hw"]
        yield image_entry(image_id, outcome.file_name, (height, width))


def _annotations(done: Sequence[Outcome]) -> Iterator[tuple[Outcome, int, int, list[dict[str, Any]]]]:
    """(picture, its id, its first annotation's id, its annotations with their ids) of every picture."""
    first_id = 1
    for image_id, outcome in enumerate(done, start=1):
        found = with_ids(outcome.payload()["annotations"], image_id, first_id)
        yield outcome, image_id, first_id, found
        first_id += len(found)


def _instances(done: Sequence[Outcome]) -> Iterator[dict[str, Any]]:
    for *_, found in _annotations(done):
        for annotation in found:
            outlines = annotation.pop("outlines", {})
            yield {**annotation, **outlines}


def _results(done: Sequence[Outcome]) -> Iterator[dict[str, Any]]:
    for *_, found in _annotations(done):
        for annotation in found:
            yield {key: annotation[key] for key in _RESULT}


def _panoptic(output: Path, done: Sequence[Outcome]) -> Iterator[dict[str, Any]]:
    """The entries; the pictures' PNGs, which count from 1 at first, are renumbered on the way."""
    for outcome, image_id, first_id, found in _annotations(done):
        path = output_file(output, "panoptic", outcome.entry.name)
        renumber(path, first_id)
        yield panoptic_entry(image_id, path.name, found)


def _warn_of_lost_holes(done: Sequence[Outcome]) -> None:
    holes = [outcome.payload().get("lost_holes", 0) for outcome in done]
    if any(holes):
        pictures = sum(count > 0 for count in holes)
        log.warning("polygons cannot hold holes: %d holes in %d pictures were filled", sum(holes), pictures)


def _write_object(file: IO[bytes], lists: dict[str, Any]) -> None:
    """A JSON object; what is iterated, and no list yet, is written a line per value."""
    separator = b"{"
    for key, value in lists.items():
        file.write(separator + json.dumps(key).encode("ascii") + b": ")
        if isinstance(value, Iterator):
            _write_list(file, value)
        else:
            file.write(json.dumps(value).encode("ascii"))
        separator = b",\n"
    file.write(b"}\n")


def _write_list(file: IO[bytes], values: Iterable[dict[str, Any]]) -> None:
    """A JSON list with a line per value."""
    separator = b"[\n"
    for value in values:
        file.write(separator + json.dumps(value).encode("ascii"))
        separator = b",\n"
    file.write(b"[]" if separator == b"[\n" else b"\n]")
